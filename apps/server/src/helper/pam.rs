//! PAM (`specs/server-auth.md` §2.3). Modules are foreign code that needs root; each login has this process
//! for them.

use std::cell::RefCell;

use culvert_pam::{Conversation, Item, Message, Pam, PamError, Transaction, Verdict};
use culvert_vocab::{SecretString, UserName};

use super::messages::{ASK_PASSWORD, Accepted, Login, PamSettings};
use super::talk::{Gone, Talk};
use super::{Outcome, groups, pam_session};
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
    let questions = Questions::new(talk, false);
    let outcome = transact(settings, login, user, &questions, |transaction| {
        transaction.authenticate()?;
        match transaction.check_account(false) {
            Err(PamError::Status(status)) if status.verdict() == Verdict::PasswordExpired => {
                transaction.change_expired_password()
            }
            result => result,
        }?;
        match accepted(transaction)? {
            Outcome::Accepted(accepted) if settings.session => {
                Ok(pam_session::hold(transaction, accepted, true, &questions))
            }
            outcome => Ok(outcome),
        }
    });
    questions.finish(outcome)
}

/// Asks the modules for the account alone (`acct = pam`).
pub(super) fn check_account(settings: &PamSettings, login: &Login, talk: &mut Talk) -> Result<Outcome, Gone> {
    let Some(user) = &login.user else {
        return Ok(Outcome::Refused(None));
    };
    let questions = Questions::new(talk, true);
    let outcome = transact(settings, login, user, &questions, |transaction| {
        transaction.check_account(true)?;
        accepted(transaction)
    });
    questions.finish(outcome)
}

/// Opens a session of a user who has logged in before.
pub(super) fn open_session(settings: &PamSettings, login: &Login, talk: &mut Talk) -> Result<Outcome, Gone> {
    let Some(user) = &login.user else {
        return Ok(Outcome::Refused(None));
    };
    let questions = Questions::new(talk, true);
    let outcome = transact(settings, login, user, &questions, |transaction| {
        transaction.check_account(false)?;
        match accepted(transaction)? {
            Outcome::Accepted(accepted) => Ok(pam_session::hold(transaction, accepted, false, &questions)),
            outcome => Ok(outcome),
        }
    });
    questions.finish(outcome)
}

/// Closes a session that another helper has opened, which is lost. Modules that keep what belongs to it
/// elsewhere (files, programs of the administrator) find it by user, host and terminal; what others had in
/// memory has gone with that helper.
pub(super) fn close_session(settings: &PamSettings, login: &Login, talk: &mut Talk) -> Result<Outcome, Gone> {
    let Some(user) = &login.user else {
        return Ok(Outcome::Refused(None));
    };
    let questions = Questions::new(talk, true);
    let outcome = transact(settings, login, user, &questions, |transaction| {
        Ok(pam_session::close(transaction, &questions))
    });
    questions.finish(outcome)
}

/// Runs `calls` and says what came of them.
fn transact(
    settings: &PamSettings,
    login: &Login,
    user: &UserName,
    mut questions: &Questions<'_>,
    calls: impl FnOnce(&mut Transaction<'_>) -> Result<Outcome, PamError>,
) -> Outcome {
    let attempt = || {
        let mut transaction = Pam::load()?.start(&settings.service, user.as_str(), &mut questions)?;
        transaction.set(Item::RemoteHost, &login.caller.peer.to_string())?;
        if let Some(tty) = &settings.tty {
            transaction.set(Item::Terminal, tty)?;
        }
        calls(&mut transaction)
    };
    match attempt() {
        Ok(outcome) => outcome,
        Err(PamError::Status(status)) if status.verdict() != Verdict::Failed => {
            Outcome::Refused(Some(status.to_string()))
        }
        Err(error) => Outcome::Unavailable(error.to_string()),
    }
}

/// Who the modules say that the user is, now that they have let him in.
fn accepted(transaction: &mut Transaction<'_>) -> Result<Outcome, PamError> {
    Ok(match transaction.user()?.as_deref().map(UserName::new) {
        Some(Ok(user)) => {
            let groups = groups::of_system(user.as_str());
            Outcome::Accepted(Accepted::new(user, groups))
        }
        _ => Outcome::Unavailable("the modules give a user name that nobody can have".to_owned()),
    })
}

/// The modules' questions, one at a time. Modules call from within their functions, so it is shared.
pub(super) struct Questions<'t>(RefCell<State<'t>>);

struct State<'t> {
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
    fn new(talk: &'t mut Talk, mute: bool) -> Self {
        Self(RefCell::new(State {
            talk,
            mute,
            texts: String::new(),
            last: None,
            gone: false,
        }))
    }

    /// The login is over: what the modules have said belongs to it, and nobody answers from now on.
    pub(super) fn mute(&self) {
        let mut state = self.0.borrow_mut();
        state.mute = true;
        state.log_texts();
    }

    /// Speaks with the broker, after telling it what the modules have said.
    pub(super) fn with_talk<T>(&self, action: impl FnOnce(&mut Talk) -> T) -> T {
        let mut state = self.0.borrow_mut();
        state.log_texts();
        action(state.talk)
    }

    /// The outcome; what the modules have said last belongs to it.
    fn finish(self, outcome: Outcome) -> Result<Outcome, Gone> {
        let mut state = self.0.into_inner();
        if state.gone {
            return Err(Gone);
        }
        state.log_texts();
        Ok(outcome)
    }
}

impl State<'_> {
    fn log_texts(&mut self) {
        let texts = std::mem::take(&mut self.texts);
        if !texts.is_empty() {
            self.talk
                .log(LogLevel::Info, &format!("the modules say: {texts}"));
        }
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

impl Conversation for &Questions<'_> {
    fn converse(&mut self, messages: &[Message]) -> Option<Vec<SecretString>> {
        let mut state = self.0.borrow_mut();
        let mut answers = Vec::new();
        for message in messages {
            match message {
                Message::Error(text) | Message::Info(text) => state.say(text),
                Message::Question(question) => answers.push(state.ask(question, false)?),
                Message::SecretQuestion(question) => answers.push(state.ask(question, true)?),
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
