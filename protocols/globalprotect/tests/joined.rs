//! Client and server joined in memory, every message through the HTTP writers and readers, with a
//! small user database in place of the broker.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_esp::{Encryption, Integrity, Spi};
use culvert_globalprotect::client::{
    Client, ClientOs, Cookie, Gateway, HipAnswer, Login, LoginConfig, parse_config, parse_hip_check,
    parse_success,
};
use culvert_globalprotect::server::{FrontEnd, FrontEndConfig};
use culvert_login::client::{Login as _, Step};
use culvert_login::server::{
    Action, AuthAnswer, AuthRequest, Channels, Claims, DatagramGrant, FrontEnd as _, Granted, Link,
    Opening as _, Refusal, Rejection, ReportName,
};
use culvert_tls::{Cipher, Negotiated, Version};
use culvert_vocab::{AddressV4, AddressV6, FieldKind, Form, Mtu, SessionId, TunnelConfig};
use culvert_wire::http::{Request, RequestReader, Response, ResponseReader};
use culvert_wire::url::ServerUrl;
use proptest::prelude::*;

const USER: &str = "j. döe@corp <&>";
const PASSWORD: &str = "p&=%+ ü";
const COMPUTER: &str = "host & co";

/// What a client says of its session.
fn told(computer: bool) -> Claims {
    Claims {
        user: Some(USER.into()),
        computer: computer.then(|| COMPUTER.into()),
    }
}

/// Users, sessions and connections of a server.
struct Server {
    front_end: FrontEnd,
    /// Logins need a code, too.
    code: bool,
    pending: Option<(SessionId, bool)>,
    sessions: HashSet<[u8; 32]>,
    /// Reports about their hosts that were taken.
    reports: HashSet<ReportName>,
    /// How long ago that was.
    age: Duration,
    asked_for: Vec<String>,
}

impl Server {
    fn new(code: bool) -> Self {
        Self {
            front_end: FrontEnd::new(Arc::new(FrontEndConfig {
                portal: "Culvert & Co".into(),
                message: None,
                host_reports: true,
                algorithms: vec![(Encryption::Aes128Cbc, Integrity::HmacSha1)],
            })),
            code,
            pending: None,
            sessions: HashSet::new(),
            reports: HashSet::new(),
            age: Duration::ZERO,
            asked_for: Vec::new(),
        }
    }

    fn answer(&mut self, question: AuthRequest) -> AuthAnswer {
        match question {
            AuthRequest::Start { user, password, .. } => {
                assert_eq!(user, USER);
                self.pending = Some((SessionId::from_bytes([7; 32]), false));
                self.step(password.map(|text| text.expose().to_owned()).unwrap_or_default())
            }
            AuthRequest::Continue { password, .. } if self.pending.is_some() => {
                self.step(password.expose().to_owned())
            }
            AuthRequest::Http { .. } => AuthAnswer::Rejected(Rejection::Internal),
            AuthRequest::Continue { .. } => AuthAnswer::NotPending,
            AuthRequest::Join { session, claims } => {
                assert_eq!((claims.user, claims.computer), (None, Some(COMPUTER.into())));
                match self.sessions.contains(session.expose()) {
                    true => AuthAnswer::Accepted {
                        session,
                        user: USER.into(),
                        token: None,
                    },
                    false => AuthAnswer::NotPending,
                }
            }
            AuthRequest::VerifyCookie { session } => {
                AuthAnswer::Cookie(self.sessions.contains(session.expose()))
            }
            AuthRequest::RecallReport { session, .. } if !self.sessions.contains(session.expose()) => {
                AuthAnswer::Cookie(false)
            }
            AuthRequest::RecallReport { name, .. } => {
                AuthAnswer::Report(self.reports.contains(&name).then_some(self.age))
            }
            AuthRequest::KeepReport { session, name } => {
                self.reports.insert(name);
                AuthAnswer::Cookie(self.sessions.contains(session.expose()))
            }
        }
    }

    fn step(&mut self, answer: String) -> AuthAnswer {
        let (context, code) = self.pending.clone().unwrap();
        match (code, answer.as_str()) {
            (false, PASSWORD) if self.code => {
                self.pending = Some((context.clone(), true));
                AuthAnswer::AskPassword {
                    context,
                    message: "Code?".into(),
                    number: 1,
                }
            }
            (false, PASSWORD) | (true, "123456") => {
                self.sessions.insert([9; 32]);
                AuthAnswer::Accepted {
                    session: SessionId::from_bytes([9; 32]),
                    user: USER.into(),
                    token: None,
                }
            }
            (_, "never") => AuthAnswer::Rejected(Rejection::AuthenticationFailed),
            (code, _) => AuthAnswer::AskPassword {
                context,
                message: "Login failed.\nAgain".into(),
                number: u8::from(code),
            },
        }
    }

    fn exchange(&mut self, request: &Request) -> Response {
        assert!(self.front_end.serves(&request.target), "{}", request.target);
        self.asked_for.push(request.target.clone());
        let request = RequestReader::new()
            .handle_input(&request.to_bytes())
            .unwrap()
            .unwrap();
        let method = request.method.clone();
        let mut action = self.front_end.handle_request(request);
        loop {
            let response = match action {
                Action::AskBroker(question) => {
                    let answer = self.answer(question);
                    action = self.front_end.handle_answer(answer);
                    continue;
                }
                Action::Respond { response, .. } => response,
                Action::Open(opening) => {
                    let demand = opening.demand(&TLS);
                    let as_told = demand.claims == told(method == "POST");
                    if !as_told || !self.sessions.contains(demand.session.expose()) {
                        opening.refuse(Refusal::NotAcceptable)
                    } else {
                        assert!(demand.ipv4 && demand.ipv6);
                        assert_eq!(demand.datagrams, method == "POST");
                        let answer = open(opening, &granted()).answer;
                        if answer == b"START_TUNNEL" {
                            return Response::new(200, "tunnel");
                        }
                        return ResponseReader::new(&method)
                            .handle_input(&answer)
                            .unwrap()
                            .unwrap();
                    }
                }
                Action::EndSession {
                    session,
                    claims,
                    response,
                    otherwise,
                } => {
                    assert!(self.sessions.remove(session.expose()));
                    if claims == told(true) { response } else { otherwise }
                }
                Action::CloseSilently => panic!("closed"),
            };
            return ResponseReader::new(&method)
                .handle_input(&response.to_bytes())
                .unwrap()
                .unwrap();
        }
    }
}

const TLS: Negotiated = Negotiated {
    version: Version::Tls13,
    cipher: Cipher::Aes128Gcm,
    group: None,
    signature: None,
    resumed: true,
};

fn open(
    opening: culvert_globalprotect::server::Opening,
    granted: &Granted,
) -> culvert_login::server::Opened<culvert_globalprotect::server::Channels> {
    let link = Link {
        tls: &TLS,
        export: &|_, _| panic!("keying material of TLS"),
        ipv6: false,
        path_mtu: Some(1500),
        random: &mut |octets| {
            octets.fill(7);
            true
        },
    };
    opening.open(granted, link).unwrap()
}

fn granted() -> Granted {
    let mut config = TunnelConfig::new(Mtu::clamped(1400));
    config.ipv4 = Some(AddressV4 {
        address: [10, 0, 0, 2].into(),
        netmask: Some([255, 255, 255, 255].into()),
    });
    config.ipv6 = Some(AddressV6 {
        address: "fd00::2".parse().unwrap(),
        prefix_len: 128,
    });
    config.dns = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    config.search_domains = vec!["corp.example".into()];
    config.includes = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()];
    config.excludes = vec!["10.1.0.0/16".parse().unwrap()];
    config.stream.rekey = Some(Duration::from_secs(10));
    Granted {
        config,
        user: USER.into(),
        datagram: Some(DatagramGrant {
            id: [5; 32],
            port: 443,
        }),
        networks_behind: Vec::new(),
        hostname: None,
        session_timeout: None,
        custom_headers: Vec::new(),
        switch_to_stream: None,
        report: None,
    }
}

fn client() -> Client {
    Client {
        os: ClientOs::new("linux-64"),
        computer: COMPUTER.into(),
        ipv6: true,
    }
}

fn fill(mut form: Form, secrets: &mut Vec<&str>) -> Form {
    for field in &mut form.fields {
        let value = match (&field.kind, field.name.as_str()) {
            (FieldKind::Select(choices), _) => choices[0].value.clone(),
            (FieldKind::Hidden, _) => continue,
            (_, "user") => USER.into(),
            _ => secrets.remove(0).to_owned(),
        };
        field.value = Some(value.into());
    }
    form
}

fn log_in(server: &mut Server, path: &str, secrets: &[&str]) -> Result<Gateway, String> {
    let mut secrets = secrets.to_vec();
    let mut login = Login::new(LoginConfig {
        server: ServerUrl::parse(&format!("vpn.example:8443/{path}")).unwrap(),
        client: client(),
        external_auth: true,
        passwords: true,
    });
    let mut step = login.start();
    loop {
        step = match step.map_err(|error| error.to_string())? {
            Step::Exchange(exchange) => login.handle_response(server.exchange(&exchange.request)),
            Step::Form(form) if secrets.is_empty() && form.group_field.is_none() => {
                return Err("no more secrets".into());
            }
            Step::Form(form) => login.handle_form(fill(form, &mut secrets)),
            other @ (Step::Browser(_) | Step::HostScan(_) | Step::Wait(_)) => panic!("{other:?}"),
            Step::Done(done) => {
                assert_eq!(done.server.host_header(), "vpn.example:8443");
                assert!(secrets.is_empty());
                return Ok(Gateway {
                    server: done.server,
                    cookie: Cookie::parse(done.cookie.expose()).unwrap(),
                    client: client(),
                    app_version: None,
                });
            }
        };
    }
}

#[test]
fn logins_of_all_kinds_lead_to_a_tunnel() {
    for (path, code, secrets) in [
        ("gateway", false, &[PASSWORD][..]),
        ("gateway", false, &["wrong", PASSWORD]),
        ("gateway", true, &[PASSWORD, "123456"]),
        ("gateway", true, &[PASSWORD, "wrong", "123456"]),
        ("portal", false, &[PASSWORD]),
        ("portal", true, &[PASSWORD, "123456"]),
        ("", false, &[PASSWORD]),
    ] {
        let mut server = Server::new(code);
        let gateway = log_in(&mut server, path, secrets).unwrap();
        let response = server.exchange(&gateway.config_request(None));
        let granted = parse_config(&response, true).unwrap();
        assert_eq!(granted.notes, Vec::<String>::new());
        let (before, after) = (self::granted(), granted.config);
        assert_eq!(after.ipv4, before.config.ipv4);
        assert_eq!(after.ipv6, before.config.ipv6);
        assert_eq!(after.dns, before.config.dns);
        assert_eq!(after.includes, before.config.includes);
        assert_eq!(after.excludes, before.config.excludes);
        assert_eq!(after.search_domains, before.config.search_domains);
        assert_eq!(after.stream.rekey, Some(Duration::from_secs(240)));
        let esp = granted.esp.unwrap();
        let up = Spi::of_session(&[5; 32]);
        assert_eq!((esp.parameters.port, esp.parameters.up.spi()), (443, up));
        assert!(esp.gateway.is_ipv4());
        let response = server.exchange(&gateway.hip_check_request(&before.config));
        assert_eq!(parse_hip_check(&response), Ok(HipAnswer::Needed));
        let response = server.exchange(&gateway.hip_report_request(&before.config, "<x/>"));
        assert_eq!(parse_success(&response), Ok(()));
        let note = server.front_end.poll_note().unwrap();
        assert!(note.contains("4 octets that are no report"), "{note}");
        reports_are_wanted_until_one_is_taken(&mut server, &gateway);
        server.exchange(&gateway.tunnel_request(granted.tunnel_path.as_deref()));
        let response = server.exchange(&gateway.logout_request());
        assert_eq!(parse_success(&response), Ok(()));
        assert!(server.sessions.is_empty());
        let response = server.exchange(&gateway.hip_check_request(&before.config));
        assert!(parse_hip_check(&response).is_err_and(|refusal| refusal.is_permanent()));
    }
}

/// A report that is none, or another one's, changes nothing; the right one does, for an hour.
fn reports_are_wanted_until_one_is_taken(server: &mut Server, gateway: &Gateway) {
    let config = granted().config;
    let wanted = |server: &mut Server| {
        let response = server.exchange(&gateway.hip_check_request(&config));
        parse_hip_check(&response).unwrap()
    };
    assert_eq!(wanted(server), HipAnswer::Needed);
    for (sum, after) in [
        ("00112233445566778899aabbccddeeff", HipAnswer::Needed),
        (&gateway.cookie.hip_token(), HipAnswer::NotNeeded),
    ] {
        let report = format!("<hip-report><md5-sum>{sum}</md5-sum></hip-report>");
        server.exchange(&gateway.hip_report_request(&granted().config, &report));
        let _line = server.front_end.poll_note();
        assert_eq!(wanted(server), after);
    }
    server.age = Duration::from_secs(3540);
    assert_eq!(wanted(server), HipAnswer::Needed);
}

/// Who says of a session what is not so gets no configuration, and no success for a log-out, which
/// ends the session nevertheless (`specs/globalprotect.md` §15, §17.2).
#[test]
fn what_the_client_says_of_its_session_is_compared() {
    let mut server = Server::new(false);
    let gateway = log_in(&mut server, "gateway", &[PASSWORD]).unwrap();
    let good = gateway.cookie.to_secret().expose().to_owned();
    for (field, wrong) in [
        ("user", "user=x"),
        ("portal", "portal=x"),
        ("computer", "computer=x"),
        ("computer", ""),
        ("portal", ""),
        ("domain", "domain=x"),
    ] {
        let fields = good
            .split('&')
            .map(|pair| match pair.split('=').next() == Some(field) {
                true => wrong,
                false => pair,
            });
        let fields: Vec<_> = fields.filter(|pair| !pair.is_empty()).collect();
        let other = Gateway {
            cookie: Cookie::parse(&fields.join("&")).unwrap(),
            ..gateway.clone()
        };
        let refused = parse_config(&server.exchange(&other.config_request(None)), true);
        // Of the domain only a log-out speaks.
        assert_eq!(refused.is_err(), field != "domain", "{field}");
        assert!(parse_config(&server.exchange(&gateway.config_request(None)), true).is_ok());
        let response = server.exchange(&other.logout_request());
        assert!(
            parse_success(&response).is_err_and(|refusal| refusal.is_permanent()),
            "{field}"
        );
        assert!(server.sessions.is_empty(), "{field}");
        server.sessions.insert([9; 32]);
    }
}

#[test]
fn what_is_refused_for_good_is_refused() {
    let mut server = Server::new(false);
    assert!(log_in(&mut server, "gateway", &["never"]).is_err());
}

#[test]
fn a_default_route_is_announced_in_both_families() {
    let mut granted = granted();
    granted.config.includes.clear();
    let mut front_end = FrontEnd::new(Arc::new(FrontEndConfig {
        portal: "VPN".into(),
        ..FrontEndConfig::default()
    }));
    let mut request = Request::new("POST", "/ssl-vpn/getconfig.esp");
    request.body = format!("authcookie={}&portal=VPN", "ab".repeat(32)).into_bytes();
    let Action::Open(opening) = front_end.handle_request(request) else {
        panic!("no wish for a tunnel");
    };
    let answer = open(opening, &granted).answer;
    let response = ResponseReader::new("POST")
        .handle_input(&answer)
        .unwrap()
        .unwrap();
    let granted = parse_config(&response, true).unwrap();
    let routes: Vec<_> = granted.config.includes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["0.0.0.0/0", "::/0"]);
}

/// Once its channel has worked, keys begin no other one: packets that somebody has recorded would be taken
/// again. New keys come with a new configuration.
#[test]
fn keys_begin_one_channel() {
    let mut server = Server::new(false);
    let gateway = log_in(&mut server, "gateway", &[PASSWORD]).unwrap();
    let mut channels = || {
        let request = gateway.config_request(None);
        let Action::Open(opening) = server.front_end.handle_request(request) else {
            panic!("no wish for a tunnel");
        };
        open(opening, &granted()).channels
    };
    let begins = |channels: &dyn Channels, established| {
        channels
            .begin_datagrams(Instant::now(), false, established)
            .is_some()
    };
    let mut first = channels();
    // A packet that is none, or a second path, changes nothing.
    assert!(begins(&first, false) && begins(&first, false) && !begins(&first, true));
    first.datagrams_work();
    assert!(!begins(&first, false));
    assert!(begins(&channels(), false));
}

#[test]
fn other_paths_are_left_to_other_protocols() {
    let front_end = FrontEnd::new(Arc::new(FrontEndConfig::default()));
    for target in [
        "/",
        "/auth",
        "/CSCOSSLC/tunnel",
        "/ssl-vpn",
        "/x/ssl-vpn/login.esp",
    ] {
        assert!(!front_end.serves(target), "{target}");
    }
    assert!(front_end.serves("/ssl-tunnel-connect.sslvpn?authcookie=1"));
}

proptest! {
    /// Nothing that a client can send makes the front-end panic, and no value is echoed unescaped.
    #[test]
    fn never_panics(
        path in prop::sample::select(vec![
            "/global-protect/prelogin.esp", "/global-protect/getconfig.esp", "/ssl-vpn/login.esp", "/ssl-vpn/getconfig.esp",
            "/ssl-vpn/hipreportcheck.esp", "/ssl-vpn/hipreport.esp", "/ssl-vpn/logout.esp", "/ssl-tunnel-connect.sslvpn", "/x",
        ]),
        method in prop::sample::select(vec!["GET", "POST", "PUT"]),
        query in "[ -~]{0,30}",
        body in "((user|passwd|authcookie|inputStr|computer|clientos)=[0-9a-f%<>\"&]{0,66}&){0,4}",
        context: bool,
    ) {
        let mut front_end = FrontEnd::new(Arc::new(FrontEndConfig::default()));
        let mut request = Request::new(method, format!("{path}?{query}"));
        request.headers.push("Host", "<script>");
        request.body = body.into_bytes();
        let mut action = front_end.handle_request(request);
        if let Action::AskBroker(question) = action {
            action = front_end.handle_answer(match (question, context) {
                (AuthRequest::VerifyCookie { .. }, good) => AuthAnswer::Cookie(good),
                (_, true) => AuthAnswer::AskPassword { context: SessionId::from_bytes([1; 32]), message: "<b>".into(), number: 1 },
                (_, false) => AuthAnswer::Accepted { session: SessionId::from_bytes([1; 32]), user: "<b>".into(), token: None },
            });
        }
        if let Action::Respond { response, .. } | Action::EndSession { response, .. } = action {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            prop_assert!(!text.contains("<script>") && !text.contains("<b>"), "{}", text);
        }
    }
}
