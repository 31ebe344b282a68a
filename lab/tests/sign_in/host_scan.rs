//! Examination of the client's host: what the program is given, what the server is told, and that
//! nothing is run unless the user wants it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use culvert_lab::gateway::Gateway;
use culvert_lab::process::kill_if_there;
use culvert_lab::{Fixture, Make, World, wait};
use culvert_wire::http::{Request, Response};

use super::{COMPLETE, body, document, login, same_requests, succeeds};

/// The style of newer gateways.
const NEW: &str = "<host-scan><host-scan-ticket>TICKET1</host-scan-ticket><host-scan-token>TOKEN1</host-scan-token>\
    <host-scan-base-uri>/CACHE/sdesktop/hostscan</host-scan-base-uri>\
    <host-scan-wait-uri>/+CSCOE+/sdesktop/wait.html</host-scan-wait-uri></host-scan>";
/// The style of older ones, inside `auth`.
const OLD: &str = "<csd token=\"TOKEN1\" ticket=\"TICKET1\"/><csdLinux stuburl=\"/CACHE/stub\" starturl=\"/start.html\" waiturl=\"/wait.html\"/>";
const REFRESH: &str = "<html><head><meta http-equiv=\"refresh\" content=\"1; URL=/wait.html\"></head></html>";
/// Writes down what it was given, beside itself.
const WRITE_DOWN: &str = "for a; do case \"$a\" in /*/csd??????) [ -x \"$a\" ] && a=STUB;; esac; printf '<%s>\\n' \"$a\"; done > $0.seen\n\
    printf '%s\\n' \"$CSD_TOKEN\" \"$CSD_HOSTNAME\" \"$CSD_SHA256\" >> $0.seen\necho said";

/// Between two signals of the same kind.
const AGAIN: Duration = Duration::from_secs(2);

fn form(old: bool, fields: &str) -> String {
    let (inside, outside) = if old { (OLD, "") } else { ("", NEW) };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"auth-request\" aggregate-auth-version=\"2\">\
         <opaque is-for=\"sg\"><tunnel-group>TG1</tunnel-group></opaque>\n<auth id=\"main\">{inside}<form method=\"post\" action=\"/+webvpn+/index.html\">{fields}</form></auth>{outside}</config-auth>"
    )
}

/// A gateway that wants a scan, has the client look at the wait page twice, and logs in whoever
/// repeats the token.
fn gateway(world: &World, fixture: &Fixture, old: bool) -> Gateway {
    let mut looks = 0;
    let program = format!("#!/bin/sh\n{WRITE_DOWN}\n")
        .replace("$0.seen", &fixture.path("stub.seen").display().to_string());
    Gateway::start(world, fixture, move |request| {
        let scanned = request
            .headers
            .get("Cookie")
            .is_some_and(|cookies| cookies.contains("sdesktop=TOKEN1"));
        match (request.target.as_str(), body(request)) {
            ("/CACHE/stub", _) => Response::new(200, "OK").with_body(program.as_str()),
            (target, _) if target.ends_with("wait.html") => {
                looks += 1;
                match looks {
                    1 => document(REFRESH),
                    _ => Response::new(302, "Moved").with_header("Location", "/+CSCOE+/logon.html"),
                }
            }
            (_, body) if body.contains("<host-scan-token>TOKEN1</host-scan-token>") => document(COMPLETE),
            _ if scanned => document(&form(
                old,
                "<input type=\"text\" name=\"username\" label=\"U:\"/>",
            )),
            _ => document(&form(old, "")),
        }
    })
}

/// A login with a wrapper, at a URL with a path because the real client crashes without one: the requests, and what the wrapper saw.
fn with_wrapper(make: Make, old: bool) -> (Vec<Request>, String) {
    let (world, fixture) = (World::new(), Fixture::new());
    let gateway = gateway(&world, &fixture, old);
    let wrapper = fixture.write_script("wrapper", WRITE_DOWN);
    let arguments = [
        "--csd-wrapper",
        wrapper.to_str().unwrap(),
        "--user",
        "joe",
        "https://vpn.test/group",
    ];
    let mut client = login(make, &world, &fixture, &arguments, None);
    succeeds(&mut client);
    // What it says is for the user, not part of the result.
    assert!(
        client.stderr().contains("said") && !client.stdout().contains("said"),
        "{}",
        client.output()
    );
    // Each world has a certificate of its own.
    let seen = fs::read_to_string(fixture.path("wrapper.seen")).unwrap();
    let seen: Vec<_> = seen.lines().map(without_hashes).collect();
    (gateway.requests(), seen.join("\n"))
}

/// MD5 and pin of the certificate, of which only the form is compared.
fn without_hashes(line: &str) -> String {
    if let Some(hash) = line
        .strip_prefix("<\"")
        .and_then(|rest| rest.strip_suffix(":\">"))
    {
        let upper = |octet: u8| octet.is_ascii_digit() || (b'A'..=b'F').contains(&octet);
        assert!(hash.len() == 32 && hash.bytes().all(upper), "{line}");
        return "MD5".into();
    }
    if line.len() == 44 && line.ends_with('=') {
        return "PIN".into();
    }
    line.to_owned()
}

#[test]
fn both_clients_run_the_wrapper_in_the_same_way() {
    for old in [false, true] {
        let (real, real_seen) = with_wrapper(Make::Real, old);
        let (ours, our_seen) = with_wrapper(Make::Culvert, old);
        assert_eq!(our_seen, real_seen);
        assert!(
            our_seen.contains(
                "<-ticket>\n<\"TICKET1\">\n<-stub>\n<\"0\">\n<-group>\n<\"\">\n<-certhash>\nMD5\n<-url>"
            ),
            "{our_seen}"
        );
        same_requests(&real, &ours);
    }
}

#[test]
fn nothing_is_run_unless_the_user_wants_it() {
    for (old, text) in [
        (
            true,
            "Server asked us to download and run a 'Cisco Secure Desktop' trojan.",
        ),
        (false, "You need to provide a suitable --csd-wrapper argument."),
    ] {
        let (world, fixture) = (World::new(), Fixture::new());
        let gateway = gateway(&world, &fixture, old);
        let mut client = login(Make::Culvert, &world, &fixture, &["--user", "joe"], None);
        assert_eq!(client.exit_code(), 1, "{}", client.output());
        assert!(client.stderr().contains(text), "{}", client.output());
        assert_eq!(gateway.requests().len(), 1);
        assert!(!fixture.path("stub.seen").exists());
    }
}

/// The server's program, for a user who allows it.
#[test]
fn the_servers_program_runs_as_the_user_of_the_option() {
    let (world, fixture) = (World::new(), Fixture::new());
    let _gateway = gateway(&world, &fixture, true);
    let mut client = login(
        Make::Culvert,
        &world,
        &fixture,
        &["--user", "joe", "--csd-user", "root"],
        None,
    );
    succeeds(&mut client);
    let seen = fs::read_to_string(fixture.path("stub.seen")).unwrap();
    assert!(seen.starts_with("<-ticket>\n"), "{seen}");
    // A user without a home cannot run anything.
    let mut client = login(
        Make::Culvert,
        &world,
        &fixture,
        &["--user", "joe", "--csd-user", "nobody"],
        None,
    );
    assert_eq!(client.exit_code(), 1, "{}", client.output());
}

/// What the wrapper finds is for the server to judge; how it dies is not.
#[test]
fn wrappers_that_fail() {
    for (script, code) in [("exit 3", 0), ("kill -9 $$", 1)] {
        let (world, fixture) = (World::new(), Fixture::new());
        let _gateway = gateway(&world, &fixture, false);
        let wrapper = fixture.write_script("wrapper", script);
        let arguments = ["--csd-wrapper", wrapper.to_str().unwrap(), "--user", "joe"];
        let mut client = login(Make::Culvert, &world, &fixture, &arguments, None);
        assert_eq!(client.exit_code(), code, "{}", client.output());
        assert!(client.stderr().contains("CSD script '"), "{}", client.output());
    }
}

/// A signal while the scan runs ends the login of both clients, also the one that means a reconnect
/// later; ours takes the program along.
#[test]
fn signals_end_a_scan() {
    let (world, fixture) = (World::new(), Fixture::new());
    let _gateway = gateway(&world, &fixture, false);
    let wrapper = fixture.write_script("wrapper", "echo $$ > $0.pid; echo begun >&2; exec sleep 60");
    let arguments = [
        "--csd-wrapper",
        wrapper.to_str().unwrap(),
        "https://vpn.test/group",
    ];
    for make in [Make::Real, Make::Culvert] {
        for signal in ["USR2", "HUP", "TERM"] {
            let mut client = login(make, &world, &fixture, &arguments, None);
            client.wait_for("begun");
            client.signal(signal);
            if make == Make::Real {
                // It does not heed one that comes before it waits for the program.
                let mut next = Instant::now() + AGAIN;
                wait::until("the end of the client", || {
                    if Instant::now() >= next && client.is_running() {
                        client.signal(signal);
                        next += AGAIN;
                    }
                    (!client.is_running()).then_some(())
                });
            }
            assert_eq!(client.exit_code(), 1, "{signal}: {}", client.output());
            assert!(
                client.stderr().ends_with("Failed to complete authentication\n"),
                "{make:?} {signal}: {}",
                client.output()
            );
            let pid = fs::read_to_string(fixture.path("wrapper.pid")).unwrap();
            let runs = || Path::new("/proc").join(pid.trim()).exists();
            match make {
                Make::Real => {
                    assert!(runs(), "{signal}");
                    kill_if_there(pid.trim().parse().unwrap());
                }
                Make::Culvert => wait::until("the end of the program", || (!runs()).then_some(())),
            }
        }
    }
}
