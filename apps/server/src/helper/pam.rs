//! PAM (`specs/server-auth.md` §2.3). Modules are foreign code that needs root; each login has this process
//! for them.

use culvert_pam::{Conversation, Item, Message, Pam, PamError, Transaction, Verdict};
use culvert_vocab::{SecretString, UserName};

use super::messages::{ASK_PASSWORD, Accepted, Login, PamSettings};
use super::talk::{Gone, Talk};
use super::{Outcome, groups};
use crate::ipc::messages::LogLevel;

/// Prompt for a new password where a module gives none.
const ASK_NEW_PASSWORD: &str = "Please enter the new password.";
/// Prompts of modules that begin so mean the password.
const PASSWORD: &str = "password:";
/// Longest answer, in octets.
const ANSWER_MAX: usize = 4096;
/// Octets of texts that wait for the next prompt.
const TEXTS_MAX: usize = 1024;

/// A login with password and whatever else the modules ask.
pub(super) fn log_in(settings: &PamSettings, login: &Login, talk: &mut Talk) -> Result<Outcome, Gone> {
    let Some(user) = &login.user else {
        let _any = talk.ask(ASK_PASSWORD, 0)?;
        return Ok(Outcome::Refused(Some("not a valid user name".to_owned())));
    };
    let mut questions = Questions::new(talk);
    let outcome = transact(settings, login, user, &mut questions, |transaction| {
        transaction.authenticate()?;
        match transaction.check_account(false) {
            Err(PamError::Status(status)) if status.verdict() == Verdict::PasswordExpired => {
                transaction.change_expired_password()
            }
            result => result,
        }
    });
    questions.finish(outcome)
}

/// Asks the modules for the account alone (`acct = pam`).
pub(super) fn check_account(settings: &PamSettings, login: &Login, talk: &mut Talk) -> Result<Outcome, Gone> {
    let Some(user) = &login.user else {
        return Ok(Outcome::Refused(None));
    };
    let mut questions = Questions::mute(talk);
    let outcome = transact(settings, login, user, &mut questions, |transaction| {
        transaction.check_account(true)
    });
    questions.finish(outcome)
}

/// Runs `calls` and says what came of them.
fn transact(
    settings: &PamSettings,
    login: &Login,
    user: &UserName,
    questions: &mut Questions<'_>,
    calls: impl FnOnce(&mut Transaction<'_>) -> Result<(), PamError>,
) -> Outcome {
    let attempt = || {
        let mut transaction = Pam::load()?.start(&settings.service, user.as_str(), questions)?;
        transaction.set(Item::RemoteHost, &login.caller.peer.to_string())?;
        calls(&mut transaction)?;
        transaction.user()
    };
    match attempt() {
        Ok(name) => match name.as_deref().map(UserName::new) {
            Some(Ok(user)) => {
                let groups = groups::of_system(user.as_str());
                Outcome::Accepted(Accepted::new(user, groups))
            }
            _ => Outcome::Unavailable("the modules give a user name that nobody can have".to_owned()),
        },
        Err(PamError::Status(status)) if status.verdict() != Verdict::Failed => {
            Outcome::Refused(Some(status.to_string()))
        }
        Err(error) => Outcome::Unavailable(error.to_string()),
    }
}

/// The modules' questions, one at a time.
struct Questions<'t> {
    talk: &'t mut Talk,
    /// Nobody is there to answer.
    mute: bool,
    /// What modules have said since the last question.
    texts: String,
    /// The last question and its number.
    last: Option<(String, u8)>,
    gone: bool,
}

impl<'t> Questions<'t> {
    fn new(talk: &'t mut Talk) -> Self {
        Self {
            talk,
            mute: false,
            texts: String::new(),
            last: None,
            gone: false,
        }
    }

    fn mute(talk: &'t mut Talk) -> Self {
        Self {
            mute: true,
            ..Self::new(talk)
        }
    }

    /// The outcome; what the modules have said last belongs to it.
    fn finish(self, outcome: Outcome) -> Result<Outcome, Gone> {
        if self.gone {
            return Err(Gone);
        }
        if !self.texts.is_empty() {
            self.talk
                .log(LogLevel::Info, &format!("the modules say: {}", self.texts));
        }
        Ok(outcome)
    }

    fn say(&mut self, text: &str) {
        let text = text.trim();
        if !text.is_empty() && self.texts.len() + text.len() < TEXTS_MAX {
            self.texts.extend([text, " "]);
        }
    }

    fn ask(&mut self, question: &str, secret: bool) -> Option<SecretString> {
        if self.mute {
            return None;
        }
        let number = match &self.last {
            None => 0,
            Some((last, number)) if last == question => *number,
            Some((_, number)) => number.saturating_add(1),
        };
        let prompt = match question {
            "" if number == 0 => ASK_PASSWORD,
            "" => ASK_NEW_PASSWORD,
            other if secret && is_password(other) => ASK_PASSWORD,
            other => other,
        };
        let message = format!("{}{prompt}", std::mem::take(&mut self.texts));
        self.last = Some((question.to_owned(), number));
        match self.talk.ask(&message, number) {
            Ok(answer) if answer.expose().len() <= ANSWER_MAX => Some(answer),
            Ok(_) => None,
            Err(Gone) => {
                self.gone = true;
                None
            }
        }
    }
}

impl Conversation for Questions<'_> {
    fn converse(&mut self, messages: &[Message]) -> Option<Vec<SecretString>> {
        let mut answers = Vec::new();
        for message in messages {
            match message {
                Message::Error(text) | Message::Info(text) => self.say(text),
                Message::Question(question) => answers.push(self.ask(question, false)?),
                Message::SecretQuestion(question) => answers.push(self.ask(question, true)?),
            }
        }
        Some(answers)
    }
}

fn is_password(question: &str) -> bool {
    question
        .get(..PASSWORD.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PASSWORD))
}
