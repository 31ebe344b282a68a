//! What requests say: query and body are one list of parameters (`specs/globalprotect.md` §5.1).

use culvert_esp::{Encryption, Integrity};
use culvert_login::server::{Claims, ClientDescription};
use culvert_vocab::{SecretString, SessionId};
use culvert_wire::form::{self, FormError};
use culvert_wire::http::Request;
use data_encoding::HEXLOWER;

use crate::wire::{parse_encryption, parse_integrity};

/// Parameters of a request.
pub(super) struct Fields(Vec<(String, SecretString)>);

impl Fields {
    pub(super) fn of(request: &Request) -> Result<Self, FormError> {
        let query = request.target.split_once('?').map_or("", |(_, query)| query);
        let body = String::from_utf8_lossy(&request.body);
        let fields = form::decode(query)?.into_iter().chain(form::decode(&body)?);
        Ok(Self(
            fields
                .map(|(name, value)| (name, SecretString::new(value)))
                .collect(),
        ))
    }

    /// The first value of this name that says something.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .filter(|(n, _)| n == name)
            .map(|(_, value)| value.expose())
            .find(|value| !value.is_empty())
    }

    /// What the client says of its session: user and, with `computer`, host. What it does not say is
    /// empty, and compared, too.
    pub(super) fn claims(&self, computer: bool) -> Claims {
        let text = |name| self.get(name).unwrap_or_default().to_owned();
        Claims {
            user: Some(text("user")),
            computer: computer.then(|| text("computer")),
        }
    }

    /// A session, where one is named.
    pub(super) fn session(&self, name: &str) -> Option<SessionId> {
        self.get(name).and_then(parse_session)
    }
}

/// The form in which clients get a session: 64 hexadecimal digits.
pub(super) fn session_text(session: &SessionId) -> SecretString {
    SecretString::new(HEXLOWER.encode(session.expose()))
}

fn parse_session(text: &str) -> Option<SessionId> {
    let octets = zeroize::Zeroizing::new(HEXLOWER.decode(text.as_bytes()).ok()?);
    <[u8; 32]>::try_from(octets.as_slice())
        .ok()
        .map(SessionId::from_bytes)
}

/// What a client says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClientInfo {
    /// `User-Agent`.
    pub(super) user_agent: String,
    /// `clientos`.
    pub(super) os: String,
    /// `os-version`.
    pub(super) os_version: String,
    /// `computer`.
    pub(super) computer: Option<String>,
}

impl ClientInfo {
    pub(super) fn describe(&self) -> ClientDescription {
        ClientDescription {
            user_agent: self.user_agent.clone(),
            device_type: self.os.clone(),
            platform: self.os_version.clone(),
            computer: self.computer.clone().unwrap_or_default(),
        }
    }

    pub(super) fn update(&mut self, request: &Request, fields: &Fields) {
        let set = |to: &mut String, value: Option<&str>| {
            if let Some(value) = value {
                value.clone_into(to);
            }
        };
        set(&mut self.user_agent, request.headers.get("User-Agent"));
        set(&mut self.os, fields.get("clientos"));
        set(&mut self.os_version, fields.get("os-version"));
        if let Some(computer) = fields.get("computer") {
            self.computer = Some(computer.to_owned());
        }
    }
}

/// What a client asks for with `getconfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigRequest {
    /// The session.
    pub(super) session: SessionId,
    /// What the client says about itself.
    pub(super) client: ClientInfo,
    /// The client takes IPv6 addresses.
    pub(super) ipv6: bool,
    /// Algorithms for ESP: the best that both sides know, if there is one.
    pub(super) algorithms: Option<(Encryption, Integrity)>,
}

impl ConfigRequest {
    /// `None` without a session.
    pub(super) fn parse(
        fields: &Fields,
        client: ClientInfo,
        allowed: &[(Encryption, Integrity)],
    ) -> Option<Self> {
        Some(Self {
            session: fields.session("authcookie")?,
            client,
            ipv6: fields.get("ipv6-support") == Some("yes"),
            algorithms: algorithms(
                fields.get("enc-algo").unwrap_or_default(),
                fields.get("hmac-algo").unwrap_or_default(),
                allowed,
            ),
        })
    }
}

/// The first of the allowed pairs that the client offers.
fn algorithms(
    encryption: &str,
    integrity: &str,
    allowed: &[(Encryption, Integrity)],
) -> Option<(Encryption, Integrity)> {
    let encryption: Vec<_> = encryption.split(',').filter_map(parse_encryption).collect();
    let integrity: Vec<_> = integrity.split(',').filter_map(parse_integrity).collect();
    let offered =
        |pair: &&(Encryption, Integrity)| encryption.contains(&pair.0) && integrity.contains(&pair.1);
    allowed.iter().find(offered).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_algorithms() {
        let (fast, strong) = (
            (Encryption::Aes128Cbc, Integrity::HmacSha1),
            (Encryption::Aes256Cbc, Integrity::HmacSha256),
        );
        let chosen = |encryption: &str, integrity: &str| algorithms(encryption, integrity, &[fast, strong]);
        let official = chosen("aes-256-gcm,aes-128-gcm,aes-128-cbc,", "sha1,md5,sha256,");
        assert_eq!(official, Some(fast));
        assert_eq!(chosen("aes-256-cbc", "sha256,md5"), Some(strong));
        assert_eq!(chosen("aes-256-cbc,aes-128-cbc", "md5"), None);
        assert_eq!(chosen("aes-256-gcm", "sha1"), None);
        assert_eq!(chosen("", ""), None);
        assert_eq!(algorithms("aes-128-cbc", "sha1", &[]), None);
    }

    #[test]
    fn sessions_are_64_digits() {
        let session = SessionId::from_bytes([0xab; 32]);
        assert_eq!(
            parse_session(session_text(&session).expose()),
            Some(session.clone())
        );
        for text in ["", "ab", &"g".repeat(64), &"a".repeat(63), &"a".repeat(66)] {
            assert_eq!(parse_session(text), None, "{text}");
        }
    }

    #[test]
    fn query_and_body_are_one_list() {
        let mut request = Request::new("POST", "/ssl-vpn/login.esp?user=a%40b&passwd=");
        request.body = b"passwd=x+y&inputStr=".to_vec();
        let fields = Fields::of(&request).unwrap();
        assert_eq!(fields.get("user"), Some("a@b"));
        assert_eq!(fields.get("inputStr"), None);
        assert!(fields.get("passwd").is_some());
    }
}
