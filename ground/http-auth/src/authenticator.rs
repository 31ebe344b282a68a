//! Which scheme answers a challenge (`specs/client.md` §11.3).

use std::time::SystemTime;

use culvert_vocab::SecretString;

use crate::basic;
use crate::challenge::Challenge;
use crate::digest::DigestChallenge;
use crate::ntlm::{self, NtlmChallenge};

/// A way to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// NT LAN Manager.
    Ntlm,
    /// A hash of the password.
    Digest,
    /// The password itself.
    Basic,
    /// A token that stands for the user.
    Bearer,
}

impl Scheme {
    /// In the order of preference.
    const ALL: [Self; 4] = [Self::Ntlm, Self::Digest, Self::Basic, Self::Bearer];

    /// As in headers and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ntlm => "NTLM",
            Self::Digest => "Digest",
            Self::Basic => "Basic",
            Self::Bearer => "Bearer",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// The schemes that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schemes {
    enabled: [bool; 4],
    /// Nobody has said which: the user may not know that [`Scheme::Basic`] has to be named.
    by_default: bool,
}

impl Default for Schemes {
    /// Every scheme but [`Scheme::Basic`], which shows the password to the other side.
    fn default() -> Self {
        Self {
            enabled: Scheme::ALL.map(|scheme| scheme != Scheme::Basic),
            by_default: true,
        }
    }
}

impl Schemes {
    /// The schemes of a comma-separated list, in any case; unknown names are ignored.
    pub fn parse(list: &str) -> Self {
        let named = |scheme: Scheme| {
            list.split(',')
                .any(|name| name.trim().eq_ignore_ascii_case(scheme.name()))
        };
        Self {
            enabled: Scheme::ALL.map(named),
            by_default: false,
        }
    }

    fn has(self, scheme: Scheme) -> bool {
        self.enabled[scheme.index()]
    }
}

/// A user and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user, for NTLM perhaps as `DOMAIN\user`.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

/// What an answer depends on besides the challenge.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// Method of the request.
    pub method: &'a str,
    /// Its target, as it is in the request line.
    pub uri: &'a str,
    /// Fresh random octets.
    pub random: [u8; 32],
    /// The time.
    pub now: SystemTime,
}

/// What to do about a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Value of `Authorization` or `Proxy-Authorization`.
    pub header: SecretString,
    /// The request has to go over a new connection: another scheme failed on this one.
    pub fresh: bool,
}

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nothing is left to try.
    #[error("No more authentication methods to try")]
    Exhausted,
    /// The other side asks for the password itself, which nobody has allowed.
    #[error("Basic authentication is disabled by default")]
    BasicDisabled,
}

/// Where an attempt with a scheme stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    None,
    /// The first message of several has been sent.
    Begun,
    /// All has been said.
    Sent,
    Failed,
}

/// The authentication towards one proxy or server.
#[derive(Debug)]
pub struct Authenticator {
    schemes: Schemes,
    credentials: Option<Credentials>,
    token: Option<SecretString>,
    attempts: [Attempt; 4],
}

impl Authenticator {
    /// With what the user has: a password, a token, or nothing.
    pub fn new(schemes: Schemes, credentials: Option<Credentials>, token: Option<SecretString>) -> Self {
        Self {
            schemes,
            credentials,
            token,
            attempts: [Attempt::None; 4],
        }
    }

    /// Answers the challenges of one 401 or 407, a header line each.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn answer<'a>(
        &mut self,
        lines: impl Iterator<Item = &'a str>,
        circumstances: &Circumstances<'_>,
    ) -> Result<Answer, AuthError> {
        let challenges: Vec<Challenge<'_>> = lines.map(Challenge::parse).collect();
        let mut fresh = false;
        for scheme in Scheme::ALL {
            let offered: Vec<&str> = challenges
                .iter()
                .filter(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme.name()))
                .map(|challenge| challenge.rest)
                .collect();
            let attempt = self.attempts[scheme.index()];
            if !self.schemes.has(scheme) || attempt == Attempt::Failed {
                continue;
            }
            match self.step(scheme, attempt, &offered, circumstances) {
                Some((header, next)) => {
                    self.attempts[scheme.index()] = next;
                    return Ok(Answer { header, fresh });
                }
                None if attempt != Attempt::None => {
                    self.attempts[scheme.index()] = Attempt::Failed;
                    fresh = true;
                }
                None => {}
            }
        }
        let basic = challenges
            .iter()
            .any(|challenge| challenge.scheme.eq_ignore_ascii_case(Scheme::Basic.name()));
        if basic && self.schemes.by_default && self.credentials.is_some() {
            return Err(AuthError::BasicDisabled);
        }
        Err(AuthError::Exhausted)
    }

    /// The next message of a scheme, and where the attempt is then.
    fn step(
        &self,
        scheme: Scheme,
        attempt: Attempt,
        offered: &[&str],
        circumstances: &Circumstances<'_>,
    ) -> Option<(SecretString, Attempt)> {
        let first = offered.first()?;
        let credentials = self.credentials.as_ref();
        match (scheme, attempt) {
            (Scheme::Ntlm, Attempt::None) => credentials.map(|_| (ntlm::negotiate(), Attempt::Begun)),
            (Scheme::Ntlm, Attempt::Begun) => {
                let message = NtlmChallenge::parse(first)?.answer(credentials?, circumstances);
                Some((message, Attempt::Sent))
            }
            (Scheme::Digest, Attempt::None | Attempt::Sent) => {
                let known = offered.iter().find_map(|text| DigestChallenge::parse(text))?;
                if attempt == Attempt::Sent && !known.stale {
                    return None;
                }
                Some((known.answer(credentials?, circumstances), Attempt::Sent))
            }
            (Scheme::Basic, Attempt::None) => Some((basic::answer(credentials?), Attempt::Sent)),
            (Scheme::Bearer, Attempt::None) => {
                let token = self.token.as_ref()?;
                Some((format!("Bearer {}", token.expose()).into(), Attempt::Sent))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIRCUMSTANCES: Circumstances<'static> = Circumstances {
        method: "CONNECT",
        uri: "h:443",
        random: [7; 32],
        now: SystemTime::UNIX_EPOCH,
    };
    const NTLM_CHALLENGE: &str =
        "NTLM TlRMTVNTUAACAAAABgAGADgAAAAFgokCASNFZ4mrze8AAAAAAAAAAAAAAAA+AAAABQEoCgAAAA9EAE8ATQA=";

    fn authenticator(schemes: Schemes) -> Authenticator {
        let credentials = Credentials {
            user: "us@er".into(),
            password: "p:w".into(),
        };
        Authenticator::new(schemes, Some(credentials), None)
    }

    fn answer(authenticator: &mut Authenticator, lines: &[&str]) -> Result<(String, bool), AuthError> {
        let answer = authenticator.answer(lines.iter().copied(), &CIRCUMSTANCES)?;
        let scheme = answer.header.expose().split(' ').next().unwrap_or_default();
        Ok((scheme.to_owned(), answer.fresh))
    }

    #[test]
    fn the_best_scheme_first_and_each_once() {
        let mut all = authenticator(Schemes::parse("basic, DIGEST,ntlm,unknown"));
        let offer = ["Basic realm=\"x\"", "digest realm=\"r\", nonce=\"n\"", "NTLM"];
        assert_eq!(answer(&mut all, &offer), Ok(("NTLM".into(), false)));
        assert_eq!(
            answer(&mut all, &[offer[0], offer[1], NTLM_CHALLENGE]),
            Ok(("NTLM".into(), false))
        );
        assert_eq!(answer(&mut all, &offer), Ok(("Digest".into(), true)));
        assert_eq!(answer(&mut all, &offer), Ok(("Basic".into(), true)));
        assert_eq!(answer(&mut all, &offer), Err(AuthError::Exhausted));
    }

    #[test]
    fn a_stale_nonce_is_no_failure() {
        let mut digest = authenticator(Schemes::default());
        let offer = "Digest realm=\"r\", nonce=\"n\"";
        assert_eq!(answer(&mut digest, &[offer]), Ok(("Digest".into(), false)));
        let stale = format!("{offer}, stale=true");
        assert_eq!(answer(&mut digest, &[&stale]), Ok(("Digest".into(), false)));
        assert_eq!(answer(&mut digest, &[offer]), Err(AuthError::Exhausted));
    }

    #[test]
    fn basic_has_to_be_named() {
        let offer = ["Basic realm=\"x\""];
        assert_eq!(
            answer(&mut authenticator(Schemes::default()), &offer),
            Err(AuthError::BasicDisabled)
        );
        assert_eq!(
            answer(&mut authenticator(Schemes::parse("digest")), &offer),
            Err(AuthError::Exhausted)
        );
        let mut basic = authenticator(Schemes::parse("Basic"));
        let answered = basic
            .answer(offer.into_iter(), &CIRCUMSTANCES)
            .expect("an answer");
        // `specs/vectors/client/proxy-auth.txt`
        assert_eq!(answered.header.expose(), "Basic dXNAZXI6cDp3");
    }

    #[test]
    fn tokens_and_nothing() {
        let mut bearer = Authenticator::new(Schemes::default(), None, Some("t0ken".into()));
        let offer = ["NTLM", "Digest realm=\"r\", nonce=\"n\"", "Basic", "Bearer"];
        let answered = bearer
            .answer(offer.into_iter(), &CIRCUMSTANCES)
            .expect("an answer");
        assert_eq!(answered.header.expose(), "Bearer t0ken");
        let mut nothing = Authenticator::new(Schemes::default(), None, None);
        assert_eq!(answer(&mut nothing, &offer), Err(AuthError::Exhausted));
        assert_eq!(answer(&mut nothing, &[]), Err(AuthError::Exhausted));
    }
}
