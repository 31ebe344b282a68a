//! What the server's documents ask for (`specs/anyconnect.md` §4).

use culvert_login::client::{LoggedIn, MessageLevel, Step};
use culvert_vocab::{FieldKind, Form};
use culvert_wire::url::{Redirect, ServerUrl};

use super::{Login, Sent, State, push};
use crate::client::cookie::Cookie;
use crate::client::document::{Auth, Document, NO_AUTH};
use crate::client::login_form::LoginForm;
use crate::client::login_steps::LoginError;
use crate::client::request::second_certificate_document;
use crate::client::second_certificate::SignatureHash;

impl Login {
    /// Goes on with a document of the server, which is `body`.
    pub(super) fn handle_document(&mut self, document: Document, body: &[u8]) -> Result<Step, LoginError> {
        if let Some(token) = &document.session_token {
            self.jar.set("webvpn", token).map_err(|_| LoginError::SetCookie)?;
        }
        if document.opaque.is_some() {
            self.opaque = document.opaque;
        }
        if let Some(hashes) = &document.wants_second_certificate {
            return self.handle_second_certificate(hashes, body);
        }
        if document.wants_certificate {
            return self.handle_certificate_request();
        }
        let Some(auth) = document.auth else {
            return Err(LoginError::Document(NO_AUTH.into()));
        };
        let probed = matches!(self.state, State::Probe | State::LegacyProbe);
        if matches!(self.state, State::Probe) && self.scan_token.is_none() {
            push(&mut self.messages, MessageLevel::Info, "XML POST enabled");
        }
        if probed {
            self.entrance = self.server.clone();
        }
        self.redirects = 0;
        self.profile_offer = self.profile_offer.take().or(document.profile);
        if auth.id == "success" {
            return self.finish();
        }
        if let Some(scan) = document.host_scan.filter(|_| self.scan_token.is_none()) {
            self.apply_action(LoginForm::parse(&auth)?.action.as_deref())?;
            return self.begin_scan(scan);
        }
        self.handle_auth(&auth)
    }

    /// Signs the whole document that asks for it.
    fn handle_second_certificate(
        &mut self,
        hashes: &[SignatureHash],
        body: &[u8],
    ) -> Result<Step, LoginError> {
        let second = self.config.second_certificate.clone();
        let second = second.ok_or(LoginError::SecondCertificate)?;
        if hashes.is_empty() {
            return Err(LoginError::Document("no known hash algorithm".into()));
        }
        // A server that asks again and again gets no further answer.
        self.count_empty(true)?;
        let proof = second.prove(hashes, body);
        let proof = proof.ok_or(LoginError::SecondCertificateUnusable)?;
        self.state = State::Reply;
        let body = second_certificate_document(&self.config, self.opaque.as_ref(), &proof);
        self.sent = Sent { post: true, body };
        Ok(self.send(false))
    }

    /// The certificate is shown on a fresh connection; when that does not help or there is none,
    /// says so, once.
    fn handle_certificate_request(&mut self) -> Result<Step, LoginError> {
        let text = match self.config.certificate {
            true => "Server requested SSL client certificate after one was provided",
            false => "Server requested SSL client certificate; none was configured",
        };
        if !matches!(self.state, State::Probe) || self.certificate_failed {
            return Err(LoginError::Certificate(text));
        }
        if self.config.certificate && !self.certificate_shown {
            self.certificate_shown = true;
            return Ok(self.send_init(true));
        }
        push(&mut self.messages, MessageLevel::Info, text);
        self.certificate_failed = true;
        Ok(self.send_init(false))
    }

    fn handle_auth(&mut self, auth: &Auth) -> Result<Step, LoginError> {
        let mut form = LoginForm::parse(auth)?;
        self.apply_action(form.action.as_deref())?;
        if !self.config.passwords {
            return Err(LoginError::PasswordsDisabled);
        }
        if form.is_empty() {
            return self.handle_empty_form(auth, &form.form);
        }
        if let Some(token) = self.config.token {
            form.mark_codes(token);
        }
        form.set_group(self.group.as_deref());
        let wants_browser = form
            .form
            .fields
            .iter()
            .any(|field| field.kind == FieldKind::SsoToken);
        match &auth.sso {
            Some(sso) if wants_browser => return self.ask_browser(form, sso),
            Some(_) => return Err(LoginError::Browser),
            None if wants_browser => return Err(LoginError::Browser),
            None => {}
        }
        let asked = form.form.clone();
        self.state = State::Asking(Box::new(form));
        Ok(Step::Form(asked))
    }

    /// Goes where the answer to a form is wanted.
    fn apply_action(&mut self, action: Option<&str>) -> Result<(), LoginError> {
        match action.map(|action| self.server.redirect(action)).transpose()? {
            Some(Redirect::Local(server)) => self.server = server,
            Some(Redirect::NewHost(server)) => self.move_to(server),
            None => {}
        }
        Ok(())
    }

    fn handle_empty_form(&mut self, auth: &Auth, form: &Form) -> Result<Step, LoginError> {
        if auth.complete {
            self.count_empty(true)?;
            for text in [&auth.message, &auth.error].into_iter().flatten() {
                push(&mut self.messages, MessageLevel::Info, text.clone());
            }
            return Ok(self.send_reply(form));
        }
        let text = auth
            .error
            .as_deref()
            .or(auth.message.as_deref())
            .unwrap_or("the server sent an empty form");
        Err(LoginError::NoFields(match text {
            "Certificate Validation Failure" => {
                format!("Client certificate missing or incorrect ({text})")
            }
            other => other.to_owned(),
        }))
    }

    fn finish(&mut self) -> Result<Step, LoginError> {
        self.state = State::Idle;
        let webvpn = self.jar.get("webvpn").ok_or(LoginError::NoCookie)?.clone();
        let strap_key = match &self.config.strap {
            Some(keys) => Some(keys.signing().to_secret()?),
            None => None,
        };
        let server = ServerUrl {
            path: String::new(),
            ..self.server.clone()
        };
        Ok(self.fetch_profile(LoggedIn {
            cookie: Cookie::new(webvpn, strap_key).to_secret(),
            server,
        }))
    }
}
