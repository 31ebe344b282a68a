//! The front-end for clients whose certificate decides alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use culvert_anyconnect::server::{Action, FrontEnd, FrontEndConfig, GroupOption};
use culvert_login::server::{AuthAnswer, AuthRequest, Rejection};
use culvert_vocab::SessionId;
use culvert_wire::http::Request;

const INIT: &str = "<config-auth client=\"vpn\" type=\"init\"><version who=\"vpn\">x</version></config-auth>";

fn front_end() -> FrontEnd {
    FrontEnd::new(Arc::new(FrontEndConfig {
        without_form: true,
        groups: vec![GroupOption {
            name: "ops".into(),
            label: "Operators".into(),
        }],
        ..FrontEndConfig::default()
    }))
}

fn request(method: &str, body: &str) -> Request {
    let mut request = Request::new(method, "/");
    request.body = body.into();
    request
}

fn question(group: Option<&str>) -> AuthRequest {
    AuthRequest::Start {
        user: String::new(),
        password: None,
        group: group.map(str::to_owned),
    }
}

fn asked(action: Action) -> AuthRequest {
    match action {
        Action::AskBroker(question) => question,
        other => panic!("{other:?}"),
    }
}

fn answered(action: Action) -> (String, bool) {
    match action {
        Action::Respond { response, close } => {
            (String::from_utf8(response.to_bytes().to_vec()).unwrap(), close)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_request_logs_in() {
    for (method, body) in [("POST", INIT), ("GET", ""), ("POST", "username=eve&password=x")] {
        let mut front_end = front_end();
        assert_eq!(
            asked(front_end.handle_request(request(method, body))),
            question(None)
        );
        let session = SessionId::from_bytes([7; 32]);
        let (page, close) = answered(front_end.handle_answer(AuthAnswer::Accepted {
            session,
            user: "test".into(),
            token: None,
        }));
        assert!(
            page.starts_with("HTTP/1.1 200 OK") && page.contains("webvpn=") && !close,
            "{page}"
        );
    }
}

#[test]
fn a_choice_of_groups() {
    let mut front_end = front_end();
    asked(front_end.handle_request(request("POST", INIT)));
    let groups = vec!["ops".to_owned(), "a<b".to_owned()];
    let (page, _) = answered(front_end.handle_answer(AuthAnswer::ChooseGroup { groups }));
    assert!(
        page.contains("<message>Please select your group.</message>"),
        "{page}"
    );
    assert!(
        page.contains("<option value=\"ops\">Operators</option>"),
        "{page}"
    );
    assert!(
        page.contains("<option value=\"a&lt;b\">a&lt;b</option>") && !page.contains("password"),
        "{page}"
    );
    let choice = "<config-auth client=\"vpn\" type=\"auth-reply\"><auth/><group-select>Operators</group-select></config-auth>";
    assert_eq!(
        asked(front_end.handle_request(request("POST", choice))),
        question(Some("ops"))
    );
}

#[test]
fn a_missing_certificate_is_said_to_be_missing() {
    let mut front_end = front_end();
    asked(front_end.handle_request(request("POST", INIT)));
    let (page, close) = answered(front_end.handle_answer(AuthAnswer::Rejected(Rejection::NoCertificate)));
    assert!(
        page.starts_with("HTTP/1.1 401 No certificate\r\n") && close,
        "{page}"
    );
}
