//! Certificates and keys of the client (`specs/client.md` §8).

mod file;
mod load;
mod passphrase;
mod pkcs11;
mod second;
mod tpm;

use std::sync::{Arc, OnceLock};

#[cfg(feature = "legacy-tls")]
use culvert_tls_legacy::{LegacyIdentity, LegacyKey};
use rustls::sign::CertifiedKey;

use crate::context::Context;
use crate::options::KeyPair;
use crate::prompt::AskError;
use load::{Role, load};
pub(crate) use second::Second;

/// Why a certificate or key could not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadFailure {
    /// Standard input ended when a passphrase was asked for: the program ends.
    #[error("no input")]
    NoInput,
    /// Anything else; the user has been told.
    #[error("loading the certificate failed")]
    Failed,
}

impl From<AskError> for LoadFailure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NonInteractive => Self::Failed,
            AskError::NoInput(_) => Self::NoInput,
        }
    }
}

/// A certificate chain with its key.
#[derive(Debug, Clone)]
struct Identity {
    /// As rustls wants it.
    certified: Arc<CertifiedKey>,
    /// The key as OpenSSL wants it, if it can use it.
    #[cfg(feature = "legacy-tls")]
    legacy: Option<LegacyKey>,
}

/// What the client shows to servers. It is loaded when the first server is connected to, because
/// the user may be asked for a passphrase.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    identity: OnceLock<Identity>,
    second: OnceLock<Identity>,
}

impl Credentials {
    /// Certificate and key for TLS; `None` if the user gave none.
    ///
    /// # Errors
    /// See [`LoadFailure`].
    pub(crate) fn identity(&self, context: &Context) -> Result<Option<Arc<CertifiedKey>>, LoadFailure> {
        let source = context.options.credentials.primary.as_ref();
        Ok(loaded(&self.identity, context, source, Role::Primary)?.map(|identity| identity.certified))
    }

    /// Certificate and key for OpenSSL; `None` if the user gave none, or one with a kind of key that
    /// old servers never knew: the user is told.
    ///
    /// # Errors
    /// See [`LoadFailure`].
    #[cfg(feature = "legacy-tls")]
    pub(crate) fn legacy_identity(&self, context: &Context) -> Result<Option<LegacyIdentity>, LoadFailure> {
        let source = context.options.credentials.primary.as_ref();
        let Some(identity) = loaded(&self.identity, context, source, Role::Primary)? else {
            return Ok(None);
        };
        if identity.legacy.is_none() {
            let text = "TLS for old servers cannot use this kind of key; going on without the certificate";
            context.output.error(text);
        }
        Ok(identity.legacy.map(|key| LegacyIdentity {
            chain: identity.certified.cert.clone(),
            key,
        }))
    }

    /// Certificate and key of `--mca-certificate`; `None` if the user gave none.
    ///
    /// # Errors
    /// See [`LoadFailure`].
    pub(crate) fn second_identity(
        &self,
        context: &Context,
    ) -> Result<Option<Arc<CertifiedKey>>, LoadFailure> {
        let source = context.options.credentials.secondary.as_ref();
        Ok(loaded(&self.second, context, source, Role::Secondary)?.map(|identity| identity.certified))
    }
}

/// What is in `cell`, loaded from `source` the first time.
fn loaded(
    cell: &OnceLock<Identity>,
    context: &Context,
    source: Option<&KeyPair>,
    role: Role,
) -> Result<Option<Identity>, LoadFailure> {
    let Some(source) = source else {
        return Ok(None);
    };
    if let Some(identity) = cell.get() {
        return Ok(Some(identity.clone()));
    }
    let identity = load(context, source, role)?.into_identity(context)?;
    Ok(Some(cell.get_or_init(|| identity).clone()))
}
