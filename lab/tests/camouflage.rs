//! `camouflage`: who does not know the secret finds no VPN, the real client and ours log in with it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use culvert_lab::client::DEVICE;
use culvert_lab::fixture::{INNER_SERVER_V4, SERVER_NAME};
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Fixture, Make, PASSWORD, Process, Raw, Server, ServerOptions, USER, World, probe};

const SECRET: &str = "let&me.in";

struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new(further: &[(&str, &str)]) -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        let overrides = [&[("camouflage", "true"), ("camouflage_secret", SECRET)], further].concat();
        let options = ServerOptions {
            overrides: &overrides,
            ..ServerOptions::default()
        };
        Self {
            server: Server::start_with(Make::Culvert, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    /// A client that is given this URL after the server's name.
    fn client(&self, make: Make, path: &str, arguments: &[&str]) -> Process {
        let mut command = self.world.client.command(make.program("openconnect"));
        command
            .arg("--cafile")
            .arg(self.fixture.path("ca.pem"))
            .args([
                "--user",
                USER,
                "--passwd-on-stdin",
                "--non-inter",
                "--interface",
                DEVICE,
            ])
            .args(["--script", "/usr/share/vpnc-scripts/vpnc-script"])
            .args(["--resolve", &format!("{SERVER_NAME}:{SERVER_V4}")])
            .args(arguments)
            .arg(format!("https://{SERVER_NAME}{path}"));
        Process::start(
            command,
            self.fixture.dir(),
            "client",
            Some(&format!("{PASSWORD}\n")),
        )
    }

    /// What the server says until it closes.
    fn answer(&self, request: &str) -> String {
        let mut raw = Raw::connect(&self.world, &self.fixture, "probe");
        raw.send(request.as_bytes());
        raw.closed()
    }
}

fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: vpn.test\r\nContent-Length: 0\r\n{headers}\r\n")
}

fn cookie(name: &str) -> String {
    format!("Cookie: {name}={}=\r\n", "A".repeat(43))
}

/// One answer to everything.
fn probes_get(realm: Option<&str>, expected: &str) {
    let further: Vec<_> = realm
        .map(|realm| ("camouflage_realm", realm))
        .into_iter()
        .collect();
    let scene = Scene::new(&further);
    let long = format!("/{}", "x".repeat(300));
    for request in [
        request("GET", "/", ""),
        request("POST", "/", ""),
        request("POST", "/auth", "X-Support-HTTP-Auth: true\r\n"),
        request("GET", "/?let", ""),
        request("GET", "/svc", ""),
        request("GET", "/profiles", &cookie("webvpn")),
        request("GET", "/", &cookie("webvpn")),
        request("POST", "/", &cookie("webvpncontext")),
        request("PUT", "/", ""),
        request("CONNECT", "/CSCOSSLC/tunnel", ""),
        request("CONNECT", "/CSCOSSLC/tunnel", &cookie("webvpn")),
        request("GET", &long, ""),
        "nonsense\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 300000\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(17_000)),
    ] {
        assert_eq!(scene.answer(&request), expected, "{request}");
    }
    let open = scene.answer(&request("GET", &format!("/?{SECRET}"), "").replace("HTTP/1.1", "HTTP/1.0"));
    assert!(
        open.starts_with("HTTP/1.0 200 OK\r\n") && open.contains("action=\"/auth?let&amp;me.in\""),
        "{open}"
    );
    for make in [Make::Real, Make::Culvert] {
        let login = scene.client(make, "/", &["--authenticate"]).finish();
        assert!(
            login.code != 0 && !login.stdout.contains("COOKIE="),
            "{}",
            login.stderr
        );
    }
    assert!(!scene.server.log().contains(SECRET), "{}", scene.server.log());
}

#[test]
fn probes_get_a_refusal_with_a_realm() {
    probes_get(
        Some("\"Members only\""),
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"Members only\"\r\nContent-Length: 53\r\n\
         Connection: close\r\n\r\n<html><body><h1>401 Unauthorized</h1></body></html>\r\n",
    );
}

#[test]
fn probes_get_no_page_without_a_realm() {
    probes_get(
        None,
        "HTTP/1.1 404 Not found\r\nContent-Length: 50\r\nConnection: close\r\n\r\n\
         <html><body><h1>404 Not Found</h1></body></html>\r\n",
    );
}

/// With the secret: the usual errors, and tunnels; also with a connection for each request.
#[test]
fn clients_with_the_secret_connect() {
    let scene = Scene::new(&[]);
    let path = format!("/?{SECRET}");
    for make in [Make::Real, Make::Culvert] {
        for arguments in [&[][..], &["--no-http-keepalive"]] {
            let mut client = scene.client(make, &path, arguments);
            client.wait_for("Configured as");
            probe::ping(&scene.world.client, INNER_SERVER_V4.parse().unwrap());
            client.signal("INT");
            assert_eq!(client.exit_code(), 0, "{}", client.output());
        }
    }
    let wrong =
        format!("POST /auth?{SECRET} HTTP/1.1\r\nContent-Length: 27\r\n\r\nusername=alice&password=bad");
    let mut raw = Raw::connect(&scene.world, &scene.fixture, "wrong");
    for tries in 1..=2 {
        raw.send(wrong.as_bytes());
        raw.wait_for("Login failed.", tries);
    }
    raw.send(wrong.as_bytes());
    assert!(raw.closed().contains("HTTP/1.1 401 Authentication failed\r\n"));
    assert!(!scene.server.log().contains(SECRET), "{}", scene.server.log());
}
