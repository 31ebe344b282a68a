//! Captured logins of openconnect, replayed: our requests must be theirs, header by header, but
//! for version and keys.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Captured, flow, prefixed};
use culvert_anyconnect::client::{Cookie, Login, LoginConfig, LoginError, Platform, StrapKeys};
use culvert_login::client::{Message, Step};
use culvert_vocab::{FieldKind, Form, SecretString};
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;

fn webvpn(cookie: &SecretString) -> String {
    Cookie::parse(cookie.expose())
        .unwrap()
        .webvpn()
        .expose()
        .to_owned()
}

const FLOWS: &str = include_str!("vectors/http-client-flows.txt");
const OCSERV_1_1_6: &str = include_str!("vectors/http-oc901-ocserv116.txt");
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
    for (fresh, captured) in exchanges {
        while let Ok(Step::Form(mut form)) = step {
            answer(&mut form);
            step = login.handle_form(form);
        }
        let exchange = match step {
            Ok(Step::Exchange(exchange)) => exchange,
            other => panic!("{other:?} instead of {}", captured.request.target),
        };
        assert_eq!(comparable(&exchange.request), comparable(&captured.request));
        if fresh == Some(false) {
            assert!(!exchange.fresh, "the capture goes on on the same connection");
        }
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
        let mut login = login("10.99.0.1", AGENT_9_01);
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
