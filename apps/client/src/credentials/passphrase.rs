//! Asking for passphrases (`specs/client.md` §8.2).

use culvert_credentials::{CredentialError, Passphrase};
use culvert_vocab::{Field, FieldKind, Form, SecretString};

use super::LoadFailure;
use super::load::Role;
use crate::charset;
use crate::context::Context;

/// Something that a passphrase protects, in the words of the reference.
#[derive(Debug, Clone, Copy)]
pub(super) struct Locked {
    /// Id of the form and name of its field.
    pub(super) form: &'static str,
    /// What is asked for.
    pub(super) kind: &'static str,
    /// What is said about a wrong passphrase.
    pub(super) wrong: &'static str,
}

/// How opening something ended.
#[derive(Debug)]
pub(super) enum OpenFailure {
    /// No passphrase came.
    Ask(LoadFailure),
    /// No passphrase would help.
    File(CredentialError),
}

/// Opens with the passphrase that is `given`, or else tries the `silent` ones; then asks until one
/// is right.
pub(super) fn open<T>(
    context: &Context,
    role: Role,
    locked: Locked,
    given: Option<SecretString>,
    silent: &[Passphrase],
    attempt: impl Fn(&Passphrase) -> Result<T, CredentialError>,
) -> Result<T, OpenFailure> {
    let loud = given.is_some();
    let given = given.map(passphrase);
    let first = given.as_slice();
    for passphrase in if loud { first } else { silent } {
        match attempt(passphrase) {
            Err(CredentialError::WrongPassphrase) => {}
            result => return result.map_err(OpenFailure::File),
        }
    }
    let wrong = || context.output.error(locked.wrong);
    if loud {
        wrong();
    }
    loop {
        let typed = ask(context, role, locked).map_err(OpenFailure::Ask)?;
        match attempt(&passphrase(typed)) {
            Err(CredentialError::WrongPassphrase) => wrong(),
            result => return result.map_err(OpenFailure::File),
        }
    }
}

fn passphrase(typed: SecretString) -> Passphrase {
    let local = charset::encode(typed.expose());
    let passphrase = Passphrase::new(typed);
    match local {
        Some(octets) => passphrase.with_local(octets.into()),
        None => passphrase,
    }
}

/// Asks by a form, which the password of `--passwd-on-stdin` and `--form-entry` may answer, each
/// of them once.
fn ask(context: &Context, role: Role, locked: Locked) -> Result<SecretString, LoadFailure> {
    let (form, label) = match role {
        Role::Primary => (
            locked.form.to_owned(),
            format!("Enter {} pass phrase:", locked.kind),
        ),
        Role::Secondary => (
            locked.form.replacen("openconnect_", "openconnect_secondary_", 1),
            format!("Enter secondary {} pass phrase:", locked.kind),
        ),
    };
    let mut form = Form {
        id: form.clone(),
        fields: vec![Field {
            name: form,
            label,
            kind: FieldKind::Password,
            value: None,
            ignored: false,
        }],
        ..Form::default()
    };
    let mut asker = context.console.clone();
    let mut answers = context.answers();
    answers.fill(&mut form, &mut asker)?;
    answers.forget_entries(&form.id);
    let value = form.fields.pop().and_then(|field| field.value);
    Ok(value.unwrap_or_default())
}
