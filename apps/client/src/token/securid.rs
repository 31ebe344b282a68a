use std::sync::Arc;

use culvert_token::{TokenError, UnlockedSecurId};
use culvert_vocab::{Form, SecretString};

use super::{NoToken, field, fill, now};
use crate::context::Context;
use crate::options::SecurIdOptions;
use crate::output::Output;

/// A SecurID token with the user's PIN.
#[derive(Debug)]
pub(super) struct Token {
    token: UnlockedSecurId,
    pin: SecretString,
    output: Arc<Output>,
}

impl Token {
    /// Asks for what unlocks the token and for the PIN (`specs/client.md` §9.3). `None` when the user
    /// gives no answer: the login goes on without the token.
    pub(super) fn unlock(context: &Context, options: &SecurIdOptions) -> Result<Option<Self>, NoToken> {
        let output = Arc::clone(&context.output);
        let Some(token) = unlocked(context, options)? else {
            return Ok(None);
        };
        if !token.is_valid_at(now()) {
            output.error("The software token has expired");
        }
        let pin = match options.pin.clone().filter(UnlockedSecurId::is_pin) {
            Some(pin) => pin,
            None => pin(context)?,
        };
        Ok(Some(Self { token, pin, output }))
    }
}

impl super::Token for Token {
    fn code(&mut self, time: u64, tries: u64) -> Result<SecretString, String> {
        self.output.info("Generating RSA token code");
        let code = self
            .token
            .code_at(time + tries * self.token.interval(), &self.pin);
        code.map_err(|error| error.to_string())
    }

    fn waits_to_be_asked(&self) -> bool {
        true
    }
}

fn unlocked(context: &Context, options: &SecurIdOptions) -> Result<Option<UnlockedSecurId>, NoToken> {
    let token = &options.token;
    let mut form = Form {
        id: "_rsa_unlock".into(),
        message: Some("Enter credentials to unlock software token.".into()),
        ..Form::default()
    };
    if token.wants_device_id() {
        form.fields.push(field("devid", "Device ID:", false));
    }
    if token.wants_password() {
        form.fields.push(field("password", "Password:", true));
    }
    loop {
        let mut asked = form.clone();
        if !asked.fields.is_empty() {
            fill(context, &mut asked)?;
        }
        let answer = |name: &str| {
            let field = asked.fields.iter().find(|field| field.name == name);
            field.and_then(|field| field.value.clone()).unwrap_or_default()
        };
        let empty = |answer: &SecretString| answer.expose().is_empty();
        let answers: Vec<SecretString> = asked.fields.iter().map(|field| answer(&field.name)).collect();
        if !answers.is_empty() && answers.iter().all(empty) {
            return Ok(None);
        }
        if answers.iter().any(empty) {
            form.error = Some("All fields are required; try again.".into());
            continue;
        }
        match token.unlock(answer("devid").expose(), &answer("password")) {
            Ok(token) => return Ok(Some(token)),
            Err(error @ TokenError::SecurIdCredentials) if !answers.is_empty() => {
                form.error = Some(error.to_string());
            }
            Err(error) => {
                context
                    .output
                    .error(&format!("General failure in libstoken: {error}"));
                return Err(NoToken);
            }
        }
    }
}

fn pin(context: &Context) -> Result<SecretString, NoToken> {
    let mut form = Form {
        id: "_rsa_pin".into(),
        message: Some("Enter software token PIN.".into()),
        fields: vec![field("pin", "PIN:", true)],
        ..Form::default()
    };
    loop {
        let mut asked = form.clone();
        fill(context, &mut asked)?;
        let pin = asked
            .fields
            .pop()
            .and_then(|field| field.value)
            .unwrap_or_default();
        // Nothing is an answer, too: some tokens have no PIN.
        if pin.expose().is_empty() || UnlockedSecurId::is_pin(&pin) {
            return Ok(pin);
        }
        form.error = Some("Invalid PIN format; try again.".into());
    }
}
