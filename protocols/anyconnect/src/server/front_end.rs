use std::sync::Arc;

use culvert_login::server::{AuthAnswer, AuthRequest, Rejection};
use culvert_vocab::{HttpScheme, SessionId};
use culvert_wire::http::{Request, Response, Version};
use zeroize::Zeroize;

use super::agent::{ClientClass, ClientInfo};
use super::body::LoginBody;
use super::config::FrontEndConfig;
use super::connect_request::ConnectRequest;
use super::connect_response::{ConnectRefusal, connect_refusal};
use super::http_auth::{HttpAuth, Way};
use super::pages::{self, ASK_PASSWORD, Ask};
use super::router::{Endpoint, route};

/// Most requests of one connection (`specs/anyconnect.md` §5).
const REQUESTS_MAX: u32 = 16;

/// What the server has to do next with a connection.
#[derive(Debug)]
pub enum Action {
    /// Send this response; then end the connection if `close`. After 401 and 503 ocserv sends
    /// the TLS alert access_denied.
    Respond {
        /// The response.
        response: Response,
        /// End the connection afterwards.
        close: bool,
    },
    /// Ask, then call [`FrontEnd::handle_answer`].
    AskBroker(AuthRequest),
    /// The client wants its tunnel; answer with [`super::connect_response`] or
    /// [`super::connect_refusal`].
    OpenTunnel(Box<ConnectRequest>),
    /// End the connection without an answer.
    CloseSilently,
}

/// The reason of status 401.
fn reason(rejection: Rejection) -> &'static str {
    match rejection {
        Rejection::AuthenticationFailed => "Authentication failed",
        Rejection::NoPassword => "No password",
        Rejection::NoCertificate => "No certificate",
        Rejection::UnreadableCertificate => "Could not read certificate",
        Rejection::Internal => "Internal error",
    }
}

/// What the outstanding [`AuthRequest`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Nothing,
    Login,
    Http(HttpScheme),
    Phone,
    Profile,
}

/// HTTP side of one connection, from the first request to CONNECT.
#[derive(Debug)]
pub struct FrontEnd {
    config: Arc<FrontEndConfig>,
    client: ClientInfo,
    requests: u32,
    version: Version,
    asking: Asking,
    http: HttpAuth,
    /// Login in progress that this connection began or took over.
    login: Option<SessionId>,
    /// Session that logged in on this connection: CONNECT may leave out the cookie.
    session: Option<SessionId>,
    group: Option<String>,
    group_forced: bool,
}

impl FrontEnd {
    /// A front-end at the start of a connection.
    pub fn new(config: Arc<FrontEndConfig>) -> Self {
        Self {
            config,
            client: ClientInfo::default(),
            requests: 0,
            version: Version::Http11,
            asking: Asking::Nothing,
            http: HttpAuth::default(),
            login: None,
            session: None,
            group: None,
            group_forced: false,
        }
    }

    /// What the client said about itself so far.
    pub fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// Decides what to do with a request.
    pub fn handle_request(&mut self, mut request: Request) -> Action {
        self.requests += 1;
        if self.requests > REQUESTS_MAX || self.asking != Asking::Nothing {
            return Action::CloseSilently;
        }
        self.version = request.version;
        self.client.update(&request.headers);
        let action = match route(&request.method, &request.target) {
            Endpoint::Login { group_path } => self.login_step(&request, group_path),
            Endpoint::Phone => self.phone(&request),
            Endpoint::Profile => self.profile(&request),
            Endpoint::Static(file) => self.respond(pages::static_file(&self.config, file)),
            Endpoint::Tunnel => self.tunnel(&request),
            Endpoint::NotFound if request.method == "CONNECT" && self.cookie(&request).is_none() => {
                self.no_cookie()
            }
            Endpoint::NotFound => self.refuse(pages::not_found()),
        };
        request.body.zeroize();
        action
    }

    /// Goes on with the answer to [`Action::AskBroker`].
    pub fn handle_answer(&mut self, answer: AuthAnswer) -> Action {
        let asking = std::mem::replace(&mut self.asking, Asking::Nothing);
        match (asking, answer) {
            (
                Asking::Login,
                AuthAnswer::AskPassword {
                    context,
                    message,
                    number,
                },
            ) => self.ask_password(context, &message, number),
            (Asking::Login, AuthAnswer::NotPending) if !self.config.without_form => self.begin(),
            (Asking::Login, AuthAnswer::ChooseGroup { groups }) => {
                let ask = Ask::Group { groups: &groups };
                self.respond(pages::form(&self.config, self.is_v3(), ask, None))
            }
            (Asking::Login, AuthAnswer::Accepted { session, .. }) => {
                let response = self.accepted(session);
                self.respond(response)
            }
            (Asking::Http(scheme), AuthAnswer::Accepted { session, token, .. }) => {
                let response = self.accepted(session);
                self.respond(match token {
                    Some(token) => pages::prove(response, scheme, &token),
                    None => response,
                })
            }
            (Asking::Http(scheme), AuthAnswer::Challenge { token }) => {
                self.respond(pages::next_challenge(scheme, &token))
            }
            (Asking::Http(_), AuthAnswer::Fallback) => {
                self.http.give_up();
                self.begin()
            }
            (Asking::Phone, AuthAnswer::Accepted { session, .. }) => {
                let response = pages::phone_success(&session);
                self.session = Some(session);
                self.respond(response)
            }
            // A telephone has one round only.
            (
                Asking::Phone,
                AuthAnswer::AskPassword { .. } | AuthAnswer::ChooseGroup { .. } | AuthAnswer::NotPending,
            ) => self.reject(Rejection::AuthenticationFailed),
            (Asking::Profile, AuthAnswer::Cookie(true)) => match &self.config.profile {
                Some(profile) => self.respond(pages::profile(&self.config, profile)),
                None => self.refuse(pages::not_found()),
            },
            (Asking::Profile, AuthAnswer::Cookie(false) | AuthAnswer::Rejected(_)) => {
                self.refuse(connect_refusal(ConnectRefusal::CookieNotAcceptable))
            }
            (Asking::Login | Asking::Http(_) | Asking::Phone, AuthAnswer::Rejected(rejection)) => {
                self.reject(rejection)
            }
            (Asking::Nothing, _) => Action::CloseSilently,
            _ => self.reject(Rejection::Internal),
        }
    }

    /// The first form; whatever was in progress is forgotten. A certificate needs none.
    fn begin(&mut self) -> Action {
        self.login = None;
        if self.config.without_form {
            return self.ask(Asking::Login, self.start_with_certificate());
        }
        let ask = Ask::Login {
            group: self.group.as_deref(),
            forced: self.group_forced,
        };
        self.respond(pages::form(&self.config, self.is_v3(), ask, None))
    }

    fn start_with_certificate(&self) -> AuthRequest {
        AuthRequest::Start {
            user: String::new(),
            password: None,
            group: self.group.clone(),
        }
    }

    fn accepted(&mut self, session: SessionId) -> Response {
        let response = pages::success(&self.config, self.is_v3(), &session);
        self.login = None;
        self.session = Some(session);
        response
    }

    fn ask_password(&mut self, context: SessionId, message: &str, number: u8) -> Action {
        let says_nothing = message.is_empty()
            || message
                .get(..9)
                .is_some_and(|start| start.eq_ignore_ascii_case("password:"));
        let message = if says_nothing { ASK_PASSWORD } else { message };
        let response = pages::form(
            &self.config,
            self.is_v3(),
            Ask::Password { message, number },
            Some(&context),
        );
        self.login = Some(context);
        self.respond(response)
    }

    fn login_step(&mut self, request: &Request, group_path: Option<&str>) -> Action {
        let get = request.method == "GET";
        if self.session.is_some() && !get {
            return self.reject(Rejection::AuthenticationFailed);
        }
        let Ok(body) = LoginBody::parse(&request.body) else {
            return self.reject(Rejection::AuthenticationFailed);
        };
        self.choose_group(group_path, body.group.as_deref());
        if self.login.is_none() && self.session.is_none() {
            match self.http.way(&self.config, &request.headers, body.answers_form()) {
                Way::Credentials { scheme, token } => {
                    let group = self.group.clone();
                    let question = AuthRequest::Http { scheme, token, group };
                    return self.ask(Asking::Http(scheme), question);
                }
                Way::Challenge => return self.respond(pages::challenge(&self.config)),
                Way::Form => {}
            }
        }
        if get || body.init || self.config.without_form {
            return self.begin();
        }
        let earlier =
            cookie_value(request, "webvpncontext").and_then(|value| SessionId::from_cookie(value).ok());
        let question = match (self.login.is_some(), earlier, body.user, body.password) {
            (true, _, _, Some(password)) => AuthRequest::Continue {
                context: None,
                password,
            },
            (true, _, _, None) => return self.reject(Rejection::NoPassword),
            (false, _, Some(user), password) => AuthRequest::Start {
                user,
                password,
                group: self.group.clone(),
            },
            (false, Some(context), None, Some(password)) => AuthRequest::Continue {
                context: Some(context),
                password,
            },
            (false, _, None, _) => return self.begin(),
        };
        self.ask(Asking::Login, question)
    }

    fn choose_group(&mut self, path: Option<&str>, choice: Option<&str>) {
        if let Some(path) = path.filter(|_| self.config.select_group_by_url) {
            self.group = Some(path.to_owned());
            self.group_forced = true;
        } else if let Some(choice) = choice.filter(|_| !self.group_forced) {
            self.group = self.config.resolve_group(choice);
        }
    }

    fn phone(&mut self, request: &Request) -> Action {
        if request.method == "POST" && self.config.without_form {
            return self.ask(Asking::Phone, self.start_with_certificate());
        }
        if request.method == "POST"
            && let Ok(LoginBody {
                user: Some(user),
                password: Some(password),
                ..
            }) = LoginBody::parse(&request.body)
        {
            return self.ask(
                Asking::Phone,
                AuthRequest::Start {
                    user,
                    password: Some(password),
                    group: None,
                },
            );
        }
        self.respond(pages::phone_start(&self.config))
    }

    fn profile(&mut self, request: &Request) -> Action {
        match self.cookie(request) {
            Some(session) => self.ask(Asking::Profile, AuthRequest::VerifyCookie { session }),
            None => self.no_cookie(),
        }
    }

    fn tunnel(&mut self, request: &Request) -> Action {
        match self.cookie(request) {
            Some(session) => Action::OpenTunnel(Box::new(ConnectRequest::new(
                session,
                request,
                self.client.clone(),
            ))),
            None => self.no_cookie(),
        }
    }

    /// The session cookie of the request, else the session that logged in on this connection.
    fn cookie(&self, request: &Request) -> Option<SessionId> {
        match cookie_value(request, "webvpn") {
            Some(value) => SessionId::from_cookie(value).ok(),
            None => self.session.clone(),
        }
    }

    fn no_cookie(&self) -> Action {
        self.refuse(connect_refusal(ConnectRefusal::NoCookie))
    }

    fn is_v3(&self) -> bool {
        self.client.class == ClientClass::OpenConnectV3
    }

    fn ask(&mut self, asking: Asking, question: AuthRequest) -> Action {
        self.asking = asking;
        Action::AskBroker(question)
    }

    fn respond(&self, mut response: Response) -> Action {
        response.version = self.version;
        Action::Respond {
            response,
            close: self.version == Version::Http10,
        }
    }

    fn refuse(&self, response: Response) -> Action {
        Action::Respond {
            response,
            close: true,
        }
    }

    fn reject(&self, rejection: Rejection) -> Action {
        self.refuse(pages::unauthorized(reason(rejection)))
    }
}

fn cookie_value<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    request
        .headers
        .get_all("Cookie")
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}
