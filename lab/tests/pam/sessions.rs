//! `pam[session=true]`: modules learn when a user's session begins and ends, exactly once each, whatever
//! is killed meanwhile.

use std::fs;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{
    Client, ClientOptions, Finished, Make, PASSWORD, Server, ServerOptions, probe, process, wait,
};

use super::{Scene, UNIX};

const OPENED: &str = "open_session alice 192.0.2.2 ocserv vpn, devices: 0";
const CLOSED: &str = "close_session alice 192.0.2.2 ocserv vpn, devices: ";
/// The modules' file of these events.
const EVENTS: &str = "events";
/// While it is there, no session begins.
const REFUSE: &str = "refuse";
/// While it is there, a session takes its time to begin: longer than a process that is not wanted gets.
const SLOW: &str = "slow";

const OPTIONS: &[(&str, &str)] = &[("auth", "pam[session=true,tty=vpn]"), ("cookie-timeout", "60")];

impl Scene {
    /// A server whose users get sessions.
    fn with_sessions() -> Self {
        let options = ServerOptions {
            overrides: OPTIONS,
            ..ServerOptions::default()
        };
        let stack = format!("{UNIX}session required pam_exec.so @/session\n");
        let scene = Self::new(Make::Culvert, &stack, &options);
        let path = |name: &str| scene.fixture.path(name).display().to_string();
        let script = format!(
            "echo \"$PAM_TYPE $PAM_USER $PAM_RHOST $PAM_SERVICE $PAM_TTY, devices: $(ip -o link | grep -c vpns)\" >> {}\n\
             test \"$PAM_TYPE\" != open_session -o ! -e {} || sleep 2.5\n\
             test \"$PAM_TYPE\" != open_session -o ! -e {}",
            path(EVENTS),
            path(SLOW),
            path(REFUSE)
        );
        scene.fixture.write_script("session", &script);
        scene
    }

    fn events(&self) -> Vec<String> {
        let events = fs::read_to_string(self.fixture.path(EVENTS)).unwrap_or_default();
        events.lines().map(str::to_owned).collect()
    }

    /// Waits until sessions have begun (`true`) and ended in this order.
    fn wait_for_events(&self, expected: &[bool]) {
        wait::until("the modules", || {
            (self.events().len() >= expected.len()).then_some(())
        });
        let events = self.events();
        assert_eq!(events.len(), expected.len(), "{events:?}\n{}", self.server.log());
        for (event, opened) in events.iter().zip(expected) {
            let is_as_expected = match opened {
                true => event == OPENED,
                false => event.starts_with(CLOSED),
            };
            assert!(is_as_expected, "{events:?}");
        }
    }

    fn connect(&self, client: Make) -> Client {
        self.connect_with(client, &[])
    }

    fn connect_with(&self, client: Make, arguments: &[&str]) -> Client {
        let options = ClientOptions {
            user: "alice",
            arguments,
            ..ClientOptions::default()
        };
        Client::connect_with(client, &self.world, &self.fixture, &options)
    }

    fn refused(&self, client: Make) -> Finished {
        let options = ClientOptions {
            user: "alice",
            ..ClientOptions::default()
        };
        Client::run(client, &self.world, &self.fixture, &options)
    }

    /// Modules are not stopped halfway, and what they have begun is closed.
    fn ends_while_it_begins(&self) {
        self.fixture.write_file(SLOW, "");
        let login = self.log_in(Make::Culvert, "alice", PASSWORD, &[]);
        let options = ClientOptions {
            user: "alice",
            arguments: &["--cookie", login.stdout.trim()],
            ..ClientOptions::default()
        };
        let client = Client::launch(Make::Culvert, &self.world, &self.fixture, &options);
        self.wait_for_events(&[true]);
        let (code, said) = self.server.occtl(&["terminate", "user", "alice"]);
        assert_eq!(code, 0, "{said}");
        self.wait_for_events(&[true, false]);
        self.wait_for_helpers(0);
        self.wait_for_log(
            "the PAM session of user 'alice' does not open: the session ended",
            1,
        );
        drop(client);
        for file in [SLOW, EVENTS] {
            fs::remove_file(self.fixture.path(file)).unwrap();
        }
    }

    fn ping(&self) {
        probe::ping(&self.world.client, INNER_SERVER_V4.parse().unwrap());
    }

    fn wait_until_no_device_is_left(&self) {
        wait::until("the end of the devices", || {
            (self.world.server.interfaces() == ["lo", "eth0"]).then_some(())
        });
    }

    fn broker(&self) -> u32 {
        process::children(self.server.process.pid())
            .into_iter()
            .find(|pid| process::title(*pid).contains("ocserv-sm"))
            .expect("a broker")
    }
}

fn wait_for_reconnect(client: &Client, times: usize) {
    wait::until(&format!("reconnect {times}\n{}", client.process.output()), || {
        let answers = client.process.stdout().matches("Got CONNECT response").count();
        (answers > times).then_some(())
    });
}

/// Memory that a process has for itself, in kB.
fn private_memory(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let of = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    of("Private_Clean:") + of("Private_Dirty:")
}

/// A session begins before the first tunnel, outlives its connections, and ends with the log-out.
fn around_tunnels(make: Make) {
    let scene = Scene::with_sessions();
    let mut client = scene.connect(make);
    scene.wait_for_events(&[true]);
    let [helper] = scene.helpers()[..] else {
        panic!("{:?}", scene.helpers());
    };
    let memory = private_memory(helper);
    println!("a PAM session takes {memory} kB");
    assert!(memory < 16 << 10, "{memory} kB for a session that waits");
    scene.ping();
    client.process.signal("USR2");
    wait_for_reconnect(&client, 1);
    for worker in scene.server.workers() {
        process::kill_if_there(worker);
    }
    wait_for_reconnect(&client, 2);
    scene.ping();
    assert_eq!(scene.helpers(), [helper]);
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    scene.wait_for_events(&[true, false]);
    scene.wait_for_helpers(0);

    // A login without a tunnel has no session, but may get one: until the administrator ends it.
    scene.accepts(make, "alice", PASSWORD, &[]);
    scene.wait_for_helpers(1);
    let (code, said) = scene.server.occtl(&["terminate", "user", "alice"]);
    assert_eq!(code, 0, "{said}");
    scene.wait_for_helpers(0);
    scene.wait_for_events(&[true, false]);

    // Modules that refuse the session refuse the tunnel.
    scene.fixture.write_file(REFUSE, "");
    let refused = scene.refused(make);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    let why = "the PAM session of user 'alice' does not open: System error (PAM result 4)";
    scene.wait_for_log(why, 1);
    scene.wait_for_helpers(0);
    scene.wait_for_events(&[true, false, true]);
}

#[test]
fn sessions_of_the_real_client() {
    around_tunnels(Make::Real);
}

#[test]
fn sessions_of_our_client() {
    around_tunnels(Make::Culvert);
}

/// Each process of the server is killed once; modules still learn once of the end of each session.
#[test]
fn sessions_after_kills() {
    let mut scene = Scene::with_sessions();
    scene.ends_while_it_begins();
    let login = scene.log_in(Make::Culvert, "alice", PASSWORD, &[]);
    let cookie = ["--cookie", login.stdout.trim()];
    let client = scene.connect_with(Make::Culvert, &cookie);
    for helper in scene.helpers() {
        process::kill(helper, "KILL");
    }
    let lost = "pam helper for user 'alice' ended by signal 9: the PAM session goes on without it";
    scene.wait_for_log(lost, 1);
    scene.ping();
    // The next tunnel is of the same session, which another process closes.
    client.process.signal("USR2");
    wait_for_reconnect(&client, 1);
    scene.wait_for_events(&[true]);
    let (code, said) = scene.server.occtl(&["terminate", "user", "alice"]);
    assert_eq!(code, 0, "{said}");
    scene.wait_for_events(&[true, false]);
    scene.wait_for_helpers(0);
    drop(client);
    scene.wait_until_no_device_is_left();
    fs::remove_file(scene.fixture.path(EVENTS)).unwrap();

    let login = scene.log_in(Make::Culvert, "alice", PASSWORD, &[]);
    let cookie = ["--cookie", login.stdout.trim()];
    let client = scene.connect_with(Make::Culvert, &cookie);
    scene.wait_for_events(&[true]);
    process::kill(scene.server.process.pid(), "KILL");
    scene.wait_for_events(&[true, false]);
    scene.server.process.wait();
    drop(client);
    scene.wait_until_no_device_is_left();
    // The next server honours the cookie, and begins another session.
    let options = ServerOptions {
        overrides: OPTIONS,
        ..ServerOptions::default()
    };
    scene.server = Server::start_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    let client = scene.connect_with(Make::Culvert, &cookie);
    scene.wait_for_events(&[true, false, true]);
    process::kill(scene.broker(), "KILL");
    scene.wait_for_events(&[true, false, true, false]);
    assert_ne!(scene.server.process.exit_code(), 0);
    drop(client);
    scene.wait_until_no_device_is_left();

    // A server that stops in order closes them, too.
    fs::remove_file(scene.fixture.path(EVENTS)).unwrap();
    scene.server = Server::start_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    let _client = scene.connect(Make::Real);
    scene.wait_for_events(&[true]);
    scene.server.process.signal("TERM");
    assert_eq!(scene.server.process.exit_code(), 0);
    scene.wait_for_events(&[true, false]);
}
