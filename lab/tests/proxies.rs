//! The way to the server through real proxies: tinyproxy, squid and microsocks, in every way that
//! they authenticate their users. The client host cannot reach the server's port itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use culvert_lab::fixture::{INNER_SERVER_V4, SERVER_NAME};
use culvert_lab::net::{CLIENT_V4, SERVER_V4};
use culvert_lab::proxy::HTTP_PORT;
use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, PASSWORD, Process, Server, World, probe, proxy, wait,
};

/// Port of the SOCKS proxy.
const SOCKS_PORT: u16 = 1080;

/// A server that only its own host reaches, where the proxy is.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new(server: Make) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        world
            .server
            .write_etc("hosts", &format!("{SERVER_V4} {SERVER_NAME}\n"));
        world.client.nft(
            "add table inet lab; add chain inet lab out { type filter hook output priority 0; }; \
             add rule inet lab out meta l4proto { tcp, udp } th dport 443 reject",
        );
        Self {
            server: Server::start(server, &world, &fixture),
            fixture,
            world,
        }
    }

    /// Starts a proxy on the server's host and waits until it listens.
    fn proxy(&self, program: &str, arguments: &[&str], port: u16) -> Process {
        let mut command = self.world.server.command(program);
        command.args(arguments);
        proxy::start(&self.world, &self.fixture, command, port)
    }

    /// tinyproxy with these further lines of configuration.
    fn tinyproxy(&self, lines: &str) -> Process {
        let config = format!("Listen {SERVER_V4}\nPort {HTTP_PORT}\nTimeout 60\nLogLevel Info\n{lines}");
        let config = self
            .fixture
            .write_file("tinyproxy.conf", &config)
            .display()
            .to_string();
        self.proxy("tinyproxy", &["-d", "-c", &config], HTTP_PORT)
    }

    /// squid that knows alice, by NTLM (any password) and Digest.
    fn squid(&self) -> Process {
        let users = self.fixture.write_file("digest", &format!("alice:{PASSWORD}\n"));
        let authentication = format!(
            "auth_param ntlm program /usr/lib/squid/ntlm_fake_auth\nauth_param ntlm keep_alive on\n\
             auth_param digest program /usr/lib/squid/digest_file_auth {}\n\
             auth_param digest realm the laboratory\n",
            users.display()
        );
        proxy::squid(&self.world, &self.fixture, &authentication, &[])
    }

    /// A login through a proxy that ends with `--authenticate`.
    fn login(&self, client: Make, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
        let arguments = [&["--authenticate"], arguments].concat();
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        let mut command = Client::command(client, &self.world, &self.fixture, &options);
        command.envs(variables.iter().copied());
        let input = format!("{PASSWORD}\n");
        Process::start(command, self.fixture.dir(), "login", Some(&input)).finish()
    }

    fn logs_in(&self, client: Make, arguments: &[&str], variables: &[(&str, &str)]) {
        let login = self.login(client, arguments, variables);
        let place = format!("{arguments:?} {variables:?}");
        assert_eq!(login.code, 0, "{place}: {}{}", login.stderr, self.server.log());
        // The server's address is the proxy's secret.
        assert!(
            login
                .stdout
                .contains("\nHOST='vpn.test'\nCONNECT_URL='https://vpn.test/'\n")
                && login.stdout.ends_with("\nRESOLVE="),
            "{place}: {}",
            login.stdout
        );
        assert!(
            login.stderr.contains("proxy connection to vpn.test:443"),
            "{place}: {}",
            login.stderr
        );
    }

    fn fails(&self, client: Make, arguments: &[&str], variables: &[(&str, &str)], message: &str) {
        let login = self.login(client, arguments, variables);
        let place = format!("{arguments:?} {variables:?}");
        assert_eq!(
            (login.code, login.stdout.as_str()),
            (1, ""),
            "{place}: {}",
            login.stderr
        );
        assert!(login.stderr.contains(message), "{place}: {}", login.stderr);
    }

    /// A tunnel through the proxy carries packets, and the gateway of the routes is the proxy.
    fn tunnel(&self, client: Make, arguments: &[&str]) {
        let options = ClientOptions {
            arguments,
            ..ClientOptions::default()
        };
        let mut client = Client::connect_with(client, &self.world, &self.fixture, &options);
        probe::ping(&self.world.client, INNER_SERVER_V4.parse().unwrap());
        assert!(
            client.process.stdout().contains("DTLS disabled"),
            "{}",
            client.process.output()
        );
        let connections = self.world.client.run("ss", &["-tnH", "dport", "!=", "443"]);
        assert!(
            connections.contains(CLIENT_V4) && connections.contains(SERVER_V4),
            "{connections}"
        );
        // A reconnect goes through it, too.
        client.process.signal("USR2");
        wait::until("a new connection", || {
            let said = client.process.stdout();
            (said.matches("Got CONNECT response: HTTP/1.1 200").count() == 2).then_some(())
        });
        probe::ping(&self.world.client, INNER_SERVER_V4.parse().unwrap());
        client.process.signal("INT");
        assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
        assert_eq!(self.world.client.interfaces(), ["lo", "eth0"]);
    }
}

fn url(scheme: &str, user: &str, port: u16) -> String {
    format!("{scheme}://{user}{SERVER_V4}:{port}")
}

/// The password of the fixture, with its blank escaped.
const USER: &str = "alice:wonderland%207@";
const WRONG: &str = "alice:wrong@";

fn http_proxy(client: Make, server: Make) {
    let scene = Scene::new(server);
    let plain = url("http", "", HTTP_PORT);
    let _proxy = scene.tinyproxy("");
    scene.logs_in(client, &["-P", &plain], &[]);
    scene.logs_in(client, &[], &[("https_proxy", &plain)]);
    scene.fails(
        client,
        &["--no-proxy"],
        &[("https_proxy", &plain)],
        "Failed to connect to host vpn.test",
    );
    scene.tunnel(client, &["--proxy", &plain]);
    if client == Make::Culvert {
        let excepted = [("https_proxy", plain.as_str()), ("no_proxy", "localhost,.test")];
        scene.fails(client, &[], &excepted, "Failed to connect to host vpn.test");
    }
}

#[test]
fn http_proxy_with_the_real_client() {
    http_proxy(Make::Real, Make::Culvert);
}

#[test]
fn http_proxy_with_our_client() {
    http_proxy(Make::Culvert, Make::Real);
}

/// Basic has to be allowed by the user.
#[test]
fn basic_with_our_client() {
    let scene = Scene::new(Make::Real);
    let _proxy = scene.tinyproxy("BasicAuth alice wonderland7\n");
    let right = url("http", "alice:wonderland7@", HTTP_PORT);
    let wrong = url("http", WRONG, HTTP_PORT);
    scene.logs_in(Make::Culvert, &["-P", &right, "--proxy-auth=Basic"], &[]);
    // tinyproxy has another status for a wrong password than for none.
    scene.fails(
        Make::Culvert,
        &["-P", &wrong, "--proxy-auth=basic"],
        &[],
        "Proxy CONNECT request failed: 401",
    );
    scene.fails(
        Make::Culvert,
        &["-P", &right],
        &[],
        "Proxy requested Basic authentication which is disabled by default",
    );
}

fn digest_and_ntlm(client: Make, server: Make) {
    let scene = Scene::new(server);
    let _proxy = scene.squid();
    let (right, wrong) = (url("http", USER, HTTP_PORT), url("http", WRONG, HTTP_PORT));
    scene.logs_in(client, &["-P", &right, "--proxy-auth=digest"], &[]);
    if client == Make::Culvert {
        // squid's helper accepts every answer; the real client does not accept its challenge.
        scene.logs_in(client, &["-P", &right, "--proxy-auth=ntlm"], &[]);
    }
    scene.tunnel(client, &["-P", &right, "--proxy-auth=digest"]);
    let exhausted = "No more authentication methods to try";
    scene.fails(client, &["-P", &wrong, "--proxy-auth=digest"], &[], exhausted);
    let plain = url("http", "", HTTP_PORT);
    if client == Make::Culvert {
        // The real one asks for the helper program ntlm_auth.
        scene.fails(client, &["-P", &plain], &[], exhausted);
    }
}

#[test]
fn digest_and_ntlm_with_the_real_client() {
    digest_and_ntlm(Make::Real, Make::Culvert);
}

#[test]
fn digest_and_ntlm_with_our_client() {
    digest_and_ntlm(Make::Culvert, Make::Real);
}

fn socks_proxy(client: Make, server: Make) {
    let scene = Scene::new(server);
    let (plain, right) = (url("socks", "", SOCKS_PORT), url("socks5", USER, SOCKS_PORT));
    let wrong = url("socks5", WRONG, SOCKS_PORT);
    let listen = ["-i", SERVER_V4, "-p", "1080"];
    let open = scene.proxy("microsocks", &listen, SOCKS_PORT);
    scene.logs_in(client, &["-P", &plain], &[]);
    drop(open);

    let users = [&listen[..], &["-u", "alice", "-P", PASSWORD]].concat();
    let _closed = scene.proxy("microsocks", &users, SOCKS_PORT);
    scene.tunnel(client, &["-P", &right]);
    scene.fails(
        client,
        &["-P", &plain],
        &[],
        "SOCKS server requires authentication",
    );
    scene.fails(
        client,
        &["-P", &wrong],
        &[],
        "Password authentication to SOCKS server failed",
    );
    if client == Make::Culvert {
        let http = url("http", "", SOCKS_PORT);
        scene.fails(
            client,
            &["-P", &http],
            &[],
            "Error reading HTTP response: Connection reset by peer",
        );
    }
    scene.world.server.nft(
        "add table inet lab; add chain inet lab in { type filter hook input priority 0; }; \
         add rule inet lab in tcp dport 443 reject with tcp reset",
    );
    scene.fails(
        client,
        &["-P", &right],
        &[],
        "SOCKS proxy error 05: connection refused by destination host",
    );
}

#[test]
fn socks_proxy_with_the_real_client() {
    socks_proxy(Make::Real, Make::Culvert);
}

#[test]
fn socks_proxy_with_our_client() {
    socks_proxy(Make::Culvert, Make::Real);
}

/// libproxy reads the environment, too, more of it than the client itself.
#[test]
fn libproxy_names_the_proxy() {
    let scene = Scene::new(Make::Real);
    let _proxy = scene.tinyproxy("");
    let http = format!("http://{SERVER_V4}:{HTTP_PORT}");
    let named = [("HTTPS_PROXY", http.as_str())];
    scene.logs_in(Make::Real, &["--libproxy"], &named);
    scene.logs_in(Make::Culvert, &["--libproxy"], &named);
    // The last option wins.
    scene.fails(
        Make::Culvert,
        &["--libproxy", "--no-proxy"],
        &named,
        "Failed to connect to host vpn.test",
    );
    scene.fails(
        Make::Culvert,
        &["--libproxy"],
        &[],
        "Failed to connect to host vpn.test",
    );
}
