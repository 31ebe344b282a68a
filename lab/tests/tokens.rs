//! Software tokens: our client generates the codes that the real ocserv checks.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;

use culvert_lab::fixture::USER;
use culvert_lab::{Client, ClientOptions, Finished, Fixture, Make, Server, ServerOptions, SslServer, World};

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

/// A SecurID token of the vectors; good until 2028.
const SECURID: &str = "264776164514936363764533471463346710742102273270227272044173150076753262716771514";

/// What a client sends in the password field of a gateway's form.
fn sent_password(client: Make, secret: &str) -> String {
    let world = World::new();
    let fixture = Fixture::new();
    let mut gateway = SslServer::start(&world, &fixture, "");
    let arguments = ["--cookieonly", "--token-mode=rsa", "--token-secret", secret];
    // The PIN is what takes the password of standard input.
    let options = ClientOptions {
        arguments: &arguments,
        input: "1234",
        ..ClientOptions::default()
    };
    let client = Client::launch(client, &world, &fixture, &options);
    // A form with a choice of groups makes the reference ask twice; this one has none.
    gateway.wait_for("type=\"init\"", 1);
    gateway.answer(
        "",
        "<config-auth client=\"vpn\" type=\"auth-request\"><auth id=\"main\"><form method=\"post\" action=\"/auth\">\
         <input type=\"password\" name=\"password\" label=\"Password:\"/></form></auth></config-auth>",
    );
    gateway.wait_for("</password>", 1);
    drop(client);
    let log = gateway.log();
    let (_, sent) = log.split_once("<password>").unwrap();
    sent.split_once('<').unwrap().0.to_owned()
}

/// Our SecurID code is the real client's, with the same PIN in the same minute.
#[test]
fn securid_codes() {
    let fixture = Fixture::new();
    let token = fixture.write_file("token", &format!("version 1\ntoken {SECURID}\n"));
    let file = format!("@{}", token.display());
    let mut codes = Vec::new();
    let same = (0..3).any(|_| {
        codes = vec![
            sent_password(Make::Real, SECURID),
            sent_password(Make::Culvert, SECURID),
            sent_password(Make::Culvert, &file),
        ];
        assert!(codes.iter().all(|code| code.len() == 8), "{codes:?}");
        // A minute may have ended in between.
        codes.iter().all(|code| *code == codes[0])
    });
    assert!(same, "{codes:?}");
}

/// A host with a YubiKey in a virtual reader.
struct Yubikey {
    scene: Scene,
}

impl Yubikey {
    fn new() -> Self {
        let line = |user: &str| format!("HOTP/T30 {user} - {KEY}\n");
        let scene = Scene::new(&[line(USER), line("bob")].concat());
        // pcscd has one place for its socket: all of it happens in a mount namespace of its own.
        scene.fixture.write_script(
            "with-card",
            &format!(
                "mkdir -p /run/pcscd && mount -t tmpfs none /run/pcscd && : >{0} || exit 9\n\
                 pcscd --foreground --info >{0} 2>&1 &\n\
                 daemon=$!\n\
                 until {1} {KEY} $PIN 2>/dev/null; do sleep 0.1; done &\n\
                 card=$!\n\
                 until grep -q 'Card ATR' {0} && grep -q ' 00010000 .*pcscd.comm' /proc/net/unix; do sleep 0.1; done\n\
                 \"$@\"\n\
                 code=$?\n\
                 kill $daemon $card 2>/dev/null\n\
                 exit $code",
                scene.fixture.path("pcscd.log").display(),
                env!("CARGO_BIN_EXE_oath_card"),
            ),
        );
        Self { scene }
    }

    /// A login as `user`; `pin` is the card's. What is typed is `input` and then the password.
    fn log_in(&self, make: Make, user: &str, pin: &str, input: &str, arguments: &[&str]) -> Finished {
        let arguments = [&["--cookieonly", "--token-mode=yubioath"], arguments].concat();
        let options = ClientOptions {
            arguments: &arguments,
            user,
            ..ClientOptions::default()
        };
        let scene = &self.scene;
        let client = Client::command(make, &scene.world, &scene.fixture, &options);
        let mut command = scene.world.client.command("unshare");
        command
            .env("PIN", pin)
            .arg("--mount")
            .arg("--pid")
            .arg("--fork")
            .arg("--kill-child");
        command.arg(scene.fixture.path("with-card"));
        // The command of the host runs a program in its namespace: here the script does that.
        command.args(
            client
                .get_args()
                .skip_while(|word| !word.to_string_lossy().contains("openconnect")),
        );
        let input = format!("{input}{}\n", culvert_lab::PASSWORD);
        culvert_lab::Process::start(command, scene.fixture.dir(), "client", Some(&input)).finish()
    }
}

/// What our client says of a credential that wants a touch.
const UNTOUCHED: &str = "General Yubikey failure: the OATH applet answers with status 6985";

/// What was said about the YubiKey. A wrong PIN is a status of the card in the words of the real
/// client, and it does not take the form of its server for one that wants a code.
fn about_card(run: &Finished) -> Vec<&str> {
    let words = ["ubikey", "PIN required", "oath", "lab:"];
    let codes = ["Generating", UNTOUCHED];
    let about = |line: &&str| {
        words.iter().any(|word| line.contains(word)) && !codes.iter().any(|code| line.starts_with(code))
    };
    run.stderr.lines().filter(about).collect()
}

/// A YubiKey makes the code that the real ocserv checks.
#[test]
fn codes_of_a_yubikey() {
    let yubikey = Yubikey::new();
    let secret = "--token-secret=lab:alice";
    let login = yubikey.log_in(Make::Culvert, USER, "", "", &["--non-inter", "-v", secret]);
    let log = fs::read_to_string(yubikey.scene.fixture.path("pcscd.log")).unwrap_or_default();
    assert_eq!(login.code, 0, "{}{log}", login.stderr);
    assert!(
        login.stderr.contains("Generating Yubikey token code"),
        "{}",
        login.stderr
    );
    // The PIN that standard input has first is wrong, the next one is right.
    let unlocked = yubikey.log_in(Make::Culvert, "bob", "1234", "4321\n1234\n", &[secret]);
    assert_eq!(unlocked.code, 0, "{}", unlocked.stderr);
}

/// PINs, strange credentials, no touch: the words of the real client.
#[test]
fn yubikeys_that_do_not_help() {
    let yubikey = Yubikey::new();
    let cases: [(&str, &str, &[&str]); 4] = [
        ("", "", &["--token-secret=other"]),
        ("", "", &["--token-secret=lab:count", "--non-inter"]),
        ("1234", "", &["--token-secret=lab:alice", "--non-inter"]),
        ("1234", "0\n00\n1234\n", &["--token-secret=lab:touch"]),
    ];
    for (pin, input, arguments) in cases {
        let [real, ours] =
            [Make::Real, Make::Culvert].map(|make| yubikey.log_in(make, USER, pin, input, arguments));
        assert_eq!(
            about_card(&ours),
            about_card(&real),
            "{arguments:?}\n{}\n{}",
            ours.stderr,
            real.stderr
        );
        assert_eq!((ours.code, real.code), (1, 1), "{}", ours.stderr);
        let untouched = ours.stderr.contains(UNTOUCHED);
        assert_eq!(
            untouched,
            arguments.contains(&"--token-secret=lab:touch"),
            "{}",
            ours.stderr
        );
    }
}
