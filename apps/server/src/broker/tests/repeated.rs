//! Copies of a step that come while it is still being judged (`specs/globalprotect.md` §17.1).

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::super::repeated::ORPHANS;
use super::harness::*;
use super::one_time_passwords::{CODES, REFUSED, files};
use crate::ipc::messages::{BrokerToMain, LoginReply, LoginStart, WorkerToBroker};
use crate::ipc::session::CloseReason;

const ADDRESS: &str = "198.51.100.1";

/// A password file that nobody has read before the test lets it be read.
struct Held {
    path: PathBuf,
    text: String,
}

impl Held {
    fn new(files: &Files) -> Self {
        let (path, pipe) = (files.path("passwd"), files.path("pipe"));
        let text = fs::read_to_string(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        fs::rename(pipe, &path).unwrap();
        Self { path, text }
    }

    /// Waits for somebody who reads; the next one waits again.
    fn let_go(&self) {
        let mut pipe = OpenOptions::new().write(true).open(&self.path).unwrap();
        // One that knows the file does not read on.
        let _known = pipe.write_all(self.text.as_bytes());
    }

    /// From now on it is a file as others.
    fn let_all_go(&self) {
        let (pipe, plain) = (
            self.path.with_extension("pipe"),
            self.path.with_extension("plain"),
        );
        fs::write(&plain, &self.text).unwrap();
        fs::hard_link(&self.path, &pipe).unwrap();
        fs::rename(plain, &self.path).unwrap();
        // Those who wait read nothing, which makes nobody's password right.
        drop(OpenOptions::new().read(true).write(true).open(pipe).unwrap());
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // A test that fails must not leave a thread that waits.
        let pipe = OpenOptions::new().read(true).write(true).open(&self.path);
        fs::remove_file(&self.path).unwrap();
        drop(pipe);
    }
}

fn first(password: &str) -> WorkerToBroker {
    WorkerToBroker::Login(LoginStart {
        repeatable: true,
        ..start("bare", Some(password))
    })
}

/// The broker has read all that was said before.
async fn settle(main: &mut Main) {
    main.connect("192.0.2.99").await;
}

/// A step and its copy, on connections that both live: they get one answer.
async fn both(main: &mut Main, held: &Held, steps: [(&mut Worker, WorkerToBroker); 2]) -> LoginReply {
    let mut workers = Vec::new();
    for (worker, step) in steps {
        worker.say(&step);
        settle(main).await;
        workers.push(worker);
    }
    held.let_go();
    let [one, copy] = &mut workers[..] else { panic!() };
    let reply = one.login_reply().await;
    assert_eq!(copy.login_reply().await, reply);
    reply
}

fn is_prompt(reply: &LoginReply) -> bool {
    matches!(reply, LoginReply::Prompt { number: 0, .. })
}

/// Main's next message, but for those about the load.
async fn heard(main: &mut Main) -> BrokerToMain {
    loop {
        match main.hear().await {
            BrokerToMain::Busy(_) => {}
            message => return message,
        }
    }
}

/// Main hears of one wrong answer, and its next message is another one.
async fn counted(main: &mut Main) {
    let heard = heard(main).await;
    assert!(
        matches!(heard, BrokerToMain::LoginFailed { points: true, .. }),
        "{heard:?}"
    );
}

#[test]
fn copies_wait_for_the_first_one() {
    let files = files("passwd=@/passwd,otp=@/otp");
    run(async {
        let mut main = Main::start(&files).await;
        let held = Held::new(&files);
        let mut one = main.connect(ADDRESS).await;
        let mut other = main.connect(ADDRESS).await;
        let steps = [(&mut one, first("0")), (&mut other, first("0"))];
        assert!(is_prompt(&both(&mut main, &held, steps).await));
        counted(&mut main).await;
        // The login goes on where its last copy has come; the next code in place of the wrong one may
        // come again as a first step.
        assert_eq!(one.answer("1").await, REFUSED);
        let mut third = main.connect(ADDRESS).await;
        let answer = WorkerToBroker::LoginAnswer(secret("1"));
        let steps = [(&mut other, answer), (&mut third, first("1"))];
        assert!(is_prompt(&both(&mut main, &held, steps).await));
        counted(&mut main).await;
        // The third wrong one is the last, for both.
        let mut fourth = main.connect(ADDRESS).await;
        let answer = WorkerToBroker::LoginAnswer(secret("2"));
        let steps = [(&mut third, answer), (&mut fourth, first("2"))];
        assert_eq!(both(&mut main, &held, steps).await, REFUSED);
        counted(&mut main).await;
        assert_eq!(fourth.login("bare", Some(CODES[0])).await, REFUSED);

        let mut one = main.connect(ADDRESS).await;
        let mut other = main.connect(ADDRESS).await;
        let steps = [(&mut one, first(CODES[0])), (&mut other, first(CODES[0]))];
        let accepted = both(&mut main, &held, steps).await;
        assert!(matches!(accepted, LoginReply::Success { .. }), "{accepted:?}");
        for _ in 0..2 {
            assert!(matches!(heard(&mut main).await, BrokerToMain::LoggedIn { .. }));
        }
        // From elsewhere it is another step, with a code that is used up.
        let mut stranger = main.connect("198.51.100.2").await;
        stranger.say(&first(CODES[0]));
        settle(&mut main).await;
        held.let_go();
        assert!(is_prompt(&stranger.login_reply().await));
        counted(&mut main).await;
    });
}

/// A connection that breaks takes no step with it: its client comes again, before or after that.
#[test]
fn a_step_outlives_its_connection() {
    let files = files("passwd=@/passwd,otp=@/otp");
    run(async {
        let mut main = Main::start(&files).await;
        let held = Held::new(&files);
        for (code, copy_first) in [("0", false), (CODES[0], false), ("1", true), (CODES[1], true)] {
            let broken = main.connect(ADDRESS).await;
            let mut worker = main.connect(ADDRESS).await;
            broken.say(&first(code));
            settle(&mut main).await;
            if copy_first {
                worker.say(&first(code));
                settle(&mut main).await;
            }
            main.close(broken, CloseReason::Unspecified);
            settle(&mut main).await;
            if !copy_first {
                worker.say(&first(code));
                settle(&mut main).await;
            }
            held.let_go();
            let reply = worker.login_reply().await;
            if code.len() == 1 {
                assert!(is_prompt(&reply), "{reply:?}");
                counted(&mut main).await;
                continue;
            }
            assert!(matches!(reply, LoginReply::Success { .. }), "{reply:?}");
            for _ in 0..2 {
                assert!(matches!(heard(&mut main).await, BrokerToMain::LoggedIn { .. }));
            }
        }
    });
}

/// Connections that break leave so many steps behind and no more.
#[test]
fn steps_without_connections_are_bounded() {
    let files = files("passwd=@/passwd,otp=@/otp");
    run(async {
        let mut main = Main::start(&files).await;
        let held = Held::new(&files);
        for number in 0..=ORPHANS {
            let broken = main.connect(ADDRESS).await;
            broken.say(&first(&number.to_string()));
            settle(&mut main).await;
            main.close(broken, CloseReason::Unspecified);
        }
        let mut worker = main.connect(ADDRESS).await;
        worker.say(&first("x"));
        settle(&mut main).await;
        held.let_all_go();
        // The logins of connections that are gone make room for this one.
        assert!(is_prompt(&worker.login_reply().await));
        for _ in 0..=ORPHANS {
            counted(&mut main).await;
        }
        // The one too many was judged no more.
        let mut worker = main.connect(ADDRESS).await;
        let accepted = worker.login("bare", Some(CODES[0])).await;
        assert!(matches!(accepted, LoginReply::Success { .. }), "{accepted:?}");
        let heard = heard(&mut main).await;
        assert!(matches!(heard, BrokerToMain::LoggedIn { .. }), "{heard:?}");
    });
}
