//! Proxies that know their users by a login they have done elsewhere: Kerberos tickets for squid's
//! helper, and a domain's login that Samba's `ntlm_auth` has on both sides.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::kerberos::REALM;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Make, PASSWORD, Process, Realm, Server, USER, World, proxy,
    wait,
};

const PROXY: &str = "http://proxy.test:3128";
const SOCKS_PORT: u16 = 1080;
const NTLM_AUTH: &str = "/usr/bin/ntlm_auth";

/// A server that only its own host reaches, where the proxy is to be.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new(server: Make) -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        // Samba asks for the name of the machine, too, and no DNS answers here.
        let own = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let hosts = format!("{SERVER_V4} {SERVER_NAME} proxy.test {own}");
        world.server.write_etc("hosts", &hosts);
        world.client.write_etc("hosts", &hosts);
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

    fn command(&self, client: Make, arguments: &[&str]) -> Command {
        let arguments = [&["--authenticate", "-P", PROXY], arguments].concat();
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        Client::command(client, &self.world, &self.fixture, &options)
    }

    fn run(&self, command: Command) -> Finished {
        let input = format!("{PASSWORD}\n");
        Process::start(command, self.fixture.dir(), "login", Some(&input)).finish()
    }

    fn logs_in(&self, command: Command) {
        let login = self.run(command);
        assert_eq!(login.code, 0, "{}{}", login.stderr, self.server.log());
        assert!(login.stdout.contains("COOKIE="), "{}", login.stdout);
    }

    fn fails(&self, client: Make, command: Command) -> String {
        let login = self.run(command);
        assert_eq!((login.code, login.stdout.as_str()), (1, ""), "{}", login.stderr);
        let text = match client {
            Make::Culvert => "No more authentication methods to try",
            // Also when the proxy has requested nothing of the kind.
            Make::Real => "Proxy requested Basic authentication which is disabled by default",
        };
        assert!(login.stderr.contains(text), "{}", login.stderr);
        login.stderr
    }

    /// A realm in which the user has a ticket, in `tickets`.
    fn realm(&self) -> Realm {
        let realm = Realm::start(&self.world, &self.fixture, "");
        let cache = ("krb5.conf", "tickets");
        let done = realm.kinit(&self.world.client, &self.fixture, cache, USER);
        assert_eq!(done.code, 0, "{}", done.stderr);
        realm
    }

    /// Waits until the proxy has noted whom it let in: that is when the connection has ended.
    fn has_let_in(&self, user: &str) {
        let noted = || fs::read_to_string(self.fixture.path("squid/access")).unwrap_or_default();
        wait::until(&format!("a line about {user}"), || {
            noted().contains(user).then_some(())
        });
    }
}

fn tickets(client: Make, server: Make) {
    let scene = Scene::new(server);
    let realm = scene.realm();
    let keytab = scene.fixture.path("proxy.test.keytab");
    fs::set_permissions(&keytab, fs::Permissions::from_mode(0o644)).unwrap();
    let config = scene.fixture.path("krb5.conf").display().to_string();
    let authentication = format!(
        "auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k {} -s HTTP/proxy.test@{REALM}\n",
        keytab.display()
    );
    let variables = [("KRB5_CONFIG", config.as_str())];
    let _proxy = proxy::squid(&scene.world, &scene.fixture, &authentication, &variables);

    let login = |cache: &str, arguments: &[&str]| realm.with_tickets(scene.command(client, arguments), cache);
    scene.logs_in(login("tickets", &[]));
    scene.has_let_in(&format!("{USER}@{REALM}"));
    scene.logs_in(login("tickets", &["--proxy-auth=digest,GSSAPI"]));
    if client == Make::Culvert {
        scene.fails(client, login("tickets", &["--proxy-auth=digest,ntlm"]));
    }
    let said = scene.fails(client, login("none", &[]));
    if client == Make::Culvert {
        assert!(said.contains("GSSAPI: no ticket for the service: "), "{said}");
    }
}

/// A proxy for SOCKS that the laboratory brings: see `socks_gssapi`.
fn socks(client: Make, server: Make) {
    let scene = Scene::new(server);
    let realm = scene.realm();
    let mut command = scene.world.server.command(env!("CARGO_BIN_EXE_socks_gssapi"));
    command
        .arg(scene.fixture.path("proxy.test.keytab"))
        .arg(format!("{SERVER_V4}:{SOCKS_PORT}"))
        .env("KRB5_CONFIG", scene.fixture.path("krb5.conf"));
    let proxy = proxy::start(&scene.world, &scene.fixture, command, SOCKS_PORT);

    let login = |cache: &str, arguments: &[&str]| {
        let arguments = [&["-P", "socks5://proxy.test"], arguments].concat();
        realm.with_tickets(scene.command(client, &arguments), cache)
    };
    scene.logs_in(login("tickets", &[]));
    let wanted = format!("{USER}@{REALM} wants [0]\n");
    assert!(proxy.stdout().contains(&wanted), "{}", proxy.output());
    if client == Make::Culvert {
        for (cache, arguments, text) in [
            (
                "tickets",
                &["--proxy-auth=basic"][..],
                "SOCKS server requires authentication",
            ),
            ("none", &[], "GSSAPI authentication to SOCKS server failed"),
        ] {
            let refused = scene.run(login(cache, arguments));
            assert_eq!(refused.code, 1, "{}", refused.stderr);
            assert!(refused.stderr.contains(text), "{}", refused.stderr);
        }
    }
}

#[test]
fn socks_with_the_real_client() {
    socks(Make::Real, Make::Culvert);
}

#[test]
fn socks_with_our_client() {
    socks(Make::Culvert, Make::Real);
}

#[test]
fn tickets_of_the_real_client() {
    tickets(Make::Real, Make::Culvert);
}

#[test]
fn tickets_of_our_client() {
    tickets(Make::Culvert, Make::Real);
}

/// `ntlm_auth` has no domain here, so one that is told the password takes its place on the client
/// host; the rest of the conversation is Samba's own, on both sides.
fn domain(client: Make, server: Make) {
    let scene = Scene::new(server);
    let copy = scene.fixture.path("ntlm_auth");
    fs::copy(NTLM_AUTH, &copy).expect("winbind is needed: see scripts/setup");
    let copy = copy.display();
    let helper = |name: &str, password: &str| {
        let script = format!(
            "echo \"$@\" >{}\nfor word; do shift; [ \"$word\" = --use-cached-creds ] || set -- \"$@\" \"$word\"; done\n\
             exec {copy} \"$@\" --password='{password}' --configfile=/dev/null",
            scene.fixture.path(&format!("{name}.arguments")).display()
        );
        scene.fixture.write_script(name, &script).display().to_string()
    };
    let right = helper("right", PASSWORD);
    let wrong = helper("wrong", "another");
    let words = |name: &str| fs::read_to_string(scene.fixture.path(&format!("{name}.arguments"))).unwrap();
    let proxy_side = scene.fixture.write_script(
        "proxy-side",
        &format!(
            "exec {NTLM_AUTH} --helper-protocol=squid-2.5-ntlmssp --username={USER} --password='{PASSWORD}' \
             --domain=LAB --configfile=/dev/null"
        ),
    );
    let authentication = format!(
        "auth_param ntlm program {}\nauth_param ntlm keep_alive on\n",
        proxy_side.display()
    );
    let _proxy = proxy::squid(&scene.world, &scene.fixture, &authentication, &[]);

    // `ip netns exec` gives each program mounts of its own.
    let with = |helper: &str, proxy: &str, user: &str| {
        let inner = scene.command(client, &["-P", proxy]);
        let mut command = scene.world.client.command("sh");
        let script = format!("mount --bind {helper} {NTLM_AUTH} && exec \"$@\"");
        // Without `ip netns exec NAME`, where it is already.
        command.args(["-c", &script, "sh"]).args(inner.get_args().skip(3));
        command.env("USER", user).env_remove("NTLMUSER");
        command
    };
    scene.logs_in(with(&right, PROXY, USER));
    let expected = "--helper-protocol ntlmssp-client-1 --use-cached-creds --username";
    assert_eq!(words("right"), format!("{expected} {USER}\n"));
    scene.has_let_in(USER);
    scene.fails(client, with(&wrong, PROXY, USER));
    // The proxy's URL names the user; a password in it needs no helper.
    scene.logs_in(with(
        &right,
        &format!("http://LAB%5c{USER}@proxy.test:3128"),
        "nobody",
    ));
    assert!(words("right").contains(&format!(" {USER}")), "{}", words("right"));
    fs::remove_file(scene.fixture.path("right.arguments")).unwrap();
    if client == Make::Culvert {
        let url = format!("http://LAB%5c{USER}:wonderland%207@proxy.test:3128");
        scene.logs_in(with(&right, &url, "nobody"));
        assert!(!scene.fixture.path("right.arguments").exists());
    }
}

#[test]
fn domain_of_the_real_client() {
    domain(Make::Real, Make::Culvert);
}

#[test]
fn domain_of_our_client() {
    domain(Make::Culvert, Make::Real);
}
