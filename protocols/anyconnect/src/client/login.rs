mod browser;
mod document;
mod host_scan;
mod profile;

use std::collections::VecDeque;

use culvert_login::Jar;
use culvert_login::client::{self, Exchange, LoggedIn, Message, MessageLevel, REDIRECTS_MAX, Returned, Step};
use culvert_vocab::{Form, SecretString};
use culvert_wire::http::{Response, ResponseError};
use culvert_wire::url::{Redirect, ServerUrl};
use culvert_wire::xml::Element;

use self::host_scan::Scan;
use super::document::{BadDocument, Document, Sso};
use super::login_form::{LoginForm, group_value, nothing_entered};
use super::login_steps::{EMPTY_FORMS_MAX, LoginConfig, LoginError};
use super::profile::{ProfileHash, ProfileOffer};
use super::request::{Context, init_document, reply_document, reply_form};

/// Init requests before the login goes on without XML.
const PROBES_MAX: u32 = 3;
/// Forms requested anew because of another group.
const GROUP_ROUNDS_MAX: u32 = 5;
/// Messages kept for the driver.
const MESSAGES_MAX: usize = 64;

#[derive(Debug)]
enum State {
    /// Not begun, failed or done.
    Idle,
    /// The init request is out.
    Probe,
    /// The GET without XML is out.
    LegacyProbe,
    /// An answer is out.
    Reply,
    /// A form is with the user.
    Asking(Box<LoginForm>),
    /// The user signs in with a browser.
    SigningIn(Box<LoginForm>, Sso),
    /// The program of a host scan is being fetched.
    ScanProgram(Box<Scan>),
    /// The scan is running.
    Scanning(Box<Scan>),
    /// The wait page is being fetched.
    ScanJudged(Box<Scan>),
    /// It is to be fetched again a little later.
    ScanPause(Box<Scan>),
    /// Logged in; the profile with this hash is being fetched.
    Profile(Box<LoggedIn>, ProfileHash),
}

/// A request as it may have to be repeated.
#[derive(Debug, Clone, Default)]
struct Sent {
    post: bool,
    body: SecretString,
}

/// Login of a client (`specs/anyconnect.md` §4): asks its driver for HTTP exchanges and forms,
/// and ends in a cookie.
#[derive(Debug)]
pub struct Login {
    config: LoginConfig,
    state: State,
    /// Where the next request goes.
    server: ServerUrl,
    /// Where the first form came from.
    entrance: ServerUrl,
    xml: bool,
    http_auth: bool,
    certificate_shown: bool,
    certificate_failed: bool,
    jar: Jar,
    opaque: Option<Element>,
    /// This host has been examined; repeated in answers.
    scan_token: Option<SecretString>,
    profile_offer: Option<ProfileOffer>,
    profile: Option<Vec<u8>>,
    /// Group that the server knows of.
    group: Option<String>,
    sent: Sent,
    probes: u32,
    redirects: u32,
    group_rounds: u32,
    empty_forms: u32,
    messages: VecDeque<Message>,
}

impl Login {
    /// A login that has not begun.
    pub fn new(config: LoginConfig) -> Self {
        Self {
            state: State::Idle,
            server: config.server.clone(),
            entrance: config.server.clone(),
            xml: config.xml_post,
            http_auth: !config.browser,
            certificate_shown: false,
            certificate_failed: false,
            jar: Jar::default(),
            opaque: None,
            scan_token: None,
            profile_offer: None,
            profile: None,
            group: config.group.clone(),
            sent: Sent::default(),
            probes: 0,
            redirects: 0,
            group_rounds: 0,
            empty_forms: 0,
            messages: VecDeque::new(),
            config,
        }
    }

    /// Begins.
    ///
    /// # Errors
    /// None at present; the type leaves room.
    pub fn start(&mut self) -> Result<Step, LoginError> {
        Ok(if self.xml {
            self.send_init(false)
        } else {
            self.send_legacy_probe(false)
        })
    }

    /// Goes on with the response to an [`Exchange`].
    ///
    /// # Errors
    /// The login has failed.
    pub fn handle_response(&mut self, response: Response) -> Result<Step, LoginError> {
        let probing = matches!(self.state, State::Probe);
        let result = self.take_response(response);
        self.or_without_xml(probing, result)
    }

    fn take_response(&mut self, response: Response) -> Result<Step, LoginError> {
        for line in response.headers.get_all("Set-Cookie") {
            self.jar.absorb(line).map_err(|_| LoginError::SetCookie)?;
            if line.starts_with("ClientCertAuthFailed=") {
                push(
                    &mut self.messages,
                    MessageLevel::Error,
                    "SSL certificate authentication failed",
                );
            }
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::ScanProgram(scan) => return self.handle_scan_program(*scan, response),
            State::ScanJudged(scan) => return self.handle_wait_page(*scan, &response),
            State::Profile(done, hash) => return Ok(self.handle_profile(*done, &hash, Ok(response))),
            other => self.state = other,
        }
        if response.status == 401 && self.http_auth && offers_fallback(&response) {
            self.http_auth = false;
            return Ok(self.send(false));
        }
        if !response.is_success()
            && let Some(location) = response.headers.get("Location")
        {
            return self.handle_redirect(location);
        }
        check_status(&response)?;
        match Document::parse(&response.body) {
            Ok(document) => self.handle_document(document, &response.body),
            Err(BadDocument(reason)) => Err(LoginError::Document(reason)),
        }
    }

    /// The response to an [`Exchange`] could not be read. (A failed connection is not for here:
    /// it ends the login.)
    ///
    /// # Errors
    /// The login has failed.
    pub fn handle_bad_response(&mut self, error: ResponseError) -> Result<Step, LoginError> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Profile(done, hash) => Ok(self.handle_profile(*done, &hash, Err(error.into()))),
            other => self.or_without_xml(matches!(other, State::Probe), Err(error.into())),
        }
    }

    /// The connection ended without a response: without XML things may be better.
    pub fn handle_lost_connection(&mut self) -> Option<Step> {
        matches!(self.state, State::Probe).then(|| self.fall_back())
    }

    /// The user chose the group with this value, before the other fields are asked.
    /// `Step::Exchange`: the form is requested anew; `Step::Form`: the same form, with the
    /// fields that this group needs.
    ///
    /// # Errors
    /// The login has failed.
    pub fn select_group(&mut self, value: &str) -> Result<Step, LoginError> {
        let State::Asking(form) = &mut self.state else {
            return Err(LoginError::OutOfTurn);
        };
        if self.xml && self.group.as_deref() != Some(value) {
            return self.change_group(value.to_owned());
        }
        form.set_group(Some(value));
        Ok(Step::Form(form.form.clone()))
    }

    /// The form has been filled: values in its fields, for selects the value of a choice.
    ///
    /// # Errors
    /// The login has failed.
    pub fn handle_form(&mut self, form: Form) -> Result<Step, LoginError> {
        if !matches!(self.state, State::Asking(_)) {
            return Err(LoginError::OutOfTurn);
        }
        if let Some(group) = group_value(&form)
            && self.xml
            && self.group.as_deref() != Some(group)
        {
            let group = group.to_owned();
            return self.change_group(group);
        }
        self.count_empty(nothing_entered(&form))?;
        Ok(self.send_reply(&form))
    }

    /// The next line for the log.
    pub fn poll_message(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    fn change_group(&mut self, group: String) -> Result<Step, LoginError> {
        self.group_rounds += 1;
        if self.group_rounds > GROUP_ROUNDS_MAX {
            return Err(LoginError::GroupLoop);
        }
        self.group = Some(group);
        self.server = self.entrance.clone();
        self.probes = 0;
        Ok(self.send_init(false))
    }

    fn count_empty(&mut self, empty: bool) -> Result<(), LoginError> {
        self.empty_forms = if empty { self.empty_forms + 1 } else { 0 };
        if self.empty_forms >= EMPTY_FORMS_MAX {
            Err(LoginError::EmptyForms)
        } else {
            Ok(())
        }
    }

    fn handle_redirect(&mut self, location: &str) -> Result<Step, LoginError> {
        self.redirects += 1;
        if self.redirects > REDIRECTS_MAX {
            return Err(LoginError::Redirects);
        }
        let redirect = self.server.redirect(location)?;
        match (&self.state, redirect) {
            (State::Probe, Redirect::Local(_)) => Ok(self.fall_back()),
            (State::Probe, Redirect::NewHost(server)) => {
                self.move_to(server);
                Ok(self.send_init(true))
            }
            (State::LegacyProbe, Redirect::Local(server)) => {
                self.server = server;
                Ok(self.send(false))
            }
            (State::LegacyProbe, Redirect::NewHost(server)) => {
                self.move_to(server);
                Ok(self.send(true))
            }
            (State::Reply, Redirect::Local(server)) => {
                self.server = server;
                if !self.xml {
                    self.sent = Sent::default();
                }
                Ok(self.send(false))
            }
            // The answer holds credentials for the old host: the new one gets a login of its own.
            (State::Reply, Redirect::NewHost(server)) => {
                self.move_to(server);
                Ok(if self.xml {
                    self.send_init(true)
                } else {
                    self.send_legacy_probe(true)
                })
            }
            _ => Err(LoginError::OutOfTurn),
        }
    }

    /// Goes to another host and forgets what belongs to the old one.
    fn move_to(&mut self, server: ServerUrl) {
        self.server = server;
        self.jar.clear();
        self.opaque = None;
        self.scan_token = None;
    }

    /// When the response to a probe is of no use, things may be better without XML.
    fn or_without_xml(
        &mut self,
        probing: bool,
        result: Result<Step, LoginError>,
    ) -> Result<Step, LoginError> {
        match result {
            Err(error) if probing && error.is_nonsense() => {
                push(&mut self.messages, MessageLevel::Error, error.to_string());
                Ok(self.fall_back())
            }
            result => result,
        }
    }

    fn fall_back(&mut self) -> Step {
        if self.server.host != self.config.server.host || self.server.port != self.config.server.port {
            self.jar.clear();
        }
        self.server = self.config.server.clone();
        self.opaque = None;
        self.xml = false;
        self.send_legacy_probe(true)
    }

    fn send_init(&mut self, fresh: bool) -> Step {
        self.probes += 1;
        if self.probes > PROBES_MAX {
            return self.fall_back();
        }
        self.state = State::Probe;
        let body = init_document(&self.config, self.certificate_failed, self.group.as_deref());
        self.sent = Sent { post: true, body };
        self.send(fresh)
    }

    fn send_legacy_probe(&mut self, fresh: bool) -> Step {
        self.state = State::LegacyProbe;
        self.sent = Sent::default();
        self.send(fresh)
    }

    fn send_reply(&mut self, form: &Form) -> Step {
        let body = if self.xml {
            reply_document(&self.config, self.opaque.as_ref(), form, self.scan_token.as_ref())
        } else {
            reply_form(form)
        };
        self.state = State::Reply;
        self.sent = Sent { post: true, body };
        self.send(false)
    }

    /// Sends, or repeats, the last request to where the login is now.
    fn send(&self, fresh: bool) -> Step {
        self.exchange(&self.server, Some(&self.sent), fresh)
    }

    /// A request for `server`; without one that is `sent`, a plain GET.
    fn exchange(&self, server: &ServerUrl, sent: Option<&Sent>, fresh: bool) -> Step {
        let context = Context {
            config: &self.config,
            server,
            cookies: self.jar.header(),
            xml: self.xml,
            http_auth: self.http_auth,
        };
        let method = match sent {
            Some(Sent { post: true, .. }) => "POST",
            _ => "GET",
        };
        Step::Exchange(Exchange {
            request: context.request(method, sent.map(|sent| &sent.body)),
            server: server.clone(),
            fresh,
        })
    }
}

impl client::Login for Login {
    fn start(&mut self) -> Result<Step, client::LoginError> {
        Ok(self.start()?)
    }

    fn handle_response(&mut self, response: Response) -> Result<Step, client::LoginError> {
        Ok(self.handle_response(response)?)
    }

    fn handle_bad_response(&mut self, error: ResponseError) -> Result<Step, client::LoginError> {
        Ok(self.handle_bad_response(error)?)
    }

    fn select_group(&mut self, value: &str) -> Result<Step, client::LoginError> {
        Ok(self.select_group(value)?)
    }

    fn handle_lost_connection(&mut self) -> Option<Step> {
        self.handle_lost_connection()
    }

    fn handle_form(&mut self, form: Form) -> Result<Step, client::LoginError> {
        Ok(self.handle_form(form)?)
    }

    fn handle_browser(&mut self, result: &str) -> Returned {
        self.handle_browser(result)
    }

    fn handle_host_scan(&mut self) -> Result<Step, client::LoginError> {
        Ok(self.handle_host_scan()?)
    }

    fn handle_timeout(&mut self) -> Result<Step, client::LoginError> {
        Ok(self.handle_timeout()?)
    }

    fn poll_message(&mut self) -> Option<Message> {
        self.poll_message()
    }
}

fn push(messages: &mut VecDeque<Message>, level: MessageLevel, text: impl Into<String>) {
    if messages.len() < MESSAGES_MAX {
        messages.push_back(Message {
            level,
            text: text.into(),
        });
    }
}

fn offers_fallback(response: &Response) -> bool {
    response
        .headers
        .get("X-HTTP-Auth-Support")
        .is_some_and(|value| value.eq_ignore_ascii_case("fallback"))
}

fn check_status(response: &Response) -> Result<(), LoginError> {
    match response.status {
        200 if response.body.is_empty() => Err(LoginError::EmptyBody),
        200 => Ok(()),
        status @ (401 | 403) => Err(LoginError::Permission(status)),
        405 => Err(LoginError::NotSupported),
        status => Err(LoginError::Status(status)),
    }
}
