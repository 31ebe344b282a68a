//! One-time codes for login forms (`specs/client.md` §9.1).

mod store;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use culvert_token::{Mode, Oath};
use culvert_vocab::SecretString;

use crate::options::{TokenOptions, TokenSecret};
use crate::output::Output;

/// Codes generated in one login; a server that refuses as many will refuse all.
const TRIES_MAX: u64 = 2;

/// Generates the codes of one login, no code twice.
#[derive(Debug)]
pub(crate) struct Generator {
    options: TokenOptions,
    output: Arc<Output>,
    tries: u64,
    /// The token with its present counter, if it is in no file.
    token: Option<Oath>,
}

impl Generator {
    /// A generator for the token of the options.
    pub(crate) fn new(options: TokenOptions, output: Arc<Output>) -> Self {
        let token = match &options.secret {
            TokenSecret::Text(text) => Oath::parse(options.mode, text.expose()).ok(),
            TokenSecret::File(_) => None,
        };
        Self {
            options,
            output,
            tries: 0,
            token,
        }
    }

    /// The code for now; `None` when the user has to type one. The user is told.
    pub(crate) fn generate(&mut self) -> Option<SecretString> {
        match self.tries {
            0 => {}
            1..TRIES_MAX => self.output.debug("OK to generate \"next\" tokencode"),
            _ => {
                self.output
                    .info("Server is rejecting the soft token; switching to manual entry");
                return None;
            }
        }
        let code = self.code();
        self.tries += 1;
        code.inspect_err(|error| self.output.error(error)).ok()
    }

    fn code(&mut self) -> Result<SecretString, String> {
        let name = match self.options.mode {
            Mode::Totp => "TOTP",
            Mode::Hotp => "HOTP",
        };
        self.output.info(&format!("Generating OATH {name} token code"));
        match (&self.options.secret, self.options.mode, &mut self.token) {
            (TokenSecret::File(path), Mode::Hotp, _) => store::next_code(path),
            (TokenSecret::File(path), Mode::Totp, _) => Ok(self.timed_code(&store::read(path, Mode::Totp)?)),
            (TokenSecret::Text(_), Mode::Hotp, Some(token)) => {
                token.next_code().map_err(|error| error.to_string())
            }
            (TokenSecret::Text(_), Mode::Totp, Some(token)) => {
                let token = token.clone();
                Ok(self.timed_code(&token))
            }
            (TokenSecret::Text(_), _, None) => Err("Soft token string is invalid".into()),
        }
    }

    /// The code of the present time step, and after a refusal that of the next one: the clock of
    /// the server may be ahead.
    fn timed_code(&self, token: &Oath) -> SecretString {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        token.code_at(now + self.tries * token.period())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OutputOptions;

    fn generator(mode: Mode, secret: TokenSecret) -> Generator {
        let output = Output::new(&OutputOptions::default(), true);
        Generator::new(TokenOptions { mode, secret }, Arc::new(output))
    }

    #[test]
    fn two_codes_then_the_user() {
        let secret = || TokenSecret::Text("12345678901234567890,0".into());
        let mut counted = generator(Mode::Hotp, secret());
        assert_eq!(counted.generate(), Some("755224".into()));
        assert_eq!(counted.generate(), Some("287082".into()));
        assert_eq!(counted.generate(), None);

        let mut timed = generator(Mode::Totp, secret());
        let (first, second) = (timed.generate(), timed.generate());
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!(timed.generate(), None);
    }

    #[test]
    fn a_file_that_cannot_be_used() {
        let mut lost = generator(Mode::Hotp, TokenSecret::File("/nonexistent/token".into()));
        assert_eq!(lost.generate(), None);
    }
}
