//! Who gets in, and what the servers' answers mean.

use std::fs;
use std::process::Command;

use culvert_lab::authority::{UID, UNIT};
use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::{Client, ClientOptions, Make, Process, Raw, wait};

use crate::freeradius::{FreeRadius, SECRET, TOKEN};
use crate::{PORT, SOON, Scene};

/// Passwords, texts, groups, challenges, services: on the real server and ours.
fn answers(server: Make, client: Make) {
    let scene = Scene::new(server, "", false, &[]);
    scene.accepts(client, "plain", "good", &[]);
    scene.accepts(client, "plain", "good", &["--authgroup", "staff"]);
    let text = scene.refuses(client, "plain", "bad", &[]);
    assert!(text.contains("Nobody knows you here"), "{text}\n{}", scene.logs());
    scene.refuses(client, "nobody", "good", &[]);
    scene.refuses(client, "admin", "good", &[]);
    // Nobody looks at a route that nobody wants.
    scene.accepts(client, "odd", "good", &[]);

    let entry = format!("main:secondary_password={TOKEN}");
    scene.accepts(client, "token", "good", &["--form-entry", &entry]);
    let wrong = "main:secondary_password=111111";
    let text = scene.refuses(client, "token", "good", &["--form-entry", wrong]);
    assert!(
        text.contains("Enter token 1") && !text.contains("Enter token 2"),
        "{text}"
    );
}

#[test]
fn real_client() {
    answers(Make::Culvert, Make::Real);
}

#[test]
fn our_client() {
    answers(Make::Culvert, Make::Culvert);
}

#[test]
fn our_client_with_the_real_server() {
    answers(Make::Real, Make::Culvert);
}

/// The certificate and the answers of the RADIUS server must be for the same user, and the same group.
#[test]
fn and_certificate() {
    let options = [
        ("auth", "certificate"),
        ("ca-cert", "$DIR/users.pem"),
        ("cert-user-oid", UID),
        ("cert-group-oid", UNIT),
        ("select-group", "staff"),
        ("select-group", "admins"),
        ("select-group", "tokens"),
    ];
    let scene = Scene::new(Make::Culvert, "", false, &options);
    let path = |name: &str, kind: &str| {
        scene
            .fixture
            .path(&format!("{name}.{kind}"))
            .display()
            .to_string()
    };
    let shown = |name: &str, group: &str| {
        [
            "-c",
            &path(name, "pem"),
            "-k",
            &path(name, "key"),
            "--authgroup",
            group,
        ]
        .map(str::to_owned)
    };
    let said = |text: &str, times: usize| {
        scene.server.wait_for_log(text, times);
        assert_eq!(
            scene.server.log().matches(text).count(),
            times,
            "{}",
            scene.logs()
        );
    };
    let other_user = "user 'plain' from 192.0.2.2 presented a certificate which is for user 'token'";
    let other_group = "user 'plain' requested ";
    let token = [
        "--form-entry".to_owned(),
        format!("main:secondary_password={TOKEN}"),
    ];
    for (times, client) in [(1, Make::Real), (2, Make::Culvert)] {
        let accepts = |user: &str, arguments: &[String]| {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            scene.accepts(client, user, "good", &arguments);
        };
        let refuses = |user: &str, password: &str, arguments: &[String]| {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            scene.refuses(client, user, password, &arguments)
        };
        accepts("plain", &shown("plain", "staff"));
        let text = refuses("plain", "bad", &shown("plain", "staff"));
        assert!(text.contains("Nobody knows you here"), "{text}");
        refuses("plain", "good", &shown("token", "staff"));
        said(other_user, times);
        refuses("plain", "good", &shown("stray", "staff"));
        refuses("plain", "good", &shown("plain", "admins"));
        said(other_group, 2 * times);
        refuses("plain", "good", &[]);
        // Both rounds of the challenge, after the certificate.
        accepts("token", &[&shown("token", "tokens")[..], &token].concat());
    }
}

/// The next server is asked when one is silent, and the silent one not again for a while.
#[test]
fn a_silent_server_delays_one_login_only() {
    let other = PORT + 100;
    let lines = format!(
        "authserver 127.0.0.1:{PORT}:{SECRET}, localhost:{other}:{SECRET}\nradius_deadtime 600\n{SOON}"
    );
    let mut scene = Scene::new(Make::Culvert, &lines, false, &[]);
    let second = FreeRadius::start(&scene.world, &scene.fixture, other, Make::Culvert);
    scene.accepts(Make::Real, "plain", "good", &[]);
    scene.radius.process.signal("STOP");
    scene.accepts(Make::Real, "plain", "good", &[]);
    scene
        .server
        .process
        .wait_for("server 127.0.0.1:1812 does not answer; others are asked for 600 s");
    let asked = || second.process.output().len();
    let before = asked();
    let log = scene.server.log().len();
    scene.accepts(Make::Culvert, "plain", "good", &[]);
    assert!(asked() >= before);
    let since = scene.server.log()[log..].to_owned();
    assert!(!since.contains("does not answer"), "{since}");
    // It is asked for its status and comes back.
    scene.radius.process.signal("CONT");
    scene
        .server
        .process
        .wait_for("server 127.0.0.1:1812 answers again");
}

/// All servers silent, and dead in the middle of a login: users learn that it is not their password,
/// the administrator who does not answer, and others notice nothing.
#[test]
fn no_server_answers() {
    let mut scene = Scene::new(Make::Culvert, "radius_timeout 2\n", false, &[]);
    let tunnel = scene.connect(Make::Real, "plain");
    let login = scene.log_in(Make::Real, "plain", "good", &[]).stdout;
    let cookie = login.split('\'').nth(1).unwrap().to_owned();
    scene.radius.process.signal("STOP");
    let options = ClientOptions {
        user: "plain",
        input: "good",
        arguments: &["--authenticate", "--non-inter"],
        name: "hanging",
        ..ClientOptions::default()
    };
    let hanging = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    scene.wait_for_question();
    // Who is in stays in, and comes in with a cookie.
    let arguments = ["--cookie", &cookie, "--script", "/bin/true", "--no-dtls"];
    let options = ClientOptions {
        arguments: &arguments,
        script: false,
        name: "other",
        ..ClientOptions::default()
    };
    let mut other = Client::launch(Make::Culvert, &scene.world, &scene.fixture, &options);
    other.process.wait_for("Configured as");
    let refused = hanging.process.finish();
    let text = refused.stdout + &refused.stderr;
    assert!(text.contains("401 Internal error"), "{text}");
    scene.server.process.wait_for("user 'plain': no server answers");
    scene.radius.process.signal("CONT");
    scene.accepts(Make::Real, "plain", "good", &[]);
    drop((tunnel, other));

    // Between password and token.
    let mut challenged = Raw::connect(&scene.world, &scene.fixture, "challenged");
    let mut post = |body: &str, answer: &str| {
        let length = body.len();
        let head = format!("POST /auth HTTP/1.1\r\nHost: {SERVER_NAME}\r\nContent-Length: {length}\r\n\r\n");
        challenged.send(format!("{head}{body}").as_bytes());
        challenged.wait_for(answer, 1);
    };
    post("username=token&password=good", "Enter token 1");
    scene.radius.process.signal("KILL");
    scene.radius.process.wait();
    post(
        &format!("secondary_password={TOKEN}"),
        "HTTP/1.1 401 Internal error\r\n",
    );
    scene.server.process.wait_for("user 'token': no server answers");
}

/// The process that asks the servers is killed while a login waits for it.
#[test]
fn the_asking_process_is_killed() {
    let mut scene = Scene::new(Make::Culvert, "radius_timeout 60\n", false, &[]);
    scene.accepts(Make::Real, "plain", "good", &[]);
    scene.radius.process.signal("STOP");
    let helper = wait::until("the process", || helpers(&scene.server.process).pop());
    let arguments = ["--authenticate", "--non-inter"];
    let options = ClientOptions {
        user: "plain",
        input: "good",
        arguments: &arguments,
        name: "hanging",
        ..ClientOptions::default()
    };
    let hanging = Client::launch(Make::Real, &scene.world, &scene.fixture, &options);
    scene.wait_for_question();
    culvert_lab::process::kill(helper, "KILL");
    assert_ne!(hanging.process.finish().code, 0);
    scene
        .server
        .process
        .wait_for("the process that speaks RADIUS ended by signal 9");
    scene.radius.process.signal("CONT");
    scene.accepts(Make::Real, "plain", "good", &[]);
    let status = fs::read_to_string(format!("/proc/{}/status", helpers(&scene.server.process)[0])).unwrap();
    assert!(!status.contains("Uid:\t0\t"), "{status}");
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");

    // In a stranger's hands it can start no program, and write no file.
    for (number, name, arguments) in [
        ("59", "execve", ["0", "0", "0"]),
        ("257", "openat", ["-100", "0", "65"]),
    ] {
        let helper = wait::until("the process", || helpers(&scene.server.process).pop());
        let hijack = Command::new(culvert_lab::built("hijack"))
            .args([&helper.to_string(), number])
            .args(arguments)
            .status();
        assert!(hijack.unwrap().success());
        scene.server.process.wait_for(&format!(
            "the process that speaks RADIUS tried system call {number} ({name}), which no helper may: it is killed"
        ));
        wait::until("its end", || {
            (!helpers(&scene.server.process).contains(&helper)).then_some(())
        });
        scene.accepts(Make::Real, "plain", "good", &[]);
    }
}

pub(crate) fn helpers(server: &Process) -> Vec<u32> {
    let broker = culvert_lab::process::children(server.pid())
        .into_iter()
        .find(|pid| culvert_lab::process::title(*pid).contains("ocserv-sm"));
    culvert_lab::process::children(broker.unwrap())
}

/// A wrong secret, replies that are not signed, servers that are not there.
#[test]
fn replies_that_do_not_count() {
    let lines = format!("authserver 127.0.0.1:{PORT}:{SECRET}\nrequire-message-authenticator yes\n{SOON}");
    let mut scene = Scene::new(Make::Culvert, &lines, false, &[]);
    scene.accepts(Make::Real, "plain", "good", &[]);
    scene.refuses(Make::Real, "unsigned", "good", &[]);
    scene.server.process.wait_for("it has no Message-Authenticator");

    let lines = format!("authserver 127.0.0.1:{PORT}:{SECRET}\n{SOON}");
    let mut scene = Scene::new(Make::Culvert, &lines, false, &[]);
    scene.accepts(Make::Real, "unsigned", "good", &[]);
    // From the first signed reply on all have to be.
    scene.accepts(Make::Real, "plain", "good", &[]);
    scene.refuses(Make::Real, "unsigned", "good", &[]);
    scene.server.process.wait_for("it has no Message-Authenticator");

    let lines = format!("authserver 127.0.0.1:{PORT}:wrong\n{SOON}");
    let mut scene = Scene::new(Make::Culvert, &lines, false, &[]);
    scene.refuses(Make::Real, "plain", "good", &[]);
    scene.server.process.wait_for("user 'plain': no server answers");
}

/// `ocserv test-auth` asks the same servers.
#[test]
fn a_login_without_a_server() {
    let scene = Scene::new(Make::Culvert, "", true, &[]);
    let config = scene.fixture.path("ocserv.conf");
    let token = format!("good\n{TOKEN}\n{TOKEN}\n");
    for (user, input, code, said) in [
        ("plain", "good\n", 0, "group in force: staff"),
        (
            "plain",
            "bad\nbad\ngood\n",
            0,
            "wrong answer: Nobody knows you here",
        ),
        ("token", &token, 0, "prompt 2: Enter token 2"),
        ("token", "good\n111111\n", 1, "refused"),
    ] {
        let mut command = scene.world.server.command(Make::Culvert.program("ocserv"));
        command.arg("test-auth").arg("-c").arg(&config).arg(user);
        let tried = Process::start(command, scene.fixture.dir(), "test-auth", Some(input)).finish();
        assert_eq!(tried.code, code, "{user}: {}{}", tried.stdout, tried.stderr);
        assert!(
            tried.stdout.contains(said),
            "{said}: {}{}",
            tried.stdout,
            tried.stderr
        );
    }
}
