//! `plain` with an OTP users file (`specs/server-auth.md` §2.2).

use super::harness::*;
use crate::ipc::Text;
use crate::ipc::messages::{
    BrokerToMain, BrokerToWorker, LoginFailure, LoginReply, LoginStart, WorkerToBroker,
};
use crate::ipc::session::CloseReason;

pub(super) const REFUSED: LoginReply = LoginReply::Failed(LoginFailure::Credentials);
const KEY: &str = "3132333435363738393031323334353637383930";
/// The first codes of `KEY`.
pub(super) const CODES: [&str; 4] = ["755224", "287082", "359152", "969429"];

pub(super) fn files(options: &str) -> Files {
    let files = Files::new("");
    files.authenticate(&format!("auth = \"plain[{options}]\""));
    let users = format!("test:staff,admins:{HASH_OF_PW}\nbare:staff:\nalone:*:{HASH_OF_PW}\n");
    std::fs::write(files.path("passwd"), users).unwrap();
    let tokens = format!("HOTP/E test 12 {KEY}\nHOTP/E bare - {KEY}\n");
    std::fs::write(files.path("otp"), tokens).unwrap();
    files
}

fn prompt(reply: LoginReply) -> (String, u8) {
    match reply {
        LoginReply::Prompt { message, number, .. } => (message.to_string(), number),
        other => panic!("{other:?}"),
    }
}

fn asked(text: &str, number: u8) -> (String, u8) {
    (text.to_owned(), number)
}

#[test]
fn password_first_then_the_code() {
    let files = files("passwd=@/passwd,otp=@/otp");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        let reply = worker.login("test", Some("pw")).await;
        assert_eq!(prompt(reply), asked("Please enter your OTP password.", 1));
        let LoginReply::Success { group, .. } = worker.answer(CODES[0]).await else {
            panic!("refused")
        };
        assert_eq!(group.unwrap().as_str(), "staff");
        assert!(
            matches!(main.hear().await, BrokerToMain::LoggedIn { .. }),
            "and no points"
        );

        // A code counts once, and a wrong one is the last.
        let mut worker = main.connect("198.51.100.1").await;
        prompt(worker.login("test", Some("pw")).await);
        assert_eq!(worker.answer(CODES[0]).await, REFUSED);
        let points = BrokerToMain::LoginFailed {
            id: worker.id,
            points: true,
        };
        assert_eq!(main.hear().await, points);
        assert_eq!(worker.answer(CODES[1]).await, REFUSED);

        // Without a token, the password alone is not enough; unknown users look like known ones.
        let mut worker = main.connect("198.51.100.1").await;
        prompt(worker.login("alone", Some("pw")).await);
        assert_eq!(worker.answer(CODES[1]).await, REFUSED);
        for user in ["test", "nobody", "bare"] {
            let mut worker = main.connect("198.51.100.1").await;
            let failed = asked("Login failed.\nPlease enter your password.", 0);
            assert_eq!(prompt(worker.login(user, Some("wrong")).await), failed, "{user}");
        }
    });
}

#[test]
fn users_without_a_password_are_asked_for_the_code_only() {
    let files = files("passwd=@/passwd,otp=@/otp");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        prompt(worker.login("bare", None).await);
        prompt(worker.answer("").await);
        assert!(matches!(
            worker.answer(CODES[0]).await,
            LoginReply::Success { .. }
        ));
    });
}

#[test]
fn the_code_may_be_the_only_factor_and_have_a_pin() {
    let files = files("otp=@/otp,otp-pin=true");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        let reply = worker.login("test", None).await;
        assert_eq!(prompt(reply), asked("Please enter your OTP password.", 0));
        assert_eq!(worker.answer(CODES[0]).await, REFUSED, "without the PIN");
        let mut worker = main.connect("198.51.100.1").await;
        let with_pin = format!("12{}", CODES[0]);
        assert!(matches!(
            worker.login("test", Some(&with_pin)).await,
            LoginReply::Success { group: None, .. }
        ));
    });
}

#[test]
fn of_two_parallel_logins_with_one_code_one_wins() {
    let files = files("passwd=@/passwd,otp=@/otp");
    run(async {
        let mut main = Main::start(&files).await;
        let mut workers = Vec::new();
        for _ in 0..4 {
            let mut worker = main.connect("198.51.100.1").await;
            prompt(worker.login("test", Some("pw")).await);
            workers.push(worker);
        }
        for worker in &workers {
            worker.say_answer(CODES[2]);
        }
        let mut won = 0;
        for worker in &mut workers {
            match worker.login_reply().await {
                LoginReply::Success { .. } => won += 1,
                other => assert_eq!(other, REFUSED),
            }
        }
        assert_eq!(won, 1);
    });
}

/// A client whose connection breaks before the answer sends its step again. Nobody else gets in with the
/// code, and the client not twice.
#[test]
fn a_step_may_come_again() {
    let files = files("passwd=@/passwd,otp=@/otp");
    let first = || LoginStart {
        repeatable: true,
        ..start("test", Some("pw"))
    };
    let context_of = |reply: &LoginReply| match reply {
        LoginReply::Prompt { context, .. } => context.clone(),
        other => panic!("{other:?}"),
    };
    run(async {
        let mut main = Main::start(&files).await;
        let mut broken = main.connect("198.51.100.1").await;
        let asked = broken.login_with(first()).await;
        // The same question, with the same login behind it; others get one of their own.
        let mut worker = main.connect("198.51.100.1").await;
        assert_eq!(worker.login_with(first()).await, asked);
        let mut stranger = main.connect("198.51.100.2").await;
        assert_ne!(stranger.login_with(first()).await, asked);
        let mut other = first();
        other.client.computer = Text::truncated("other");
        assert_ne!(main.connect("198.51.100.1").await.login_with(other).await, asked);

        let accepted = worker.answer(CODES[0]).await;
        let LoginReply::Success { cookie, .. } = &accepted else {
            panic!("{accepted:?}")
        };
        let context = context_of(&asked);
        assert!(matches!(main.hear().await, BrokerToMain::LoggedIn { .. }));
        // The answer is lost, too.
        main.close(worker, CloseReason::Unspecified);
        for _ in 0..2 {
            let mut worker = main.connect("198.51.100.1").await;
            assert_eq!(worker.resume(&context, CODES[0]).await, accepted);
            assert!(matches!(main.hear().await, BrokerToMain::LoggedIn { .. }));
            main.close(worker, CloseReason::Unspecified);
        }
        for (address, code) in [("198.51.100.2", CODES[0]), ("198.51.100.1", CODES[1])] {
            let mut worker = main.connect(address).await;
            assert_eq!(worker.resume(&context, code).await, LoginReply::NotPending);
        }
        // The first step is over: a login of its own, in which the code is used up.
        let mut worker = main.connect("198.51.100.1").await;
        let again = worker.login_with(first()).await;
        assert_ne!(context_of(&again), context);
        assert_eq!(worker.answer(CODES[0]).await, REFUSED);
        assert!(matches!(
            main.hear().await,
            BrokerToMain::LoginFailed { points: true, .. }
        ));

        // Who uses the session has got the answer.
        let (worker, _) = main
            .open(cookie, "198.51.100.1")
            .await
            .unwrap_or_else(|_| panic!("refused"));
        main.close(worker, CloseReason::ClientDisconnect);
        let mut worker = main.connect("198.51.100.1").await;
        assert_eq!(worker.resume(&context, CODES[0]).await, LoginReply::NotPending);
    });
}

/// So has who goes on over the same connection, or closes it in an orderly way.
#[test]
fn what_has_been_received_is_not_said_again() {
    let files = files("otp=@/otp");
    let login = |code| LoginStart {
        repeatable: true,
        ..start("bare", Some(code))
    };
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        let accepted = worker.login_with(login(CODES[0])).await;
        assert!(matches!(accepted, LoginReply::Success { .. }), "{accepted:?}");
        assert!(matches!(main.hear().await, BrokerToMain::LoggedIn { .. }));
        let mut second = main.connect("198.51.100.1").await;
        assert_eq!(second.login_with(login(CODES[0])).await, accepted);
        assert!(matches!(main.hear().await, BrokerToMain::LoggedIn { .. }));
        assert_eq!(second.ask(WorkerToBroker::Received).await, BrokerToWorker::Noted);
        let mut third = main.connect("198.51.100.1").await;
        assert_eq!(third.login_with(login(CODES[0])).await, REFUSED);
        // Whose steps do not come again, as those of other protocols.
        let mut worker = main.connect("198.51.100.1").await;
        let LoginReply::Success { .. } = worker.login("bare", Some(CODES[1])).await else {
            panic!("refused")
        };
        let mut worker = main.connect("198.51.100.1").await;
        assert_eq!(worker.login("bare", Some(CODES[1])).await, REFUSED);
    });
}

#[test]
fn a_file_that_cannot_be_changed_lets_nobody_in() {
    let files = files("otp=@/missing/otp");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        let undecided = LoginReply::Failed(LoginFailure::Internal);
        assert_eq!(worker.login("test", Some(CODES[0])).await, undecided);
    });
}
