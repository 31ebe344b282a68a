//! The login at a portal and a gateway (`specs/globalprotect.md` §3 to §6).

use std::collections::VecDeque;

use culvert_login::Jar;
use culvert_login::client::{self, Exchange, LoggedIn, Message, MessageLevel, REDIRECTS_MAX, Returned, Step};
use culvert_vocab::{Form, SecretString};
use culvert_wire::http::{Response, ResponseError};
use culvert_wire::url::{Redirect, ServerUrl, UrlError};
use culvert_wire::xml::Element;

use super::answer::{Answer, Refusal, classify};
use super::challenge::Challenge;
use super::login_answer;
use super::place::{Interface, Place};
use super::portal::Portal;
use super::prelogin::{Prelogin, Saml};
use super::questions::{self, Credentials};
use super::request::{Client, post};
use super::sign_in::SignedIn;
use crate::wire::{CLIENT_VERSION, Parameters, path};

/// Challenges answered in one login.
const CHALLENGES_MAX: u32 = 20;
/// Refusals of credentials after which the login ends.
const REFUSALS_MAX: u32 = 10;
/// Messages kept for the driver.
const MESSAGES_MAX: usize = 256;
/// Names of the parameters with the portal's cookies.
const PORTAL_COOKIE: &str = "portal-userauthcookie";
const PRELOGON_COOKIE: &str = "portal-prelogonuserauthcookie";

/// What a login needs to know.
#[derive(Debug, Clone)]
pub struct LoginConfig {
    /// Where to begin; its path, or `--usergroup`, says at which interface and with what.
    pub server: ServerUrl,
    /// What requests tell about the client.
    pub client: Client,
    /// False for `--no-external-auth`.
    pub external_auth: bool,
    /// False for `--no-passwd`: a form ends the login.
    pub passwords: bool,
}

/// Why a login failed. The texts are for users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The server refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is nothing to log in to.
    #[error("Server is neither a GlobalProtect portal nor a gateway.")]
    NotGlobalProtect,
    /// The response could not be read.
    #[error(transparent)]
    Response(#[from] ResponseError),
    /// A redirect or a gateway's address cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// More redirects than any server needs.
    #[error("Too many redirects (more than {REDIRECTS_MAX})")]
    Redirects,
    /// A cookie that is none, or too many of them.
    #[error("Invalid cookie offered by server")]
    SetCookie,
    /// The portal has no gateway for this user.
    #[error("GlobalProtect portal configuration lists no gateway servers.")]
    NoGateways,
    /// The document is not what was asked for.
    #[error("Failed to parse server response: {0}")]
    Document(String),
    /// A browser is needed.
    #[error("{0}")]
    Browser(String),
    /// The server never gets on.
    #[error("the server asks for answers again and again")]
    Endless,
    /// A form came although `--no-passwd` forbids it.
    #[error("Asked for password but '--no-passwd' set")]
    PasswordsDisabled,
    /// The driver called at a moment when nothing of the kind was asked; a bug of the caller.
    #[error("the login is not waiting for this")]
    OutOfTurn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// Prelogin is out.
    Prelogin,
    /// A login form is with the user.
    Asking,
    /// The user signs in with a browser.
    SigningIn,
    /// Credentials are out; `blind` without a prelogin of this interface.
    LoggingIn {
        blind: bool,
    },
    /// The choice of a gateway is with the user.
    Choosing,
}

/// The login of a client: asks its driver for exchanges and forms, and ends in a cookie.
#[derive(Debug)]
pub struct Login {
    config: LoginConfig,
    state: State,
    server: ServerUrl,
    interface: Interface,
    /// The other interface may be tried.
    either: bool,
    /// Prelogin request that the user gave, or a redirect.
    given_prelogin: Option<String>,
    /// Name of the secret, if the user gave one: a browser sign-in was done elsewhere.
    field: Option<String>,
    /// Name of the secret that a browser sign-in at this interface has brought.
    signed_in: Option<&'static str>,
    prelogin: Prelogin,
    user: Option<SecretString>,
    secret: SecretString,
    challenge: Option<Challenge>,
    /// The last form asked for a code of a software token.
    asked_code: bool,
    portal: Option<Portal>,
    jar: Jar,
    redirects: u32,
    challenges: u32,
    refusals: u32,
    messages: VecDeque<Message>,
}

impl Login {
    /// A login that has not begun.
    pub fn new(config: LoginConfig) -> Self {
        let place = Place::parse(&config.server.path);
        Self {
            state: State::Idle,
            server: ServerUrl {
                path: String::new(),
                ..config.server.clone()
            },
            interface: place.interface.unwrap_or(Interface::Portal),
            either: place.interface.is_none(),
            given_prelogin: place.prelogin,
            field: place.field,
            signed_in: None,
            prelogin: Prelogin::default(),
            user: None,
            secret: SecretString::default(),
            challenge: None,
            asked_code: false,
            portal: None,
            jar: Jar::default(),
            redirects: 0,
            challenges: 0,
            refusals: 0,
            messages: VecDeque::new(),
            config,
        }
    }

    /// The portal's configuration, if one was logged in to.
    pub fn portal(&self) -> Option<&Portal> {
        self.portal.as_ref()
    }

    fn send_prelogin(&mut self) -> Step {
        self.state = State::Prelogin;
        let body = match self.config.external_auth {
            true => Parameters::new().with("cas-support", "yes"),
            false => Parameters::new(),
        };
        self.post(&self.prelogin_target(), &body)
    }

    fn prelogin_target(&self) -> String {
        if let Some(target) = &self.given_prelogin {
            return target.clone();
        }
        let path = match self.interface {
            Interface::Portal => path::PORTAL_PRELOGIN,
            Interface::Gateway => path::GATEWAY_PRELOGIN,
        };
        let os = self.config.client.os.name();
        format!("{path}?tmp=tmp&clientVer={CLIENT_VERSION}&clientos={os}")
    }

    fn post(&self, target: &str, body: &Parameters) -> Step {
        Step::Exchange(Exchange {
            request: post(&self.server, target, self.jar.header(), body),
            server: ServerUrl {
                path: target.to_owned(),
                ..self.server.clone()
            },
            fresh: false,
        })
    }

    fn send_login(&mut self, blind: bool) -> Step {
        self.state = State::LoggingIn { blind };
        let client = &self.config.client;
        let mut body = Parameters::new()
            .with("jnlpReady", "jnlpReady")
            .with("ok", "Login")
            .with("direct", "yes")
            .with("clientVer", CLIENT_VERSION)
            .with_raw("prot", "https:")
            .with("internal", "no")
            .with("ipv6-support", client.ipv6_support())
            .with("clientos", client.os.name())
            .with("os-version", client.os.version())
            .with("server", &self.server.host)
            .with("computer", &client.computer);
        if let Some(portal) = &self.portal {
            body = body
                .with_some(
                    PORTAL_COOKIE,
                    portal.user_cookie.as_ref().map(SecretString::expose),
                )
                .with_some(
                    PRELOGON_COOKIE,
                    portal.prelogon_cookie.as_ref().map(SecretString::expose),
                );
        }
        if let Some(challenge) = &self.challenge {
            body = body.with("inputStr", &challenge.input);
        }
        let user = self.user.as_ref().map(SecretString::expose).unwrap_or_default();
        body = body
            .with("user", user)
            .with(self.secret_name(), self.secret.expose());
        let target = match self.interface {
            Interface::Portal => path::PORTAL_LOGIN,
            Interface::Gateway => path::GATEWAY_LOGIN,
        };
        self.post(target, &body)
    }

    fn secret_name(&self) -> &str {
        self.field.as_deref().or(self.signed_in).unwrap_or("passwd")
    }

    fn handle_redirect(&mut self, location: &str) -> Result<Step, LoginError> {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return Err(LoginError::Redirects);
        }
        let asked = ServerUrl {
            path: self.prelogin_target(),
            ..self.server.clone()
        };
        let target = match asked.redirect(location)? {
            Redirect::Local(target) => target,
            Redirect::NewHost(target) => {
                self.jar.clear();
                target
            }
        };
        self.given_prelogin = Some(target.path.clone()).filter(|path| path.contains(".esp"));
        self.server = ServerUrl {
            path: String::new(),
            ..target
        };
        Ok(self.send_prelogin())
    }

    fn handle_prelogin(&mut self, answer: Result<Answer, Refusal>) -> Result<Step, LoginError> {
        let root = match answer {
            Ok(Answer::Document(root)) if root.name == "prelogin-response" => root,
            Ok(Answer::Document(root)) => {
                return Err(LoginError::Document(format!(
                    "<{}> instead of <prelogin-response>",
                    root.name
                )));
            }
            Ok(Answer::Challenge(_)) => {
                return Err(LoginError::Document("a challenge before the login".into()));
            }
            Err(Refusal::NotHere(text)) if self.either && self.interface == Interface::Portal => {
                self.say(MessageLevel::Debug, text);
                self.interface = Interface::Gateway;
                self.given_prelogin = None;
                return Ok(self.send_prelogin());
            }
            Err(Refusal::NotHere(_)) if self.either => return Err(LoginError::NotGlobalProtect),
            Err(refusal) => return Err(refusal.into()),
        };
        self.given_prelogin = None;
        self.prelogin = Prelogin::parse(&root);
        if let Some(saml) = self.prelogin.saml.clone()
            && self.field.is_none()
            && !self.has_portal_cookie()
        {
            return self.ask_browser(&saml);
        }
        self.ask()
    }

    fn ask_browser(&mut self, saml: &Saml) -> Result<Step, LoginError> {
        let browser = self.config.external_auth;
        let sign_in = questions::sign_in(&self.prelogin, saml, browser).map_err(LoginError::Browser)?;
        self.state = State::SigningIn;
        Ok(Step::Browser(sign_in))
    }

    fn has_portal_cookie(&self) -> bool {
        self.portal
            .as_ref()
            .is_some_and(|portal| portal.user_cookie.is_some() || portal.prelogon_cookie.is_some())
    }

    /// The login form, or that of a challenge.
    fn ask(&mut self) -> Result<Step, LoginError> {
        if !self.config.passwords {
            return Err(LoginError::PasswordsDisabled);
        }
        self.state = State::Asking;
        self.asked_code = match self.challenge {
            Some(_) => !self.asked_code,
            None => self.field.is_none() && self.prelogin.wants_token(),
        };
        let credentials = Credentials {
            user: self.user.as_ref(),
            secret_name: self.secret_name(),
            code: self.asked_code,
        };
        let form = questions::login_form(&self.prelogin, self.challenge.as_ref(), &credentials);
        Ok(Step::Form(form))
    }

    fn handle_login(&mut self, blind: bool, answer: Result<Answer, Refusal>) -> Result<Step, LoginError> {
        match answer {
            Ok(Answer::Challenge(challenge)) => {
                self.challenges += 1;
                if self.challenges > CHALLENGES_MAX {
                    return Err(LoginError::Endless);
                }
                self.challenge = Some(challenge);
                self.ask()
            }
            Ok(Answer::Document(root)) => match self.interface {
                Interface::Portal => self.handle_policy(&root),
                Interface::Gateway => self.finish(&root),
            },
            Err(Refusal::Credentials) if blind => {
                self.challenge = None;
                self.signed_in = None;
                // What the portal gave is worth nothing here; nothing is skipped for its sake.
                if let Some(portal) = &mut self.portal {
                    portal.user_cookie = None;
                    portal.prelogon_cookie = None;
                }
                Ok(self.send_prelogin())
            }
            Err(refusal @ Refusal::Credentials) => {
                self.refusals += 1;
                if self.refusals > REFUSALS_MAX {
                    return Err(refusal.into());
                }
                self.say(MessageLevel::Error, refusal.to_string());
                if self.signed_in.take().is_some() {
                    return Ok(self.send_prelogin());
                }
                if self.challenge.is_none() && self.portal.is_none() {
                    self.user = None;
                }
                self.ask()
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    fn handle_policy(&mut self, root: &Element) -> Result<Step, LoginError> {
        if root.name != "policy" {
            return Err(LoginError::Document(format!(
                "<{}> instead of <policy>",
                root.name
            )));
        }
        let portal = Portal::parse(root, &self.prelogin.region);
        if portal.gateways.is_empty() {
            return Err(LoginError::NoGateways);
        }
        self.say(
            MessageLevel::Info,
            format!("{} gateway servers available:", portal.gateways.len()),
        );
        for gateway in &portal.gateways {
            let line = gateway.log_line();
            push(&mut self.messages, MessageLevel::Info, line);
        }
        let form = questions::gateway_form(&portal.gateways);
        self.portal = Some(portal);
        self.state = State::Choosing;
        Ok(Step::Form(form))
    }

    fn handle_choice(&mut self, form: &Form) -> Result<Step, LoginError> {
        let chosen = form.fields.first().and_then(|field| field.value.as_ref());
        let known = chosen.filter(|chosen| {
            self.portal
                .iter()
                .flat_map(|portal| &portal.gateways)
                .any(|gateway| gateway.address == chosen.expose())
        });
        let gateway = ServerUrl::parse(known.ok_or(LoginError::OutOfTurn)?.expose())?;
        if (&gateway.host, gateway.port) != (&self.server.host, self.server.port) {
            self.jar.clear();
        }
        self.server = ServerUrl {
            path: String::new(),
            ..gateway
        };
        self.interface = Interface::Gateway;
        self.either = false;
        let repeatable = self.challenge.is_none() && self.field.is_none() && self.signed_in.is_none();
        if self.has_portal_cookie() || repeatable {
            return Ok(self.send_login(true));
        }
        self.challenge = None;
        self.signed_in = None;
        Ok(self.send_prelogin())
    }

    fn finish(&mut self, root: &Element) -> Result<Step, LoginError> {
        if root.name != "jnlp" {
            return Err(LoginError::Document(format!("<{}> instead of <jnlp>", root.name)));
        }
        let accepted =
            login_answer::parse(root, &self.config.client.computer).map_err(LoginError::Document)?;
        for note in accepted.notes {
            self.say(MessageLevel::Info, note);
        }
        self.state = State::Idle;
        self.secret = SecretString::default();
        Ok(Step::Done(LoggedIn {
            cookie: accepted.cookie.to_secret(),
            server: self.server.clone(),
        }))
    }

    fn say(&mut self, level: MessageLevel, text: String) {
        push(&mut self.messages, level, text);
    }
}

impl client::Login for Login {
    fn start(&mut self) -> Result<Step, client::LoginError> {
        Ok(self.send_prelogin())
    }

    fn handle_response(&mut self, response: Response) -> Result<Step, client::LoginError> {
        for line in response.headers.get_all("Set-Cookie") {
            self.jar.absorb(line).map_err(|_| LoginError::SetCookie)?;
        }
        if self.state == State::Prelogin
            && !response.is_success()
            && let Some(location) = response.headers.get("Location")
        {
            return Ok(self.handle_redirect(location)?);
        }
        let answer = classify(&response);
        Ok(match self.state {
            State::Prelogin => self.handle_prelogin(answer)?,
            State::LoggingIn { blind } => self.handle_login(blind, answer)?,
            State::Idle | State::Asking | State::SigningIn | State::Choosing => {
                return Err(LoginError::OutOfTurn.into());
            }
        })
    }

    fn handle_bad_response(&mut self, error: ResponseError) -> Result<Step, client::LoginError> {
        Err(LoginError::Response(error).into())
    }

    /// Only the choice of a gateway has a group; it changes nothing in the form.
    fn select_group(&mut self, value: &str) -> Result<Step, client::LoginError> {
        match self.state {
            State::Choosing => Ok(Step::Form(questions::chosen_gateway_form(value))),
            _ => Err(LoginError::OutOfTurn.into()),
        }
    }

    fn handle_form(&mut self, form: Form) -> Result<Step, client::LoginError> {
        match self.state {
            State::Choosing => return Ok(self.handle_choice(&form)?),
            State::Asking => {}
            _ => return Err(LoginError::OutOfTurn.into()),
        }
        let value = |name: &str| {
            form.fields
                .iter()
                .find(|field| field.name == name)
                .and_then(|field| field.value.clone())
        };
        self.user = value(questions::USER).or(self.user.take());
        self.secret = value(self.secret_name()).unwrap_or_default();
        Ok(self.send_login(false))
    }

    fn handle_browser(&mut self, result: &str) -> Returned {
        let signed_in = match self.state {
            State::SigningIn => SignedIn::parse(result),
            _ => None,
        };
        let Some(SignedIn { user, field, secret }) = signed_in else {
            return Returned::Stranger;
        };
        self.user = Some(user.into());
        self.secret = secret;
        self.signed_in = Some(field);
        Returned::Over {
            step: Box::new(self.send_login(false)),
            next_page: None,
        }
    }

    fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }
}

fn push(messages: &mut VecDeque<Message>, level: MessageLevel, text: String) {
    if messages.len() < MESSAGES_MAX {
        messages.push_back(Message { level, text });
    }
}
