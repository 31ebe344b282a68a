//! Responses of ocserv 1.5 to hand-made requests: the front-end must answer with the same
//! octets, but for what is deliberately different (escaped texts).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use culvert_anyconnect::server::{Action, FrontEnd, FrontEndConfig, GroupOption, Profile};
use culvert_login::server::{AuthAnswer, AuthRequest, Rejection};
use culvert_vocab::SessionId;
use culvert_wire::http::{Request, Version};
use proptest::prelude::*;

const CAPTURE: &str = include_str!("vectors/http-ocserv15.txt");
const INCLUDED: &str = "[included-http-headers]";

/// The captured response under a heading; the included headers spelled out. Where the capture is
/// cut, only the head.
fn captured(heading: &str) -> String {
    let text = CAPTURE
        .split("\n### ")
        .find_map(|part| part.strip_prefix(heading)?.strip_prefix('\n'));
    let text = text.unwrap_or_else(|| panic!("no {heading}"));
    let text = text.split(" ... [response cut here]").next().unwrap();
    let text = text.split("\n\nrequest 17").next().unwrap();
    text.trim_end().replace(INCLUDED, &included().join("\n"))
}

/// The OWASP set, as the first response shows it.
fn included() -> Vec<String> {
    let from = CAPTURE.find("Strict-Transport-Security").unwrap();
    let to = from + CAPTURE[from..].find("\n\n").unwrap();
    CAPTURE[from..to].lines().map(str::to_owned).collect()
}

fn config() -> FrontEndConfig {
    let group = |name: &str, label: &str| GroupOption {
        name: name.into(),
        label: label.into(),
    };
    let sha1 = |hex: &str| {
        data_encoding::HEXUPPER
            .decode(hex.as_bytes())
            .unwrap()
            .try_into()
            .unwrap()
    };
    FrontEndConfig {
        banner: Some("Welcome <b>".into()),
        pre_login_banner: Some("Pre login & banner".into()),
        groups: vec![group("groupA", "groupA"), group("groupB", "My group B")],
        default_group: Some("DEFAULT".into()),
        cookie_timeout: Duration::from_secs(300),
        included_headers: included(),
        profile: Some(Profile {
            file: "FILE/profile.xml".into(),
            sha1: sha1("B8E4C274D5573915425474337D617794D5D163E6"),
            content: b"<x/>".to_vec(),
        }),
        certificate_sha1: sha1("52DEA3A4B26F85A44E5E4F99287A5AE60DE00EE6"),
        ..FrontEndConfig::default()
    }
}

fn front_end() -> FrontEnd {
    FrontEnd::new(Arc::new(config()))
}

fn request(method: &str, target: &str, body: &str) -> Request {
    let mut request = Request::new(method, target);
    request.body = body.into();
    request
}

fn with_header(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.push(name, value);
    request
}

/// Text of a response in the form of the capture, and whether the connection ends.
fn text(action: Action) -> (String, bool) {
    let Action::Respond { response, close } = action else {
        panic!("{action:?}")
    };
    let text = String::from_utf8(response.to_bytes())
        .unwrap()
        .replace("\r\n", "\n");
    let len = response
        .headers
        .get("Content-Length")
        .map_or(0, |len| len.parse().unwrap());
    assert_eq!(response.body.len(), len, "Content-Length");
    (text.trim_end().to_owned(), close)
}

fn first_answer(request: Request) -> (String, bool) {
    text(front_end().handle_request(request))
}

/// What is escaped here and raw there, and so the length.
fn escaped(capture: &str) -> String {
    let escaped = capture
        .replace("Pre login & banner", "Pre login &amp; banner")
        .replace(
            "<banner>Welcome <b></banner>",
            "<banner>Welcome &lt;b&gt;</banner>",
        );
    let grown = escaped.len() - capture.len();
    let length = capture
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "))
        .unwrap();
    let ours = length.parse::<usize>().unwrap() + grown;
    escaped.replace(
        &format!("Content-Length: {length}"),
        &format!("Content-Length: {ours}"),
    )
}

#[test]
fn first_forms() {
    let init = "<?xml version=\"1.0\"?><config-auth client=\"vpn\" type=\"init\"><version who=\"vpn\">x</version></config-auth>";
    assert_eq!(
        first_answer(request("GET", "/", "")),
        (escaped(&captured("GET /")), false)
    );
    assert_eq!(
        first_answer(request("POST", "/", init)),
        (escaped(&captured("POST / init")), false)
    );
    let v3 = with_header(
        request("GET", "/", ""),
        "User-Agent",
        "Open AnyConnect VPN Agent v3.20",
    );
    assert_eq!(first_answer(v3), (escaped(&captured("GET / v3 agent")), false));
    for target in ["/VPN", "/auth?x=1", "/auth/foo"] {
        assert_eq!(
            first_answer(request("GET", target, "")),
            first_answer(request("GET", "/", "")),
            "{target}"
        );
    }
    assert_eq!(
        first_answer(request("POST", "/group", init)),
        first_answer(request("POST", "/", init))
    );
}

#[test]
fn static_files() {
    for target in [
        "/1/index.html",
        "/1/Linux",
        "/VPNManifest.xml",
        "/1/VPNManifest.xml",
        "/1/binaries/update.txt",
        "/1/binaries/vpndownloader.sh",
        "/logout",
        "/+CSCOT+/translation-table?textdomain=AnyConnect",
        "/svc",
    ] {
        let (answer, close) = first_answer(request("GET", target, ""));
        let head = answer.split("\n\n").next().unwrap().trim_end();
        assert_eq!(head, captured(&format!("GET {target}")), "{target}");
        assert!(!close);
    }
}

#[test]
fn not_found() {
    let refused = (captured("GET /nosuch"), true);
    for (method, target) in [
        ("GET", "/nosuch"),
        ("GET", "/cert.pem"),
        ("GET", "/+CSCOE+/logon.html"),
        ("PUT", "/"),
        ("OPTIONS", "*"),
        ("HEAD", "/"),
        ("POST", "/logout"),
    ] {
        assert_eq!(
            first_answer(request(method, target, "")),
            refused,
            "{method} {target}"
        );
    }
}

#[test]
fn http_1_0_ends_with_the_answer() {
    let mut old = request("GET", "/logout", "");
    old.version = Version::Http10;
    let (answer, close) = first_answer(old);
    assert!(answer.starts_with(&captured("HTTP/1.0").split("\n\n").next().unwrap().to_owned()));
    assert!(close);
}

fn session() -> SessionId {
    SessionId::from_cookie("AE46rPLgXX88ecciUfgaVI/17ZyjHDT+kwFDJLnsoew=").unwrap()
}

const LOGIN: &str = "<config-auth type=\"auth-reply\"><auth><username>test</username><password>bad</password></auth></config-auth>";
const PASSWORD: &str = "<config-auth type=\"auth-reply\"><auth><password>bad</password></auth></config-auth>";

#[test]
fn wrong_passwords() {
    let mut front_end = front_end();
    let failed = AuthAnswer::AskPassword {
        context: session(),
        message: "Login failed.\nPlease enter your password.".into(),
        number: 0,
    };
    let Action::AskBroker(AuthRequest::Start {
        user,
        password,
        group,
    }) = front_end.handle_request(request("POST", "/auth", LOGIN))
    else {
        panic!("a login")
    };
    assert_eq!(
        (user.as_str(), password.unwrap().expose(), group),
        ("test", "bad", None)
    );
    assert_eq!(
        text(front_end.handle_answer(failed.clone())),
        (captured("auth-reply user+pass"), false)
    );
    let again = front_end.handle_request(request("POST", "/auth", PASSWORD));
    assert!(matches!(
        again,
        Action::AskBroker(AuthRequest::Continue { context: None, .. })
    ));
    assert_eq!(
        text(front_end.handle_answer(failed)),
        (captured("auth-reply pass bad"), false)
    );
    front_end.handle_request(request("POST", "/auth", PASSWORD));
    let rejected = front_end.handle_answer(AuthAnswer::Rejected(Rejection::AuthenticationFailed));
    assert_eq!(text(rejected), (captured("auth-reply pass bad2"), true));
}

#[test]
fn success() {
    let mut front_end = front_end();
    front_end.handle_request(request(
        "POST",
        "/auth",
        "username=test&password=test&group_list=My+group+B",
    ));
    let session = SessionId::from_cookie("ACIxgEMw64G4gFy4deu4oA/DNgMU/su5iiKFBpQRp9c=").unwrap();
    // The capture cuts the path of the profile short but kept the length of the whole answer.
    let (answer, close) = text(front_end.handle_answer(AuthAnswer::Accepted {
        session,
        user: "test".into(),
        token: None,
    }));
    let without_length = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with("Content-Length"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert_eq!(
        without_length(&answer),
        without_length(&escaped(&captured("complete")))
    );
    assert!(!close);
    let after = text(front_end.handle_request(request("POST", "/auth", LOGIN)));
    assert_eq!(after.0.lines().next(), Some("HTTP/1.1 401 Authentication failed"));
}

#[test]
fn success_without_profile_has_the_captured_length() {
    // 217 octets with the banner unescaped (`http-oc921-ocserv15.txt`).
    let mut front_end = FrontEnd::new(Arc::new(FrontEndConfig {
        profile: None,
        ..config()
    }));
    front_end.handle_request(request("POST", "/auth", LOGIN));
    let Action::Respond { response, .. } = front_end.handle_answer(AuthAnswer::Accepted {
        session: session(),
        user: "test".into(),
        token: None,
    }) else {
        panic!("a response")
    };
    assert_eq!(response.body.len(), 217 + "&lt;b&gt;".len() - "<b>".len());
}

#[test]
fn profile_needs_a_cookie() {
    assert_eq!(
        first_answer(request("GET", "/profiles/x", "")),
        (captured("GET /profiles no cookie"), true)
    );
    let cookie = format!("webvpn={}", session().to_cookie().expose());
    let with_cookie = || with_header(request("GET", "/profiles%2Fx", ""), "cookie", &cookie);
    let mut front_end = front_end();
    assert!(matches!(
        front_end.handle_request(with_cookie()),
        Action::AskBroker(AuthRequest::VerifyCookie { session: asked }) if asked == session()
    ));
    let (answer, _) = text(front_end.handle_answer(AuthAnswer::Cookie(true)));
    assert!(answer.ends_with("\n\n<x/>"));
    front_end.handle_request(with_cookie());
    let refused = text(front_end.handle_answer(AuthAnswer::Cookie(false)));
    assert_eq!(refused, (captured("CONNECT bad cookie"), true));
}

#[test]
fn telephones() {
    let mut front_end = front_end();
    let body = "username=test&password=test";
    assert!(matches!(
        front_end.handle_request(request("POST", "/svc", body)),
        Action::AskBroker(_)
    ));
    let session = SessionId::from_cookie("AI38mzwUmZ+DKgguPitQ3mnrsa2D6zCeWKy448Y/RSQ=").unwrap();
    let answer = text(front_end.handle_answer(AuthAnswer::Accepted {
        session,
        user: "test".into(),
        token: None,
    }))
    .0;
    assert!(CAPTURE.contains(&answer), "{answer}");
    assert_eq!(
        first_answer(request("POST", "/svc", "username=test")),
        first_answer(request("GET", "/svc", ""))
    );
}

#[test]
fn connect_without_usable_cookie() {
    let connect = || request("CONNECT", "/CSCOSSLC/tunnel", "");
    let refused = (captured("CONNECT no cookie"), true);
    assert_eq!(first_answer(connect()), refused);
    for bad in ["webvpn=", "webvpn=AAAA", "webvpn=!!!!", "other=x"] {
        assert_eq!(
            first_answer(with_header(connect(), "Cookie", bad)),
            refused,
            "{bad}"
        );
    }
    let good = format!("a=b; webvpn={}", session().to_cookie().expose());
    let elsewhere = with_header(request("CONNECT", "/elsewhere", ""), "Cookie", &good);
    assert_eq!(
        first_answer(elsewhere).0,
        captured("CONNECT wrong path w/ good cookie")
    );
    let action = front_end().handle_request(with_header(connect(), "cookie", &good));
    assert!(matches!(action, Action::OpenTunnel(request) if request.session == session()));
}

#[test]
fn a_login_goes_on_over_another_connection() {
    let cookie = format!("webvpncontext={}", session().to_cookie().expose());
    let resumed = with_header(request("POST", "/auth", PASSWORD), "Cookie", &cookie);
    let mut front_end = front_end();
    assert!(matches!(
        front_end.handle_request(resumed),
        Action::AskBroker(AuthRequest::Continue { context: Some(context), .. }) if context == session()
    ));
    let form = text(front_end.handle_answer(AuthAnswer::NotPending));
    assert_eq!(form, first_answer(request("GET", "/", "")));
}

#[test]
fn an_answer_without_password() {
    let mut front_end = front_end();
    front_end.handle_request(request("POST", "/auth", "username=test"));
    let ask = AuthAnswer::AskPassword {
        context: session(),
        message: "Password: ".into(),
        number: 0,
    };
    let form = text(front_end.handle_answer(ask)).0;
    assert!(form.contains("<message>Please enter your password.</message>"));
    let refused = text(front_end.handle_request(request("POST", "/auth", "username=test")));
    assert_eq!(refused, (captured("POST urlencoded v3"), true));
}

#[test]
fn the_seventeenth_request_gets_no_answer() {
    let mut front_end = front_end();
    for _ in 0..16 {
        assert!(matches!(
            front_end.handle_request(request("GET", "/logout", "")),
            Action::Respond { .. }
        ));
    }
    assert!(matches!(
        front_end.handle_request(request("GET", "/logout", "")),
        Action::CloseSilently
    ));
}

#[test]
fn out_of_turn() {
    let mut front_end = front_end();
    assert!(matches!(
        front_end.handle_answer(AuthAnswer::Cookie(true)),
        Action::CloseSilently
    ));
    front_end.handle_request(request("POST", "/auth", LOGIN));
    assert!(matches!(
        front_end.handle_request(request("GET", "/", "")),
        Action::CloseSilently
    ));
}

proptest! {
    #[test]
    fn never_panics_and_never_grants_by_itself(
        requests in prop::collection::vec(
            ("(GET|POST|CONNECT|PUT)", "/(auth|VPN|svc|profiles|CSCOSSLC/tunnel|x)?", "(username=a|&|password=b|<auth>|<username>c|group_list=%){0,5}", "(webvpn|webvpncontext)=[A-Za-z0-9=]{0,44}"),
            1..20,
        ),
    ) {
        let mut front_end = front_end();
        for (method, target, body, cookie) in requests {
            match front_end.handle_request(with_header(request(&method, &target, &body), "Cookie", &cookie)) {
                Action::AskBroker(_) => {
                    front_end.handle_answer(AuthAnswer::Rejected(Rejection::Internal));
                }
                Action::Respond { response, .. } => {
                    prop_assert!(!response.headers.get_all("Set-Cookie").any(|line| line.starts_with("webvpn=A")));
                }
                Action::OpenTunnel(_) | Action::CloseSilently => {}
            }
        }
    }
}
