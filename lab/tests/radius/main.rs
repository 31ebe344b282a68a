//! RADIUS: logins, their settings and accounting, against FreeRADIUS.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounting;
mod freeradius;
mod logins;
mod transports;

use culvert_lab::authority::Authority;
use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Client, ClientOptions, Finished, Fixture, Make, Server, ServerOptions, World, wait};

use freeradius::{FreeRadius, Record, SECRET};

/// Port of the RADIUS server; accounting is the next one.
const PORT: u16 = 1812;
/// For servers that will not answer; the others have the time that a busy machine takes.
const SOON: &str = "radius_timeout 1\n";

/// A VPN server that asks a RADIUS server on the same host.
struct Scene {
    server: Server,
    radius: FreeRadius,
    make: Make,
    overrides: Vec<(String, String)>,
    fixture: Fixture,
    world: World,
}

/// A client configuration of radcli for the server at [`PORT`], with these lines instead of the
/// usual ones.
fn client_config(lines: &str) -> String {
    let acct = PORT + 1;
    let mut text = String::from(lines);
    for (key, line) in [
        ("authserver", format!("authserver 127.0.0.1:{PORT}:{SECRET}")),
        ("acctserver", format!("acctserver 127.0.0.1:{acct}:{SECRET}")),
        ("radius_timeout", "radius_timeout 3".to_owned()),
        ("radius_retries", "radius_retries 1".to_owned()),
        ("dictionary", "dictionary /etc/radcli/dictionary".to_owned()),
    ] {
        if !lines.contains(key) {
            text += &format!("{line}\n");
        }
    }
    text
}

impl Scene {
    /// `lines` are of the client configuration, where `$DIR` is the fixture's folder and `$CLIENT` the client host's namespace; `groupconfig` gives
    /// users the server's settings. In `options`, `$DIR` has `users.pem`, who has certified `plain`, `token`, and `stray`:
    /// plain, too, but for another group.
    fn new(make: Make, lines: &str, groupconfig: bool, options: &[(&str, &str)]) -> Self {
        Self::with(make, lines, &format!(",groupconfig={groupconfig}"), "", options)
    }

    /// The same with these further sub-options of `acct`.
    fn accounted(make: Make, lines: &str, acct: &str, options: &[(&str, &str)]) -> Self {
        Self::with(make, lines, ",filter-id=true", acct, options)
    }

    fn with(make: Make, lines: &str, auth: &str, acct: &str, options: &[(&str, &str)]) -> Self {
        let world = World::new();
        world.server.ip("link set lo up");
        let fixture = Fixture::new();
        let radius = FreeRadius::start(&world, &fixture, PORT, make);
        world
            .server
            .write_etc("hosts", &format!("127.0.0.1 localhost {SERVER_NAME}\n"));
        let folder = fixture.dir().display().to_string();
        let lines = lines
            .replace("$DIR", &folder)
            .replace("$CLIENT", world.client.name());
        let config = fixture.write_file("radiusclient.conf", &client_config(&lines));
        let config = config.display();
        let mut overrides = vec![
            (
                "auth".to_owned(),
                format!("radius[config={config}{auth},nas-identifier=mynas]").replace("$DIR", &folder),
            ),
            (
                "acct".to_owned(),
                format!("radius[config={config}{acct},nas-identifier=mynas]"),
            ),
        ];
        overrides.extend(
            options
                .iter()
                .map(|(name, value)| ((*name).into(), value.replace("$DIR", &folder))),
        );
        let users = Authority::new(&fixture, "users.pem");
        for (user, unit) in [("plain", "staff"), ("token", "tokens"), ("stray", "admins")] {
            let name = if user == "stray" { "plain" } else { user };
            users.issue(&fixture, user, Some(name), Some(unit));
        }
        let server = start(make, &world, &fixture, &overrides);
        Self {
            server,
            radius,
            make,
            overrides,
            fixture,
            world,
        }
    }

    /// Starts the server again after it has ended.
    fn start_again(&mut self) {
        self.server = start(self.make, &self.world, &self.fixture, &self.overrides);
    }

    /// A login without a tunnel.
    fn log_in(&self, client: Make, user: &str, input: &str, arguments: &[&str]) -> Finished {
        let arguments = [arguments, &["--authenticate", "--non-inter"]].concat();
        let options = ClientOptions {
            user,
            input,
            arguments: &arguments,
            name: "login",
            ..ClientOptions::default()
        };
        Client::run(client, &self.world, &self.fixture, &options)
    }

    fn accepts(&self, client: Make, user: &str, input: &str, arguments: &[&str]) {
        let login = self.log_in(client, user, input, arguments);
        assert!(
            login.code == 0 && login.stdout.contains("COOKIE="),
            "{}{}\n{}",
            login.stdout,
            login.stderr,
            self.logs()
        );
    }

    fn refuses(&self, client: Make, user: &str, input: &str, arguments: &[&str]) -> String {
        let login = self.log_in(client, user, input, arguments);
        assert!(
            login.code != 0 && !login.stdout.contains("COOKIE="),
            "{}{}\n{}",
            login.stdout,
            login.stderr,
            self.logs()
        );
        login.stdout + &login.stderr
    }

    /// A client with a tunnel.
    fn connect(&self, client: Make, user: &str) -> Client {
        let options = ClientOptions {
            user,
            input: "good",
            arguments: &["--script", "/bin/true", "--no-dtls"],
            script: false,
            name: "tunnel",
            ..ClientOptions::default()
        };
        let mut client = Client::launch(client, &self.world, &self.fixture, &options);
        client.process.wait_for("Configured as");
        client
    }

    /// Waits until the stopped RADIUS server has been asked something: it has something to read.
    fn wait_for_question(&self) {
        wait::until("the question", || {
            let sockets = self.world.server.run("ss", &["-Hunl", "sport", "=", ":1812"]);
            let queued = sockets.split_whitespace().nth(1).map(str::to_owned);
            queued.filter(|queued| queued != "0")
        });
    }

    /// Waits until there are `count` accounting records of this kind and returns all of that kind.
    fn records(&self, kind: &str, count: usize) -> Vec<Record> {
        let of_kind = || {
            let mut records = self.radius.records();
            records.retain(|record| record.value("Acct-Status-Type") == Some(kind));
            Some(records).filter(|list| list.len() >= count)
        };
        wait::poll_within(wait::PATIENCE, of_kind).unwrap_or_else(|| {
            panic!(
                "no {count} {kind} in {:#?}\n{}",
                self.radius.records(),
                self.logs()
            )
        })
    }

    fn logs(&self) -> String {
        format!("{}\n{}", self.server.log(), self.radius.process.output())
    }
}

fn start(make: Make, world: &World, fixture: &Fixture, overrides: &[(String, String)]) -> Server {
    let overrides: Vec<(&str, &str)> = overrides
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    Server::start_with(make, world, fixture, &options)
}
