//! Keys that a TPM holds (`specs/client.md` §8.5).

use std::sync::Arc;

use culvert_tls::PrivateKey;
use culvert_tpm::{AskAuth, Interface, Key, KeyFile, Protected, TpmError};
use culvert_vocab::{Field, FieldKind, Form, SecretString};

use super::LoadFailure;
use super::load::Role;
use crate::context::Context;
use crate::prompt::AskError;

/// Makes a key of a TPM usable, asking for its passwords.
///
/// # Errors
/// No password came: the failure. Anything else: the error.
pub(super) fn open(
    context: &Context,
    role: Role,
    file: KeyFile,
    given: Option<SecretString>,
) -> Result<(Arc<Key>, PrivateKey), Refused> {
    let mut passwords = Passwords {
        context,
        role,
        given,
        failure: None,
    };
    let interface = Interface::of_environment(|name| std::env::var(name).ok());
    let key = Key::open(file, interface, &mut passwords).map_err(|error| match passwords.failure {
        Some(failure) => Refused::Ask(failure),
        None => Refused::Tpm(error),
    })?;
    let key = Arc::new(key);
    let signing = Arc::clone(&key);
    let sign = move |scheme, message: &[u8]| signing.sign(scheme, message).ok();
    let signing = PrivateKey::elsewhere(&key.spki(), Box::new(sign));
    Ok((key, signing.map_err(|_| Refused::Tpm(TpmError::Kind))?))
}

/// Why a key of a TPM cannot be used.
pub(super) enum Refused {
    Ask(LoadFailure),
    Tpm(TpmError),
}

/// `--key-password` for the key once, then questions.
struct Passwords<'a> {
    context: &'a Context,
    role: Role,
    given: Option<SecretString>,
    failure: Option<LoadFailure>,
}

impl Passwords<'_> {
    fn ask(&self, what: Protected) -> Result<SecretString, AskError> {
        let (kind, label) = match what {
            Protected::Key => ("key", "Enter TPM2 key password:".to_owned()),
            Protected::Parent => ("parent", "Enter TPM2 parent key password:".to_owned()),
            Protected::Hierarchy(name) => ("hierarchy", format!("Enter TPM2 {name} hierarchy password:")),
        };
        let id = match self.role {
            Role::Primary => format!("openconnect_tpm2_{kind}"),
            Role::Secondary => format!("openconnect_secondary_tpm2_{kind}"),
        };
        let mut form = Form {
            id: id.clone(),
            fields: vec![Field {
                name: id,
                label,
                kind: FieldKind::Password,
                value: None,
                ignored: false,
            }],
            ..Form::default()
        };
        let mut asker = self.context.console.clone();
        let mut answers = self.context.answers();
        answers.fill(&mut form, &mut asker)?;
        // A password that was wrong must not be sent again: a TPM counts.
        answers.forget_entries(&form.id);
        let value = form.fields.pop().and_then(|field| field.value);
        Ok(value.unwrap_or_default())
    }
}

impl AskAuth for Passwords<'_> {
    fn auth(&mut self, what: Protected, wrong: bool) -> Option<SecretString> {
        if wrong {
            self.context.output.error("TPM2 password was refused");
        }
        if what == Protected::Key
            && let Some(given) = self.given.take()
        {
            return Some(given);
        }
        self.ask(what)
            .map_err(|error| self.failure = Some(error.into()))
            .ok()
    }

    fn truncated(&mut self, _what: Protected) {
        self.context.output.error("TPM2 password too long; truncating");
    }
}
