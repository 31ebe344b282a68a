//! Captured logins of openconnect, replayed: our requests must be theirs, header by header, but
//! for version and keys.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/wrap_token.rs"]
mod wrap_token;

use common::{Captured, flow, prefixed};
use culvert_anyconnect::client::{
    Cookie, HostScanRule, Login, LoginConfig, LoginError, Platform, ProfileHash, StrapKeys,
};
use culvert_login::client::{Message, Returned, SignInResult, Step};
use culvert_vocab::{FieldKind, Form, SecretString};
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;
use wrap_token::wrap_token;

fn webvpn(cookie: &SecretString) -> String {
    Cookie::parse(cookie.expose())
        .unwrap()
        .webvpn()
        .expose()
        .to_owned()
}

const FLOWS: &str = include_str!("vectors/http-client-flows.txt");
const OCSERV_1_1_6: &str = include_str!("vectors/http-oc901-ocserv116.txt");
const SIGN_IN_PAGE: &str = "https://10.99.0.1/+CSCOE+/saml/sp/login?tgname=TG1&acsamlcap=v2";
const OCSERV_1_5: &str = include_str!("vectors/http-oc921-ocserv15.txt");

const AGENT_9_01: (&str, &str) = ("Open AnyConnect VPN Agent v9.01-3", "v9.01-3");
const AGENT_9_21: (&str, &str) = (
    "AnyConnect-compatible OpenConnect VPN Agent v9.21-unknown",
    "v9.21-unknown",
);

fn login(url: &str, (user_agent, version): (&str, &str)) -> Login {
    Login::new(config(url, (user_agent, version)))
}

fn config(url: &str, (user_agent, version): (&str, &str)) -> LoginConfig {
    LoginConfig {
        server: ServerUrl::parse(url).unwrap(),
        user_agent: user_agent.into(),
        version: version.into(),
        platform: Platform::new("linux-64").unwrap(),
        group: None,
        xml_post: true,
        external_auth: true,
        strap: Some(StrapKeys::generate().unwrap()),
        certificate: false,
        second_certificate: None,
        token: None,
        passwords: true,
        browser: false,
        host_scan: HostScanRule::Refuse,
        profile: None,
    }
}

/// Request line, headers (keys left out, because they are random) and body.
fn comparable(request: &Request) -> (String, Vec<(String, String)>, String) {
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| {
            let value = if name.contains("STRAP") { "key" } else { value };
            (name.to_owned(), value.to_owned())
        })
        .collect();
    (
        format!("{} {}", request.method, request.target),
        headers,
        String::from_utf8_lossy(&request.body).into_owned(),
    )
}

/// Runs `login` against the captured exchanges; `answer` fills forms.
fn replay(
    mut login: Login,
    exchanges: impl IntoIterator<Item = (Option<bool>, Captured)>,
    mut answer: impl FnMut(&mut Form),
) -> (Result<Step, LoginError>, Vec<String>) {
    let mut step = login.start();
    let mut key = String::new();
    for (fresh, captured) in exchanges {
        loop {
            step = match step {
                Ok(Step::Form(mut form)) => {
                    answer(&mut form);
                    login.handle_form(form)
                }
                Ok(Step::Browser(sign_in)) => {
                    assert_eq!(sign_in.url, SIGN_IN_PAGE);
                    assert_eq!(sign_in.result, SignInResult::Loopback { port: 29786 });
                    let blob = wrap_token(&key, "Abc123TOKENxyz0987").replace('+', "%2B");
                    match login.handle_browser(&format!("/api/sso/{blob}?return=https%3A%2F%2Fa%2Fb")) {
                        Returned::Over { step, next_page } => {
                            assert_eq!(next_page.as_deref(), Some("https://a/b"));
                            Ok(*step)
                        }
                        Returned::Stranger => panic!("the token was not accepted"),
                    }
                }
                Ok(Step::HostScan(scan)) => {
                    assert_eq!((scan.ticket.as_str(), scan.token.expose()), ("TICKET1", "TOKEN1"));
                    assert_eq!(
                        (scan.server.host.as_str(), scan.start.as_str()),
                        ("10.99.0.1", "/CACHE/sdesktop/hostscan")
                    );
                    assert_eq!(scan.program, None);
                    login.handle_host_scan()
                }
                Ok(Step::Wait(_)) => login.handle_timeout(),
                other => {
                    step = other;
                    break;
                }
            };
        }
        let exchange = match step {
            Ok(Step::Exchange(exchange)) => exchange,
            other => panic!("{other:?} instead of {}", captured.request.target),
        };
        assert_eq!(comparable(&exchange.request), comparable(&captured.request));
        if fresh == Some(false) {
            assert!(!exchange.fresh, "the capture goes on on the same connection");
        }
        let announced = exchange.request.headers.get("X-AnyConnect-STRAP-DH-Pubkey");
        key = announced.unwrap_or_default().to_owned();
        step = login.handle_response(captured.response);
    }
    let messages = std::iter::from_fn(|| login.poll_message())
        .map(|Message { text, .. }| text)
        .collect();
    (step, messages)
}

fn fill<'a>(answers: &'a [(&'a str, &'a str)]) -> impl FnMut(&mut Form) + 'a {
    move |form| {
        for field in &mut form.fields {
            let answer = answers
                .iter()
                .find(|(name, _)| *name == field.name && !field.ignored);
            if let (Some((_, value)), false) = (answer, field.kind == FieldKind::Hidden) {
                field.value = Some((*value).into());
            }
        }
    }
}

fn cookie_of(step: Result<Step, LoginError>) -> (String, ServerUrl) {
    match step {
        Ok(Step::Done(done)) => (webvpn(&done.cookie), done.server),
        other => panic!("{other:?}"),
    }
}

fn run_flow(section: &str, url: &str, answers: &[(&str, &str)]) -> (Result<Step, LoginError>, Vec<String>) {
    let exchanges = flow(FLOWS, section)
        .into_iter()
        .map(|(fresh, captured)| (Some(fresh), captured));
    replay(login(url, AGENT_9_01), exchanges, fill(answers))
}

#[test]
fn two_step_login_of_9_01() {
    let mut exchanges = prefixed(OCSERV_1_1_6);
    assert_eq!(exchanges.pop().unwrap().request.method, "CONNECT");
    assert_eq!(exchanges.len(), 3);
    let exchanges = exchanges.into_iter().map(|captured| (None, captured));
    let answers = fill(&[("username", "test"), ("password", "test")]);
    let (step, messages) = replay(login("10.99.0.1", AGENT_9_01), exchanges, answers);
    assert_eq!(cookie_of(step).0, "<elided>");
    assert_eq!(messages, ["XML POST enabled"]);
}

#[test]
fn login_with_preset_group_of_9_21() {
    let mut exchanges = prefixed(OCSERV_1_5);
    exchanges.pop();
    let exchanges = exchanges.into_iter().map(|captured| (None, captured));
    let login = Login::new(LoginConfig {
        group: Some("groupA".into()),
        ..config("10.99.0.1", AGENT_9_21)
    });
    let (step, _) = replay(
        login,
        exchanges,
        fill(&[("username", "test"), ("password", "test")]),
    );
    assert_eq!(cookie_of(step).0, "<elided>");
}

#[test]
fn redirect_to_another_host_drops_cookies_and_keeps_group_access() {
    let (step, _) = run_flow("redir", "10.99.0.1", &[]);
    let (cookie, server) = cookie_of(step);
    assert_eq!(
        (cookie.as_str(), server.to_string().as_str()),
        ("TOKEN123", "https://vpn.example.test/")
    );
}

#[test]
fn local_redirect_leads_to_the_login_without_xml() {
    let (step, _) = run_flow(
        "localredir",
        "10.99.0.1",
        &[("username", "joe"), ("password", "pw1")],
    );
    assert_eq!(cookie_of(step).0, "WV@1@2");
}

#[test]
fn status_400_is_tried_once_without_xml() {
    let (step, _) = run_flow("err400", "10.99.0.1", &[]);
    assert_eq!(step.unwrap_err(), LoginError::Status(400));
}

#[test]
fn error_without_form() {
    let (step, _) = run_flow("certfail", "10.99.0.1", &[]);
    let text = "Client certificate missing or incorrect (Certificate Validation Failure)";
    assert_eq!(step.unwrap_err().to_string(), text);
}

#[test]
fn authentication_complete_is_answered_with_an_empty_auth() {
    let (step, _) = run_flow("authcomplete", "10.99.0.1", &[]);
    assert_eq!(cookie_of(step).0, "TOKEN123");
}

#[test]
fn certificate_request_without_certificate() {
    // The capture has a certificate: its first two requests are one for us.
    let exchanges = flow(FLOWS, "ccreq")
        .into_iter()
        .skip(1)
        .map(|(_, captured)| (None, captured));
    let (step, _) = replay(
        login("10.99.0.1", AGENT_9_01),
        exchanges,
        fill(&[("username", "pw1")]),
    );
    assert_eq!(cookie_of(step).0, "TOKEN123");
}

#[test]
fn challenge_and_new_password() {
    // 9.01 posts to `/` where a form has no action, 9.21 and we stay on the URL.
    let mut exchanges: Vec<_> = flow(FLOWS, "chall")
        .into_iter()
        .map(|(_, captured)| (None, captured))
        .collect();
    let profile = exchanges.pop().unwrap().1;
    assert_eq!(profile.request.method, "GET");
    for (_, captured) in &mut exchanges {
        if captured.request.target == "/" {
            captured.request.target = "/group1".into();
        }
    }
    let mut prompts = Vec::new();
    let mut passwords = ["pw1", "pw2", "pw3"].into_iter();
    let (step, _) = replay(login("10.99.0.1/group1", AGENT_9_01), exchanges, |form| {
        prompts.push(form.message.clone().unwrap_or_default());
        let password = passwords.next().unwrap();
        fill(&[
            ("username", "joe"),
            ("password", password),
            ("answer", password),
            ("new_password", password),
        ])(form);
    });
    assert_eq!(prompts, ["m", "Enter code", "m2"]);
    assert_eq!(cookie_of(step).0, "S1");
}

#[test]
fn demands_that_are_not_met() {
    for (section, error) in [
        ("csd3", LoginError::HostScan),
        ("mca", LoginError::SecondCertificate),
        ("sso", LoginError::Browser),
    ] {
        let mut login = Login::new(LoginConfig {
            external_auth: false,
            strap: None,
            ..config("10.99.0.1", AGENT_9_01)
        });
        let first = flow(FLOWS, section).into_iter().next().unwrap().1;
        login.start().unwrap();
        assert_eq!(
            login.handle_response(first.response).unwrap_err(),
            error,
            "{section}"
        );
    }
}

#[test]
fn host_scan_by_a_wrapper() {
    let exchanges = flow(FLOWS, "csd3");
    let exchanges = exchanges
        .into_iter()
        .map(|(fresh, captured)| (Some(fresh), captured));
    let login = Login::new(LoginConfig {
        host_scan: HostScanRule::Wrapper,
        ..config("10.99.0.1", AGENT_9_01)
    });
    let answers = [
        ("group_list", "Group Two"),
        ("username", "joe"),
        ("password", "pw1"),
    ];
    let (step, _) = replay(login, exchanges, fill(&answers));
    assert_eq!(cookie_of(step).0, "TOKEN123");
}

#[test]
fn sign_in_with_an_external_browser() {
    let exchanges = flow(FLOWS, "sso")
        .into_iter()
        .map(|(fresh, captured)| (Some(fresh), captured));
    let login = Login::new(LoginConfig {
        browser: true,
        ..config("10.99.0.1", AGENT_9_01)
    });
    let (step, _) = replay(login, exchanges, |form| panic!("{form:?}"));
    assert_eq!(cookie_of(step).0, "TOKEN123");
}

#[test]
fn strangers_do_not_end_a_browser_sign_in() {
    let first = flow(FLOWS, "sso").into_iter().next().unwrap().1;
    let mut login = login("10.99.0.1", AGENT_9_01);
    login.start().unwrap();
    let Ok(Step::Browser(_)) = login.handle_response(first.response) else {
        panic!("a sign-in")
    };
    let others_key = StrapKeys::generate().unwrap();
    let others = wrap_token(others_key.dh_public(), "Abc123");
    for stranger in ["/favicon.ico", "/api/sso/", &format!("/api/sso/{others}")] {
        assert!(
            matches!(login.handle_browser(stranger), Returned::Stranger),
            "{stranger}"
        );
    }
}

/// The last exchange of the capture is the download of the profile.
#[test]
fn the_profile_is_fetched_when_it_has_changed() {
    let exchanges: Vec<_> = flow(FLOWS, "chall").into_iter().map(|(_, one)| one).collect();
    let download = exchanges.last().unwrap();
    let complete = &exchanges[exchanges.len() - 2];
    let kept = |profile: Option<&[u8]>| {
        let mut login = Login::new(LoginConfig {
            profile: Some(profile.map(ProfileHash::of)),
            ..config("10.99.0.1", AGENT_9_01)
        });
        login.start().unwrap();
        let step = login.handle_response(complete.response.clone());
        (login, step.unwrap())
    };
    for old in [None, Some(&b"old"[..])] {
        let (mut login, step) = kept(old);
        let Step::Exchange(exchange) = step else {
            panic!("{step:?}")
        };
        assert_eq!(comparable(&exchange.request), comparable(&download.request));
        let done = login.handle_response(download.response.clone());
        assert!(matches!(done, Ok(Step::Done(_))), "{done:?}");
        assert_eq!(login.profile(), Some(&b"<x/>"[..]));
    }
    // One with another hash is not taken; the login succeeds all the same.
    let (mut login, _) = kept(None);
    let mut tampered = download.response.clone();
    tampered.body = b"<y/>".to_vec();
    let done = login.handle_response(tampered);
    assert!(matches!(done, Ok(Step::Done(_))), "{done:?}");
    assert_eq!(login.profile(), None);
    assert!(matches!(kept(Some(b"<x/>")).1, Step::Done(_)));
}

#[test]
fn another_group_requests_the_form_anew() {
    let exchanges: Vec<_> = flow(FLOWS, "csd3")
        .into_iter()
        .map(|(_, captured)| captured)
        .collect();
    let form_again = |at: usize| exchanges[at].response.clone();
    let mut login = login("10.99.0.1", AGENT_9_01);
    login.start().unwrap();
    let Ok(Step::Form(form)) = login.handle_response(form_again(4)) else {
        panic!("a form")
    };
    assert_eq!(form.error.as_deref(), Some("Login error. x"));
    assert_eq!(form.fields[0].name, "group_list");
    let Ok(Step::Exchange(exchange)) = login.select_group("Group Two") else {
        panic!("a request")
    };
    let body = |request: &Request| String::from_utf8(request.body.clone()).unwrap();
    assert_eq!(body(&exchange.request), body(&exchanges[5].request));
    let Ok(Step::Form(mut form)) = login.handle_response(form_again(5)) else {
        panic!("a form")
    };
    fill(&[
        ("group_list", "Group Two"),
        ("username", "joe"),
        ("password", "pw1"),
    ])(&mut form);
    let Ok(Step::Exchange(exchange)) = login.handle_form(form) else {
        panic!("a request")
    };
    let expected = body(&exchanges[6].request).replace("<host-scan-token>TOKEN1</host-scan-token>", "");
    assert_eq!(body(&exchange.request), expected);
}
