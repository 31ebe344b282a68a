//! Challenges of hostile servers: no panic, and no more answers than schemes have messages.

use std::time::SystemTime;

use culvert_http_auth::{Authenticator, Circumstances, Credentials, Schemes};
use proptest::prelude::*;

proptest! {
    #[test]
    fn never_panics_and_ends(
        lines in proptest::collection::vec("(NTLM|Digest|Basic|Bearer|x)? ?[ -~é]{0,200}", 0..6),
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..3),
        user in ".{0,40}",
        password in ".{0,40}",
    ) {
        let mut authenticator = Authenticator::new(
            Schemes::parse("ntlm,digest,basic,bearer"),
            Some(Credentials { user, password: password.as_str().into() }),
            Some("token".into()),
        );
        let circumstances = Circumstances {
            method: "CONNECT",
            uri: "h:443",
            random: [1; 32],
            now: SystemTime::now(),
        };
        let mut lines = lines;
        for message in messages {
            // Begins as a challenge of NTLM does.
            let octets = [&b"NTLMSSP\0\x02\0\0\0"[..], &message].concat();
            lines.push(format!("NTLM {}", data_encoding::BASE64.encode(&octets)));
        }
        lines.retain(|line| !line.contains("stale"));
        let answers = (0..20)
            .take_while(|_| authenticator.answer(lines.iter().map(String::as_str), &circumstances).is_ok())
            .count();
        prop_assert!(answers <= 5, "{answers}");
    }
}
