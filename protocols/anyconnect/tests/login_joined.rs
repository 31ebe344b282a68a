//! Client and server state machines joined in memory, every message through the HTTP writers
//! and readers, with a small user database in place of the broker.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use culvert_anyconnect::client::{Cookie, HostScanRule, Login, LoginConfig, LoginError, Platform};
use culvert_anyconnect::server::{Action, FrontEnd, FrontEndConfig, GroupOption};
use culvert_login::client::Step;
use culvert_login::server::{AuthAnswer, AuthRequest, Rejection};
use culvert_vocab::{FieldKind, Form, SecretString, SessionId};
use culvert_wire::http::{Request, RequestReader, Response, ResponseReader};
use culvert_wire::url::ServerUrl;

const USER: &str = "test";
const PASSWORD: &str = "p<&>\"%s ü]]>";

fn webvpn(cookie: &SecretString) -> String {
    Cookie::parse(cookie.expose())
        .unwrap()
        .webvpn()
        .expose()
        .to_owned()
}

/// Users and pending logins of a server.
#[derive(Default)]
struct Broker {
    pending: Option<(SessionId, bool, u32)>,
    group: Option<String>,
    asks_code: bool,
    code_step: bool,
}

impl Broker {
    fn context() -> SessionId {
        SessionId::from_bytes([7; 32])
    }

    fn answer(&mut self, question: AuthRequest) -> AuthAnswer {
        match question {
            AuthRequest::Start {
                user,
                password,
                group,
            } => {
                self.group = group;
                self.pending = Some((Self::context(), user == USER, 0));
                match password {
                    Some(password) => self.check(&password),
                    None => Self::ask("Please enter your password.", 0),
                }
            }
            AuthRequest::Http { .. } => AuthAnswer::Rejected(Rejection::Internal),
            AuthRequest::Continue { context, password } => match (&self.pending, context) {
                (None, _) => AuthAnswer::NotPending,
                (Some((pending, ..)), Some(context)) if *pending != context => AuthAnswer::NotPending,
                _ => self.check(&password),
            },
            AuthRequest::VerifyCookie { session } => AuthAnswer::Cookie(session == Self::context()),
            // This protocol does not ask that.
            AuthRequest::Join { .. } | AuthRequest::RecallReport { .. } | AuthRequest::KeepReport { .. } => {
                AuthAnswer::NotPending
            }
        }
    }

    fn check(&mut self, password: &SecretString) -> AuthAnswer {
        let Some((_, known, tries)) = &mut self.pending else {
            return AuthAnswer::NotPending;
        };
        if self.code_step {
            return if password.expose() == "123456" {
                AuthAnswer::Accepted {
                    session: Self::context(),
                    user: USER.into(),
                    token: None,
                }
            } else {
                AuthAnswer::Rejected(Rejection::AuthenticationFailed)
            };
        }
        if *known && password.expose() == PASSWORD {
            if self.asks_code {
                self.code_step = true;
                return Self::ask("Please enter your OTP password.", 1);
            }
            return AuthAnswer::Accepted {
                session: Self::context(),
                user: USER.into(),
                token: None,
            };
        }
        *tries += 1;
        if *tries == 3 {
            return AuthAnswer::Rejected(Rejection::AuthenticationFailed);
        }
        Self::ask("Login failed.\nPlease enter your password.", 0)
    }

    fn ask(message: &str, number: u8) -> AuthAnswer {
        AuthAnswer::AskPassword {
            context: Self::context(),
            message: message.into(),
            number,
        }
    }
}

/// A server with one open connection.
struct Server {
    config: Arc<FrontEndConfig>,
    front_end: FrontEnd,
    broker: Broker,
    keep_alive: bool,
}

impl Server {
    fn new(config: FrontEndConfig) -> Self {
        let config = Arc::new(config);
        Self {
            front_end: FrontEnd::new(config.clone()),
            config,
            broker: Broker::default(),
            keep_alive: true,
        }
    }

    fn exchange(&mut self, request: &Request) -> Response {
        if !self.keep_alive {
            self.front_end = FrontEnd::new(self.config.clone());
        }
        let received = RequestReader::new()
            .handle_input(&request.to_bytes())
            .expect("accepted")
            .expect("complete");
        let mut action = self.front_end.handle_request(received);
        loop {
            action = match action {
                Action::AskBroker(question) => {
                    let answer = self.broker.answer(question);
                    self.front_end.handle_answer(answer)
                }
                Action::Respond { response, close } => {
                    assert_eq!(close, response.status != 200);
                    let mut reader = ResponseReader::new(&request.method);
                    return reader
                        .handle_input(&response.to_bytes())
                        .expect("readable")
                        .expect("complete");
                }
                other => panic!("{other:?}"),
            };
        }
    }
}

fn config() -> LoginConfig {
    LoginConfig {
        server: ServerUrl::parse("vpn.example").unwrap(),
        user_agent: "AnyConnect-compatible OpenConnect VPN Agent v9.21".into(),
        version: "v9.21".into(),
        platform: Platform::new("linux-64").unwrap(),
        group: None,
        xml_post: true,
        external_auth: false,
        strap: None,
        certificate: false,
        second_certificate: None,
        token: None,
        passwords: true,
        browser: false,
        host_scan: HostScanRule::Refuse,
        profile: None,
    }
}

fn groups() -> FrontEndConfig {
    let group = |name: &str, label: &str| GroupOption {
        name: name.into(),
        label: label.into(),
    };
    FrontEndConfig {
        groups: vec![group("groupA", "groupA"), group("groupB", "My <group> \"B\"")],
        default_group: Some("DEFAULT".into()),
        banner: Some("Welcome <b> & \"all\"".into()),
        pre_login_banner: Some("Pre login & banner".into()),
        cookie_timeout: Duration::from_secs(300),
        ..FrontEndConfig::default()
    }
}

/// Runs a login; passwords are used up one after the other, the group is chosen by label.
fn run(
    server: &mut Server,
    config: LoginConfig,
    passwords: &[&str],
    group: Option<&str>,
) -> (Result<String, LoginError>, Vec<Form>) {
    let mut login = Login::new(config);
    let mut passwords = passwords.iter();
    let mut forms = Vec::new();
    let mut step = login.start();
    loop {
        step = match step {
            Err(error) => return (Err(error), forms),
            Ok(Step::Done(done)) => return (Ok(webvpn(&done.cookie)), forms),
            Ok(Step::Exchange(exchange)) => login.handle_response(server.exchange(&exchange.request)),
            Ok(Step::Form(form)) => {
                forms.push(form.clone());
                let chosen = choose(&form, group);
                match chosen.as_ref().map(|(_, value)| login.select_group(value)) {
                    None => login.handle_form(fill(form, chosen, &mut passwords)),
                    Some(Ok(Step::Form(form))) => login.handle_form(fill(form, chosen, &mut passwords)),
                    Some(other) => other,
                }
            }
            Ok(other) => panic!("{other:?}"),
        };
    }
}

/// Position of the group field and the value of the choice with this label, or the preselected.
fn choose(form: &Form, label: Option<&str>) -> Option<(usize, String)> {
    let at = form.group_field?;
    let FieldKind::Select(choices) = &form.fields[at].kind else {
        panic!("the group is a choice")
    };
    let wanted = choices
        .iter()
        .find(|choice| label.map_or(choice.selected, |label| choice.label == label));
    Some((at, wanted.expect("a choice").value.clone()))
}

fn fill(mut form: Form, group: Option<(usize, String)>, passwords: &mut std::slice::Iter<'_, &str>) -> Form {
    for field in &mut form.fields {
        field.value = match &field.kind {
            FieldKind::Text => Some(USER.into()),
            FieldKind::Password => Some((*passwords.next().unwrap_or(&"wrong")).into()),
            _ => None,
        };
    }
    if let Some((at, value)) = group {
        form.fields[at].value = Some(value.into());
    }
    form
}

fn cookie() -> String {
    Broker::context().to_cookie().expose().to_owned()
}

#[test]
fn plain() {
    let mut server = Server::new(FrontEndConfig::default());
    let (result, forms) = run(&mut server, config(), &[PASSWORD], None);
    assert_eq!(result, Ok(cookie()));
    assert_eq!(forms.len(), 1);
    assert_eq!(
        forms[0].message.as_deref(),
        Some("Please enter your username and password.")
    );
}

#[test]
fn without_xml() {
    let mut server = Server::new(FrontEndConfig::default());
    let legacy = LoginConfig {
        xml_post: false,
        ..config()
    };
    assert_eq!(run(&mut server, legacy, &[PASSWORD], None).0, Ok(cookie()));
}

#[test]
fn bare_documents_for_version_3() {
    let mut server = Server::new(groups());
    let v3 = LoginConfig {
        xml_post: false,
        user_agent: "Open AnyConnect VPN Agent v3.20".into(),
        ..config()
    };
    let (result, forms) = run(&mut server, v3, &["wrong", PASSWORD], Some("groupA"));
    assert_eq!(result, Ok(cookie()));
    assert_eq!(
        forms.iter().map(|form| form.id.as_str()).collect::<Vec<_>>(),
        ["main", "passwd"]
    );
    assert_eq!(server.broker.group.as_deref(), Some("groupA"));
}

#[test]
fn three_wrong_passwords() {
    let mut server = Server::new(FrontEndConfig::default());
    let (result, forms) = run(&mut server, config(), &[], None);
    assert_eq!(result, Err(LoginError::Permission(401)));
    assert_eq!(forms.len(), 3);
    assert_eq!(
        forms[2].message.as_deref(),
        Some("Login failed.\nPlease enter your password.")
    );
}

#[test]
fn second_try_is_right() {
    let mut server = Server::new(FrontEndConfig::default());
    assert_eq!(
        run(&mut server, config(), &["wrong", PASSWORD], None).0,
        Ok(cookie())
    );
}

#[test]
fn group_with_a_friendly_name() {
    let mut server = Server::new(groups());
    let (result, forms) = run(&mut server, config(), &[PASSWORD], Some("My <group> \"B\""));
    assert_eq!(result, Ok(cookie()));
    assert_eq!(server.broker.group.as_deref(), Some("groupB"));
    assert_eq!(forms.len(), 2, "the form is requested anew for the group");
    assert_eq!(forms[0].banner.as_deref(), Some("Pre login & banner"));
    let FieldKind::Select(choices) = &forms[1].fields[0].kind else {
        panic!("the group comes first")
    };
    assert_eq!(choices[0].value, "groupB");
}

#[test]
fn default_group_is_no_group() {
    let mut server = Server::new(groups());
    assert_eq!(
        run(&mut server, config(), &[PASSWORD], Some("DEFAULT")).0,
        Ok(cookie())
    );
    assert_eq!(server.broker.group, None);
}

#[test]
fn preset_group_needs_no_second_form() {
    let mut server = Server::new(groups());
    let preset = LoginConfig {
        group: Some("groupB".into()),
        ..config()
    };
    let (result, forms) = run(&mut server, preset, &[PASSWORD], None);
    assert_eq!((result, forms.len()), (Ok(cookie()), 1));
    assert_eq!(server.broker.group.as_deref(), Some("groupB"));
}

#[test]
fn group_from_the_url() {
    let mut server = Server::new(FrontEndConfig {
        select_group_by_url: true,
        ..groups()
    });
    let by_url = LoginConfig {
        server: ServerUrl::parse("vpn.example/staff").unwrap(),
        ..config()
    };
    let (result, forms) = run(&mut server, by_url, &[PASSWORD], None);
    assert_eq!(result, Ok(cookie()));
    assert_eq!(server.broker.group.as_deref(), Some("staff"));
    let FieldKind::Select(choices) = &forms[0].fields[0].kind else {
        panic!("the forced group is shown")
    };
    assert_eq!(choices.len(), 1);
}

#[test]
fn one_time_code_after_the_password() {
    let mut server = Server::new(FrontEndConfig::default());
    server.broker.asks_code = true;
    let (result, forms) = run(&mut server, config(), &[PASSWORD, "123456"], None);
    assert_eq!(result, Ok(cookie()));
    assert_eq!(
        (
            forms[1].fields[0].name.as_str(),
            forms[1].fields[0].label.as_str()
        ),
        ("secondary_password", "Password1:")
    );
}

#[test]
fn every_request_on_a_connection_of_its_own() {
    let mut server = Server::new(FrontEndConfig::default());
    server.keep_alive = false;
    assert_eq!(
        run(&mut server, config(), &["wrong", PASSWORD], None).0,
        Ok(cookie())
    );
}

#[test]
fn no_passwd() {
    let mut server = Server::new(FrontEndConfig::default());
    let forbidden = LoginConfig {
        certificate: false,
        second_certificate: None,
        token: None,
        passwords: false,
        ..config()
    };
    assert_eq!(
        run(&mut server, forbidden, &[], None).0,
        Err(LoginError::PasswordsDisabled)
    );
}

#[test]
fn after_the_login_the_connection_may_leave_out_the_cookie() {
    let mut server = Server::new(FrontEndConfig::default());
    run(&mut server, config(), &[PASSWORD], None).0.unwrap();
    let action = server
        .front_end
        .handle_request(Request::new("CONNECT", "CSCOSSLC/tunnel"));
    assert!(matches!(action, Action::OpenTunnel(request) if request.session == Broker::context()));
}
