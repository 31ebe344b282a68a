//! Drives the login of the protocol: requests, forms, messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use culvert_login::client::{Exchange, HostScan, LoggedIn, Login, LoginError, MessageLevel, SignIn, Step};
use culvert_vocab::Form;

use super::{browser, host_scan};
use crate::context::Context;
use crate::net::{ExchangeError, HttpClient};
use crate::output::Level;
use crate::prompt::AskError;
use crate::signals::{Signal, WaitError};

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
            Step::Browser(sign_in) => driver.browser(&sign_in)?,
            Step::HostScan(scan) => driver.host_scan(&scan)?,
            Step::Wait(time) => driver.wait(time)?,
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
            Err(ExchangeError::Failed) => match self.login.handle_lost_connection() {
                Some(step) => Ok(Ok(step)),
                None => Err(LoginFailure::Other),
            },
            Err(ExchangeError::Unreachable) => Err(LoginFailure::Other),
        }
    }

    fn browser(&mut self, sign_in: &SignIn) -> Result<NextStep, LoginFailure> {
        self.introduce(&sign_in.form);
        browser::sign_in(&self.context, self.login, sign_in).map(Ok)
    }

    fn host_scan(&mut self, scan: &HostScan) -> Result<NextStep, LoginFailure> {
        host_scan::examine(&self.context, scan, self.http.peer())?;
        Ok(self.login.handle_host_scan())
    }

    fn wait(&mut self, time: Duration) -> Result<NextStep, LoginFailure> {
        let until = Instant::now() + time;
        match self.context.signals.wait(&[], Some(until)) {
            Err(WaitError::Interrupted(signal)) => Err(LoginFailure::Interrupted(signal)),
            Ok(()) | Err(WaitError::TimedOut | WaitError::Io(_)) => Ok(self.login.handle_timeout()),
        }
    }

    fn introduce(&self, form: &Form) {
        let mut asker = self.context.console.clone();
        let show_error = &mut |error: &str| self.context.console.write(&format!("{error}\n"));
        self.context.answers().introduce(form, &mut asker, show_error);
    }

    fn form(&mut self, mut form: Form) -> Result<NextStep, LoginFailure> {
        self.introduce(&form);
        let mut asker = self.context.console.clone();
        let context = Arc::clone(&self.context);
        let mut answers = context.answers();
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
