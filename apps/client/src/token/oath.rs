use std::sync::Arc;

use culvert_token::{Mode, Oath};
use culvert_vocab::SecretString;

use super::{now, store};
use crate::options::{OathOptions, TokenSecret};
use crate::output::Output;

/// TOTP or HOTP.
#[derive(Debug)]
pub(super) struct Token {
    options: OathOptions,
    output: Arc<Output>,
    /// The token with its present counter, if it is in no file.
    token: Option<Oath>,
}

impl Token {
    pub(super) fn new(options: OathOptions, output: Arc<Output>) -> Self {
        let token = match &options.secret {
            TokenSecret::Text(text) => Oath::parse(options.mode, text.expose()).ok(),
            TokenSecret::File(_) => None,
        };
        Self {
            options,
            output,
            token,
        }
    }
}

impl super::Token for Token {
    fn code(&mut self, tries: u64) -> Result<SecretString, String> {
        let name = match self.options.mode {
            Mode::Totp => "TOTP",
            Mode::Hotp => "HOTP",
        };
        self.output.info(&format!("Generating OATH {name} token code"));
        match (&self.options.secret, self.options.mode, &mut self.token) {
            (TokenSecret::File(path), Mode::Hotp, _) => store::next_code(path),
            (TokenSecret::File(path), Mode::Totp, _) => {
                Ok(timed_code(&store::read(path, Mode::Totp)?, tries))
            }
            (TokenSecret::Text(_), Mode::Hotp, Some(token)) => {
                token.next_code().map_err(|error| error.to_string())
            }
            (TokenSecret::Text(_), Mode::Totp, Some(token)) => Ok(timed_code(token, tries)),
            (TokenSecret::Text(_), _, None) => Err("Soft token string is invalid".into()),
        }
    }
}

/// The code of the present time step, and after a refusal that of the next one: the clock of the
/// server may be ahead.
fn timed_code(token: &Oath, tries: u64) -> SecretString {
    token.code_at(now() + tries * token.period())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::OutputOptions;
    use crate::token::Generator;

    fn generator(mode: Mode, secret: TokenSecret) -> Generator {
        let output = Arc::new(Output::new(&OutputOptions::default(), true));
        let token = Token::new(OathOptions { mode, secret }, Arc::clone(&output));
        Generator::new(Box::new(token), output)
    }

    #[test]
    fn two_codes_then_the_user() {
        let secret = || TokenSecret::Text("12345678901234567890,0".into());
        let mut counted = generator(Mode::Hotp, secret());
        assert_eq!(counted.generate(""), Some("755224".into()));
        assert_eq!(counted.generate(""), Some("287082".into()));
        assert_eq!(counted.generate(""), None);

        let mut timed = generator(Mode::Totp, secret());
        let (first, second) = (timed.generate(""), timed.generate(""));
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!(timed.generate(""), None);
    }

    #[test]
    fn a_file_that_cannot_be_used() {
        let mut lost = generator(Mode::Hotp, TokenSecret::File("/nonexistent/token".into()));
        assert_eq!(lost.generate(""), None);
    }
}
