//! Replies: whether they come from the server that was asked, and what they say
//! (RFC 2865 §3, RFC 3579 §3.2).

use culvert_vocab::SecretBytes;
use subtle::ConstantTimeEq as _;

use crate::access::Profile;
use crate::attribute::{MESSAGE_AUTHENTICATOR, PROXY_STATE, REPLY_MESSAGE, STATE};
use crate::packet::{HEADER_LEN, Packet};
use crate::request::{Code, md5, message_authenticator};

/// Longest text of Reply-Message attributes together, in octets.
const MESSAGE_MAX: usize = 1024;

/// What a server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Access-Accept.
    Accept(Box<Profile>),
    /// Access-Reject, with the text for the user.
    Reject(Option<String>),
    /// Access-Challenge.
    Challenge {
        /// To be sent back with the answer; empty when the server sent none.
        state: Vec<u8>,
        /// The question.
        message: Option<String>,
    },
    /// Accounting-Response, or the answer to Status-Server.
    Acknowledged,
}

/// Why a reply does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Discarded {
    /// The response authenticator is wrong.
    #[error("its authenticator is wrong: is the shared secret the same on both sides?")]
    Authenticator,
    /// The Message-Authenticator is wrong.
    #[error("its Message-Authenticator is wrong")]
    MessageAuthenticator,
    /// There is no Message-Authenticator, and there has to be one.
    #[error("it has no Message-Authenticator (see require-message-authenticator)")]
    Unsigned,
    /// Proxy-State without Message-Authenticator and without having been sent: the sign of a
    /// forgery (CVE-2024-3596).
    #[error("it has a Proxy-State that was not asked for and no Message-Authenticator")]
    ProxyState,
    /// A reply to something else.
    #[error("code {0} is no reply to the request")]
    Code(u8),
}

/// Verifies a reply to a request with this authenticator and reads it. The second value says
/// whether it carried a good Message-Authenticator; `required`: it must.
///
/// # Errors
/// See [`Discarded`].
pub fn read(
    packet: &Packet<'_>,
    asked: Code,
    authenticator: &[u8; 16],
    secret: &SecretBytes,
    required: bool,
) -> Result<(Reply, bool), Discarded> {
    let octets = packet.octets();
    let head = octets.get(..4).unwrap_or_default();
    let attributes = octets.get(HEADER_LEN..).unwrap_or_default();
    let want = md5(&[head, authenticator, attributes, secret.expose()]);
    if !bool::from(want.ct_eq(&packet.authenticator())) {
        return Err(Discarded::Authenticator);
    }
    let signed = verify_message_authenticator(packet, authenticator, secret)?;
    // Only an Access-Accept is worth a forgery; FreeRADIUS 3.2.1 signs no answer to Status-Server.
    if asked == Code::Access && !signed {
        if required {
            return Err(Discarded::Unsigned);
        }
        if packet.values(PROXY_STATE).next().is_some() {
            return Err(Discarded::ProxyState);
        }
    }
    let reply = match (asked, packet.code()) {
        (Code::Access, 2) => Reply::Accept(Box::new(Profile::read(packet))),
        (Code::Access, 3) => Reply::Reject(message(packet)),
        (Code::Access, 11) => Reply::Challenge {
            state: packet.values(STATE).next().unwrap_or_default().to_vec(),
            message: message(packet),
        },
        (Code::Accounting, 5) | (Code::Status, 2 | 5) => Reply::Acknowledged,
        (_, code) => return Err(Discarded::Code(code)),
    };
    Ok((reply, signed))
}

/// True when there is one and it is right, false when there is none.
fn verify_message_authenticator(
    packet: &Packet<'_>,
    authenticator: &[u8; 16],
    secret: &SecretBytes,
) -> Result<bool, Discarded> {
    let octets = packet.octets();
    let mut at = HEADER_LEN;
    let mut found = None;
    for attribute in packet.attributes() {
        if attribute.kind == MESSAGE_AUTHENTICATOR {
            // Two of them cannot both cover the packet.
            if found.is_some() || attribute.value.len() != 16 {
                return Err(Discarded::MessageAuthenticator);
            }
            found = Some((at + 2, attribute.value));
        }
        at += attribute.value.len() + 2;
    }
    let Some((at, value)) = found else {
        return Ok(false);
    };
    let head = octets.get(..4).unwrap_or_default();
    let before = octets.get(HEADER_LEN..at).unwrap_or_default();
    let after = octets.get(at + 16..).unwrap_or_default();
    let want = message_authenticator(secret, &[head, authenticator, before, &[0; 16], after]);
    match bool::from(want[..].ct_eq(value)) {
        true => Ok(true),
        false => Err(Discarded::MessageAuthenticator),
    }
}

/// The Reply-Message attributes together, as text.
pub(crate) fn message(packet: &Packet<'_>) -> Option<String> {
    let mut octets: Vec<u8> = packet.values(REPLY_MESSAGE).flatten().copied().collect();
    octets.truncate(MESSAGE_MAX);
    (!octets.is_empty()).then(|| String::from_utf8_lossy(&octets).into_owned())
}
