//! One-time codes for login forms (`specs/client.md` §9.1).

mod oath;
mod securid;
mod store;
mod yubikey;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use culvert_vocab::SecretString;

use crate::context::Context;
use crate::credentials::LoadFailure;
use crate::options::TokenOptions;

/// Codes generated in one login; a server that refuses as many will refuse all.
const TRIES_MAX: u64 = 2;

/// Why there is no token. The user has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoToken;

/// Something that makes codes.
trait Token: fmt::Debug + Send {
    /// A code for `time` in seconds since 1970, or in the second try the one after it. Announces
    /// itself at level 1.
    fn code(&mut self, time: u64, tries: u64) -> Result<SecretString, String>;

    /// True when a second code is only made for a server that asks for the next one.
    fn waits_to_be_asked(&self) -> bool {
        false
    }
}

/// Generates the codes of one login, no code twice.
#[derive(Debug)]
pub(crate) struct Generator {
    token: Box<dyn Token>,
    output: std::sync::Arc<crate::output::Output>,
    tries: u64,
    /// The time of the last code: a clock that is set back must not bring a code again.
    latest: u64,
}

impl Generator {
    /// A generator for the token of the options, asking for what unlocks it.
    ///
    /// # Errors
    /// The token cannot be used.
    pub(crate) fn of_options(context: &Context) -> Result<Option<Self>, NoToken> {
        let Some(options) = &context.options.login.token else {
            return Ok(None);
        };
        let output = std::sync::Arc::clone(&context.output);
        let token: Box<dyn Token> = match options {
            TokenOptions::Oath(options) => Box::new(oath::Token::new(options.clone(), output.clone())),
            TokenOptions::SecurId(options) => match securid::Token::unlock(context, options)? {
                Some(token) => Box::new(token),
                None => return Ok(None),
            },
            TokenOptions::Yubikey { credential } => {
                Box::new(yubikey::Token::find(context, credential.as_deref())?)
            }
        };
        Ok(Some(Self::new(token, output)))
    }

    fn new(token: Box<dyn Token>, output: std::sync::Arc<crate::output::Output>) -> Self {
        Self {
            token,
            output,
            tries: 0,
            latest: 0,
        }
    }

    /// The code for now; `None` when the user has to type one. The user is told. `message` is what
    /// the server says with its question.
    pub(crate) fn generate(&mut self, message: &str) -> Option<SecretString> {
        self.generate_at(now(), message)
    }

    fn generate_at(&mut self, now: u64, message: &str) -> Option<SecretString> {
        let asked = message.to_lowercase().contains("next tokencode");
        match self.tries {
            0 => {}
            1..TRIES_MAX if asked || !self.token.waits_to_be_asked() => {
                self.output.debug("OK to generate \"next\" tokencode");
            }
            _ => {
                self.output
                    .info("Server is rejecting the soft token; switching to manual entry");
                return None;
            }
        }
        self.latest = self.latest.max(now);
        let code = self.token.code(self.latest, self.tries);
        self.tries += 1;
        code.inspect_err(|error| self.output.error(error)).ok()
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// One answer of a form of our own; `None` in place of an answer ends the program.
fn fill(context: &Context, form: &mut culvert_vocab::Form) -> Result<(), NoToken> {
    let mut asker = context.console.clone();
    let console = context.console.clone();
    let mut answers = context.answers();
    answers.introduce(form, &mut asker, &mut |error| {
        console.write(&format!("{error}\n"))
    });
    let filled = answers.fill(form, &mut asker).map_err(LoadFailure::from);
    answers.forget_entries(&form.id);
    filled.map_err(|_| NoToken)
}

/// A question of such a form.
fn field(name: &str, label: &str, hidden: bool) -> culvert_vocab::Field {
    culvert_vocab::Field {
        name: name.into(),
        label: label.into(),
        kind: match hidden {
            true => culvert_vocab::FieldKind::Password,
            false => culvert_vocab::FieldKind::Text,
        },
        value: None,
        ignored: false,
    }
}
