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
fn the_user_is_told_what_is_attempted() {
    let said = |authenticator: &mut Authenticator<'_>, line: &str| {
        let answer = authenticator.answer([line].into_iter(), &CIRCUMSTANCES);
        let attempt = answer.expect("an answer").attempt;
        attempt.map(|attempt| attempt.towards("proxy"))
    };
    let told = |text: &str| Some(format!("Attempting {text}"));
    let mut all = authenticator(Schemes::parse("basic,digest,ntlm"));
    assert_eq!(said(&mut all, "NTLM"), None);
    assert_eq!(
        said(&mut all, NTLM_CHALLENGE),
        told("HTTP NTLMv2 authentication to proxy")
    );
    assert_eq!(said(&mut all, DIGEST), told("Digest authentication to proxy"));
    assert_eq!(
        said(&mut all, "Basic"),
        told("HTTP Basic authentication to proxy")
    );
    let mut ticket = with_ticket(None);
    assert_eq!(
        said(&mut ticket, "Negotiate"),
        told("GSSAPI authentication to proxy")
    );
    assert_eq!(said(&mut ticket, "Negotiate bW9yZQ=="), None);
    let mut domain = Authenticator::new(Schemes::default(), None, None).with_domain(Echo(None));
    assert_eq!(said(&mut domain, "NTLM"), None);
    assert_eq!(
        said(&mut domain, "NTLM bW9yZQ=="),
        told("HTTP NTLM authentication to proxy (single-sign-on)")
    );
}

/// A challenge of NTLM that is repeated in the answer and too long for that: other schemes are used; without one
/// the user is told why.
#[test]
fn a_challenge_that_is_too_long() {
    let mut message = b"NTLMSSP\0\x02\0\0\0".to_vec();
    message.extend([0; 8]);
    // Target information.
    message.extend(0x0080_0000u32.to_le_bytes());
    message.extend([0; 16]);
    message.extend([0xff, 0xff, 0xff, 0xff, 48, 0, 0, 0]);
    message.extend([1; 65535]);
    let long = format!("NTLM {}", BASE64.encode(&message));
    let mut both = authenticator(Schemes::parse("ntlm,digest"));
    assert_eq!(answer(&mut both, &["NTLM"]), Ok(("NTLM".into(), false)));
    assert_eq!(answer(&mut both, &[&long, DIGEST]), Ok(("Digest".into(), true)));
    let mut alone = authenticator(Schemes::parse("ntlm"));
    assert_eq!(answer(&mut alone, &["NTLM"]), Ok(("NTLM".into(), false)));
    assert_eq!(answer(&mut alone, &[&long]), Err(AuthError::ChallengeTooLong));
    assert_eq!(answer(&mut alone, &[&long]), Err(AuthError::Exhausted));
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
