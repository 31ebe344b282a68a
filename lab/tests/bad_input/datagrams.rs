//! Junk on the UDP port.

use culvert_lab::{Client, ClientOptions, Make};

use crate::Scene;

/// Random octets of many sizes, then ClientHellos of clients that nobody knows.
fn junk_on_the_udp_port(server: Make) {
    let mut scene = Scene::new(server);
    let junk = "for size in 1 2 12 13 14 25 50 100 200 400 800 1400; do \
                for round in 1 2 3 4 5; do head -c $size /dev/urandom >/dev/udp/192.0.2.1/443; done; \
                (printf '\\x16\\xfe\\xfd\\0\\0\\0\\0\\0\\0\\0\\0'; head -c $size /dev/urandom) >/dev/udp/192.0.2.1/443; \
                (printf '\\x17\\xfe\\xfd\\0\\1\\0\\0\\0\\0\\0\\1'; head -c $size /dev/urandom) >/dev/udp/192.0.2.1/443; done; \
                timeout 2 openssl s_client -dtls1_2 -psk 00112233 -psk_identity psk -connect 192.0.2.1:443 </dev/null >/dev/null 2>&1; \
                timeout 2 openssl s_client -dtls1_2 -connect 192.0.2.1:443 </dev/null >/dev/null 2>&1; true";
    scene.world.client.run("bash", &["-c", junk]);
    scene.is_undisturbed();

    // The witness' own channel and new ones work as ever.
    let options = ClientOptions {
        user: "bob",
        name: "second",
        arguments: &["--interface", "tunsecond", "--script", "/bin/true"],
        ..ClientOptions::default()
    };
    let mut second = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    second.process.wait_for("Established DTLS connection");
}

#[test]
fn junk_on_the_real_servers_udp_port() {
    junk_on_the_udp_port(Make::Real);
}

#[test]
fn junk_on_our_servers_udp_port() {
    junk_on_the_udp_port(Make::Culvert);
}
