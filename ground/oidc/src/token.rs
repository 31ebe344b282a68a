use std::time::{Duration, SystemTime, UNIX_EPOCH};

use culvert_vocab::{GROUPS_MAX, GroupName, NameError, SecretString, UserName};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::keys::KeySet;

/// Longest token, in octets.
const TOKEN_MAX: usize = 16384;
/// How far the clocks of provider and server may be apart.
const LEEWAY: Duration = Duration::from_secs(60);

/// Whom a token speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// His name.
    pub name: UserName,
    /// His groups, if the configuration names a claim for them.
    pub groups: Vec<GroupName>,
}

/// Why a token is not taken; never shown to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64, with JSON in them.
    #[error("this is no JSON web token")]
    Malformed,
    /// The header has no `kid`.
    #[error("the token does not say which key has signed it")]
    NoKeyId,
    /// `typ` says that it is something else, or `crit` wants what is not known here.
    #[error("the token is of another type")]
    Type,
    /// The provider has no such key; a newer set may have it.
    #[error("the token is signed with the unknown key '{0}'")]
    UnknownKey(String),
    /// Another key has signed it, nobody has, or with an algorithm that is not for the key.
    #[error("the signature is wrong")]
    Signature,
    /// `nbf`, `iat` or `exp` is missing or no number.
    #[error("the token has no '{0}'")]
    NoTime(&'static str),
    /// `nbf` is in the future.
    #[error("the token is not valid yet")]
    NotYet,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// A required claim is missing or has another value.
    #[error("the claim '{0}' has not the required value")]
    Claim(String),
    /// The user name is missing or no text.
    #[error("the claim '{0}', which names the user, is missing or no text")]
    NoUser(String),
    /// Nobody can be called that.
    #[error("the user name cannot be used: {0}")]
    UserName(NameError),
}

/// Judges a token in JWS compact form at the time `now`.
///
/// # Errors
/// See [`TokenError`].
pub fn verify(
    config: &Config,
    keys: &KeySet,
    token: &SecretString,
    now: SystemTime,
) -> Result<User, TokenError> {
    let token = token.expose().trim();
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    if token.len() > TOKEN_MAX || payload.contains('.') {
        return Err(TokenError::Malformed);
    }
    let (header, signature) = (object(header)?, decode(signature)?);
    let key = text(&header, "kid").ok_or(TokenError::NoKeyId)?;
    if !is_jwt(header.get("typ")) || header.contains_key("crit") {
        return Err(TokenError::Type);
    }
    if !keys.has(key) {
        return Err(TokenError::UnknownKey(printable(key)));
    }
    let algorithm = text(&header, "alg").ok_or(TokenError::Signature)?;
    if !keys.verify(key, algorithm, signed.as_bytes(), &signature) {
        return Err(TokenError::Signature);
    }
    judge_claims(config, &object(payload)?, now)
}

/// Judges the claims of a token whose signature is good.
fn judge_claims(config: &Config, claims: &Map<String, Value>, now: SystemTime) -> Result<User, TokenError> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let time = |name| {
        claims
            .get(name)
            .and_then(Value::as_f64)
            .ok_or(TokenError::NoTime(name))
    };
    let (not_before, _issued, expires) = (time("nbf")?, time("iat")?, time("exp")?);
    if now + LEEWAY.as_secs_f64() < not_before {
        return Err(TokenError::NotYet);
    }
    if now - LEEWAY.as_secs_f64() > expires {
        return Err(TokenError::Expired);
    }
    for (name, required) in &config.required_claims {
        let found = claims.get(name);
        let among = name == "aud"
            && found
                .and_then(Value::as_array)
                .is_some_and(|audiences| audiences.contains(required));
        if found != Some(required) && !among {
            return Err(TokenError::Claim(name.clone()));
        }
    }
    let claim = &config.user_name_claim;
    let name = text(claims, claim).ok_or_else(|| TokenError::NoUser(claim.clone()))?;
    Ok(User {
        name: UserName::new(name).map_err(TokenError::UserName)?,
        groups: config
            .group_claim
            .as_ref()
            .map_or_else(Vec::new, |claim| groups(claims, claim)),
    })
}

/// The groups of a claim, a text or a list; names that no group can have are left out.
fn groups(claims: &Map<String, Value>, claim: &str) -> Vec<GroupName> {
    let names = match claims.get(claim) {
        Some(Value::Array(names)) => names.as_slice(),
        Some(name) => std::slice::from_ref(name),
        None => &[],
    };
    names
        .iter()
        .filter_map(|name| GroupName::new(name.as_str()?).ok())
        .take(GROUPS_MAX)
        .collect()
}

/// `JWT` or `at+jwt` (RFC 9068 §2.1), or nothing.
fn is_jwt(typ: Option<&Value>) -> bool {
    match typ {
        None => true,
        Some(Value::String(typ)) => {
            let typ = typ.to_ascii_lowercase();
            matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
        }
        Some(_) => false,
    }
}

fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str)
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    BASE64URL_NOPAD
        .decode(part.as_bytes())
        .map_err(|_| TokenError::Malformed)
}

fn object(part: &str) -> Result<Map<String, Value>, TokenError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenError::Malformed)
}

/// A piece of a stranger's text for the log.
fn printable(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}
