use std::sync::Arc;

use culvert_anyconnect::client::{
    Cookie, HostScanRule, Login, LoginConfig, Platform, parse_connect_response,
};
use culvert_anyconnect::server::{Action, FrontEnd, FrontEndConfig, GroupOption};
use culvert_anyconnect::wire::{Goodbye, parse_frame_header};
use culvert_login::server::{AuthAnswer, AuthRequest};
use culvert_vocab::SessionId;
use culvert_wire::url::ServerUrl;

use crate::http::{read_request, read_response};
use crate::{login, parts};

pub(crate) fn login(data: &[u8]) {
    let (Ok(server), Some(platform)) = (ServerUrl::parse("vpn.example"), Platform::new("linux-64")) else {
        return;
    };
    let mut login = Login::new(LoginConfig {
        server,
        user_agent: "fuzz".into(),
        version: "1".into(),
        platform,
        group: None,
        xml_post: true,
        external_auth: true,
        strap: None,
        certificate: false,
        second_certificate: None,
        token: None,
        passwords: true,
        browser: false,
        host_scan: HostScanRule::Wrapper,
        profile: Some(None),
    });
    login::drive(&mut login, data);
}

pub(crate) fn connect(data: &[u8]) {
    if let Some(response) = read_response(data) {
        let _ = parse_connect_response(&response);
    }
    let _ = Cookie::parse(&String::from_utf8_lossy(data));
}

/// Requests of one connection.
pub(crate) fn server(data: &[u8]) {
    let group = GroupOption {
        name: "group".into(),
        label: "A group".into(),
    };
    let mut front_end = FrontEnd::new(Arc::new(FrontEndConfig {
        groups: vec![group],
        select_group_by_url: true,
        ..FrontEndConfig::default()
    }));
    for request in parts(data).filter_map(read_request) {
        let mut action = front_end.handle_request(request);
        for number in 0..4 {
            action = match action {
                Action::AskBroker(AuthRequest::VerifyCookie { .. }) => {
                    front_end.handle_answer(AuthAnswer::Cookie(true))
                }
                Action::AskBroker(_) if number % 2 == 0 => front_end.handle_answer(AuthAnswer::AskPassword {
                    context: SessionId::from_bytes([1; 32]),
                    message: "more".into(),
                    number,
                }),
                Action::AskBroker(_) => front_end.handle_answer(AuthAnswer::Accepted {
                    session: SessionId::from_bytes([2; 32]),
                    user: "test".into(),
                    token: None,
                }),
                Action::Respond { response, .. } => {
                    let _ = response.to_bytes();
                    break;
                }
                _ => break,
            };
        }
    }
}

pub(crate) fn frames(data: &[u8]) {
    if let Some(header) = data.first_chunk() {
        let _ = parse_frame_header(header);
    }
    Goodbye::parse(data);
}
