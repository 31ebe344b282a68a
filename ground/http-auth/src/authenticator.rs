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
        for scheme in Scheme::ALL {
            let offered = offered(&challenges, scheme);
            let attempt = self.attempts[scheme.index()];
            if !self.schemes.has(scheme) || attempt == Attempt::Failed {
                continue;
            }
            match self.step(scheme, attempt, &offered, circumstances) {
                Ok((header, next)) => {
                    self.attempts[scheme.index()] = next;
                    return Ok(Answer { header, fresh });
                }
                Err(Unanswered::Stopped) => return Err(AuthError::Stopped),
                Err(Unanswered::Failed) => {
                    self.attempts[scheme.index()] = Attempt::Failed;
                    fresh |= attempt != Attempt::None;
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
        Err(AuthError::Exhausted)
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

    /// The next message of a scheme, and where the attempt is then.
    fn step(
        &mut self,
        scheme: Scheme,
        attempt: Attempt,
        offered: &[&str],
        circumstances: &Circumstances<'_>,
    ) -> Result<(SecretString, Attempt), Unanswered> {
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
            )
            .ok_or(Unanswered::NotOffered),
        }
    }
}

/// Why a scheme has no message.
enum Unanswered {
    /// Not offered, or not in a way that is known.
    NotOffered,
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
) -> Result<(SecretString, Attempt), Unanswered> {
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
    Ok((header, Attempt::Begun(sent + 1)))
}

/// The next message of a scheme that takes a password or a token.
fn credentials_step(
    scheme: Scheme,
    attempt: Attempt,
    offered: &[&str],
    (credentials, token): (Option<&Credentials>, Option<&SecretString>),
    circumstances: &Circumstances<'_>,
) -> Option<(SecretString, Attempt)> {
    match (scheme, attempt) {
        (Scheme::Ntlm, Attempt::None) => credentials.map(|_| (ntlm::negotiate(), Attempt::Begun(1))),
        (Scheme::Ntlm, Attempt::Begun(_)) => {
            let message = NtlmChallenge::parse(offered.first()?)?.answer(credentials?, circumstances);
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
            Some((format!("Bearer {}", token?.expose()).into(), Attempt::Sent))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const CIRCUMSTANCES: Circumstances<'static> = Circumstances {
        method: "CONNECT",
        uri: "h:443",
        random: [7; 32],
        now: SystemTime::UNIX_EPOCH,
    };
    const NTLM_CHALLENGE: &str =
        "NTLM TlRMTVNTUAACAAAABgAGADgAAAAFgokCASNFZ4mrze8AAAAAAAAAAAAAAAA+AAAABQEoCgAAAA9EAE8ATQA=";

    fn authenticator(schemes: Schemes) -> Authenticator<'static> {
        let credentials = Credentials {
            user: "us@er".into(),
            password: "p:w".into(),
        };
        Authenticator::new(schemes, Some(credentials), None)
    }

    fn answer(authenticator: &mut Authenticator<'_>, lines: &[&str]) -> Result<(String, bool), AuthError> {
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

    /// Says `challenge` back, and ends when it is told so.
    #[derive(Debug)]
    struct Echo(Option<SignOnError>);

    impl SignOn for Echo {
        fn answer(&mut self, challenge: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
            match (self.0, challenge) {
                (Some(error), _) => Err(error),
                (None, Some(b"last")) => Ok(Zeroizing::default()),
                (None, Some(b"bad")) => Err(SignOnError::Failed),
                (None, other) => Ok(Zeroizing::new(other.unwrap_or(b"first").to_vec())),
            }
        }
    }

    fn with_ticket(error: Option<SignOnError>) -> Authenticator<'static> {
        authenticator(Schemes::parse("GSSAPI,digest")).with_ticket(Echo(error))
    }

    const DIGEST: &str = "Digest realm=\"r\", nonce=\"n\"";

    fn header(authenticator: &mut Authenticator<'_>, line: &str) -> String {
        let answer = authenticator.answer([line].into_iter(), &CIRCUMSTANCES);
        answer.expect("an answer").header.expose().to_owned()
    }

    #[test]
    fn tickets() {
        let mut negotiate = with_ticket(None);
        assert_eq!(header(&mut negotiate, "Negotiate"), "Negotiate Zmlyc3Q=");
        assert_eq!(header(&mut negotiate, "negotiate bW9yZQ=="), "Negotiate bW9yZQ==");
        // Nothing to add: the ticket is not accepted.
        let offer = ["Negotiate", DIGEST];
        assert_eq!(answer(&mut negotiate, &offer), Ok(("Digest".into(), true)));
        assert_eq!(answer(&mut negotiate, &offer), Err(AuthError::Exhausted));
        let mut endless = with_ticket(None);
        let answers = (0..20)
            .take_while(|_| answer(&mut endless, &["Negotiate bW9yZQ=="]).is_ok())
            .count();
        assert_eq!(answers, usize::from(MESSAGES_MAX));
    }

    #[test]
    fn no_ticket() {
        let offer = ["Negotiate", DIGEST];
        let mut none = with_ticket(Some(SignOnError::Failed));
        assert_eq!(answer(&mut none, &offer), Ok(("Digest".into(), false)));
        let mut stopped = with_ticket(Some(SignOnError::Stopped));
        assert_eq!(answer(&mut stopped, &offer), Err(AuthError::Stopped));
        let mut other = authenticator(Schemes::parse("negotiate"));
        assert_eq!(answer(&mut other, &offer), Err(AuthError::Exhausted));
    }

    #[test]
    fn the_other_side_proves_itself() {
        let proven = |line: &str| {
            let mut negotiate = with_ticket(None);
            header(&mut negotiate, "Negotiate");
            negotiate.verify([line].into_iter())
        };
        assert_eq!(proven("Negotiate bGFzdA=="), Ok(()));
        assert_eq!(proven("Negotiate"), Ok(()));
        for line in ["Negotiate YmFk", "Negotiate bW9yZQ==", "Negotiate !"] {
            assert_eq!(proven(line), Err(AuthError::Forged), "{line}");
        }
        // Nothing was said.
        assert_eq!(with_ticket(None).verify(["Negotiate YmFk"].into_iter()), Ok(()));
    }

    #[test]
    fn a_domain_serves_without_a_password() {
        let credentials = |password: &str| Credentials {
            user: "DOM\\u".into(),
            password: password.into(),
        };
        let ntlm =
            |credentials| Authenticator::new(Schemes::default(), credentials, None).with_domain(Echo(None));
        for without in [None, Some(credentials(""))] {
            let mut domain = ntlm(without);
            assert_eq!(header(&mut domain, "NTLM"), "NTLM Zmlyc3Q=");
            assert_eq!(header(&mut domain, "NTLM bW9yZQ=="), "NTLM bW9yZQ==");
        }
        let mut own = ntlm(Some(credentials("p")));
        assert!(header(&mut own, "NTLM").starts_with("NTLM TlRMTVNTUA"));
    }
}
