//! `tls-priorities`: GnuTLS's strings, by what GnuTLS's and OpenSSL's own clients negotiate.

use std::fs;
use std::process::{Command, Stdio};

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Make, wait};

use crate::Scene;

/// A string of the configuration, what `gnutls-cli` is told to offer, and what comes of it: version,
/// cipher and group; `None` for a handshake that fails.
type Case = (&'static str, &'static str, Option<[&'static str; 3]>);

/// With the order of the server, `X25519MLKEM768` goes unnoticed: Debian's GnuTLS does not have it.
const CASES: &[Case] = &[
    ("NORMAL", "NORMAL", Some(["TLS1.3", "AES-256-GCM", "SECP256R1"])),
    // The client's order counts unless the server's is to.
    (
        "PERFORMANCE",
        "NORMAL",
        Some(["TLS1.3", "AES-256-GCM", "SECP256R1"]),
    ),
    (
        "PERFORMANCE:%SERVER_PRECEDENCE:%COMPAT",
        "NORMAL",
        Some(["TLS1.3", "AES-128-GCM", "SECP256R1"]),
    ),
    (
        "PERFORMANCE:%SERVER_PRECEDENCE:-VERS-TLS1.3",
        "NORMAL",
        Some(["TLS1.2", "AES-128-GCM", "SECP256R1"]),
    ),
    (
        "NORMAL:-VERS-ALL:+VERS-TLS1.2:%COMPAT",
        "NORMAL",
        Some(["TLS1.2", "AES-256-GCM", "SECP256R1"]),
    ),
    ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "NORMAL:-VERS-TLS1.3", None),
    ("NORMAL:-VERS-TLS1.3", "NORMAL:-VERS-ALL:+VERS-TLS1.3", None),
    (
        "SECURE256:%SERVER_PRECEDENCE",
        "NORMAL",
        Some(["TLS1.3", "AES-256-GCM", "SECP384R1"]),
    ),
    ("SECURE256", "NORMAL:-CIPHER-ALL:+AES-128-GCM", None),
    (
        "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305",
        "NORMAL",
        Some(["TLS1.3", "CHACHA20-POLY1305", "SECP256R1"]),
    ),
    (
        "NORMAL:-GROUP-ALL:+GROUP-X25519",
        "NORMAL",
        Some(["TLS1.3", "AES-256-GCM", "X25519"]),
    ),
    (
        "NORMAL:-CURVE-ALL:+CURVE-SECP384R1:-VERS-TLS1.3",
        "NORMAL",
        Some(["TLS1.2", "AES-256-GCM", "SECP384R1"]),
    ),
    (
        "SUITEB128",
        "NORMAL",
        Some(["TLS1.2", "AES-256-GCM", "SECP256R1"]),
    ),
    (
        "NONE:+VERS-TLS1.3:+AES-128-GCM:+AEAD:+GROUP-SECP256R1:+SIGN-ALL",
        "NORMAL",
        Some(["TLS1.3", "AES-128-GCM", "SECP256R1"]),
    ),
    // Without its key exchanges there is no TLS 1.2.
    ("NORMAL:-ECDHE-RSA:-ECDHE-ECDSA", "NORMAL:-VERS-TLS1.3", None),
    (
        "NORMAL:!VERS-TLS1.3:-ECDHE-RSA",
        "NORMAL",
        Some(["TLS1.2", "AES-256-GCM", "SECP256R1"]),
    ),
];

/// The session's description, e.g. `(TLS1.3)-(ECDHE-SECP256R1)-(...)-(AES-256-GCM)`; `None` when the
/// handshake fails.
fn gnutls(scene: &Scene, offer: &str) -> Option<String> {
    let mut command = scene.world.client.command("gnutls-cli");
    command
        .args(["--priority", offer, "--sni-hostname", SERVER_NAME])
        .args(["--verify-hostname", SERVER_NAME, "--x509cafile"])
        .arg(scene.fixture.path("ca.pem"))
        .args(["--port", "443", SERVER_V4])
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let description = text.lines().find_map(|line| line.strip_prefix("- Description: "));
    let failed = String::from_utf8_lossy(&output.stderr).contains("*** Fatal error: ");
    assert_ne!(description.is_some(), failed, "{output:?}");
    description.map(str::to_owned)
}

/// What OpenSSL says about a session, with these options.
fn openssl(scene: &Scene, options: &[&str]) -> String {
    let mut command: Command = scene.world.client.command("openssl");
    command
        .args(["s_client", "-brief", "-connect", &format!("{SERVER_V4}:443")])
        .args(options)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn reload(scene: &Scene, priorities: &str) {
    let config = scene.fixture.ocserv_conf(&[("tls-priorities", priorities)]);
    fs::write(scene.fixture.path("ocserv.conf"), config).unwrap();
    let renewed = || {
        let text = "the process that makes workers was renewed";
        scene.server.log().matches(text).count()
    };
    let before = renewed();
    scene.server.process.signal("HUP");
    wait::until(&scene.server.log(), || (renewed() > before).then_some(()));
}

#[test]
fn clients_negotiate_what_the_string_allows() {
    let scene = Scene::new(Make::Culvert, &[]);
    for (priorities, offer, expected) in CASES {
        reload(&scene, priorities);
        let got = gnutls(&scene, offer);
        match (expected, &got) {
            (None, None) => {}
            (Some(parts), Some(description)) => {
                for part in parts {
                    assert!(
                        description.contains(part),
                        "{priorities}: {description}, not {part}"
                    );
                }
            }
            _ => panic!("{priorities} for {offer}: {got:?}\n{}", scene.server.log()),
        }
    }
    // The same by OpenSSL.
    reload(&scene, "NORMAL:-VERS-TLS1.3:-AES-256-GCM:-CHACHA20-POLY1305");
    let text = openssl(&scene, &[]);
    assert!(
        text.contains("Protocol version: TLSv1.2") && text.contains("AES128-GCM"),
        "{text}"
    );
    let text = openssl(&scene, &["-tls1_3"]);
    assert!(!text.contains("CONNECTION ESTABLISHED"), "{text}");
    let mut client = scene.connect(Make::Real, &[]);
    scene.ping();
    assert!(
        client.process.stdout().contains("(TLS1.2)-"),
        "{}",
        client.process.output()
    );
    assert!(client.process.is_running());
}

/// What a string asks for in vain is a warning with the line; what leaves nothing is an error.
#[test]
fn what_cannot_be_honoured_is_said() {
    let fixture = culvert_lab::Fixture::new();
    let test = |priorities: &str| {
        let config = fixture.ocserv_conf(&[("tls-priorities", priorities)]);
        let line = config.lines().count();
        let config = fixture.write_file("ocserv.conf", &config);
        let mut command = Command::new(Make::Culvert.program("ocserv"));
        let output = command.arg("-t").arg("-c").arg(config).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text, line)
    };
    let (code, text, line) = test("NORMAL:+VERS-TLS1.0:+RSA:+AES-128-GCM");
    let warning = format!(
        "warning: option 'tls-priorities' in line {line}: this server does not have: +VERS-TLS1.0, +RSA\n"
    );
    assert!(code == Some(0) && text.contains(&warning), "{code:?} {text}");
    for (priorities, message) in [
        (
            "NORMAL:-VERS-ALL:+VERS-TLS1.1",
            "it leaves no protocol version that this server has",
        ),
        (
            "NORMAL:-CIPHER-ALL:+AES-128-CBC",
            "it leaves no cipher that this server has",
        ),
        (
            "NORMAL:+FOO:%COMPAT",
            "error in TLS priority string: +FOO:%COMPAT",
        ),
    ] {
        let (code, text, line) = test(priorities);
        let place = format!("config file error in line {line} ");
        assert!(
            code == Some(1) && text.contains(message) && text.contains(&place),
            "{code:?} {text}"
        );
    }
}
