//! Sign-in with a browser, host scans and profiles: the real openconnect and ours against the same
//! gateway, which the test plays with what real gateways have been seen to send. Their requests
//! must be the same.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod browser;
mod flows;
mod globalprotect;
mod host_scan;
mod profile;
mod servers;
mod strap;
#[path = "../../../protocols/anyconnect/tests/common/wrap_token.rs"]
mod wrap_token;

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Fixture, Make, Process, World};
use culvert_wire::http::{Request, Response};

/// The end of every login here.
const COMPLETE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"complete\" \
    aggregate-auth-version=\"2\"><session-id>1</session-id><session-token>TOKEN123</session-token>\
    <auth id=\"success\"><message id=\"0\"></message></auth></config-auth>";

fn document(body: &str) -> Response {
    Response::new(200, "OK")
        .with_header("Content-Type", "text/xml; charset=utf-8")
        .with_body(body)
}

fn body(request: &Request) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

/// A client that logs in and prints the cookie; both makes call themselves the same.
fn login(make: Make, world: &World, fixture: &Fixture, arguments: &[&str], input: Option<&str>) -> Process {
    let mut command = world.client.command(make.program("openconnect"));
    command.arg("--cafile").arg(fixture.path("ca.pem"));
    command
        .arg("--resolve")
        .arg(format!("{SERVER_NAME}:{SERVER_V4}"))
        .args(["--useragent", "Test", "--version-string", "v1", "--cookieonly"])
        .args(arguments);
    if !arguments
        .iter()
        .any(|argument| argument.starts_with("Head") || argument.starts_with("https:"))
    {
        command.arg(format!("https://{SERVER_NAME}/"));
    }
    Process::start(command, fixture.dir(), &format!("{make:?}"), input)
}

fn succeeds(process: &mut Process) {
    assert_eq!(process.exit_code(), 0, "{}", process.output());
    assert!(process.stdout().contains("TOKEN123"), "{}", process.output());
}

/// A request as text, but for the keys, which are random.
fn comparable(request: &Request) -> String {
    let mut text = format!("{} {}\n", request.method, request.target);
    for (name, value) in request.headers.iter() {
        let value = if name.contains("STRAP") { "key" } else { value };
        text.push_str(&format!("{name}: {value}\n"));
    }
    text + &body(request)
}

fn same_requests(real: &[Request], ours: &[Request]) {
    let comparable = |requests: &[Request]| requests.iter().map(comparable).collect::<Vec<_>>();
    assert_eq!(comparable(ours), comparable(real));
}
