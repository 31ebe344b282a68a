//! The front-end of hosts with HTTP authentication.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use culvert_anyconnect::server::{Action, FrontEnd, FrontEndConfig};
use culvert_login::server::{AuthAnswer, AuthRequest, Rejection};
use culvert_vocab::{HttpScheme, SessionId};
use culvert_wire::http::{Request, Response};

const INIT: &str =
    "<config-auth client=\"vpn\" type=\"init\"><group-select>staff</group-select></config-auth>";

fn front_end(http: &[HttpScheme], http_first: bool, without_form: bool) -> FrontEnd {
    FrontEnd::new(Arc::new(FrontEndConfig {
        http: http.to_vec(),
        http_first,
        without_form,
        ..FrontEndConfig::default()
    }))
}

fn request(body: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::new("POST", "/");
    request.headers = headers.iter().copied().collect();
    request.body = body.into();
    request
}

fn answered(action: Action) -> (Response, bool) {
    match action {
        Action::Respond { response, close } => (response, close),
        other => panic!("{other:?}"),
    }
}

fn asked(action: Action) -> AuthRequest {
    match action {
        Action::AskBroker(question) => question,
        other => panic!("{other:?}"),
    }
}

fn token(scheme: HttpScheme, token: &str) -> AuthRequest {
    AuthRequest::Http {
        scheme,
        token: token.into(),
        group: Some("staff".into()),
    }
}

const KNOWS_IT: (&str, &str) = ("X-Support-HTTP-Auth", "true");

#[test]
fn a_ticket_in_two_legs() {
    let mut front_end = front_end(&[HttpScheme::Negotiate], false, false);
    let (challenge, close) = answered(front_end.handle_request(request(INIT, &[KNOWS_IT])));
    assert_eq!(
        challenge.to_bytes(),
        b"HTTP/1.1 401 Unauthorized\r\nX-HTTP-Auth-Support: fallback\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n"
    );
    assert!(!close);
    let first = request(INIT, &[KNOWS_IT, ("Authorization", "Negotiate YII1")]);
    assert_eq!(
        asked(front_end.handle_request(first)),
        token(HttpScheme::Negotiate, "YII1")
    );
    let next = AuthAnswer::Challenge { token: "oRQ=".into() };
    let (challenge, close) = answered(front_end.handle_answer(next));
    assert_eq!(
        (challenge.status, challenge.headers.get("WWW-Authenticate"), close),
        (401, Some("Negotiate oRQ="), false)
    );
    let second = request(INIT, &[KNOWS_IT, ("Authorization", "Negotiate YII2")]);
    assert_eq!(
        asked(front_end.handle_request(second)),
        token(HttpScheme::Negotiate, "YII2")
    );
    let (success, close) = answered(front_end.handle_answer(AuthAnswer::Accepted {
        session: SessionId::from_bytes([7; 32]),
        user: "test".into(),
        token: Some("oRQ2".into()),
    }));
    assert_eq!(
        (success.status, success.headers.get("WWW-Authenticate"), close),
        (200, Some("Negotiate oRQ2"), false)
    );
    assert!(String::from_utf8_lossy(&success.body).contains("auth id=\"success\""));
}

#[test]
fn without_a_ticket_there_is_the_form() {
    let mut front_end = front_end(&[HttpScheme::Negotiate], false, false);
    answered(front_end.handle_request(request(INIT, &[KNOWS_IT])));
    let (form, _) = answered(front_end.handle_request(request(INIT, &[])));
    assert!(form.status == 200 && String::from_utf8_lossy(&form.body).contains("name=\"username\""));
    let credentials = "username=joe&password=x";
    assert!(matches!(
        asked(front_end.handle_request(request(credentials, &[KNOWS_IT]))),
        AuthRequest::Start { user, .. } if user == "joe"
    ));
}

#[test]
fn a_refused_ticket_falls_back_to_the_form_for_good() {
    let mut front_end = front_end(&[HttpScheme::Negotiate], false, false);
    let ticket = request(INIT, &[KNOWS_IT, ("Authorization", "Negotiate YII1")]);
    asked(front_end.handle_request(ticket.clone()));
    let (form, close) = answered(front_end.handle_answer(AuthAnswer::Fallback));
    assert!(form.status == 200 && !close && form.headers.get("WWW-Authenticate").is_none());
    assert_eq!(answered(front_end.handle_request(ticket)).0.status, 200);
    let login = request("username=joe&password=x", &[KNOWS_IT]);
    assert!(matches!(
        asked(front_end.handle_request(login)),
        AuthRequest::Start { user, .. } if user == "joe"
    ));
}

#[test]
fn a_token_is_the_only_way() {
    let mut front_end = front_end(&[HttpScheme::Bearer], true, true);
    for body in [INIT, "", "username=joe&password=x"] {
        let (challenge, close) = answered(front_end.handle_request(request(body, &[])));
        assert_eq!(
            challenge.to_bytes(),
            b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(!close);
    }
    let login = request(INIT, &[("Authorization", "Bearer a.b.c")]);
    assert_eq!(
        asked(front_end.handle_request(login)),
        token(HttpScheme::Bearer, "a.b.c")
    );
    let rejected = AuthAnswer::Rejected(Rejection::AuthenticationFailed);
    let (refusal, close) = answered(front_end.handle_answer(rejected));
    assert!(refusal.status == 401 && refusal.headers.get("WWW-Authenticate").is_none() && close);
}
