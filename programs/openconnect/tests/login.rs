//! The client's command line and login against the real ocserv, in namespaces of its own (needs
//! root and Debian's ocserv).

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Host, PASSWORD, Process, USER, wait};

use common::Lab;

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_openconnect"))
}

impl Lab {
    /// The client with the address of the server, but no trust in it and no user.
    fn bare(&self) -> Command {
        let mut command = self.world.client.command(program());
        command.arg("--resolve").arg(format!("{SERVER_NAME}:{SERVER_V4}"));
        command
    }

    /// The client with everything it needs except the password.
    fn client(&self) -> Command {
        let mut command = self.bare();
        command.arg("--cafile").arg(self.fixture.path("ca.pem"));
        command.args(["--user", USER]);
        command
    }

    /// Runs a client to its end with `input` on standard input.
    fn run(&self, mut command: Command, arguments: &[&str], input: &str) -> Output {
        command.args(arguments).arg(format!("https://{SERVER_NAME}/"));
        let input = self.fixture.write_file("stdin", input);
        command.stdin(std::fs::File::open(input).unwrap());
        command.output().unwrap()
    }

    fn cookie(&self) -> String {
        let output = self.run(
            self.client(),
            &["--passwd-on-stdin", "--cookieonly", "--no-external-auth"],
            PASSWORD,
        );
        assert!(output.status.success(), "{}", show(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn start(&self, mut command: Command, arguments: &[&str], input: &str) -> Process {
        command.args(arguments).arg(format!("https://{SERVER_NAME}/"));
        Process::start(command, self.fixture.dir(), "client", Some(input))
    }
}

fn show(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn cookie_only_prints_one_line() {
    let lab = Lab::new(&[]);
    for verbosity in ["-q", "-v", "-vv", "--timestamp", "--dump-http-traffic"] {
        let output = lab.run(
            lab.client(),
            &["--passwd-on-stdin", "--cookieonly", verbosity],
            &format!("{PASSWORD}\n"),
        );
        assert!(output.status.success(), "{}", show(&output));
        assert_eq!(stdout(&output).lines().count(), 1, "{}", show(&output));
        assert!(
            stdout(&output).starts_with("openconnect_strapkey="),
            "{}",
            show(&output)
        );
        assert!(!stderr(&output).contains(PASSWORD), "{}", show(&output));
        let cookie = stdout(&output).split("webvpn=").nth(1).unwrap().trim().to_owned();
        assert!(!stderr(&output).contains(&cookie), "{}", show(&output));
    }
}

#[test]
fn the_result_of_the_first_phase_connects_in_the_second() {
    let lab = Lab::new(&[]);
    let output = lab.run(
        lab.client(),
        &["--passwd-on-stdin", "--authenticate"],
        &format!("{PASSWORD}\n"),
    );
    assert!(output.status.success(), "{}\n{}", show(&output), lab.server.log());
    let names: Vec<String> = stdout(&output)
        .lines()
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .collect();
    assert_eq!(names, ["COOKIE", "HOST", "CONNECT_URL", "FINGERPRINT", "RESOLVE"]);
    let script = format!(
        "eval \"$(cat {0})\"; exec {1} --cookie-on-stdin --servercert \"$FINGERPRINT\" \
         --resolve \"$RESOLVE\" --interface tunlab \"$CONNECT_URL\" <<END\n$COOKIE\nEND\n",
        lab.fixture.write_file("first-phase", &stdout(&output)).display(),
        program().display()
    );
    let mut command = lab.world.client.command("/bin/sh");
    command.arg("-c").arg(script);
    let mut client = Process::start(command, lab.fixture.dir(), "second", None);
    client.wait_for("Configured as 10.99.1.");
    wait::until("routes", || {
        lab.world.client.routes().contains("tunlab").then_some(())
    });
}

#[test]
fn wrong_password_and_missing_input() {
    let lab = Lab::new(&[]);
    let output = lab.run(
        lab.client(),
        &["--passwd-on-stdin", "--non-inter", "--cookieonly"],
        "wrong\n",
    );
    assert_eq!(output.status.code(), Some(1), "{}", show(&output));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains("Failed to complete authentication"),
        "{}",
        show(&output)
    );

    let output = lab.run(lab.client(), &["--non-inter", "--cookieonly"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("***\nUser input required in non-interactive mode\n"),
        "{}",
        show(&output)
    );

    let output = lab.run(lab.client(), &["--cookieonly"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("fgets (stdin): "), "{}", show(&output));

    let output = lab.run(lab.client(), &["--no-passwd", "--cookieonly"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("Asked for password but '--no-passwd' set"),
        "{}",
        show(&output)
    );
}

#[test]
fn all_answers_can_come_from_standard_input() {
    let lab = Lab::new(&[]);
    let mut command = lab.bare();
    command.arg("--cafile").arg(lab.fixture.path("ca.pem"));
    let output = lab.run(command, &["--cookieonly"], &format!("{USER}\n{PASSWORD}\n"));
    assert!(output.status.success(), "{}", show(&output));
    let entry = format!("main:password={PASSWORD}");
    let output = lab.run(lab.client(), &["--cookieonly", "-F", &entry], "");
    // ocserv asks for name and password in two forms, both `main`.
    assert!(output.status.success(), "{}", show(&output));
}

#[test]
fn groups_are_chosen_by_label() {
    let lab = Lab::new(&[
        ("select-group", "staff[The staff]"),
        ("select-group", "admins[The administrators]"),
        ("auto-select-group", "false"),
    ]);
    for group in ["The staff", "staff"] {
        let output = lab.run(
            lab.client(),
            &["--passwd-on-stdin", "--cookieonly", "--authgroup", group],
            &format!("{PASSWORD}\n"),
        );
        assert!(output.status.success(), "{group}: {}", show(&output));
    }
    // Asked until the answer names one group, and only for the first of the two forms.
    let output = lab.run(
        lab.client(),
        &["--cookieonly"],
        &format!("The\nthe adm\n{PASSWORD}\n"),
    );
    assert!(output.status.success(), "{}", show(&output));
    assert!(
        stderr(&output).contains("Auth choice \"The\" matches multiple options"),
        "{}",
        show(&output)
    );
    assert!(
        lab.server.log().contains("of group: 'admins'"),
        "{}",
        lab.server.log()
    );
}

#[test]
fn certificates_pins_and_the_question() {
    let lab = Lab::new(&[]);
    let attempt = |arguments: &[&str], input: &str| {
        let mut command = lab.bare();
        command.args(["--user", USER, "--cookieonly"]);
        lab.run(command, arguments, input)
    };
    let yes = attempt(&["--no-system-trust"], &format!("what?\nyes\n{PASSWORD}\n"));
    assert!(yes.status.success(), "{}", show(&yes));
    let text = stderr(&yes);
    assert!(text.contains("Reason: signer not found\n"), "{text}");
    let pin = text
        .split("--servercert ")
        .nth(1)
        .unwrap()
        .split('\n')
        .next()
        .unwrap()
        .to_owned();
    assert!(text.contains(&format!("Server key hash: {pin}\n")), "{text}");

    let no = attempt(&["--no-system-trust"], "no\n");
    assert_eq!(no.status.code(), Some(1));
    assert!(
        stderr(&no).contains("SSL connection failure: Error in the certificate."),
        "{}",
        show(&no)
    );

    let silent = attempt(&["--no-system-trust", "--non-inter"], "");
    assert_eq!(silent.status.code(), Some(1));
    assert!(!stderr(&silent).contains("Enter 'yes'"), "{}", show(&silent));

    let pinned = attempt(
        &["--servercert", &pin, "--passwd-on-stdin"],
        &format!("{PASSWORD}\n"),
    );
    assert!(pinned.status.success(), "{}", show(&pinned));
    let wrong = attempt(&["--servercert", "pin-sha256:AAAABBBBCCCC"], "");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        stderr(&wrong).contains("None of the 1 fingerprint(s)"),
        "{}",
        show(&wrong)
    );

    // A pin counts although the chain is good.
    let ca = lab.fixture.path("ca.pem");
    let both = attempt(
        &[
            "--cafile",
            ca.to_str().unwrap(),
            "--servercert",
            "pin-sha256:AAAABBBB",
        ],
        "",
    );
    assert_eq!(both.status.code(), Some(1), "{}", show(&both));
    let missing = attempt(&["--cafile", "/nonexistent.pem"], "");
    assert!(
        stderr(&missing).contains("Failed to open CA file '/nonexistent.pem'"),
        "{}",
        show(&missing)
    );
    let name = attempt(
        &[
            "--cafile",
            ca.to_str().unwrap(),
            "--sni",
            "other.test",
            "--non-inter",
        ],
        "",
    );
    assert!(
        stderr(&name).contains("Reason: certificate does not match SNI"),
        "{}",
        show(&name)
    );
}

#[test]
fn signals_cancel_the_login() {
    let lab = Lab::new(&[]);
    // At a prompt: standard input stays open and silent.
    for signal in ["TERM", "INT", "HUP"] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = lab.client();
        command
            .arg(format!("https://{SERVER_NAME}/"))
            .stdin(reader)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut text = String::new();
        let mut errors = child.stderr.take().unwrap();
        let mut chunk = [0; 256];
        while !text.contains("Password:") {
            let count = std::io::Read::read(&mut errors, &mut chunk).unwrap();
            assert_ne!(count, 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
        culvert_lab::process::kill(child.id(), signal);
        assert_eq!(child.wait().unwrap().code(), Some(1), "{signal}");
        drop(writer);
    }
    // While connecting: the server host does not answer.
    lab.world.server.nft("add table inet g; add chain inet g in { type filter hook input priority 0; }; add rule inet g in tcp dport 443 drop");
    let mut client = lab.start(lab.client(), &["-v"], "");
    client.wait_for("Attempting to connect");
    client.signal("INT");
    assert_eq!(client.exit_code(), 1);
    assert!(
        client.stderr().contains("Socket connect cancelled"),
        "{}",
        client.output()
    );
}

#[test]
fn a_rejected_cookie_is_not_retried() {
    let lab = Lab::new(&[]);
    let cookie = "C".repeat(43) + "=";
    let output = lab.run(lab.client(), &["--cookie", &cookie], "");
    // ocserv 1.1.6 answers an unknown cookie with 503, later versions with 401.
    assert!(matches!(output.status.code(), Some(1 | 2)), "{}", show(&output));
    assert!(
        stderr(&output).contains("Creating SSL connection failed\n"),
        "{}",
        show(&output)
    );
}

#[test]
fn login_and_logout() {
    // With two security modules ocserv 1.1.6 loses the goodbye.
    let lab = Lab::new(&[("sec-mod-scale", "1")]);
    let cookie = lab.cookie();
    let connect = |host: &Host| {
        let mut command = host.command(program());
        command.arg("--resolve").arg(format!("{SERVER_NAME}:{SERVER_V4}"));
        command.arg("--cafile").arg(lab.fixture.path("ca.pem"));
        command.args(["--interface", "tunlab", "--cookie", &cookie]);
        let mut client = lab.start(command, &[], "");
        client.wait_for("Configured as");
        client
    };
    // SIGHUP leaves the session to a second run; SIGTERM ends it.
    let mut client = connect(&lab.world.client);
    client.signal("HUP");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    assert!(
        client
            .stdout()
            .contains("User detached from session (SIGHUP); exiting.")
    );
    let mut client = connect(&lab.world.client);
    client.signal("TERM");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    assert!(
        client
            .stdout()
            .contains("Send BYE packet: Aborted by caller\nUser cancelled (SIGINT/SIGTERM); exiting.")
    );
    let output = lab.run(lab.client(), &["--cookie", &cookie], "");
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{}\n{}",
        show(&output),
        lab.server.log()
    );
}
