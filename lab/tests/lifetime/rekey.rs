//! New keys while packets flow: `rekey-time` with both methods, over TLS 1.3, TLS 1.2 and DTLS.

use std::time::Duration;

use culvert_lab::probe::Echoes;
use culvert_lab::{Client, Make, Process, wait};

use crate::{Scene, tunnels};

/// Leaves TLS 1.2 only, on a server.
const TLS12: (&str, &str) = ("tls-priorities", "NORMAL:-VERS-ALL:+VERS-TLS1.2");
/// Pings per second of [`Flow`].
const RATE: f64 = 50.0;

/// Pings that go on until they are counted.
struct Flow<'s> {
    pings: Process,
    echoes: Echoes<'s>,
}

impl<'s> Flow<'s> {
    fn start(scene: &'s Scene) -> Self {
        let echoes = Echoes::of(&scene.world.client, &scene.world.server);
        let mut command = scene.world.client.command("ping");
        command.args(["-n", "-i", &format!("{}", 1.0 / RATE), "-s", "1000", "10.99.1.1"]);
        let pings = Process::start(command, scene.fixture.dir(), "flow", None);
        Self { pings, echoes }
    }

    /// Stops the pings and gives how many seconds' worth of them had no answer.
    fn lost(mut self) -> f64 {
        self.pings.signal("INT");
        self.pings.wait();
        self.echoes.lost() as f64 / RATE
    }
}

fn stop(scene: &Scene, mut client: Client) {
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", scene.logs(&client));
}

/// Waits until data with the keys of DTLS epoch 2 has passed in one direction.
fn sniff(scene: &Scene, direction: &str) -> Process {
    let mut command = scene.world.server.command("tcpdump");
    let filter = format!("udp and {direction} port 443 and udp[8] = 23 and udp[11:2] = 2");
    command.args(["-i", "eth0", "-n", "--immediate-mode", "-c", "1", &filter]);
    let mut sniffer = Process::start(
        command,
        scene.fixture.dir(),
        &format!("tcpdump-{direction}"),
        None,
    );
    sniffer.wait_for("listening on eth0");
    sniffer
}

/// TLS 1.3 and `ssl`: our server renews the keys, the client only follows.
fn server_renews_the_keys_of_tls13(make: Make) {
    let scene = Scene::new(Make::Culvert, &[("rekey-time", "1"), ("rekey-method", "ssl")]);
    let client = scene.connect(make, &["--no-dtls"]);
    scene.ping();
    let flow = Flow::start(&scene);
    wait::until(&scene.logs(&client), || {
        let lines = scene
            .server
            .log()
            .matches("TLS 1.3 session keys refreshed (rekey)")
            .count();
        (lines >= 4).then_some(())
    });
    let lost = flow.lost();
    assert!(lost <= 0.0, "{lost} s lost\n{}", scene.logs(&client));
    assert_eq!(tunnels(&client), 1, "{}", scene.logs(&client));
    stop(&scene, client);
}

#[test]
fn our_server_renews_the_keys_of_the_real_client() {
    server_renews_the_keys_of_tls13(Make::Real);
}

#[test]
fn our_server_renews_the_keys_of_our_client() {
    server_renews_the_keys_of_tls13(Make::Culvert);
}

/// TLS 1.3 and `ssl`: the real server leaves it to its client to renew the keys.
#[test]
fn our_client_renews_the_keys_of_tls13_with_the_real_server() {
    let scene = Scene::new(Make::Real, &[("rekey-time", "1"), SSL]);
    let client = scene.connect(Make::Culvert, &["--no-dtls"]);
    scene.ping();
    let flow = Flow::start(&scene);
    wait::until(&scene.logs(&client), || {
        let times = client.process.stdout().matches("CSTP rekey due").count();
        (times >= 4).then_some(())
    });
    let lost = flow.lost();
    assert!(lost <= 0.0, "{lost} s lost\n{}", scene.logs(&client));
    assert_eq!(tunnels(&client), 1, "{}", scene.logs(&client));
    stop(&scene, client);
}

/// `new-tunnel`: the client connects again with its cookie, and keeps its addresses.
fn makes_new_tunnels(client: Make, server: Make, overrides: &[(&str, &str)]) {
    let mut all = vec![("rekey-time", "2")];
    all.extend(overrides);
    let scene = Scene::new(server, &all);
    let client = scene.connect(client, &[]);
    let address = Client::inner_v4(&scene.world);
    scene.ping();
    let flow = Flow::start(&scene);
    wait::until(&scene.logs(&client), || (tunnels(&client) >= 3).then_some(()));
    scene.ping();
    let lost = flow.lost();
    assert!(lost < 2.0, "{lost} s lost\n{}", scene.logs(&client));
    assert_eq!(Client::inner_v4(&scene.world), address);
    assert!(
        client.process.output().contains("CSTP rekey due"),
        "{}",
        scene.logs(&client)
    );
    stop(&scene, client);
}

const NEW_TUNNEL: (&str, &str) = ("rekey-method", "new-tunnel");
const SSL: (&str, &str) = ("rekey-method", "ssl");

#[test]
fn real_client_makes_new_tunnels_with_our_server() {
    makes_new_tunnels(Make::Real, Make::Culvert, &[NEW_TUNNEL]);
}

#[test]
fn our_client_makes_new_tunnels_with_our_server() {
    makes_new_tunnels(Make::Culvert, Make::Culvert, &[NEW_TUNNEL]);
}

#[test]
fn our_client_makes_new_tunnels_with_the_real_server() {
    makes_new_tunnels(Make::Culvert, Make::Real, &[NEW_TUNNEL]);
}

/// TLS 1.2 could only renegotiate, which our programs do not: a new tunnel instead.
#[test]
fn real_client_makes_new_tunnels_with_our_server_over_tls12() {
    makes_new_tunnels(Make::Real, Make::Culvert, &[SSL, TLS12]);
}

#[test]
fn our_client_makes_new_tunnels_with_the_real_server_over_tls12() {
    makes_new_tunnels(Make::Culvert, Make::Real, &[SSL, TLS12]);
}

/// `ssl` over DTLS: a handshake inside the channel, 10 s after the time of TLS.
fn renews_the_keys_of_dtls(client: Make, server: Make) {
    let scene = Scene::new(server, &[("rekey-time", "2"), SSL]);
    let mut client = scene.connect(client, &[]);
    client.process.wait_for("Established DTLS connection");
    scene.ping();
    let mut sniffers = [sniff(&scene, "dst"), sniff(&scene, "src")];
    let flow = Flow::start(&scene);
    for sniffer in &mut sniffers {
        let limit = Duration::from_secs(40);
        wait::until_within(limit, &scene.logs(&client), || {
            (!sniffer.is_running()).then_some(())
        });
    }
    let lost = flow.lost();
    assert!(lost < 0.5, "{lost} s lost\n{}", scene.logs(&client));
    assert_eq!(tunnels(&client), 1, "{}", scene.logs(&client));
    stop(&scene, client);
}

#[test]
fn real_client_renews_the_keys_of_dtls_with_our_server() {
    renews_the_keys_of_dtls(Make::Real, Make::Culvert);
}

#[test]
fn our_client_renews_the_keys_of_dtls_with_our_server() {
    renews_the_keys_of_dtls(Make::Culvert, Make::Culvert);
}

#[test]
fn our_client_renews_the_keys_of_dtls_with_the_real_server() {
    renews_the_keys_of_dtls(Make::Culvert, Make::Real);
}
