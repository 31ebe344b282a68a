//! Which scheme answers a challenge (`specs/client.md` §11.3).

use std::time::SystemTime;

use culvert_vocab::SecretString;
use data_encoding::BASE64;

use crate::basic;
use crate::challenge::Challenge;
use crate::digest::DigestChallenge;
use crate::ntlm::{self, NtlmChallenge};
use crate::sign_on::{SignOn, SignOnError};

/// Most messages of one attempt.
const MESSAGES_MAX: u8 = 8;

/// A way to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// A ticket (SPNEGO, RFC 4559).
    Negotiate,
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
    const ALL: [Self; 5] = [
        Self::Negotiate,
        Self::Ntlm,
        Self::Digest,
        Self::Basic,
        Self::Bearer,
    ];

    /// As in headers and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Ntlm => "NTLM",
            Self::Digest => "Digest",
            Self::Basic => "Basic",
            Self::Bearer => "Bearer",
        }
    }

    fn index(self) -> usize {
        self as usize
    }

    /// True for the names of this scheme in options.
    fn is_called(self, name: &str) -> bool {
        name.eq_ignore_ascii_case(self.name())
            || (self == Self::Negotiate && name.eq_ignore_ascii_case("gssapi"))
    }
}

/// The schemes that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schemes {
    enabled: [bool; 5],
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
        let named = |scheme: Scheme| list.split(',').any(|name| scheme.is_called(name.trim()));
        Self {
            enabled: Scheme::ALL.map(named),
            by_default: false,
        }
    }

    /// True when this scheme may be used.
    pub fn has(self, scheme: Scheme) -> bool {
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
    /// What is attempted with it; `None` while it only prepares an attempt.
    pub attempt: Option<Attempted>,
}

/// An attempt to authenticate, for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempted {
    scheme: &'static str,
    single_sign_on: bool,
}

impl Attempted {
    fn with(scheme: &'static str) -> Self {
        Self {
            scheme,
            single_sign_on: false,
        }
    }

    /// In words, with what this is towards: `proxy`, or a name of the server.
    pub fn towards(self, whom: &str) -> String {
        let how = match self.single_sign_on {
            true => " (single-sign-on)",
            false => "",
        };
        format!("Attempting {} authentication to {whom}{how}", self.scheme)
    }
}

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Nothing is left to try.
    #[error("No more authentication methods to try")]
    Exhausted,
    /// The same, but something would be left if a challenge of NTLM were shorter.
    #[error("The NTLM challenge is too long to be answered")]
    ChallengeTooLong,
    /// The other side asks for the password itself, which nobody has allowed.
    #[error("Basic authentication is disabled by default")]
    BasicDisabled,
    /// The other side does not prove who it is, although it knows the ticket's answer.
    #[error("the other side's answer to the ticket is wrong")]
    Forged,
    /// The user wants to end this.
    #[error("cancelled")]
    Stopped,
}

/// Where an attempt with a scheme stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    None,
    /// This many messages have been sent, and another may follow.
    Begun(u8),
    /// All has been said.
    Sent,
    Failed,
}

/// The authentication towards one proxy or server.
#[derive(Debug)]
pub struct Authenticator<'s> {
    schemes: Schemes,
    credentials: Option<Credentials>,
    token: Option<SecretString>,
    ticket: Option<Box<dyn SignOn + 's>>,
    domain: Option<Box<dyn SignOn + 's>>,
    attempts: [Attempt; 5],
}

impl<'s> Authenticator<'s> {
    /// With what the user has: a password, a token, or nothing.
    pub fn new(schemes: Schemes, credentials: Option<Credentials>, token: Option<SecretString>) -> Self {
        Self {
            schemes,
            credentials,
            token,
            ticket: None,
            domain: None,
            attempts: [Attempt::None; 5],
        }
    }

    /// With the user's tickets, too, for [`Scheme::Negotiate`].
    pub fn with_ticket(mut self, ticket: impl SignOn + 's) -> Self {
        self.ticket = Some(Box::new(ticket));
        self
    }

    /// With the user's login in a domain, too, for [`Scheme::Ntlm`] without a password.
    pub fn with_domain(mut self, domain: impl SignOn + 's) -> Self {
        self.domain = Some(Box::new(domain));
        self
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
        let mut end = AuthError::Exhausted;
        for scheme in Scheme::ALL {
            let offered = offered(&challenges, scheme);
            let attempt = self.attempts[scheme.index()];
            if !self.schemes.has(scheme) || attempt == Attempt::Failed {
                continue;
            }
            match self.step(scheme, attempt, &offered, circumstances) {
                Ok(Message {
                    header,
                    next,
                    attempt,
                }) => {
                    self.attempts[scheme.index()] = next;
                    return Ok(Answer {
                        header,
                        fresh,
                        attempt,
                    });
                }
                Err(Unanswered::Stopped) => return Err(AuthError::Stopped),
                Err(failure @ (Unanswered::Failed | Unanswered::TooLong)) => {
                    self.attempts[scheme.index()] = Attempt::Failed;
                    fresh |= attempt != Attempt::None;
                    if failure == Unanswered::TooLong {
                        end = AuthError::ChallengeTooLong;
                    }
                }
                Err(Unanswered::NotOffered) if attempt != Attempt::None => {
                    self.attempts[scheme.index()] = Attempt::Failed;
                    fresh = true;
                }
                Err(Unanswered::NotOffered) => {}
            }
        }
        let basic = !offered(&challenges, Scheme::Basic).is_empty();
        if basic && self.schemes.by_default && self.credentials.is_some() {
            return Err(AuthError::BasicDisabled);
        }
        Err(end)
    }

    /// Takes the header lines of a success: an answer to a ticket proves the other side.
    ///
    /// # Errors
    /// [`AuthError::Forged`], or [`AuthError::Stopped`].
    pub fn verify<'a>(&mut self, lines: impl Iterator<Item = &'a str>) -> Result<(), AuthError> {
        let challenges: Vec<Challenge<'_>> = lines.map(Challenge::parse).collect();
        let attempt = &mut self.attempts[Scheme::Negotiate.index()];
        let (Attempt::Begun(_), Some(ticket)) = (*attempt, &mut self.ticket) else {
            return Ok(());
        };
        let Some(proof) = offered(&challenges, Scheme::Negotiate)
            .into_iter()
            .find(|proof| !proof.is_empty())
        else {
            return Ok(());
        };
        *attempt = Attempt::Sent;
        let proof = BASE64.decode(proof.as_bytes()).map_err(|_| AuthError::Forged)?;
        match ticket.answer(Some(&proof)) {
            Ok(rest) if rest.is_empty() => Ok(()),
            Ok(_) | Err(SignOnError::Failed) => Err(AuthError::Forged),
            Err(SignOnError::Stopped) => Err(AuthError::Stopped),
        }
    }

    /// The next message of a scheme.
    fn step(
        &mut self,
        scheme: Scheme,
        attempt: Attempt,
        offered: &[&str],
        circumstances: &Circumstances<'_>,
    ) -> Result<Message, Unanswered> {
        let first = *offered.first().ok_or(Unanswered::NotOffered)?;
        let credentials = self.credentials.as_ref();
        let password = credentials.filter(|credentials| !credentials.password.expose().is_empty());
        match (scheme, attempt) {
            (Scheme::Negotiate, _) => sign_on(self.ticket.as_deref_mut(), scheme, attempt, first),
            (Scheme::Ntlm, _) if password.is_none() => {
                sign_on(self.domain.as_deref_mut(), scheme, attempt, first)
            }
            _ => credentials_step(
                scheme,
                attempt,
                offered,
                (credentials, self.token.as_ref()),
                circumstances,
            ),
        }
    }
}

/// A message of a scheme.
struct Message {
    header: SecretString,
    /// Where the attempt is then.
    next: Attempt,
    attempt: Option<Attempted>,
}

/// Why a scheme has no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    /// Not offered, or not in a way that is known.
    NotOffered,
    /// The challenge wants to be repeated, and is longer than an answer can be.
    TooLong,
    Failed,
    Stopped,
}

impl From<SignOnError> for Unanswered {
    fn from(error: SignOnError) -> Self {
        match error {
            SignOnError::Failed => Self::Failed,
            SignOnError::Stopped => Self::Stopped,
        }
    }
}

/// What follows the name of the scheme in each of its challenges.
fn offered<'a>(challenges: &[Challenge<'a>], scheme: Scheme) -> Vec<&'a str> {
    challenges
        .iter()
        .filter(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme.name()))
        .map(|challenge| challenge.rest)
        .collect()
}

/// The next message of a login that was done elsewhere. A challenge without a message after the
/// first means that the last one is not accepted.
fn sign_on<'s>(
    source: Option<&mut (dyn SignOn + 's)>,
    scheme: Scheme,
    attempt: Attempt,
    challenge: &str,
) -> Result<Message, Unanswered> {
    let source = source.ok_or(Unanswered::NotOffered)?;
    let (message, sent) = match attempt {
        Attempt::None => (source.answer(None)?, 0),
        Attempt::Begun(sent) if sent < MESSAGES_MAX && !challenge.is_empty() => {
            let challenge = BASE64
                .decode(challenge.as_bytes())
                .map_err(|_| Unanswered::Failed)?;
            (source.answer(Some(&challenge))?, sent)
        }
        Attempt::Begun(_) | Attempt::Sent | Attempt::Failed => return Err(Unanswered::Failed),
    };
    let header = format!("{} {}", scheme.name(), BASE64.encode(&message)).into();
    let attempt = match (scheme, sent) {
        (Scheme::Negotiate, 0) => Some(Attempted::with("GSSAPI")),
        // The first message only asks for a challenge.
        (Scheme::Ntlm, 1) => Some(Attempted {
            scheme: "HTTP NTLM",
            single_sign_on: true,
        }),
        _ => None,
    };
    Ok(Message {
        header,
        next: Attempt::Begun(sent + 1),
        attempt,
    })
}

/// The next message of a scheme that takes a password or a token.
fn credentials_step(
    scheme: Scheme,
    attempt: Attempt,
    offered: &[&str],
    (credentials, token): (Option<&Credentials>, Option<&SecretString>),
    circumstances: &Circumstances<'_>,
) -> Result<Message, Unanswered> {
    let credentials = credentials.ok_or(Unanswered::NotOffered);
    let (header, next, attempt) = match (scheme, attempt) {
        (Scheme::Ntlm, Attempt::None) => {
            credentials?;
            (ntlm::negotiate(), Attempt::Begun(1), None)
        }
        (Scheme::Ntlm, Attempt::Begun(_)) => {
            let challenge = offered.first().and_then(|text| NtlmChallenge::parse(text));
            let challenge = challenge.ok_or(Unanswered::NotOffered)?;
            let name = match challenge.is_version_1() {
                true => "HTTP NTLM",
                false => "HTTP NTLMv2",
            };
            let message = challenge.answer(credentials?, circumstances);
            let message = message.ok_or(Unanswered::TooLong)?;
            (message, Attempt::Sent, Some(name))
        }
        (Scheme::Digest, Attempt::None | Attempt::Sent) => {
            let known = offered.iter().find_map(|text| DigestChallenge::parse(text));
            let known = known
                .filter(|known| attempt == Attempt::None || known.stale)
                .ok_or(Unanswered::NotOffered)?;
            let message = known.answer(credentials?, circumstances);
            (message, Attempt::Sent, Some("Digest"))
        }
        (Scheme::Basic, Attempt::None) => (basic::answer(credentials?), Attempt::Sent, Some("HTTP Basic")),
        (Scheme::Bearer, Attempt::None) => {
            let token = token.ok_or(Unanswered::NotOffered)?;
            let header = format!("Bearer {}", token.expose()).into();
            (header, Attempt::Sent, Some("HTTP Bearer"))
        }
        _ => return Err(Unanswered::NotOffered),
    };
    Ok(Message {
        header,
        next,
        attempt: attempt.map(Attempted::with),
    })
}

#[cfg(test)]
mod tests;
