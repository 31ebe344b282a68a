use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Finished, Fixture, Make, Process, process};

use crate::Scene;
use crate::files::{issue, make_key};
use crate::texts::said;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";

/// Runs a program with the tokens of this fixture.
fn with_tokens(fixture: &Fixture, program: &str, arguments: &str) {
    let configuration = format!("SOFTHSM2_CONF={}", fixture.path("softhsm2.conf").display());
    let mut all = vec![configuration.as_str(), program];
    all.extend(arguments.split_whitespace());
    process::run("env", &all);
}

/// Puts the key and the certificate `name` on the token `token`, the key under another label.
/// With `private` the certificate, too, is seen after a login only.
fn import(fixture: &Fixture, token: &str, name: &str, id: &str, key_label: &str, private: &str) {
    let path = |suffix: &str| fixture.path(&format!("{name}.{suffix}")).display().to_string();
    fixture.openssl(&format!("pkcs8 -topk8 -nocrypt -in {name}.key -out {name}.p8"));
    fixture.openssl(&format!("x509 -in {name}.pem -outform DER -out {name}.der"));
    with_tokens(
        fixture,
        "softhsm2-util",
        &format!(
            "--import {} --token {token} --label {key_label} --id {id} --pin {PIN}",
            path("p8")
        ),
    );
    with_tokens(
        fixture,
        "pkcs11-tool",
        &format!(
            "--module {MODULE} --token-label {token} --login --pin {PIN} --write-object {} --type cert --label {name} --id {id} {private}",
            path("der")
        ),
    );
}

/// GnuTLS has two reasons for the same thing, `The requested data were not available` and `The
/// requested PKCS #11 object is not available`.
fn without_reason(run: &Finished) -> Vec<String> {
    let lines = said(run).into_iter();
    lines
        .map(|line| {
            line.split(": The requested")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// Two tokens, the second one with three users: the label of a key may be another than that of its
/// certificate, and a certificate private.
fn make_tokens(fixture: &Fixture) {
    let folder = fixture.path("tokens");
    std::fs::create_dir(&folder).unwrap();
    fixture.write_file(
        "softhsm2.conf",
        &format!("directories.tokendir = {}\n", folder.display()),
    );
    for token in ["first", "second"] {
        with_tokens(
            fixture,
            "softhsm2-util",
            &format!("--init-token --free --label {token} --so-pin 5678 --pin {PIN}"),
        );
    }
    for (name, algorithm, id, key_label) in [
        ("alice", "EC -pkeyopt ec_paramgen_curve:P-256", "01", "alice"),
        ("bob", "RSA -pkeyopt rsa_keygen_bits:2048", "02", "other"),
        ("carol", "EC -pkeyopt ec_paramgen_curve:P-384", "03", "carol"),
    ] {
        make_key(fixture, name, algorithm);
        issue(fixture, name, "client-ca", 90, "extendedKeyUsage=clientAuth");
        import(
            fixture,
            "second",
            name,
            id,
            key_label,
            if name == "carol" { "--private" } else { "" },
        );
    }
}

/// Command lines, what is typed, and whether they get in.
const CASES: [(&[&str], &str, bool); 13] = [
    (
        &["-c", "pkcs11:token=second;object=alice?pin-value=1234"],
        "",
        true,
    ),
    (&["-c", "pkcs11:token=second;object=alice"], "1234\n", true),
    (&["-c", "pkcs11:token=second;object=alice"], "wrong\n1234\n", true),
    (&["-c", "pkcs11:token=second;id=%01", "-p", PIN, "-v"], "", true),
    (&["-c", "pkcs11:token=second;object=carol", "-p", PIN], "", true),
    (&["-c", "pkcs11:token=second;object=bob", "-p", PIN], "", true),
    (
        &[
            "-c",
            "alice.pem",
            "-k",
            "pkcs11:token=second;object=alice",
            "-p",
            PIN,
            "-v",
        ],
        "",
        true,
    ),
    (
        &["-c", "pkcs11:token=second;object=alice", "-k", "alice.key"],
        "",
        true,
    ),
    (
        &[
            "-c",
            "pkcs11:token=second;object=alice",
            "-F",
            "pkcs11_pin:pkcs11_pin=1234",
        ],
        "",
        true,
    ),
    (
        &["-c", "pkcs11:token=second;object=alice", "--non-inter"],
        "",
        false,
    ),
    // A wrong PIN is not given twice, wherever it came from.
    (
        &["-c", "pkcs11:token=second;object=alice", "-p", "9999"],
        "1234\n",
        true,
    ),
    (&["-c", "pkcs11:token=third;object=alice"], "", false),
    (
        &["-c", "alice.pem", "-k", "pkcs11:token=third;object=alice"],
        "",
        false,
    ),
];

/// Certificates and keys on SoftHSM's tokens: who gets in, and the words on the way.
#[test]
fn keys_on_tokens() {
    let scene = Scene::new(&[("auth", "certificate")]);
    let fixture = &scene.fixture;
    make_tokens(fixture);
    for (arguments, input, enters) in CASES {
        let [real, ours] = [Make::Real, Make::Culvert].map(|client| scene.log_in(client, arguments, input));
        assert_eq!(without_reason(&ours), without_reason(&real), "{arguments:?}");
        assert_eq!(real.code == 0, enters, "{arguments:?}: {}", real.stderr);
        assert_eq!(ours.code == 0, enters, "{arguments:?}: {}", ours.stderr);
    }
    // Either of two tokens, whichever comes first. The real client has no PIN left for the second one.
    let either = ["-c", "pkcs11:model=SoftHSM%20v2;id=%02;type=cert", "-p", PIN];
    let ours = scene.log_in(Make::Culvert, &either, "");
    assert_eq!(ours.code, 0, "{}", ours.stderr);
    for (name, id, version) in [
        ("alice", "%01", "-tls1"),
        ("bob", "%02", "-tls1_1"),
        ("bob", "%02", "-tls1_2"),
        ("carol", "%03", "-tls1_2"),
    ] {
        old_gateway(&scene, name, id, version);
    }
    wrong_pins(&scene);
}

/// What is tried after wrong PINs, and where they come from.
fn wrong_pins(scene: &Scene) {
    // A wrong PIN is not given again; the right one is good though few tries are left.
    let [real, ours] = [Make::Real, Make::Culvert].map(|client| {
        let uri = "pkcs11:token=second;object=alice";
        let wrong = scene.log_in(client, &["-c", uri, "-p", "9999"], "");
        assert_eq!(wrong.code, 1, "{}", wrong.stderr);
        let last = scene.log_in(client, &["-c", uri, "-p", PIN], "");
        assert_eq!(last.code, 0, "{}", last.stderr);
        [without_reason(&wrong), without_reason(&last)]
    });
    assert_eq!(ours, real);
    // On either of two tokens: the real client spends the PIN on the other one.
    let some_token = scene.log_in(Make::Culvert, &["-c", "pkcs11:object=alice", "-p", PIN], "");
    assert_eq!(some_token.code, 0, "{}", some_token.stderr);
    let pin_file = scene.fixture.write_file("pin", "1234\n");
    let pin_source = format!(
        "pkcs11:token=second;object=alice?pin-source=file:{}",
        pin_file.display()
    );
    // The real client does not read the file, and gives up after a wrong PIN of the URI.
    let by_file = scene.log_in(Make::Culvert, &["-c", &pin_source, "--non-inter"], "");
    assert_eq!(by_file.code, 0, "{}", by_file.stderr);
    let wrong = "pkcs11:token=second;object=alice?pin-value=9999";
    let asked = scene.log_in(Make::Culvert, &["-c", wrong], "1234\n");
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    assert_eq!(asked.stderr.matches("Wrong PIN").count(), 1, "{}", asked.stderr);
}

/// The same keys where TLS is OpenSSL's: a server that ends the handshake of whoever has no key.
fn old_gateway(scene: &Scene, name: &str, id: &str, version: &str) {
    let fixture = &scene.fixture;
    let mut command = scene.world.server.command("openssl");
    command.current_dir(fixture.dir()).args([
        "s_server",
        "-www",
        "-accept",
        "444",
        "-cert",
        "server-cert.pem",
        "-key",
        "server-key.pem",
    ]);
    command.args([version, "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"]);
    command.args(["-Verify", "2", "-verify_return_error", "-CAfile", "client-ca.pem"]);
    let mut server = Process::start(command, fixture.dir(), "s_server", None);
    server.wait_for("ACCEPT");
    let uri = format!("pkcs11:token=second;id={id}");
    let ca = fixture.path("ca.pem").display().to_string();
    let mut client = scene.world.client.command(Make::Culvert.program("openconnect"));
    client
        .args(["--cookieonly", "--no-xmlpost", "--non-inter", "--cafile", &ca])
        .args(["-c", &uri, "-p", PIN])
        .arg(format!("--resolve={SERVER_NAME}:192.0.2.1"))
        .arg(format!("https://{SERVER_NAME}:444/"))
        .current_dir(fixture.dir())
        .env("SOFTHSM2_CONF", fixture.path("softhsm2.conf"));
    let said = Process::start(client, fixture.dir(), "client", None)
        .finish()
        .stderr;
    assert!(
        said.contains(&format!("Using client certificate '{name}'")),
        "{said}"
    );
    assert!(said.contains("is weak: "), "{said}");
    // The page, which only those get who have signed.
    assert!(
        said.contains("XML response has no \"auth\" node"),
        "{said}\n{}",
        server.output()
    );
    server.signal("TERM");
    server.wait();
}
