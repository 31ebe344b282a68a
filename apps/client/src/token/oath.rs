use std::sync::Arc;

use culvert_token::{Mode, Oath};
use culvert_vocab::SecretString;

use super::store;
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
    fn code(&mut self, time: u64, tries: u64) -> Result<SecretString, String> {
        let name = match self.options.mode {
            Mode::Totp => "TOTP",
            Mode::Hotp => "HOTP",
        };
        self.output.info(&format!("Generating OATH {name} token code"));
        match (&self.options.secret, self.options.mode, &mut self.token) {
            (TokenSecret::File(path), Mode::Hotp, _) => store::next_code(path),
            (TokenSecret::File(path), Mode::Totp, _) => {
                Ok(timed_code(&store::read(path, Mode::Totp)?, time, tries))
            }
            (TokenSecret::Text(_), Mode::Hotp, Some(token)) => {
                token.next_code().map_err(|error| error.to_string())
            }
            (TokenSecret::Text(_), Mode::Totp, Some(token)) => Ok(timed_code(token, time, tries)),
            (TokenSecret::Text(_), _, None) => Err("Soft token string is invalid".into()),
        }
    }
}

/// The code of the present time step, and after a refusal that of the next one: the clock of the
/// server may be ahead.
fn timed_code(token: &Oath, time: u64, tries: u64) -> SecretString {
    token.code_at(time.saturating_add(tries.saturating_mul(token.period())))
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

    /// RFC 6238 appendix B, the last six of its digits: the codes for the steps 1 and 37037036 to
    /// 37037038.
    const STEPS: [&str; 4] = ["287082", "081804", "050471", "266759"];

    #[test]
    fn codes_around_the_end_of_a_step() {
        let secret = || TokenSecret::Text("12345678901234567890".into());
        // 1111111109 is the last second but one of its step.
        for (times, codes) in [
            ([59, 59], [STEPS[0], "359152"]),
            ([1111111109, 1111111109], [STEPS[1], STEPS[2]]),
            // The step ends between the tries.
            ([1111111109, 1111111110], [STEPS[1], STEPS[3]]),
            // The clock is set back: no code comes again.
            ([1111111109, 1111111079], [STEPS[1], STEPS[2]]),
        ] {
            let mut timed = generator(Mode::Totp, secret());
            for (time, code) in times.into_iter().zip(codes) {
                assert_eq!(timed.generate_at(time, ""), Some(code.into()), "{times:?}");
            }
            assert_eq!(timed.generate_at(times[1] + 1000, ""), None);
        }
    }

    #[test]
    fn endless_periods() {
        let uri = format!("otpauth://totp/x?secret=GEZDGNBV&period={}", i64::MAX);
        let mut timed = generator(Mode::Totp, TokenSecret::Text(uri.into()));
        assert!(timed.generate_at(u64::MAX / 4, "").is_some());
        assert!(timed.generate_at(u64::MAX / 4, "").is_some());
    }

    #[test]
    fn a_file_that_cannot_be_used() {
        let mut lost = generator(Mode::Hotp, TokenSecret::File("/nonexistent/token".into()));
        assert_eq!(lost.generate(""), None);
    }
}
