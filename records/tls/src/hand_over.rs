use serde::{Deserialize, Serialize};

use crate::opener::Progress;
use crate::protection::KeyState;
use crate::{Opener, Sealer, TlsError};

/// Both halves of a connection in a form that can be sent to another process. It contains the
/// record keys and sequence numbers: a secret, wiped when dropped, never printed. Only one process
/// may go on with it; two would repeat nonces.
#[derive(Serialize, Deserialize)]
pub struct HandOver {
    sealer: KeyState,
    opener: KeyState,
    progress: Progress,
}

impl HandOver {
    /// Packs the two halves of one connection.
    ///
    /// # Errors
    /// Another library has the keys.
    pub fn new(sealer: Sealer, opener: Opener) -> Result<Self, TlsError> {
        let (opener, progress) = opener.into_parts().ok_or(TlsError::Cipher)?;
        Ok(Self {
            sealer: sealer.into_state().ok_or(TlsError::Cipher)?,
            opener,
            progress,
        })
    }

    /// Unpacks the halves.
    ///
    /// # Errors
    /// The parts do not fit together.
    pub fn into_halves(self) -> Result<(Sealer, Opener), TlsError> {
        Ok((
            Sealer::new(self.sealer)?,
            Opener::new(self.opener, self.progress)?,
        ))
    }
}

impl std::fmt::Debug for HandOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandOver(..)")
    }
}
