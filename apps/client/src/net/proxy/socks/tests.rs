use culvert_http_auth::SignOn;
use proptest::prelude::*;

use super::*;

fn socks(url: &str, user: Option<&str>) -> Result<Socks<'static>, SocksError> {
    let credentials = user.map(|user| Credentials {
        user: user.into(),
        password: "p".into(),
    });
    Socks::new(&ServerUrl::parse(url).expect("URL"), credentials.as_ref(), None)
}

/// `specs/vectors/client/proxy-auth.txt`, but for GSSAPI.
#[test]
fn captured_conversations() {
    let request = b"\x05\x01\x00\x03\x0910.77.0.1\x11\x5b".to_vec();
    let mut free = socks("https://10.77.0.1:4443/", None).unwrap();
    assert_eq!(free.begin(), [5, 1, 0]);
    assert_eq!(free.handle_input(&[5]), Ok((vec![], Progress::More)));
    assert_eq!(free.handle_input(&[0]), Ok((request.clone(), Progress::More)));
    let reply = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for octet in &reply[..9] {
        assert_eq!(free.handle_input(&[*octet]), Ok((vec![], Progress::More)));
    }
    assert_eq!(free.handle_input(&reply[9..]), Ok((vec![], Progress::Open)));
    assert!(!free.has_rest());

    let mut login = socks("https://10.77.0.1:4443/", Some("u x")).unwrap();
    assert_eq!(login.begin(), [5, 2, 0, 2]);
    assert_eq!(
        login.handle_input(&[5, 2]),
        Ok((b"\x01\x03u x\x01p".to_vec(), Progress::More))
    );
    assert_eq!(login.handle_input(&[1, 0]), Ok((request, Progress::More)));
    let named = [&[5, 0, 0, 3, 4][..], b"host\x00\x50"].concat();
    assert_eq!(login.handle_input(&named), Ok((vec![], Progress::Open)));
}

/// The notices of openconnect 9.01, in its order.
#[test]
fn the_user_is_told_of_each_step() {
    let told = |mut socks: Socks<'_>, inputs: &[&[u8]]| {
        let failed = inputs.iter().find_map(|input| socks.handle_input(input).err());
        let mut lines: Vec<String> = std::iter::from_fn(|| socks.notices().poll())
            .map(|notice| notice.text)
            .collect();
        lines.extend(failed.map(|error| error.to_string()));
        lines.push(socks.unread("gone".into()).to_string());
        lines
    };
    assert_eq!(
        told(socks("https://h/", Some("u")).unwrap(), &[&[5, 2], &[1, 0]]),
        [
            "SOCKS server requested password authentication",
            "Authenticated to SOCKS server using password",
            "Requesting SOCKS proxy connection to h:443",
            "Error reading connect response from SOCKS proxy: gone",
        ]
    );
    assert_eq!(
        told(socks("https://h/", None).unwrap(), &[&[5, 2]]),
        [
            "SOCKS server requested password authentication",
            "SOCKS server requested username/password but we have none",
            "Error reading auth response from SOCKS proxy: gone",
        ]
    );
    assert_eq!(
        told(with_ticket(), &[&[5, 1], &[1, 1, 0, 0]]),
        [
            "SOCKS server requested GSSAPI authentication",
            "GSSAPI authentication completed",
            "Failed to receive GSSAPI authentication token from proxy: gone",
        ]
    );
}

#[test]
fn addresses_of_every_kind() {
    let v6 = socks("https://[2001:db8::1]/", None).unwrap();
    assert_eq!(v6.request[3..6], [4, 0x20, 0x01]);
    assert_eq!(v6.request[20..], [1, 0xbb]);
    let mut reply = socks("https://h/", None).unwrap();
    reply.handle_input(&[5, 0]).unwrap();
    let answer = [&[5, 0, 0, 4][..], &[9; 18], b"x"].concat();
    assert_eq!(reply.handle_input(&answer), Ok((vec![], Progress::Open)));
    assert!(reply.has_rest());
    assert_eq!(
        socks("https://h/", Some(&"u".repeat(256))).err(),
        Some(SocksError::TooLong)
    );
}

#[test]
fn refusals() {
    let after = |user: Option<&str>, inputs: &[&[u8]]| {
        let mut socks = socks("https://h/", user).unwrap();
        let end = inputs.iter().find_map(|input| socks.handle_input(input).err());
        end.expect("refused").to_string()
    };
    assert_eq!(after(None, &[&[5, 0xff]]), "SOCKS server requires authentication");
    assert_eq!(
        after(Some("u"), &[&[5, 2], &[1, 1]]),
        "Password authentication to SOCKS server failed"
    );
    assert_eq!(
        after(None, &[&[5, 0], &[5, 5]]),
        "SOCKS proxy error 05: connection refused by destination host"
    );
    assert_eq!(
        after(None, &[&[4, 90]]),
        "Unexpected auth response from SOCKS proxy: 04 5a"
    );
    assert_eq!(
        after(None, &[&[5, 0], &[4, 0]]),
        "Unexpected connect response from SOCKS proxy: 04 00..."
    );
    // Methods that were not offered.
    assert_eq!(
        after(None, &[&[5, 2]]),
        "SOCKS server requested username/password but we have none"
    );
    assert_eq!(
        after(None, &[&[5, 7]]),
        "SOCKS server requested unknown authentication type 07"
    );
    assert!(after(None, &[&[5, 0], &[5, 0, 0, 9]]).contains("address type 09"));
    assert_eq!(after(None, &[&[5, 0], &[5, 9]]), "SOCKS proxy error 09");
}

proptest! {
    #[test]
    fn never_panics(inputs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..8)) {
        let mut password = socks("https://h/", Some("u")).unwrap();
        let mut ticket = with_ticket();
        for (socks, begun) in [(&mut password, vec![5, 2]), (&mut ticket, vec![5, 1])] {
            for input in [begun, vec![1, 0]].iter().chain(&inputs) {
                if socks.handle_input(input).is_err() {
                    break;
                }
            }
        }
    }
}

/// Says `first`, then nothing; protects by a mark.
#[derive(Debug)]
struct Echo;

impl SignOn for Echo {
    fn answer(&mut self, challenge: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        match challenge {
            None => Ok(Zeroizing::new(b"first".to_vec())),
            Some(b"more") => Ok(Zeroizing::new(b"second".to_vec())),
            Some(b"bad") => Err(SignOnError::Failed),
            Some(_) => Ok(Zeroizing::default()),
        }
    }
}

impl Protector for Echo {
    fn wrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        Ok(Zeroizing::new([b"w", message].concat()))
    }

    fn unwrap(&self, message: &[u8]) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        let content = message.strip_prefix(b"w").ok_or(SignOnError::Failed)?;
        Ok(Zeroizing::new(content.to_vec()))
    }
}

fn with_ticket() -> Socks<'static> {
    let server = ServerUrl::parse("https://h/").expect("URL");
    Socks::new(&server, None, Some(Box::new(Echo))).expect("short names")
}

#[test]
fn tickets() {
    for token in [&b"last"[..], b""] {
        let mut socks = with_ticket();
        assert_eq!(socks.begin(), [5, 2, 0, 1]);
        let mut say = |input: &[u8]| socks.handle_input(input).expect("goes on").0;
        assert_eq!(say(&[5, 1]), b"\x01\x01\x00\x05first");
        assert_eq!(say(b"\x01\x01\x00\x04mo"), b"");
        assert_eq!(say(b"re"), b"\x01\x01\x00\x06second");
        let last = [&[1, 1, 0, token.len() as u8][..], token].concat();
        assert_eq!(say(&last), b"\x01\x02\x00\x02w\0");
        assert_eq!(say(b"\x01\x02\x00\x02w\0"), b"\x05\x01\x00\x03\x01h\x01\xbb");
    }
}

#[test]
fn tickets_that_are_refused() {
    let error = |inputs: &[&[u8]]| {
        let mut socks = with_ticket();
        inputs.iter().find_map(|input| socks.handle_input(input).err())
    };
    let begun: &[u8] = &[5, 1];
    let known: &[u8] = &[1, 1, 0, 0];
    assert_eq!(error(&[begun, &[1, 0xff]]), Some(SocksError::TicketRefused));
    assert_eq!(
        error(&[begun, b"\x01\x01\x00\x03bad"]),
        Some(SocksError::TicketFailed)
    );
    assert_eq!(error(&[begun, &[1, 2]]), Some(SocksError::TicketStatus(2)));
    assert_eq!(
        error(&[begun, known, b"\x01\x02\x00\x02w\x01"]),
        Some(SocksError::Protection)
    );
    assert_eq!(
        error(&[begun, known, b"\x01\x02\x00\x01x"]),
        Some(SocksError::TicketFailed)
    );
}
