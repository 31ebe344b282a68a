//! A hash of the password and a nonce (RFC 7616; RFC 2069 where the server names no `qop`).

use culvert_vocab::SecretString;
use data_encoding::{BASE64, HEXLOWER};
use md5::Md5;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::challenge::parameters;
use crate::{Circumstances, Credentials};

/// A challenge that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DigestChallenge {
    realm: String,
    nonce: String,
    opaque: Option<String>,
    algorithm: Algorithm,
    /// The server wants `qop=auth`.
    qop: bool,
    /// Only the nonce was too old: the password may be right.
    pub(crate) stale: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Algorithm {
    sha256: bool,
    session: bool,
}

impl Algorithm {
    fn named(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let (hash, session) = match lower.strip_suffix("-sess") {
            Some(hash) => (hash, true),
            None => (lower.as_str(), false),
        };
        match hash {
            "md5" => Some(Self {
                sha256: false,
                session,
            }),
            "sha-256" => Some(Self {
                sha256: true,
                session,
            }),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match (self.sha256, self.session) {
            (false, false) => "MD5",
            (false, true) => "MD5-sess",
            (true, false) => "SHA-256",
            (true, true) => "SHA-256-sess",
        }
    }

    fn hash(self, text: &str) -> String {
        if self.sha256 {
            HEXLOWER.encode(&Sha256::digest(text.as_bytes()))
        } else {
            HEXLOWER.encode(&Md5::digest(text.as_bytes()))
        }
    }
}

impl DigestChallenge {
    /// Understands a challenge; `None` when it asks for what is not known here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parameters = parameters(text);
        let get = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let qop = match get("qop") {
            None => false,
            Some(list) => {
                let offers = |wanted: &str| list.split(',').any(|offer| offer.trim() == wanted);
                if !offers("auth") {
                    return None;
                }
                true
            }
        };
        let algorithm = Algorithm::named(get("algorithm").unwrap_or("MD5"))?;
        // Its key has the client's nonce in it, which only goes with `qop`.
        if algorithm.session && !qop {
            return None;
        }
        Some(Self {
            realm: get("realm")?.to_owned(),
            nonce: get("nonce")?.to_owned(),
            opaque: get("opaque").map(str::to_owned),
            algorithm,
            qop,
            stale: get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case("true")),
        })
    }

    pub(crate) fn answer(
        &self,
        credentials: &Credentials,
        circumstances: &Circumstances<'_>,
    ) -> SecretString {
        let cnonce = BASE64.encode(&circumstances.random);
        let uri = circumstances.uri;
        let mut fields = format!(
            "username={}, realm={}, nonce={}, uri={}",
            quoted(&credentials.user),
            quoted(&self.realm),
            quoted(&self.nonce),
            quoted(uri)
        );
        if self.qop {
            fields.push_str(&format!(", cnonce={}, nc={NC}, qop=auth", quoted(&cnonce)));
        }
        if let Some(opaque) = &self.opaque {
            fields.push_str(&format!(", opaque={}", quoted(opaque)));
        }
        if self.algorithm.name() != "MD5" {
            fields.push_str(&format!(", algorithm={}", self.algorithm.name()));
        }
        let response = self.response(credentials, circumstances.method, uri, &cnonce);
        format!("Digest {fields}, response=\"{response}\"").into()
    }

    fn response(&self, credentials: &Credentials, method: &str, uri: &str, cnonce: &str) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let password = credentials.password.expose();
        let whole = Zeroizing::new(format!("{}:{}:{password}", credentials.user, self.realm));
        let mut key = Zeroizing::new(hash(&whole));
        if self.algorithm.session {
            let session = Zeroizing::new(format!("{}:{}:{cnonce}", *key, self.nonce));
            key = Zeroizing::new(hash(&session));
        }
        let request = hash(&format!("{method}:{uri}"));
        let proof = match self.qop {
            true => format!("{}:{}:{NC}:{cnonce}:auth:{request}", *key, self.nonce),
            false => format!("{}:{}:{request}", *key, self.nonce),
        };
        hash(&Zeroizing::new(proof))
    }
}

/// Every nonce is used once.
const NC: &str = "00000001";

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mufasa(password: &str) -> Credentials {
        Credentials {
            user: "Mufasa".into(),
            password: password.into(),
        }
    }

    /// `specs/vectors/client/proxy-auth.txt`.
    #[test]
    fn captured_answers() {
        let with_qop = DigestChallenge::parse(
            "realm=\"proxy realm\", nonce=\"abc123nonce\", qop=\"auth\", opaque=\"0paque\", algorithm=MD5",
        )
        .expect("known");
        let cnonce = "riA0bxyZnzvagpOTkVu4qxiLlrNFljxytJm72AfTpeo=";
        let circumstances = Circumstances {
            method: "CONNECT",
            uri: "10.77.0.1:4443",
            random: BASE64.decode(cnonce.as_bytes()).unwrap().try_into().unwrap(),
            now: std::time::SystemTime::UNIX_EPOCH,
        };
        assert_eq!(
            with_qop.answer(&mufasa("Circle"), &circumstances).expose(),
            format!(
                "Digest username=\"Mufasa\", realm=\"proxy realm\", nonce=\"abc123nonce\", uri=\"10.77.0.1:4443\", \
                 cnonce=\"{cnonce}\", nc=00000001, qop=auth, opaque=\"0paque\", \
                 response=\"08b55fe8f41bd8efa25a987dbabdec3c\""
            )
        );
        let without = DigestChallenge::parse("realm=\"r\", nonce=\"n1\"").expect("known");
        assert_eq!(
            without.answer(&mufasa("Circle"), &circumstances).expose(),
            "Digest username=\"Mufasa\", realm=\"r\", nonce=\"n1\", uri=\"10.77.0.1:4443\", \
             response=\"03f521785589b991b48569d867f4b2b4\""
        );
    }

    /// RFC 7616 §3.9.1.
    #[test]
    fn examples_of_the_rfc() {
        let challenge = |algorithm: &str| {
            DigestChallenge::parse(&format!(
                "realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            ))
            .expect("known")
        };
        let response = |algorithm: &str| {
            challenge(algorithm).response(
                &mufasa("Circle of Life"),
                "GET",
                "/dir/index.html",
                "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            )
        };
        assert_eq!(response("MD5"), "8ca523f5e9506fed4657c9700eebdbec");
        assert_eq!(
            response("SHA-256"),
            "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
        );
    }

    /// RFC 2617's own reading of MD5-sess, computed with Python's hashlib.
    #[test]
    fn session_algorithms() {
        let challenge = DigestChallenge::parse("realm=\"r\", nonce=\"n1\", qop=\"auth\", algorithm=MD5-sess")
            .expect("known");
        let response = challenge.response(&mufasa("Circle"), "CONNECT", "h:443", "c1");
        assert_eq!(response, "a6fe795d0ab28a818e9d11dc052c98a0");
        assert!(DigestChallenge::parse("realm=\"r\", nonce=\"n\", algorithm=MD5-sess").is_none());
    }

    #[test]
    fn what_is_not_known_is_not_answered() {
        for text in [
            "realm=\"r\", nonce=\"n\", qop=\"auth-int\"",
            "realm=\"r\", nonce=\"n\", algorithm=SHA-512-256",
            "realm=\"r\"",
            "nonce=\"n\"",
        ] {
            assert!(DigestChallenge::parse(text).is_none(), "{text}");
        }
        let stale = DigestChallenge::parse("realm=\"r\", nonce=\"n\", stale=true");
        assert!(stale.is_some_and(|challenge| challenge.stale));
    }

    #[test]
    fn quotes_are_escaped() {
        assert_eq!(quoted("a\"b\\c"), "\"a\\\"b\\\\c\"");
    }
}
