//! Reports about the client's host, by a program of the user, and signals while they are made.

use std::fs;
use std::path::Path;

use culvert_lab::fixture::INNER_SERVER_V4;
use culvert_lab::{Client, ClientOptions, Fixture, Make, Server, ServerOptions, World, probe, wait};

use super::{Over, SERVER, arguments};

/// Hangs once when it is told so. Its report has no name, so the server wants another one whenever it is asked.
const WRAPPER: &str = "if [ -e $0.hang ]; then echo $$ > $0.pid; mv $0.hang $0.hangs; exec sleep 60; fi\n\
    echo '<hip-report></hip-report>'";

/// A client whose reports can be made to hang.
struct Scene {
    world: World,
    fixture: Fixture,
    server: Server,
    arguments: Vec<String>,
}

impl Scene {
    fn new(over: Over) -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        let options = ServerOptions {
            overrides: &[
                ("protocols", "anyconnect, globalprotect"),
                ("host-reports", "true"),
            ],
            ..SERVER
        };
        let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
        let wrapper = fixture.write_script("wrapper", WRAPPER);
        let mut arguments: Vec<_> = arguments(over, "--usergroup=gateway")
            .into_iter()
            .map(str::to_owned)
            .collect();
        arguments.push("--force-trojan=1".into());
        arguments.push(format!("--csd-wrapper={}", wrapper.display()));
        Self {
            world,
            fixture,
            server,
            arguments,
        }
    }

    fn client(&self, start: fn(Make, &World, &Fixture, &ClientOptions) -> Client) -> Client {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        start(Make::Culvert, &self.world, &self.fixture, &options)
    }

    /// Has the next report hang.
    fn order_to_hang(&self) {
        fs::write(self.fixture.path("wrapper.hang"), "").unwrap();
    }

    /// Waits until a report hangs; gives the process of the wrapper.
    fn hanging(&self) -> String {
        wait::until("a report that hangs", || {
            fs::rename(
                self.fixture.path("wrapper.hangs"),
                self.fixture.path("wrapper.seen"),
            )
            .ok()
        });
        fs::read_to_string(self.fixture.path("wrapper.pid"))
            .unwrap()
            .trim()
            .to_owned()
    }
}

fn is_gone(pid: &str) -> bool {
    !Path::new("/proc").join(pid).exists()
}

/// A signal while the user's program makes a report ends the program. Before there is a tunnel it ends the client,
/// too, also SIGUSR2; in a tunnel SIGUSR2 leads to a new connection for the session, SIGINT to its end.
fn signals_end_a_report(over: Over) {
    let scene = Scene::new(over);
    scene.order_to_hang();
    let mut client = scene.client(Client::launch);
    let wrapper = scene.hanging();
    client.process.signal("USR2");
    assert_eq!(client.process.exit_code(), 1, "{}", client.process.output());
    let output = client.process.output();
    assert!(output.contains("Creating SSL connection failed"), "{output}");
    assert!(is_gone(&wrapper));

    let mut client = scene.client(Client::connect_with);
    let address = Client::inner_v4(&scene.world);
    scene.order_to_hang();
    let wrapper = scene.hanging();
    let configurations = |client: &Client| client.process.output().matches("/getconfig.esp").count();
    let before = configurations(&client);
    client.process.signal("USR2");
    client.process.wait_for("User requested reconnect");
    wait::until("another configuration", || {
        (configurations(&client) > before).then_some(())
    });
    assert!(is_gone(&wrapper));
    probe::ping(&scene.world.client, INNER_SERVER_V4.parse().unwrap());
    assert_eq!(Client::inner_v4(&scene.world), address);

    scene.order_to_hang();
    let wrapper = scene.hanging();
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
    let output = client.process.output();
    assert!(output.contains("Logout successful."), "{output}");
    assert!(is_gone(&wrapper));
    wait::until("a logout", || {
        scene
            .server
            .log()
            .contains("the client has logged out")
            .then_some(())
    });
}

#[test]
fn signals_end_a_report_over_esp() {
    signals_end_a_report(Over::Esp);
}

#[test]
fn signals_end_a_report_over_tls() {
    signals_end_a_report(Over::Tls);
}
