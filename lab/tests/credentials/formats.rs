use std::process::Command;

use culvert_lab::{Client, ClientOptions, Make, Process};

use crate::Scene;
use crate::files::{issue, make_key, make_open_container, make_user};

const OLD: &str = "-provider legacy -provider default";
const PASSPHRASE: &str = "árvíztűrő";

/// Our client gets in as `user`, and has sent the certificate of that name.
fn gets_in(scene: &Scene, user: &str, arguments: &[&str], input: &str) {
    let login = scene.log_in(Make::Culvert, arguments, input);
    assert_eq!(
        login.code,
        0,
        "{arguments:?}\n{}{}",
        login.stderr,
        scene.server.log()
    );
    assert!(
        login.stdout.contains("webvpn="),
        "{arguments:?}: {}",
        login.stdout
    );
    let said = format!("Using client certificate '{user}'");
    assert!(login.stderr.contains(&said), "{arguments:?}: {}", login.stderr);
}

#[test]
fn kinds_of_keys() {
    let scene = Scene::new(&[("auth", "certificate")]);
    let fixture = &scene.fixture;
    for (user, algorithm) in [
        ("rsa", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("rsa-pss", "RSA-PSS -pkeyopt rsa_keygen_bits:2048"),
        ("p256", "EC -pkeyopt ec_paramgen_curve:P-256"),
        ("p384", "EC -pkeyopt ec_paramgen_curve:P-384"),
        ("p521", "EC -pkeyopt ec_paramgen_curve:P-521"),
        ("ed25519", "ED25519"),
    ] {
        make_key(fixture, user, algorithm);
        issue(fixture, user, "client-ca", 90, "extendedKeyUsage=clientAuth");
        gets_in(
            &scene,
            user,
            &["-c", &format!("{user}.pem"), "-k", &format!("{user}.key")],
            "",
        );
    }
    // Key and certificate in one file, the certificate last; RSA in its own old structures.
    fixture.openssl("rsa -in rsa.key -traditional -out rsa.pkcs1");
    fixture.openssl("rsa -in rsa.key -traditional -outform DER -out rsa.der");
    fixture.openssl("ec -in p256.key -outform DER -out p256.der");
    let read = |name: &str| std::fs::read_to_string(fixture.path(name)).unwrap();
    fixture.write_file(
        "both.pem",
        &[read("rsa.pkcs1"), read("client-ca.pem"), read("rsa.pem")].concat(),
    );
    gets_in(&scene, "rsa", &["-c", "both.pem"], "");
    gets_in(&scene, "rsa", &["-c", "rsa.pem", "-k", "rsa.der"], "");
    gets_in(&scene, "p256", &["-c", "p256.pem", "-k", "p256.der"], "");
    fixture.openssl("x509 -in p256.pem -outform DER -out p256-cert.der");
    gets_in(&scene, "p256", &["-c", "p256-cert.der", "-k", "p256.key"], "");
}

#[test]
fn encrypted_files() {
    let scene = Scene::new(&[("auth", "certificate")]);
    let fixture = &scene.fixture;
    make_user(fixture, "alice", 90);
    fixture.write_file("pass", PASSPHRASE);
    let once = format!("{PASSPHRASE}\n");
    let twice = format!("wrong\n{PASSPHRASE}\n");
    let mut kinds: Vec<String> = ["-aes128", "-aes192", "-aes256", "-des3"]
        .iter()
        .map(|cipher| format!("ec -in alice.key {cipher}"))
        .collect();
    for scheme in [
        &format!("-v1 PBE-MD5-DES {OLD}"),
        "-v1 PBE-SHA1-3DES",
        "-v2 aes-256-cbc -v2prf hmacWithSHA1",
        "-v2 aes-256-cbc -v2prf hmacWithSHA256",
        "-v2 aes-128-cbc -v2prf hmacWithSHA512",
        "-v2 des3 -outform DER",
        "-scrypt",
    ] {
        kinds.push(format!("pkcs8 -topk8 -in alice.key {scheme}"));
    }
    for kind in &kinds {
        fixture.openssl(&format!("{kind} -passout file:pass -out locked"));
        let arguments = ["-c", "alice.pem", "-k", "locked"];
        gets_in(&scene, "alice", &arguments, &twice);
        gets_in(
            &scene,
            "alice",
            &[&arguments[..], &["-p", PASSPHRASE]].concat(),
            "",
        );
    }
    for mix in [
        String::new(),
        "-legacy".to_owned(),
        "-macalg sha1 -keypbe PBE-SHA1-3DES -certpbe PBE-SHA1-3DES".to_owned(),
        "-macalg sha256 -keypbe AES-256-CBC -certpbe AES-256-CBC".to_owned(),
        format!("-keypbe PBE-MD5-DES -certpbe PBE-MD5-DES {OLD}"),
        format!("-keypbe PBE-MD5-DES -certpbe AES-256-CBC {OLD}"),
        "-nomac".to_owned(),
    ] {
        fixture.openssl(&format!(
            "pkcs12 -export {mix} -inkey alice.key -in alice.pem -passout file:pass -out locked.p12"
        ));
        gets_in(&scene, "alice", &["-c", "locked.p12"], &once);
        gets_in(
            &scene,
            "alice",
            &["-c", "locked.p12", "-p", PASSPHRASE, "--non-inter"],
            "",
        );
    }
    make_open_container(fixture);
    gets_in(&scene, "alice", &["-c", "open.p12", "--non-inter"], "");

    let id = Command::new("stat")
        .args(["-f", "-c", "%i"])
        .arg(fixture.path("alice.key"))
        .output()
        .unwrap();
    fixture.write_file("pass", String::from_utf8(id.stdout).unwrap().trim_end());
    fixture.openssl("pkcs8 -topk8 -in alice.key -passout file:pass -out fsid");
    gets_in(
        &scene,
        "alice",
        &[
            "-c",
            "alice.pem",
            "-k",
            "fsid",
            "--key-password-from-fsid",
            "--non-inter",
        ],
        "",
    );
}

/// Passphrases are typed in the locale's character set, whatever the file was encrypted with.
#[test]
fn passphrases_in_latin2() {
    let scene = Scene::new(&[("auth", "certificate")]);
    let fixture = &scene.fixture;
    make_user(fixture, "alice", 90);
    let latin2 = b"\xe1rv\xedzt\xfbr\xf5";
    std::fs::write(fixture.path("pass.utf8"), PASSPHRASE).unwrap();
    std::fs::write(fixture.path("pass.latin2"), latin2).unwrap();
    fixture.openssl("pkcs12 -export -inkey alice.key -in alice.pem -passout file:pass.utf8 -out alice.p12");
    fixture.openssl("pkcs8 -topk8 -in alice.key -passout file:pass.utf8 -out utf8.key");
    fixture.openssl("pkcs8 -topk8 -in alice.key -passout file:pass.latin2 -out latin2.key");
    for arguments in [
        "-c alice.p12",
        "-c alice.pem -k utf8.key",
        "-c alice.pem -k latin2.key",
    ] {
        for input in ["", "-p \"$(cat pass.latin2)\" --non-inter"] {
            let script = format!(
                "export LC_ALL=hu_HU.ISO8859-2\nexec {} --cafile ca.pem --resolve vpn.test:192.0.2.1 --cookieonly \
                 {arguments} {input} https://vpn.test/ <pass.latin2",
                Make::Culvert.program("openconnect").display()
            );
            let mut command = scene.world.client.command(fixture.write_script("run", &script));
            command.current_dir(fixture.dir());
            let login = Process::start(command, fixture.dir(), "client", None).finish();
            assert_eq!(login.code, 0, "{arguments} {input}: {}", login.stderr);
        }
    }
}

/// The certificate is shown for the tunnel's connection, too.
#[test]
fn tunnel_with_a_certificate() {
    let scene = Scene::new(&[("auth", "certificate")]);
    make_user(&scene.fixture, "alice", 90);
    let (certificate, key) = (scene.fixture.path("alice.pem"), scene.fixture.path("alice.key"));
    let arguments = [
        "-c",
        certificate.to_str().unwrap(),
        "-k",
        key.to_str().unwrap(),
        "--no-http-keepalive",
    ];
    let options = ClientOptions {
        arguments: &arguments,
        input: "",
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    let inner = culvert_lab::fixture::INNER_SERVER_V4.parse().unwrap();
    culvert_lab::probe::ping(&scene.world.client, inner);
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());
}
