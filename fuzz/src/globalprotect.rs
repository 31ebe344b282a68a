use std::sync::Arc;

use culvert_esp::{Examined, NextHeader, Probe};
use culvert_globalprotect::client::{
    Client, ClientOs, Cookie, Gateway, Login, LoginConfig, parse_config, parse_hip_check, parse_success,
};
use culvert_globalprotect::data::{MagicPing, Sources};
use culvert_globalprotect::server::{FrontEnd, FrontEndConfig};
use culvert_globalprotect::wire::parse_frame_header;
use culvert_login::server::{Action, AuthAnswer, AuthRequest, FrontEnd as _};
use culvert_vocab::SessionId;
use culvert_wire::url::ServerUrl;

use crate::http::{read_request, read_response};
use crate::{login, parts};

fn client() -> Client {
    Client {
        os: ClientOs::new("linux-64"),
        computer: "fuzz".into(),
        ipv6: true,
    }
}

pub(crate) fn login(data: &[u8]) {
    let Ok(server) = ServerUrl::parse("vpn.example") else {
        return;
    };
    let mut login = Login::new(LoginConfig {
        server,
        client: client(),
        external_auth: true,
        passwords: true,
    });
    login::drive(&mut login, data);
    if let Some(portal) = login.portal()
        && let Ok(server) = ServerUrl::parse("vpn.example")
    {
        let _ = portal.server_list(&server);
    }
}

/// A configuration; what it says goes into the requests after it.
pub(crate) fn config(data: &[u8]) {
    let Some(response) = read_response(data) else {
        let _ = Cookie::parse(&String::from_utf8_lossy(data));
        return;
    };
    let _ = (parse_hip_check(&response), parse_success(&response));
    let (Ok(granted), Ok(server), Ok(cookie)) = (
        parse_config(&response, true),
        ServerUrl::parse("vpn.example"),
        Cookie::parse("authcookie=1&user=u"),
    ) else {
        return;
    };
    let gateway = Gateway {
        server,
        cookie,
        client: client(),
        app_version: None,
    };
    let _ = gateway.config_request(Some(&granted.config)).to_bytes();
    let _ = gateway.tunnel_request(granted.tunnel_path.as_deref()).to_bytes();
    if let Ok(esp) = granted.esp {
        let _ = MagicPing::client(esp.client, esp.gateway).map(|mut ping| ping.request());
    }
}

/// Requests of one connection.
pub(crate) fn server(data: &[u8]) {
    let config = FrontEndConfig {
        host_reports: true,
        ..FrontEndConfig::default()
    };
    let mut front_end = FrontEnd::new(Arc::new(config));
    for request in parts(data).filter_map(read_request) {
        let _ = front_end.serves(&request.target);
        let mut action = front_end.handle_request(request);
        for number in 0..4 {
            action = match action {
                Action::AskBroker(AuthRequest::VerifyCookie { .. } | AuthRequest::KeepReport { .. }) => {
                    front_end.handle_answer(AuthAnswer::Cookie(true))
                }
                Action::AskBroker(AuthRequest::RecallReport { .. }) => {
                    front_end.handle_answer(AuthAnswer::Report(None))
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
                Action::Respond { response, .. } | Action::EndSession { response, .. } => {
                    let _ = response.to_bytes();
                    break;
                }
                _ => break,
            };
        }
    }
}

/// Frames of the TLS tunnel, and inner packets that may be magic pings.
pub(crate) fn frames(data: &[u8]) {
    let _ = parse_frame_header(data);
    let everywhere = ["0.0.0.0/0", "::/0"]
        .iter()
        .filter_map(|network| network.parse().ok());
    let gateway = MagicPing::Gateway(Sources::new(everywhere.collect()));
    if let Some(Examined::Request(_, reply)) = gateway.examine(NextHeader::Ipv4, data) {
        // The answer to a ping is as long, and no ping.
        assert_eq!(reply.len(), data.len());
        assert_eq!(gateway.examine(NextHeader::Ipv4, &reply), None);
    }
    let addresses = [("10.77.0.2", "192.0.2.1"), ("fd77::2", "2001:db8:47::1")];
    for (client, gateway) in addresses {
        if let (Ok(client), Ok(gateway)) = (client.parse(), gateway.parse())
            && let Some(ping) = MagicPing::client(client, gateway)
        {
            let _ = ping.examine(NextHeader::Ipv4, data);
        }
    }
}
