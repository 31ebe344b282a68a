//! Settings of the session from the login, and what is accounted of it.

use culvert_lab::process::{children, kill, kill_if_there, title};
use culvert_lab::{Client, Make, wait};
use serde_json::Value;

use crate::freeradius::{FreeRadius, Record};
use crate::{PORT, SOON, Scene};

fn user(scene: &Scene) -> Value {
    let (code, text) = scene.server.occtl(&["-j", "show", "users"]);
    assert_eq!(code, 0, "{text}");
    let users: Value = serde_json::from_str(&text).unwrap();
    users[0].clone()
}

/// A session with all settings, from its Start to the Stop after the client's farewell.
fn session(server: Make, client: Make) {
    let scene = Scene::new(server, "", true, &[("stats-report-time", "600")]);
    let client = scene.connect(client, "full");
    wait::until("the session in occtl", || {
        (user(&scene)["IPv4"] == "10.77.5.5").then_some(())
    });
    let shown = user(&scene);
    assert_eq!(shown["Groupname"], "grp1");
    assert_eq!(shown["IPv6"], "2001:db8::77");
    let list = |name: &str| shown[name].to_string();
    // The real server forgets the IPv4 ones for it.
    assert!(list("DNS").contains("2001:db8::53"), "{shown}");
    assert!(list("Routes").contains("10.55.0.0/"), "{shown}");
    if server == Make::Culvert {
        assert!(list("Routes").contains("2001:db8:55::/64"), "{shown}");
        assert!(list("DNS").contains("192.0.2.53"), "{shown}");
    }

    let start = scene.records("Start", 1).remove(0);
    assert_eq!(start.get("User-Name"), "full");
    assert_eq!(start.get("NAS-Identifier"), "mynas");
    assert_eq!(start.get("NAS-IP-Address"), "192.0.2.1");
    assert_eq!(start.get("Calling-Station-Id"), "192.0.2.2");
    let id = start.get("Acct-Session-Id").to_owned();
    if server == Make::Culvert {
        assert_eq!(start.get("Framed-IP-Address"), "10.77.5.5");
        assert_eq!(start.get("Framed-IPv6-Address"), "2001:db8::77");
        assert_eq!(start.get("Called-Station-Id"), "default");
        // An idle session is told of, too.
        let updates = scene.records("Interim-Update", 2);
        assert!(updates.iter().all(|update| update.get("Acct-Session-Id") == id));
    }
    client.process.signal("INT");
    drop(client);
    let stop = scene.records("Stop", 1).remove(0);
    assert_eq!(stop.get("Acct-Session-Id"), id);
    assert_eq!(stop.get("Acct-Terminate-Cause"), "User-Request");
    assert_eq!(stop.get("Framed-IP-Address"), "10.77.5.5");
    for name in ["Acct-Input-Octets", "Acct-Output-Octets", "Acct-Input-Gigawords"] {
        stop.number(name);
    }
    assert_eq!(of(&scene, "Start").len(), 1);
}

fn of(scene: &Scene, kind: &str) -> Vec<Record> {
    let mut records = scene.radius.records();
    records.retain(|record| record.value("Acct-Status-Type") == Some(kind));
    records
}

#[test]
fn session_of_the_real_client() {
    session(Make::Culvert, Make::Real);
}

#[test]
fn session_of_our_client() {
    session(Make::Culvert, Make::Culvert);
}

#[test]
fn session_with_the_real_server() {
    session(Make::Real, Make::Real);
}

/// A route that is none ends the session's login where settings count.
#[test]
fn malformed_settings_let_nobody_in() {
    let mut scene = Scene::new(Make::Culvert, "", true, &[]);
    scene.refuses(Make::Real, "odd", "good", &[]);
    scene
        .server
        .process
        .wait_for("the settings of user 'odd': attribute 22 is malformed");
}

/// Framed-Pool names a file with the pool's networks; a pool that there is not has no addresses.
#[test]
fn pools_of_addresses() {
    let scene = Scene::with(Make::Culvert, "", ",groupconfig=true,pools=$DIR", "", &[]);
    scene.fixture.write_file(
        "guests",
        "ipv4-network = 10.66.0.0\nipv4-netmask = 255.255.255.0\n",
    );
    let client = scene.connect(Make::Real, "pooled");
    let shown = user(&scene);
    assert!(shown["IPv4"].as_str().unwrap().starts_with("10.66.0."), "{shown}");
    drop(client);
    let options = culvert_lab::ClientOptions {
        user: "nowhere",
        input: "good",
        arguments: &["--script", "/bin/true", "--no-dtls"],
        script: false,
        name: "nowhere",
        ..culvert_lab::ClientOptions::default()
    };
    assert_ne!(
        Client::run(Make::Real, &scene.world, &scene.fixture, &options).code,
        0
    );
    wait::until("the reason in the log", || {
        scene
            .server
            .log()
            .contains("configuration of user 'nowhere': cannot read")
            .then_some(())
    });
}

/// Times that the RADIUS server sets: which of them ended the session is in its Stop.
#[test]
fn stops_name_the_time_that_was_over() {
    let options = [("cookie-timeout", "1"), ("sec-mod-db-cleanup-time", "1")];
    let scene = Scene::new(Make::Culvert, "", true, &options);
    for (count, (user, cause)) in [("brief", "Session-Timeout"), ("idle", "Idle-Timeout")]
        .into_iter()
        .enumerate()
    {
        let client = scene.connect(Make::Real, user);
        if user == "idle" {
            // It would come back.
            wait::until("the end of the connection", || {
                scene.server.log().contains("(reason: idle timeout").then_some(())
            });
            client.process.signal("KILL");
        }
        let stop = scene.records("Stop", count + 1).remove(count);
        assert_eq!(stop.get("User-Name"), user);
        assert_eq!(stop.get("Acct-Terminate-Cause"), cause, "{}", scene.logs());
        assert!(stop.number("Acct-Session-Time") >= 2, "{stop:?}");
    }
}

/// A server, its clients' tunnels one after the other, and what was accounted of them.
struct Tunnels {
    scene: Scene,
    client: Option<Client>,
    count: usize,
}

impl Tunnels {
    fn new(options: &[(&str, &str)]) -> Self {
        let options = [
            &[("cookie-timeout", "2"), ("sec-mod-db-cleanup-time", "1")],
            options,
        ]
        .concat();
        let scene = Scene::new(Make::Culvert, "", false, &options);
        scene.records("Accounting-On", 1);
        Self {
            scene,
            client: None,
            count: 0,
        }
    }

    /// One more tunnel, which is accounted.
    fn open(&mut self) {
        self.count += 1;
        self.client = Some(self.scene.connect(Make::Real, "plain"));
        self.scene.records("Start", self.count);
    }

    /// Waits for the end of the last tunnel's account.
    fn stopped(&mut self, cause: &str) {
        let stop = self.scene.records("Stop", self.count).remove(self.count - 1);
        assert_eq!(stop.get("Acct-Terminate-Cause"), cause, "{}", self.scene.logs());
        self.lose_client();
    }

    /// The client cannot come back or say goodbye.
    fn stall_client(&self) {
        self.client.as_ref().unwrap().process.signal("STOP");
    }

    fn lose_client(&mut self) {
        if let Some(client) = self.client.take() {
            client.process.signal("KILL");
        }
    }

    /// Kills a process of the server, which ends with it, and starts the server again.
    fn crash(&mut self, pid: u32) {
        self.stall_client();
        kill(pid, "KILL");
        assert!(!self.scene.server.process.wait().success());
        self.lose_client();
        self.scene.start_again();
    }

    fn terminate_server(&mut self) {
        self.scene.server.process.signal("TERM");
        assert!(self.scene.server.process.wait().success());
        self.lose_client();
    }

    /// Each Stop belongs to one Start, and there are no more of them.
    fn check(mut self) {
        self.terminate_server();
        let ids = |kind| {
            let records = of(&self.scene, kind);
            let ids = records
                .iter()
                .map(|record| record.get("Acct-Session-Id").to_owned());
            let mut ids: Vec<String> = ids.collect();
            ids.sort();
            ids
        };
        assert_eq!(ids("Start"), ids("Stop"));
        assert_eq!(ids("Start").len(), self.count);
    }
}

/// Exactly one Stop for each Start, whoever dies or stops.
#[test]
fn one_stop_for_each_start() {
    let mut tunnels = Tunnels::new(&[]);
    tunnels.open();
    tunnels.stall_client();
    for worker in tunnels.scene.server.workers() {
        kill_if_there(worker);
    }
    tunnels.stopped("User-Error");

    // The process that speaks RADIUS has died meanwhile.
    tunnels.open();
    for helper in crate::logins::helpers(&tunnels.scene.server.process) {
        kill(helper, "KILL");
    }
    let (code, _) = tunnels.scene.server.occtl(&["terminate", "user", "plain"]);
    assert_eq!(code, 0);
    tunnels.stopped("Admin-Reset");

    tunnels.open();
    tunnels.terminate_server();
    tunnels.stopped("Admin-Reset");
    tunnels.scene.records("Accounting-Off", 1);
    tunnels.scene.start_again();

    tunnels.open();
    let broker = children(tunnels.scene.server.process.pid())
        .into_iter()
        .find(|pid| title(*pid).contains("ocserv-sm"));
    tunnels.crash(broker.unwrap());
    tunnels.stopped("NAS-Reboot");

    tunnels.open();
    tunnels.crash(tunnels.scene.server.process.pid());
    tunnels.stopped("NAS-Reboot");
    tunnels.check();
}

/// The same with a pool process, and with a stop while there is no RADIUS server: the next server sends
/// what is owed.
#[test]
fn one_stop_for_each_start_of_a_pool() {
    let mut tunnels = Tunnels::new(&[("worker-processes", "1")]);
    tunnels.open();
    tunnels.stall_client();
    for process in tunnels.scene.server.pool() {
        kill(process, "KILL");
    }
    tunnels.stopped("User-Error");

    tunnels.open();
    tunnels.scene.radius.process.signal("TERM");
    tunnels.scene.radius.process.wait();
    tunnels.terminate_server();
    let Scene { world, fixture, .. } = &tunnels.scene;
    tunnels.scene.radius = FreeRadius::start(world, fixture, PORT, Make::Culvert);
    tunnels.scene.start_again();
    tunnels.stopped("Admin-Reset");
    tunnels.check();
}

/// With `acct-required` nobody has a tunnel that no server knows of, and the cookie stays good. The Start
/// comes before there are addresses, so an update follows.
#[test]
fn no_tunnel_without_an_account() {
    let scene = Scene::accounted(Make::Culvert, SOON, ",acct-required=true", &[]);
    scene.records("Accounting-On", 1);
    scene.accepts(Make::Real, "plain", "good", &["--authgroup", "filtered"]);
    let login = scene.log_in(Make::Real, "plain", "good", &[]).stdout;
    let cookie = login.split('\'').nth(1).unwrap().to_owned();
    let arguments = ["--cookie", &cookie, "--script", "/bin/true", "--no-dtls"];
    let options = culvert_lab::ClientOptions {
        arguments: &arguments,
        script: false,
        name: "tunnel",
        ..culvert_lab::ClientOptions::default()
    };
    scene.radius.process.signal("STOP");
    let refused = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    let refused = refused.process.finish();
    assert_ne!(refused.code, 0);
    let said = "VPN service unavailable; reason: Server error";
    assert!(refused.stderr.contains(said), "{refused:?}");
    wait::until("the reason in the log", || {
        let log = scene.server.log();
        log.contains("no accounting server has taken the Start of user 'plain'")
            .then_some(())
    });
    assert_eq!(user(&scene), Value::Null);
    scene.radius.process.signal("CONT");
    let mut client = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    client.process.wait_for("Configured as");
    let start = scene.records("Start", 1).remove(0);
    assert_eq!(start.value("Framed-IP-Address"), None);
    let update = scene.records("Interim-Update", 1).remove(0);
    update.get("Framed-IP-Address");
    client.process.signal("INT");
    drop(client);
    let stop = scene.records("Stop", 1).remove(0);
    assert_eq!(stop.get("Acct-Session-Id"), start.get("Acct-Session-Id"));
    assert_eq!(stop.get("Acct-Terminate-Cause"), "User-Request");
}

/// Servers that are silent for a while delay nobody, and get everything later.
#[test]
fn records_wait_for_their_server() {
    let scene = Scene::new(Make::Culvert, SOON, false, &[]);
    scene.records("Accounting-On", 1);
    scene.accepts(Make::Real, "plain", "good", &[]);
    let login = scene.log_in(Make::Real, "plain", "good", &[]).stdout;
    let cookie = login.split('\'').nth(1).unwrap().to_owned();
    scene.radius.process.signal("STOP");
    let arguments = ["--cookie", &cookie, "--script", "/bin/true", "--no-dtls"];
    let options = culvert_lab::ClientOptions {
        arguments: &arguments,
        script: false,
        name: "tunnel",
        ..culvert_lab::ClientOptions::default()
    };
    let mut client = culvert_lab::Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    client.process.wait_for("Configured as");
    client.process.signal("INT");
    client.process.wait();
    wait::until("the silent server's mention", || {
        scene
            .server
            .log()
            .contains("accounting: no server has taken")
            .then_some(())
    });
    scene.radius.process.signal("CONT");
    let stop = scene.records("Stop", 1).remove(0);
    assert!(stop.number("Acct-Delay-Time") >= 1, "{stop:?}");
    let records = scene.radius.records();
    let kinds: Vec<&str> = records
        .iter()
        .filter_map(|r| r.value("Acct-Status-Type"))
        .collect();
    let place = |kind| kinds.iter().position(|other| *other == kind);
    assert!(
        place("Start").is_some() && place("Start") < place("Stop"),
        "{kinds:?}"
    );
}
