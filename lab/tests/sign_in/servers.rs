//! Logins and sessions of the real client and ours with the real server: what both say about the
//! same events.

use std::fs;
use std::path::Path;

use culvert_lab::client::DEVICE;
use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Fixture, Make, PASSWORD, Process, Server, ServerOptions, World, wait};

/// Of the line about the second channel.
const CHANNEL: &str = "Established DTLS connection";

struct Scene {
    _server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    fn new() -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        let options = ServerOptions {
            overrides: &[
                ("select-group", "staff[The staff]"),
                ("select-group", "admins[The administrators]"),
                ("auto-select-group", "false"),
                ("pre-login-banner", "\"Staff only\""),
                ("banner", "\"Welcome\""),
                // With two security modules ocserv 1.1.6 loses the goodbye.
                ("sec-mod-scale", "1"),
            ],
            ..ServerOptions::default()
        };
        Self {
            _server: Server::start_with(Make::Real, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    /// A script that leaves its process id in `up` when the device is usable.
    fn write_script(&self) {
        let up = self.fixture.path("up");
        let script = format!(
            "case $reason in connect) ip link set $TUNDEV up; echo $$ >{0}.part; mv {0}.part {0};; \
             disconnect) rm {0};; esac",
            up.display()
        );
        self.fixture.write_script("script", &script);
    }

    /// Waits until the device is usable and the client has seen the end of its script: a signal before that
    /// would be one during the script.
    fn wait_for_the_script(&self) {
        let up = self.fixture.path("up");
        wait::until("the device", || {
            let script = fs::read_to_string(&up).ok()?;
            (!Path::new("/proc").join(script.trim()).exists()).then_some(())
        });
    }

    fn start(&self, make: Make, arguments: &[&str], input: &str) -> Process {
        let mut command = self.world.client.command(make.program("openconnect"));
        command
            .arg("--cafile")
            .arg(self.fixture.path("ca.pem"))
            .args(["--resolve", &format!("{SERVER_NAME}:{SERVER_V4}")])
            .args([
                "--useragent",
                "Open AnyConnect VPN Agent v9.01",
                "--version-string",
                "v1",
            ])
            .args(["--interface", DEVICE, "--script"])
            .arg(self.fixture.path("script"))
            .args(arguments)
            // The same place for the first request and the one that names the group.
            .arg(format!("https://{SERVER_NAME}/auth"));
        Process::start(command, self.fixture.dir(), &format!("{make:?}"), Some(input))
    }
}

/// Lines without what differs from run to run, and without the lines that only one program has
/// on purpose.
fn said(text: &str) -> Vec<String> {
    let random = [
        ("openconnect_strapkey=", ";"),
        ("webvpn=", ";"),
        ("-(ECDHE-", ")"),
        ("Set-Cookie: webvpncontext=", ";"),
        // Not only the session's cookie is ours not to show.
        ("Set-Cookie: webvpnc=", ";"),
        ("X-DTLS-Session-ID: ", "\n"),
        ("X-DTLS-App-ID: ", "\n"),
        // The server adds a few seconds by chance.
        ("X-CSTP-Rekey-Time: ", "\n"),
        ("Session authentication will expire at ", "\n"),
        ("(using ", ")"),
    ];
    let elided = |line: &str| {
        let mut line = line.to_owned();
        for (from, to) in random {
            if let Some((before, after)) = line.split_once(from) {
                let rest = after.split_once(to).map_or("", |(_, rest)| rest);
                line = format!("{before}{from}*{rest}");
            }
        }
        // Nobody has asked for it (`docs/differences.md`).
        let misleading = "requested Basic authentication which is disabled by default";
        match line.ends_with(misleading) {
            true => "Unexpected 401 result from server".to_owned(),
            // A moment before it is connected.
            false => line
                .replace("and DTLS in progress", "and DTLS connected")
                .replace("and DTLS established", "and DTLS connected"),
        }
    };
    // What the real client says of itself.
    let own = |line: &&str| !line.starts_with("TCP_INFO ") && !line.starts_with("Not using vhost-net ");
    // The channel is there when the machine has the time for it.
    let (channel, others): (Vec<_>, Vec<_>) = text
        .lines()
        .filter(own)
        .map(elided)
        .partition(|line| line.starts_with(CHANNEL));
    [others, channel].concat()
}

fn same(what: &str, real: &[String], ours: &[String]) {
    assert_eq!(ours.join("\n"), real.join("\n"), "{what}");
}

#[test]
fn logins_with_groups_and_wrong_passwords() {
    let scene = Scene::new();
    let right = format!("The\nthe adm\nalice\n{PASSWORD}\n");
    let wrong = "none\nThe staff\nalice\nwrong\nworse\nworst\n";
    for (arguments, input, code) in [
        (&["--authenticate", "-v"][..], right.as_str(), 0),
        (&["--cookieonly"], wrong, 1),
    ] {
        let [real, ours] =
            [Make::Real, Make::Culvert].map(|make| scene.start(make, arguments, input).finish());
        same("stderr", &said(&real.stderr), &said(&ours.stderr));
        same("stdout", &said(&real.stdout), &said(&ours.stdout));
        assert_eq!(
            (real.code, ours.code),
            (code, code),
            "{arguments:?}: {}",
            ours.stderr
        );
    }
}

#[test]
fn sessions() {
    let scene = Scene::new();
    scene.write_script();
    let input = format!("The staff\nalice\n{PASSWORD}\n");
    for arguments in [&[][..], &["-v", "--no-dtls"]] {
        let [real, ours] = [Make::Real, Make::Culvert].map(|make| {
            let mut client = scene.start(make, arguments, &input);
            client.wait_for("Configured as");
            if arguments.is_empty() {
                client.wait_for(CHANNEL);
            }
            scene.wait_for_the_script();
            client.signal("INT");
            client.finish()
        });
        same("stderr", &said(&real.stderr), &said(&ours.stderr));
        same("stdout", &said(&real.stdout), &said(&ours.stdout));
        assert_eq!((real.code, ours.code), (0, 0), "{arguments:?}: {}", ours.stderr);
    }
}
