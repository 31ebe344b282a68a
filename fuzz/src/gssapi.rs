use std::path::Path;

use culvert_gssapi::{Acceptor, Credentials};

/// A keytab with a key of `HTTP/vpn.test@LAB.TEST`, for which the tickets in the corpus are; they have expired.
const KEYTAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gssapi.keytab");
/// Stands between the tokens of one client.
const BETWEEN: &[u8] = &[0xff; 4];

thread_local! {
    /// Loaded once: MIT's library knows one keytab at a time.
    static KEYS: Option<Credentials> = Credentials::load(Some(Path::new(KEYTAB))).ok();
}

/// What a client sends after `Negotiate`: one token after the other, to the system's library.
pub(crate) fn tokens(mut data: &[u8]) {
    KEYS.with(|keys| {
        let keys = keys.as_ref();
        assert!(keys.is_some(), "no GSSAPI library: see scripts/setup");
        let Some(mut acceptor) = keys.map(|keys| Acceptor::new(keys, None)) else {
            return;
        };
        loop {
            let end = data.windows(BETWEEN.len()).position(|octets| octets == BETWEEN);
            let (token, rest) = data.split_at(end.unwrap_or(data.len()));
            let step = acceptor.step(token);
            assert!(acceptor.accepted().is_none(), "an expired ticket");
            match (step, end) {
                (Ok(_), Some(_)) => data = rest.get(BETWEEN.len()..).unwrap_or_default(),
                _ => return,
            }
        }
    });
}
