use std::sync::Arc;

use culvert_esp::{Encryption, Integrity};
use culvert_login::server::{AuthAnswer, AuthRequest, Claims, ClientDescription, Rejection};
use culvert_vocab::{SecretString, SessionId};
use culvert_wire::http::{Request, Response};
use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use super::config_answer::config_refusal;
use super::hip;
use super::opening::{Opening, Wish};
use super::pages::{self, Interface};
use super::request::{ClientInfo, ConfigRequest, Fields};
use crate::wire::path;

/// What the server has to do next with a connection.
type Action = culvert_login::server::Action<Opening>;

/// Most requests of one connection.
const REQUESTS_MAX: u32 = 64;
/// Longest URL, in octets. Some clients send the parameters of a prelogin in it
/// (`specs/globalprotect.md` §4), and a name of other letters than ASCII is long in the tunnel's.
pub(super) const TARGET_MAX: usize = 2048;
/// Longest name of a portal's or gateway's host that is repeated to clients.
const HOST_MAX: usize = 255;

/// What the front-end needs to know of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontEndConfig {
    /// Name of portal and gateway.
    pub portal: String,
    /// Text of the login form.
    pub message: Option<String>,
    /// Clients are asked for reports about their hosts.
    pub host_reports: bool,
    /// Algorithms of ESP that may be used, the best first.
    pub algorithms: Vec<(Encryption, Integrity)>,
}

/// What the outstanding [`AuthRequest`] is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asking {
    Nothing,
    Login(Interface),
    /// Login with the cookie of the portal's login.
    Cookie,
    HipCheck,
    /// With the line for the log.
    HipReport(String),
}

/// A login that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pending {
    context: SessionId,
    user: String,
    /// What is wanted is the password, again.
    password: bool,
}

/// HTTP side of one connection.
#[derive(Debug)]
pub struct FrontEnd {
    config: Arc<FrontEndConfig>,
    client: ClientInfo,
    requests: u32,
    asking: Asking,
    user: String,
    host: String,
    pending: Option<Pending>,
    /// Name of the report that was asked for.
    report_asked: Option<String>,
    note: Option<String>,
}

impl FrontEnd {
    /// A front-end at the start of a connection.
    pub fn new(config: Arc<FrontEndConfig>) -> Self {
        Self {
            config,
            client: ClientInfo::default(),
            requests: 0,
            asking: Asking::Nothing,
            user: String::new(),
            host: String::new(),
            pending: None,
            report_asked: None,
            note: None,
        }
    }

    fn open(&self, wish: Wish, claims: Claims) -> Action {
        Action::Open(Opening {
            config: Arc::clone(&self.config),
            wish,
            claims,
        })
    }

    /// True when the client speaks of this portal; otherwise the log says of which.
    fn is_ours(&mut self, fields: &Fields) -> bool {
        let named = fields.get("portal").unwrap_or_default();
        let ours = named == self.config.portal;
        if !ours {
            self.note = Some(format!("a cookie of another portal: '{}'", hip::shown(named)));
        }
        ours
    }

    /// Whoever has the cookie ends the session with it. What else the client says of the session only
    /// decides about the answer, as `specs/globalprotect.md` §15 wants it: a client that has lost a name
    /// must not leave a session behind.
    fn log_out(&mut self, session: SessionId, fields: &Fields) -> Action {
        let refusal = config_refusal(true);
        let ours = self.is_ours(fields) && fields.get("domain") == Some(pages::NO_DOMAIN);
        let user = fields.get("user").unwrap_or_default();
        let response = match ours {
            true => pages::logged_out(&self.config.portal, user, &self.client),
            false => refusal.clone(),
        };
        Action::EndSession {
            session,
            claims: fields.claims(true),
            response,
            otherwise: refusal,
        }
    }

    fn route(&mut self, request: &Request, fields: &Fields) -> Action {
        let target = request.target.split('?').next().unwrap_or_default();
        let post = request.method == "POST";
        match target.trim_start_matches('/') {
            path::PORTAL_PRELOGIN | path::GATEWAY_PRELOGIN if post || request.method == "GET" => {
                let message = self.config.message.as_deref();
                respond(pages::prelogin(message.unwrap_or("Enter login credentials")))
            }
            path::PORTAL_LOGIN if post => {
                let host = request.headers.get("Host").unwrap_or_default();
                let usable = host.len() <= HOST_MAX && host.chars().all(|c| c.is_ascii_graphic());
                self.host = if usable { host.to_owned() } else { String::new() };
                self.login(Interface::Portal, fields)
            }
            path::GATEWAY_LOGIN if post => self.login(Interface::Gateway, fields),
            path::CONFIG if post => {
                match ConfigRequest::parse(fields, self.client.clone(), &self.config.algorithms) {
                    Some(request) if self.is_ours(fields) => {
                        self.open(Wish::Config(Box::new(request)), fields.claims(true))
                    }
                    _ => respond(config_refusal(true)),
                }
            }
            path::HIP_CHECK if post => {
                let asked = fields.get("md5");
                let name = asked
                    .and_then(hip::parse_name)
                    .filter(|_| self.config.host_reports);
                self.report_asked = asked.map(str::to_owned);
                self.verify(fields, Asking::HipCheck, |session| match name {
                    Some(name) => AuthRequest::RecallReport { session, name },
                    None => AuthRequest::VerifyCookie { session },
                })
            }
            path::HIP_REPORT if post => {
                let report = hip::Report::of(fields, self.report_asked.as_deref());
                self.verify(fields, Asking::HipReport(report.line), |session| {
                    match report.name {
                        Some(name) => AuthRequest::KeepReport { session, name },
                        None => AuthRequest::VerifyCookie { session },
                    }
                })
            }
            path::LOGOUT if post => match fields.session("authcookie") {
                Some(session) => self.log_out(session, fields),
                None => respond(config_refusal(true)),
            },
            path::TUNNEL if request.method == "GET" => match fields.session("authcookie") {
                Some(session) => self.open(Wish::Stream(session), fields.claims(false)),
                None => Action::Respond {
                    response: pages::tunnel_refusal(),
                    close: true,
                },
            },
            _ => respond(pages::not_found()),
        }
    }

    fn login(&mut self, interface: Interface, fields: &Fields) -> Action {
        let Some(user) = fields.get("user") else {
            return respond(pages::wrong_credentials(interface));
        };
        user.clone_into(&mut self.user);
        let cookie = fields
            .session("portal-userauthcookie")
            .filter(|_| interface == Interface::Gateway);
        if let Some(session) = cookie {
            self.asking = Asking::Cookie;
            // Its user is the session's, whatever name the client has typed.
            let claims = Claims {
                user: None,
                ..fields.claims(true)
            };
            return Action::AskBroker(AuthRequest::Join { session, claims });
        }
        let password = fields.get("passwd").map(SecretString::from);
        self.asking = Asking::Login(interface);
        let pending = self.pending.take().filter(|pending| pending.user == user);
        Action::AskBroker(match (pending, fields.session("inputStr"), password) {
            (Some(pending), named, Some(password))
                if pending.password || named.as_ref() == Some(&pending.context) =>
            {
                AuthRequest::Continue {
                    context: None,
                    password,
                }
            }
            (None, Some(context), Some(password)) => AuthRequest::Continue {
                context: Some(context),
                password,
            },
            (_, _, password) => AuthRequest::Start {
                user: user.to_owned(),
                password,
                group: None,
            },
        })
    }

    fn verify(
        &mut self,
        fields: &Fields,
        asking: Asking,
        question: impl FnOnce(SessionId) -> AuthRequest,
    ) -> Action {
        match fields.session("authcookie") {
            Some(session) => {
                self.asking = asking;
                Action::AskBroker(question(session))
            }
            None => respond(config_refusal(true)),
        }
    }

    fn accepted(&mut self, interface: Interface, user: &str, session: &SessionId) -> Action {
        self.pending = None;
        let portal = &self.config.portal;
        respond(match interface {
            Interface::Portal => pages::policy(portal, &self.host, session),
            Interface::Gateway => pages::login(portal, user, session),
        })
    }
}

impl culvert_login::server::FrontEnd for FrontEnd {
    type Opening = Opening;

    fn serves(&self, target: &str) -> bool {
        let path = target.split('?').next().unwrap_or_default();
        let path = path.trim_start_matches('/');
        path.starts_with("global-protect/") || path.starts_with("ssl-vpn/") || path == path::TUNNEL
    }

    fn handle_request(&mut self, mut request: Request) -> Action {
        self.requests += 1;
        if self.requests > REQUESTS_MAX || self.asking != Asking::Nothing {
            return Action::CloseSilently;
        }
        let Ok(fields) = Fields::of(&request) else {
            return Action::CloseSilently;
        };
        self.client.update(&request, &fields);
        let action = self.route(&request, &fields);
        request.body.zeroize();
        action
    }

    fn handle_answer(&mut self, answer: AuthAnswer) -> Action {
        let asking = std::mem::replace(&mut self.asking, Asking::Nothing);
        match (asking, answer) {
            (Asking::Login(interface), AuthAnswer::Accepted { session, user, .. }) => {
                self.accepted(interface, &user, &session)
            }
            (
                Asking::Login(interface),
                AuthAnswer::AskPassword {
                    context,
                    message,
                    number,
                },
            ) => {
                let challenge = pages::challenge(&self.user, &context, message.trim());
                let password = number == 0;
                self.pending = Some(Pending {
                    context,
                    user: self.user.clone(),
                    password,
                });
                respond(if password {
                    pages::wrong_credentials(interface)
                } else {
                    challenge
                })
            }
            (Asking::Login(interface), AuthAnswer::NotPending) => {
                respond(pages::wrong_credentials(interface))
            }
            (Asking::Login(interface), AuthAnswer::Rejected(rejection)) => {
                let response = match rejection {
                    Rejection::Internal => pages::error("Internal error"),
                    Rejection::NoCertificate | Rejection::UnreadableCertificate => {
                        pages::error("Valid client certificate is required")
                    }
                    Rejection::AuthenticationFailed | Rejection::NoPassword => {
                        pages::wrong_credentials(interface)
                    }
                };
                // The server takes no further attempt on this connection.
                Action::Respond {
                    response,
                    close: true,
                }
            }
            (Asking::Cookie, AuthAnswer::Accepted { session, user, .. }) => {
                self.accepted(Interface::Gateway, &user, &session)
            }
            (Asking::Cookie, AuthAnswer::NotPending | AuthAnswer::Rejected(_)) => {
                respond(pages::wrong_credentials(Interface::Gateway))
            }
            (Asking::HipCheck, AuthAnswer::Cookie(true)) => {
                respond(pages::hip_report_needed(self.config.host_reports))
            }
            (Asking::HipCheck, AuthAnswer::Report(age)) => {
                let known = age.is_some_and(|age| age < hip::REPORT_LIFE);
                respond(pages::hip_report_needed(!known))
            }
            (Asking::HipReport(line), AuthAnswer::Cookie(true)) => {
                self.note = Some(line);
                respond(pages::hip_report_accepted())
            }
            (Asking::HipCheck | Asking::HipReport(_), _) => respond(config_refusal(true)),
            _ => Action::CloseSilently,
        }
    }

    fn client(&self) -> ClientDescription {
        self.client.describe()
    }

    fn target_max(&self) -> usize {
        TARGET_MAX
    }

    /// The cookie is one of the tunnel's parameters.
    fn has_secret_queries(&self) -> bool {
        true
    }

    /// Clients repeat a request whose connection broke (`specs/globalprotect.md` §17.1).
    fn repeats_steps(&self) -> bool {
        true
    }

    fn poll_note(&mut self) -> Option<String> {
        self.note.take()
    }
}

fn respond(response: Response) -> Action {
    Action::Respond {
        response,
        close: false,
    }
}
