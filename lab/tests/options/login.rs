//! Logins without a tunnel, and tunnels without a login.

use culvert_lab::client::DEVICE;
use culvert_lab::fixture::USER;
use culvert_lab::{Client, ClientOptions, Make, PASSWORD, Process};

use crate::Scene;

/// What `--authenticate` prints is evaluated by a shell and fed into the second phase, as
/// NetworkManager and many scripts do.
fn two_phases(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    let options = ClientOptions {
        arguments: &["--authenticate"],
        name: "phase1",
        ..ClientOptions::default()
    };
    let login = Client::run(client, &scene.world, &scene.fixture, &options);
    assert_eq!(login.code, 0, "{}", login.stderr);
    let names: Vec<&str> = login
        .stdout
        .lines()
        .filter_map(|line| line.split('=').next())
        .collect();
    assert_eq!(
        names,
        ["COOKIE", "HOST", "CONNECT_URL", "FINGERPRINT", "RESOLVE"],
        "{}",
        login.stdout
    );
    assert!(
        login
            .stdout
            .contains("\nHOST='192.0.2.1'\nCONNECT_URL='https://vpn.test/'\nFINGERPRINT='pin-sha256:")
    );
    assert!(login.stdout.ends_with("\nRESOLVE='vpn.test:192.0.2.1'\n"));

    let script = format!(
        "eval \"$(cat {})\"\nexec {} --cookie-on-stdin --servercert \"$FINGERPRINT\" --resolve \"$RESOLVE\" \
         --interface {DEVICE} --script /usr/share/vpnc-scripts/vpnc-script \"$CONNECT_URL\" <<END\n$COOKIE\nEND",
        scene.fixture.path("phase1.out").display(),
        client.program("openconnect").display(),
    );
    let script = scene.fixture.write_script("phase2", &script);
    let command = scene.world.client.command(script);
    let mut tunnel = Process::start(command, scene.fixture.dir(), "phase2", None);
    tunnel.wait_for("Configured as");
    scene.ping();
    tunnel.signal("INT");
    assert_eq!(tunnel.exit_code(), 0, "{}", tunnel.output());
}

#[test]
fn two_phases_real_client_and_real_server() {
    two_phases(Make::Real, Make::Real);
}

#[test]
fn two_phases_our_client_and_real_server() {
    two_phases(Make::Culvert, Make::Real);
}

#[test]
fn two_phases_real_client_and_our_server() {
    two_phases(Make::Real, Make::Culvert);
}

#[test]
fn two_phases_our_client_and_our_server() {
    two_phases(Make::Culvert, Make::Culvert);
}

/// `--cookieonly` prints nothing but the cookie, `--printcookie` goes on with the tunnel.
fn cookie_on_stdout(client: Make, server: Make) {
    let scene = Scene::new(server, &[]);
    let options = ClientOptions {
        arguments: &["--cookieonly"],
        ..ClientOptions::default()
    };
    let login = Client::run(client, &scene.world, &scene.fixture, &options);
    assert_eq!(login.code, 0, "{}", login.stderr);
    let is_cookie = |line: &str| line.starts_with("openconnect_strapkey=") && line.contains("; webvpn=");
    assert!(is_cookie(&login.stdout), "{}", login.stdout);
    assert!(
        login.stdout.ends_with('\n') && login.stdout.lines().count() == 1,
        "{}",
        login.stdout
    );
    assert!(
        login.stderr.contains("Connected to 192.0.2.1:443"),
        "{}",
        login.stderr
    );

    let options = ClientOptions {
        arguments: &["--printcookie"],
        ..ClientOptions::default()
    };
    let mut tunnel = Client::connect_with(client, &scene.world, &scene.fixture, &options);
    scene.ping();
    assert!(
        tunnel.process.stderr().contains("Configured as"),
        "{}",
        tunnel.process.output()
    );
    tunnel.process.signal("INT");
    assert_eq!(tunnel.process.exit_code(), 0, "{}", tunnel.process.output());
    // Among what the script prints.
    let text = tunnel.process.stdout();
    assert_eq!(text.lines().filter(|line| is_cookie(line)).count(), 1, "{text}");
}

#[test]
fn cookie_on_stdout_of_the_real_client() {
    cookie_on_stdout(Make::Real, Make::Culvert);
}

#[test]
fn cookie_on_stdout_of_our_client() {
    cookie_on_stdout(Make::Culvert, Make::Real);
}

/// A result that cannot be written is a failure, and says so.
#[test]
fn results_of_our_client_that_cannot_be_written() {
    let scene = Scene::new(Make::Real, &[]);
    let ca = crate::ca(&scene);
    let login = [
        "--cafile",
        ca.as_str(),
        "--user",
        USER,
        "--passwd-on-stdin",
        "--authenticate",
    ];
    for arguments in [&["--version"][..], &["--help"], &login] {
        let full = scene.fixture.write_script("full", "exec \"$@\" >/dev/full");
        let client = Client::bare(Make::Culvert, &scene.world, arguments);
        // `ip netns exec NAME PROGRAM ...`
        let (place, program): (Vec<_>, Vec<_>) = {
            let arguments: Vec<_> = client.get_args().collect();
            (arguments[..3].to_vec(), arguments[3..].to_vec())
        };
        let mut command = std::process::Command::new(client.get_program());
        command.args(place).arg(full).args(program);
        let input = format!("{PASSWORD}\n");
        let failed = Process::start(command, scene.fixture.dir(), "full", Some(&input)).finish();
        assert_eq!(failed.code, 1, "{arguments:?}: {}", failed.stderr);
        let message = "Failed to write to standard output: No space left on device\n";
        assert!(
            failed.stderr.ends_with(message),
            "{arguments:?}: {}",
            failed.stderr
        );
    }
}

/// Where the first request goes: the path of the URL, else that of the option.
#[test]
fn the_path_of_the_first_request() {
    let scene = Scene::new(Make::Real, &[]);
    for (further, path) in [
        (&["-g", "group/sub"][..], "group/sub"),
        (&["--usergroup=other"], "other"),
        (&[], ""),
    ] {
        let first_lines = [Make::Real, Make::Culvert].map(|client| {
            let arguments = [&["--authenticate", "--non-inter"], further].concat();
            let options = ClientOptions {
                arguments: &arguments,
                ..ClientOptions::default()
            };
            let finished = Client::run(client, &scene.world, &scene.fixture, &options);
            finished.stderr.lines().next().unwrap_or_default().to_owned()
        });
        let expected = format!("POST https://vpn.test/{path}");
        assert_eq!(first_lines, [expected.as_str(); 2], "{further:?}");
    }
}

/// The records of TLS on standard error; nothing of it on standard output.
#[test]
fn records_are_shown_on_demand() {
    let scene = Scene::new(Make::Real, &[]);
    for (level, shown) in [("1", true), ("0", false)] {
        let option = format!("--gnutls-debug={level}");
        let options = ClientOptions {
            arguments: &["--cookieonly", &option],
            ..ClientOptions::default()
        };
        let login = Client::run(Make::Culvert, &scene.world, &scene.fixture, &options);
        assert_eq!(login.code, 0, "{}", login.stderr);
        for line in [
            "TLS > handshake (version 3.1, ",
            ", ClientHello)\n",
            "TLS < application_data",
        ] {
            assert_eq!(login.stderr.contains(line), shown, "{line}: {}", login.stderr);
        }
        assert!(!login.stdout.contains("TLS"), "{}", login.stdout);
    }
}
