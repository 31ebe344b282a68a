//! Bearer tokens of OpenID Connect: the real client and ours against our server, and a provider
//! that changes its keys, is slow, is gone, or talks nonsense.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod provider;

use std::time::Duration;

use culvert_lab::authority::UID;
use culvert_lab::fixture::{INNER_SERVER_V4, SERVER_NAME};
use culvert_lab::{
    Authority, Client, ClientOptions, Finished, Fixture, Make, Process, Server, ServerOptions, USER, World,
    probe, process, wait,
};
use serde_json::json;

use self::provider::Provider;

/// A server whose users have tokens.
struct Scene<'f> {
    server: Server,
    provider: Provider<'f>,
    fixture: &'f Fixture,
    world: &'f World,
}

impl<'f> Scene<'f> {
    /// `further` are options of the server; `start` starts the provider before it.
    fn new(
        world: &'f World,
        fixture: &'f Fixture,
        further: &[(&str, &str)],
        start: impl FnOnce(&mut Provider),
    ) -> Self {
        world
            .server
            .write_etc("hosts", &format!("127.0.0.1 {SERVER_NAME}\n"));
        let mut provider = Provider::new(fixture);
        start(&mut provider);
        let path = |name: &str| fixture.path(name).display().to_string();
        let method = format!("oidc[config={}]", path("oidc.json"));
        let overrides = [&[("auth", method.as_str())], further].concat();
        let options = ServerOptions {
            overrides: &overrides,
            under: &["env", &format!("SSL_CERT_FILE={}", path("ca.pem"))],
            ..ServerOptions::default()
        };
        Self {
            server: Server::start_with(Make::Culvert, world, fixture, &options),
            provider,
            fixture,
            world,
        }
    }

    /// Starts a login with the token in a file; the real client asks for no form on the way.
    fn start(&self, client: Make, token: &str) -> Process {
        self.start_with(client, token, &[])
    }

    /// The same with further arguments.
    fn start_with(&self, client: Make, token: &str, further: &[&str]) -> Process {
        let ca = self.fixture.path("ca.pem").display().to_string();
        let secret = format!("@{token}");
        let arguments = [
            "--cafile",
            &ca,
            "--token-mode=oidc",
            "--token-secret",
            &secret,
            "--http-auth=bearer",
            "--authenticate",
            "--non-inter",
        ];
        let arguments = [&arguments, further].concat();
        let command = Client::bare(client, self.world, &arguments);
        Process::start(command, self.fixture.dir(), "login", None)
    }

    fn accepts(&self, client: Make, token: &str) {
        let login = self.start(client, token).finish();
        assert_eq!(login.code, 0, "{}\n{}", login.stderr, self.server.log());
        assert!(login.stdout.contains("COOKIE="), "{}", login.stdout);
    }

    /// The server refuses the token, and says `why` in its log only.
    fn refuses(&self, client: Make, token: &str, why: &str) {
        let before = self.server.log().matches(why).count();
        let login = self.start(client, token).finish();
        assert_ne!(login.code, 0, "{why}: {}", self.server.log());
        assert!(!login.stdout.contains("COOKIE="), "{}", login.stdout);
        self.server.wait_for_log(why, before + 1);
        assert!(!login.stderr.contains(why), "{}", login.stderr);
    }

    /// `ocserv test-auth` with the token in a file.
    fn test_auth(&self, token: &str) -> Finished {
        let path = |name: &str| self.fixture.path(name).display().to_string();
        let mut command = self.world.server.command(Make::Culvert.program("ocserv"));
        command
            .args([
                "test-auth",
                "-c",
                &path("ocserv.conf"),
                "--http=bearer",
                "anybody",
            ])
            .env("SSL_CERT_FILE", path("ca.pem"));
        let token = std::fs::read_to_string(token).unwrap();
        Process::start(command, self.fixture.dir(), "test-auth", Some(&token)).finish()
    }

    /// Kills the process that judges tokens, if there is one.
    fn kill_helper(&self) {
        let ends = || {
            self.server
                .log()
                .matches("judges tokens ended by signal 9")
                .count()
        };
        let before = ends();
        let Some(helper) = self.helper() else { return };
        process::kill(helper, "KILL");
        wait::until("the end of the helper", || (ends() > before).then_some(()));
    }

    fn helper(&self) -> Option<u32> {
        process::children(self.server.process.pid())
            .into_iter()
            .flat_map(process::children)
            .find(|pid| process::title(*pid).contains("helper"))
    }

    /// A login with the form.
    fn log_in_by_password(&self, client: Make) -> Process {
        let options = ClientOptions {
            arguments: &["--authenticate", "--non-inter"],
            name: "password",
            ..ClientOptions::default()
        };
        Client::launch(client, self.world, self.fixture, &options).process
    }
}

/// A tunnel for a user and with a group that only the token names.
fn connects(client: Make) {
    let (world, fixture) = (World::new(), Fixture::new());
    let mut keys = String::new();
    let scene = Scene::new(&world, &fixture, &[], |provider| {
        let key = provider.key("first");
        provider.publish(&key.document());
        provider.start(&world);
        keys = key.token(|_, _| ());
    });
    let secret = format!("@{keys}");
    let options = ClientOptions {
        user: "mallory",
        arguments: &[
            "--token-mode=oidc",
            "--token-secret",
            &secret,
            "--http-auth=bearer",
        ],
        ..ClientOptions::default()
    };
    let mut tunnel = Client::connect_with(client, &world, &fixture, &options);
    probe::ping(&world.client, INNER_SERVER_V4.parse().unwrap());
    let (_, users) = scene.server.occtl(&["--json", "show", "users"]);
    for part in ["\"alice\"", "\"staff\""] {
        assert!(users.contains(part), "{users}");
    }
    tunnel.process.signal("INT");
    assert_eq!(tunnel.process.exit_code(), 0, "{}", tunnel.process.output());
    let log = scene.server.log();
    let token = std::fs::read_to_string(&keys).unwrap();
    let signature = token.trim().rsplit_once('.').unwrap().1;
    assert!(!log.contains(signature), "the token is in the log");
}

#[test]
fn real_client_connects() {
    connects(Make::Real);
}

#[test]
fn our_client_connects() {
    connects(Make::Culvert);
}

/// Tokens that are not good, then keys that change, with and without a provider.
#[test]
fn only_good_tokens_let_in() {
    let (world, fixture) = (World::new(), Fixture::new());
    let mut scene = Scene::new(&world, &fixture, &[], |provider| {
        provider.publish(&provider.key("first").document());
        provider.start(&world);
    });
    let key = scene.provider.key("first");
    scene.refuses(Make::Culvert, &key.token(|_, _| ()), "the signature is wrong");
    let tried = scene.test_auth(&key.token(|_, _| ()));
    let refused = tried.stdout.contains("refused: the signature is wrong");
    assert!(tried.code == 1 && refused, "{}{}", tried.stdout, tried.stderr);
    scene.provider.publish(&key.document());
    // A login with old keys has new ones fetched, for the next one.
    wait::until("the right key", || {
        let login = scene.start(Make::Culvert, &key.token(|_, _| ())).finish();
        (login.code == 0).then_some(())
    });
    let tried = scene.test_auth(&key.token(|_, _| ()));
    assert_eq!(tried.code, 0, "{}{}", tried.stdout, tried.stderr);
    for said in [
        "accepted as 'alice'",
        "group in force: staff",
        "the login succeeds",
    ] {
        assert!(tried.stdout.contains(said), "{said}: {}", tried.stdout);
    }
    let other = scene.provider.key("other");
    for client in [Make::Real, Make::Culvert] {
        scene.refuses(
            client,
            &other.token(|_, _| ()),
            "signed with the unknown key 'other'",
        );
        // The keys are asked for when an unknown one is used.
        scene.accepts(client, &key.token(|_, _| ()));
    }
    for (why, change) in [
        ("the signature is wrong", json!({"alg": "none"})),
        ("the signature is wrong", json!({"alg": "HS256"})),
        ("the token is of another type", json!({"typ": "JWE"})),
        ("the token has expired", json!({"exp": 1_700_000_000})),
        ("the token is not valid yet", json!({"nbf": 4_000_000_000u32})),
        ("the token has no 'iat'", json!({"iat": null})),
        (
            "the claim 'aud' has not the required value",
            json!({"aud": "mail"}),
        ),
        (
            "the claim 'iss' has not the required value",
            json!({"iss": "https://evil.test"}),
        ),
        (
            "which names the user, is missing",
            json!({"preferred_username": null}),
        ),
        (
            "the user name cannot be used",
            json!({"preferred_username": "x".repeat(64)}),
        ),
    ] {
        let token = key.token(|header, claims| {
            for (name, value) in change.as_object().unwrap() {
                let part = if header.get(name).is_some() {
                    &mut *header
                } else {
                    &mut *claims
                };
                part[name] = value.clone();
            }
        });
        scene.refuses(Make::Culvert, &token, why);
    }
    let new = scene.provider.key("new");
    scene.provider.publish(&new.document());
    wait::until("the new key", || {
        let login = scene.start(Make::Culvert, &new.token(|_, _| ())).finish();
        (login.code == 0).then_some(())
    });
    scene.refuses(
        Make::Culvert,
        &key.token(|_, _| ()),
        "signed with the unknown key 'first'",
    );
    scene.provider.stop();
    scene.accepts(Make::Real, &new.token(|_, _| ()));
}

/// A certificate and a token: both have to be there, and to speak of the same user.
#[test]
fn and_certificate() {
    let (world, fixture) = (World::new(), Fixture::new());
    let authority = Authority::new(&fixture, "users.pem");
    for (file, user) in [("mine", USER), ("others", "bob")] {
        authority.issue(&fixture, file, Some(user), None);
    }
    let authorities = fixture.path("users.pem").display().to_string();
    let further = [
        ("auth", "certificate"),
        ("ca-cert", authorities.as_str()),
        ("cert-user-oid", UID),
    ];
    let scene = Scene::new(&world, &fixture, &further, |provider| {
        provider.publish(&provider.key("first").document());
        provider.start(&world);
    });
    let key = scene.provider.key("first");
    scene.provider.publish(&key.document());
    let log_in = |client: Make, certificate: &str, token: &str| {
        let path = |kind: &str| {
            fixture
                .path(&format!("{certificate}.{kind}"))
                .display()
                .to_string()
        };
        let (pem, key) = (path("pem"), path("key"));
        scene
            .start_with(client, token, &["-c", &pem, "-k", &key])
            .finish()
    };
    let good = key.token(|_, _| ());
    wait::until("the right key", || {
        (log_in(Make::Culvert, "mine", &good).code == 0).then_some(())
    });
    for client in [Make::Real, Make::Culvert] {
        let good = key.token(|_, _| ());
        let accepted = log_in(client, "mine", &good);
        assert_eq!(
            accepted.code,
            0,
            "{}
{}",
            accepted.stderr,
            scene.server.log()
        );
        assert!(accepted.stdout.contains("COOKIE="), "{}", accepted.stdout);
        let why = "presented a certificate which is for user 'bob'";
        let before = scene.server.log().matches(why).count();
        let refused = [
            log_in(client, "others", &good),
            scene.start(client, &good).finish(),
        ];
        let stale = key.token(|_, claims| claims["exp"] = json!(1_700_000_000));
        for login in refused.into_iter().chain([log_in(client, "mine", &stale)]) {
            assert!(
                login.code != 0 && !login.stdout.contains("COOKIE="),
                "{}",
                login.stdout
            );
        }
        scene.server.wait_for_log(why, before + 1);
        let log = scene.server.log();
        assert_eq!(log.matches(why).count(), before + 1, "{log}");
    }
}

/// Without the provider's keys nobody gets in with a token, everybody with a password; nobody waits
/// for it but those with tokens.
#[test]
fn a_bad_provider_is_in_nobodys_way() {
    let (world, fixture) = (World::new(), Fixture::new());
    let passwords = format!("plain[passwd={}]", fixture.path("ocpasswd").display());
    let mut scene = Scene::new(&world, &fixture, &[("enable-auth", &passwords)], |_| ());
    let key = scene.provider.key("first");
    let token = key.token(|_, _| ());
    for client in [Make::Real, Make::Culvert] {
        scene.refuses(client, &token, "the keys of the provider are not known");
        let mut login = scene.log_in_by_password(client);
        assert_eq!(login.exit_code(), 0, "{}\n{}", login.output(), scene.server.log());
    }
    scene.provider.stall(&world);
    let mut stalled = wait::until(
        "a login that waits for the provider and one that does not",
        || {
            let mut waiting = scene.start(Make::Culvert, &token);
            let connected = || {
                let sockets = ["-tnH", "state", "established", "sport", "=", "8443"];
                (!world.server.run("ss", &sockets).is_empty()).then_some(())
            };
            wait::poll_within(Duration::from_secs(2), connected)?;
            let mut login = scene.log_in_by_password(Make::Real);
            assert_eq!(login.exit_code(), 0, "{}\n{}", login.output(), scene.server.log());
            waiting.is_running().then_some(waiting)
        },
    );
    assert_ne!(stalled.exit_code(), 0);
    let log = |why: &str| scene.server.log().contains(why).then_some(());
    wait::until("the end of patience", || log("no answer within 5 s"));
    // The process that judges tokens dies while one waits: refused at once, and the next one has another process.
    scene.kill_helper();
    let mut waiting = wait::until("a login that waits", || {
        let mut waiting = scene.start(Make::Culvert, &token);
        let asked =
            || (scene.helper().is_some() && waiting.output().contains("Connected to HTTPS")).then_some(());
        wait::poll_within(Duration::from_secs(3), asked)?;
        waiting.is_running().then_some(waiting)
    });
    scene.kill_helper();
    assert_ne!(waiting.exit_code(), 0);
    wait::until("its end in the log", || {
        log("cannot authenticate: oidc: its process has ended")
    });
    for (document, why) in [
        ("x".repeat(2 << 20), "the answer is longer than 1048576 octets"),
        ("<html>".to_owned(), "not the expected JSON"),
        ("{\"keys\":[]}".to_owned(), "no usable key among 0"),
        (key.document(), "the keys of the provider are here"),
    ] {
        scene.provider.publish(&document);
        scene.provider.start(&world);
        // A new process asks at once.
        scene.kill_helper();
        wait::until(why, || {
            let login = scene.start(Make::Real, &token).finish();
            let last = why.starts_with("the keys");
            assert!(last || login.code != 0, "{}", login.stdout);
            (scene.server.log().contains(why) && last == (login.code == 0)).then_some(())
        });
    }
}
