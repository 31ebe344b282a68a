use std::time::UNIX_EPOCH;

use culvert_oidc::{Config, KeySet, jwks_location, verify};

/// The configuration, and one key with the id `k` of each kind.
const CONFIG: &[u8] =
    br#"{"openid_configuration_url":"https://h/","user_name_claim":"u","required_claims":{"iss":"i"}}"#;
const KEYS: &[u8] = br#"{"keys":[{"kty":"RSA","kid":"k","n":"wwww","e":"AQAB"},
    {"kty":"EC","kid":"k","crv":"P-256","x":"wwww","y":"wwww"},{"kty":"OKP","kid":"k","crv":"Ed25519","x":"wwww"}]}"#;

/// A provider's documents, and a client's token.
pub(crate) fn documents_and_tokens(data: &[u8]) {
    let _ = Config::parse(data);
    let _ = jwks_location(data);
    let _ = KeySet::parse(data);
    let (Ok(config), Ok(keys)) = (Config::parse(CONFIG), KeySet::parse(KEYS)) else {
        return;
    };
    let token = String::from_utf8_lossy(data).into_owned();
    assert!(verify(&config, &keys, &token.into(), UNIX_EPOCH).is_err());
}
