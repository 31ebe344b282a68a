//! Certificates and keys of the client (`specs/client.md` §8).

mod file;
mod load;
mod passphrase;
mod pkcs11;
mod second;

use std::sync::{Arc, OnceLock};

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

/// What the client shows to servers. It is loaded when the first server is connected to, because
/// the user may be asked for a passphrase.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    identity: OnceLock<Arc<CertifiedKey>>,
    second: OnceLock<Arc<CertifiedKey>>,
}

impl Credentials {
    /// Certificate and key for TLS; `None` if the user gave none.
    ///
    /// # Errors
    /// See [`LoadFailure`].
    pub(crate) fn identity(&self, context: &Context) -> Result<Option<Arc<CertifiedKey>>, LoadFailure> {
        let source = context.options.credentials.primary.as_ref();
        loaded(&self.identity, context, source, Role::Primary)
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
        loaded(&self.second, context, source, Role::Secondary)
    }
}

/// What is in `cell`, loaded from `source` the first time.
fn loaded(
    cell: &OnceLock<Arc<CertifiedKey>>,
    context: &Context,
    source: Option<&KeyPair>,
    role: Role,
) -> Result<Option<Arc<CertifiedKey>>, LoadFailure> {
    let Some(source) = source else {
        return Ok(None);
    };
    if let Some(identity) = cell.get() {
        return Ok(Some(Arc::clone(identity)));
    }
    let identity = Arc::new(load(context, source, role)?.into_certified_key(context)?);
    Ok(Some(Arc::clone(cell.get_or_init(|| identity))))
}
