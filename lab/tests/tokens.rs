//! Software tokens: our client generates the codes that the real ocserv checks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use culvert_lab::fixture::USER;
use culvert_lab::{Client, ClientOptions, Finished, Fixture, Make, Server, ServerOptions, World};

const KEY: &str = "3132333435363738393031323334353637383930";
const KEY_BASE32: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

/// A real ocserv that asks for the password, then for a code.
struct Scene {
    _server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    /// `users` is the content of the file of one-time passwords.
    fn new(users: &str) -> Self {
        let world = World::new();
        let fixture = Fixture::new();
        let users = fixture.write_file("users.oath", users);
        let auth = format!(
            "plain[passwd={},otp={}]",
            fixture.path("ocpasswd").display(),
            users.display()
        );
        let options = ServerOptions {
            overrides: &[("auth", &auth)],
            ..ServerOptions::default()
        };
        Self {
            _server: Server::start_with(Make::Real, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    fn log_in(&self, client: Make, mode: &str, secret: &str) -> Finished {
        let arguments = [
            "--cookieonly",
            "--non-inter",
            "--token-mode",
            mode,
            "--token-secret",
            secret,
        ];
        let options = ClientOptions {
            arguments: &arguments,
            ..ClientOptions::default()
        };
        Client::run(client, &self.world, &self.fixture, &options)
    }

    fn gets_in(&self, mode: &str, secret: &str) {
        let login = self.log_in(Make::Culvert, mode, secret);
        assert_eq!(login.code, 0, "{secret}: {}", login.stderr);
        let said = format!("Generating OATH {} token code", mode.to_uppercase());
        assert!(login.stderr.contains(&said), "{}", login.stderr);
    }
}

/// Time-based codes are good once: each spelling logs in with a key of its own.
#[test]
fn time_based_codes() {
    let spellings = [
        "12345678901234567890".to_owned(),
        format!("base32:{KEY_BASE32}"),
        format!("base32:{}", KEY_BASE32.to_lowercase()),
        format!("0x{KEY}"),
        format!("sha1:0x{KEY}"),
        format!("otpauth://totp/lab:alice?secret={KEY_BASE32}&issuer=lab"),
    ];
    for spelling in &spellings {
        let scene = Scene::new(&format!("HOTP/T30 {USER} - {KEY}\n"));
        scene.gets_in("totp", spelling);
    }
}

/// The counter is in the file that the client writes.
#[test]
fn counted_codes_from_a_file() {
    let scene = Scene::new(&format!("HOTP/E/6 {USER} - {KEY} 0\n"));
    let token = scene
        .fixture
        .write_file("token", &format!("base32:{KEY_BASE32},0\n"));
    let secret = format!("@{}", token.display());
    for count in 1..=4 {
        scene.gets_in("hotp", &secret);
        let written = fs::read_to_string(&token).unwrap();
        assert_eq!(written, format!("base32:{KEY_BASE32},{count}"));
    }
    // Without the @ the path names the file, too.
    scene.gets_in("hotp", token.to_str().unwrap());
    // An old counter gives a code that the server has seen.
    let replay = scene.log_in(Make::Culvert, "hotp", &format!("0x{KEY},2"));
    assert_eq!(
        (replay.code, replay.stdout.as_str()),
        (1, ""),
        "{}",
        replay.stderr
    );
    scene.gets_in("hotp", &format!("0x{KEY},5"));
}

#[test]
fn counted_codes_from_a_container() {
    let scene = Scene::new(&format!("HOTP/E/6 {USER} - {KEY} 0\n"));
    let document = |counter: u32| {
        format!(
            "<?xml version=\"1.0\"?>\n<KeyContainer Version=\"1.0\" xmlns=\"urn:ietf:params:xml:ns:keyprov:pskc\">\
             <KeyPackage><Key Id=\"1\" Algorithm=\"urn:ietf:params:xml:ns:keyprov:pskc:hotp\"><Data><Secret>\
             <PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret><Counter><PlainValue>{counter}</PlainValue>\
             </Counter></Data></Key></KeyPackage></KeyContainer>\n"
        )
    };
    let token = scene.fixture.write_file("token.xml", &document(0));
    let secret = format!("@{}", token.display());
    scene.gets_in("hotp", &secret);
    assert_eq!(fs::read_to_string(&token).unwrap(), document(1));
    scene.gets_in("hotp", &secret);
    assert_eq!(fs::read_to_string(&token).unwrap(), document(2));
}

/// A bad secret, a missing file: the same words and the same end as the real client.
#[test]
fn tokens_that_do_not_help() {
    let scene = Scene::new(&format!("HOTP/T30 {USER} - {KEY}\n"));
    for (mode, secret) in [
        ("totp", "base32:1"),
        ("totp", "0xzz"),
        ("hotp", "key,x"),
        ("totp", "@/nonexistent/token"),
        ("oidc", "@/nonexistent/token"),
        ("nonsense", "key"),
    ] {
        let run = |client| {
            let run = scene.log_in(client, mode, secret);
            let about_tokens = |line: &&str| {
                ["oken", "base32", "Failed to open", "complete", "OATH"]
                    .iter()
                    .any(|word| line.contains(word))
            };
            let lines: Vec<String> = run
                .stderr
                .lines()
                .filter(about_tokens)
                .map(str::to_owned)
                .collect();
            (run.code, lines)
        };
        let (real, ours) = (run(Make::Real), run(Make::Culvert));
        assert_eq!(real.0, 1, "{mode} {secret}: {:?}", real.1);
        assert_eq!(ours, real, "{mode} {secret}");
    }
    let wrong_key = scene.log_in(Make::Culvert, "totp", "base32:AAAAAAAA");
    assert_eq!(
        (wrong_key.code, wrong_key.stdout.as_str()),
        (1, ""),
        "{}",
        wrong_key.stderr
    );
}
