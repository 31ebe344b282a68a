//! Drives the login of the protocol: requests, forms, messages.

use std::sync::Arc;

use culvert_login::client::{Exchange, LoggedIn, Login, LoginError, MessageLevel, Step};
use culvert_vocab::Form;

use crate::context::Context;
use crate::net::{ExchangeError, HttpClient};
use crate::output::Level;
use crate::prompt::AskError;
use crate::signals::Signal;

/// Why there is no cookie.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginFailure {
    /// A signal came.
    #[error("cancelled by a signal")]
    Interrupted(Signal),
    /// Standard input ended: the program ends without a further word.
    #[error("no input")]
    NoInput,
    /// Anything else; the user has been told.
    #[error("the login failed")]
    Other,
}

impl From<AskError> for LoginFailure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NonInteractive => Self::Other,
            AskError::NoInput(_) => Self::NoInput,
        }
    }
}

/// Drives a login with the answers that the options give, and the user's.
///
/// # Errors
/// See [`LoginFailure`].
pub(crate) fn log_in(
    context: &Arc<Context>,
    http: &mut HttpClient,
    login: &mut dyn Login,
) -> Result<LoggedIn, LoginFailure> {
    let mut driver = Driver {
        login,
        context: Arc::clone(context),
        http,
    };
    let mut step = driver.login.start();
    loop {
        driver.show_messages();
        step = match driver.checked(step)? {
            Step::Exchange(exchange) => driver.exchange(&exchange)?,
            Step::Form(form) => driver.form(form)?,
            Step::Done(logged_in) => return Ok(logged_in),
        };
    }
}

struct Driver<'a> {
    context: Arc<Context>,
    http: &'a mut HttpClient,
    login: &'a mut dyn Login,
}

type NextStep = Result<Step, LoginError>;

impl Driver<'_> {
    fn show_messages(&mut self) {
        while let Some(message) = self.login.poll_message() {
            let level = match message.level {
                MessageLevel::Error => Level::Error,
                MessageLevel::Info => Level::Info,
                MessageLevel::Debug => Level::Debug,
            };
            self.context.output.progress(level, &message.text);
        }
    }

    fn checked(&self, step: NextStep) -> Result<Step, LoginFailure> {
        step.map_err(|error| {
            self.context.output.error(&error.to_string());
            LoginFailure::Other
        })
    }

    fn exchange(&mut self, exchange: &Exchange) -> Result<NextStep, LoginFailure> {
        match self
            .http
            .exchange(&exchange.server, &exchange.request, exchange.fresh)
        {
            Ok(response) => Ok(self.login.handle_response(response)),
            Err(ExchangeError::Response(error)) => Ok(self.login.handle_bad_response(error)),
            Err(ExchangeError::Interrupted(signal)) => Err(LoginFailure::Interrupted(signal)),
            Err(ExchangeError::NoInput) => Err(LoginFailure::NoInput),
            Err(ExchangeError::Failed) => Err(LoginFailure::Other),
        }
    }

    fn form(&mut self, mut form: Form) -> Result<NextStep, LoginFailure> {
        let mut asker = self.context.console.clone();
        let console = self.context.console.clone();
        let context = Arc::clone(&self.context);
        let mut answers = context.answers();
        answers.introduce(&form, &mut asker, &mut |error| {
            console.write(&format!("{error}\n"))
        });
        if let Some(group) = answers.choose_group(&mut form, &mut asker)? {
            match self.login.select_group(&group) {
                Ok(Step::Form(same)) => {
                    form = same;
                    if let Some(field) = form.group_field.and_then(|index| form.fields.get_mut(index)) {
                        field.value = Some(group.into());
                    }
                }
                other => return Ok(other),
            }
        }
        answers.fill(&mut form, &mut asker)?;
        Ok(self.login.handle_form(form))
    }
}
