//! Certificates and keys on smart cards and other tokens (`specs/client.md` §8.4).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use culvert_certs::signature_is_by;
use culvert_pkcs11::{AskPin, Certificate, Key, PinRequest, Pkcs11Error, Tokens, Uri};
use culvert_tls::{KeyIndex, RemoteKey, RemoteSign, RemoteSignError};
use culvert_vocab::{Field, FieldKind, Form, SecretString};
use rustls::SignatureScheme;
use rustls::sign::SigningKey;

use super::LoadFailure;
use super::load::Role;
use crate::context::Context;
use crate::prompt::AskError;

/// What is signed to find out which certificate belongs to a key.
const PROBE: &[u8] = b"which certificate belongs to this key?";
/// Schemes with which the probe is signed.
const SCHEMES: [SignatureScheme; 6] = [
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
];

/// The URI, if `source` is one and no file.
pub(super) fn uri_text(source: &OsStr) -> Option<&str> {
    source.to_str().filter(|text| text.starts_with("pkcs11:"))
}

/// A URI with the type that the use demands, as it is shown.
pub(super) fn with_type(uri: &str, kind: &str) -> String {
    let (path, query) = match uri.split_once('?') {
        Some((path, _)) => (path, "?..."),
        None => (uri, ""),
    };
    let is_type = |attribute: &&str| attribute.starts_with("type=") || attribute.starts_with("object-type=");
    let path = path.strip_prefix("pkcs11:").unwrap_or(path);
    let mut attributes: Vec<&str> = path.split(';').filter(|attribute| !is_type(attribute)).collect();
    let kind = format!("type={kind}");
    attributes.push(&kind);
    format!("pkcs11:{}{query}", attributes.join(";"))
}

/// A certificate, and the tokens on which its key may be.
pub(super) struct OnToken {
    pub(super) certificate: Certificate,
    pub(super) tokens: Tokens,
    pub(super) uri: Uri,
}

/// Finds a certificate.
pub(super) fn find_certificate(uri: &str, pins: &mut Pins<'_>) -> Result<OnToken, Pkcs11Error> {
    let uri = Uri::parse(uri)?;
    let mut tokens = Tokens::open(&uri);
    let certificate = tokens.certificate(&uri, pins)?;
    Ok(OnToken {
        certificate,
        tokens,
        uri,
    })
}

/// Finds a key by a URI of its own.
pub(super) fn find_key(uri: &str, pins: &mut Pins<'_>) -> Result<Key, Pkcs11Error> {
    let uri = Uri::parse(uri)?;
    Tokens::open(&uri).key(&uri, None, pins)
}

/// True when the key makes signatures for a certificate with this SubjectPublicKeyInfo.
pub(super) fn belongs_to(key: &Arc<Key>, spki: &[u8]) -> bool {
    let signed = signing_key(key, spki).and_then(|key| {
        let signer = key.choose_scheme(&SCHEMES)?;
        Some((signer.scheme(), signer.sign(PROBE).ok()?))
    });
    signed.is_some_and(|(scheme, signature)| signature_is_by(spki, scheme, PROBE, &signature))
}

/// The key as TLS uses it; `None` if the certificate's key is of an unknown kind.
pub(super) fn signing_key(key: &Arc<Key>, spki: &[u8]) -> Option<RemoteKey> {
    let key = Arc::clone(key);
    let sign: RemoteSign = Arc::new(move |_, scheme, message| {
        key.sign(scheme, message)
            .map_err(|error| RemoteSignError(error.to_string()))
    });
    RemoteKey::new(KeyIndex(0), spki, sign).ok()
}

/// PINs of the user: `--key-password` for the first token, then questions. A PIN that worked is
/// given again, one that did not never is.
pub(super) struct Pins<'a> {
    context: &'a Context,
    /// Id of the form and name of its field.
    form: &'static str,
    given: Option<SecretString>,
    known: HashMap<String, SecretString>,
    /// Why no PIN came.
    pub(super) failure: Option<LoadFailure>,
}

impl<'a> Pins<'a> {
    pub(super) fn new(context: &'a Context, role: Role, given: Option<SecretString>) -> Self {
        Self {
            context,
            form: match role {
                Role::Primary => "pkcs11_pin",
                Role::Secondary => "secondary_pkcs11_pin",
            },
            given,
            known: HashMap::new(),
            failure: None,
        }
    }

    fn ask(&self, request: &PinRequest) -> Result<SecretString, AskError> {
        let mut form = Form {
            id: self.form.into(),
            banner: match (request.final_try, request.few_tries) {
                (true, _) => Some("This is the final try before locking!".into()),
                (false, true) => Some("Only a few tries left before locking!".into()),
                (false, false) => None,
            },
            message: Some(format!("PIN required for {}", request.label)),
            error: request.wrong.then(|| "Wrong PIN".into()),
            fields: vec![Field {
                name: self.form.into(),
                label: "Enter PIN:".into(),
                kind: FieldKind::Password,
                value: None,
                ignored: false,
            }],
            ..Form::default()
        };
        let mut asker = self.context.console.clone();
        let console = self.context.console.clone();
        let mut answers = self.context.answers();
        answers.introduce(&form, &mut asker, &mut |error| {
            console.write(&format!("{error}\n"))
        });
        answers.fill(&mut form, &mut asker)?;
        // A PIN that was wrong must not be sent again.
        answers.forget_entries(&form.id);
        let value = form.fields.pop().and_then(|field| field.value);
        Ok(value.unwrap_or_default())
    }
}

impl AskPin for Pins<'_> {
    fn pin(&mut self, request: &PinRequest) -> Option<SecretString> {
        if request.wrong {
            self.known.remove(&request.label);
        } else if let Some(pin) = self.known.get(&request.label) {
            return Some(pin.clone());
        }
        let pin = match self.given.take() {
            Some(pin) => pin,
            None => match self.ask(request) {
                Ok(pin) => pin,
                Err(error) => {
                    self.failure = Some(error.into());
                    return None;
                }
            },
        };
        self.known.insert(request.label.clone(), pin.clone());
        Some(pin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_as_they_are_shown() {
        assert_eq!(with_type("pkcs11:token=x", "cert"), "pkcs11:token=x;type=cert");
        assert_eq!(
            with_type("pkcs11:type=cert;object=k?pin-value=1", "private"),
            "pkcs11:object=k;type=private?..."
        );
    }
}
