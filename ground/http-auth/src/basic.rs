//! User and password as they are (RFC 7617).

use culvert_vocab::SecretString;
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::Credentials;

pub(crate) fn answer(credentials: &Credentials) -> SecretString {
    let pair = Zeroizing::new(format!("{}:{}", credentials.user, credentials.password.expose()));
    format!("Basic {}", BASE64.encode(pair.as_bytes())).into()
}
