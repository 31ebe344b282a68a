//! Sealing application data: in the association, or lent to another thread.

use culvert_record::SealError;

use crate::Connection;
use crate::connection::Status;
use crate::handshake::exchange::Role;
use crate::record::{InEpoch, Sealer, content_type};

/// The half of an established association that seals application data, for another thread.
pub struct ApplicationSealer {
    sealer: Sealer,
    record_limit: u16,
}

impl ApplicationSealer {
    /// As [`Connection::headroom`].
    pub fn headroom(&self) -> usize {
        self.sealer.headroom()
    }

    /// As [`Connection::tailroom`].
    pub fn tailroom(&self) -> usize {
        self.sealer.tailroom()
    }

    /// As [`Connection::sealed_len`].
    pub fn sealed_len(&self, len: usize) -> usize {
        self.sealer.sealed_len(len)
    }

    /// As [`Connection::seal_application`].
    ///
    /// # Errors
    /// As there.
    pub fn seal_application(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        seal(&mut self.sealer, self.record_limit, buffer, len)
    }
}

impl Connection {
    /// Seals `len` octets of application data in place. They occupy
    /// `buffer[headroom..headroom + len]`; the record begins at `buffer[0]`. Returns its length.
    ///
    /// # Errors
    /// [`SealError::Buffer`] when `buffer` is shorter than headroom, `len` and tailroom together;
    /// [`SealError::Oversize`] when `len` exceeds 16384 or what the peer accepts;
    /// [`SealError::Exhausted`] when the sequence numbers are used up, not established, or while
    /// another thread has the sealing half.
    pub fn seal_application(&mut self, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
        let Status::Established { agreement, .. } = &self.status else {
            return Err(SealError::Exhausted);
        };
        seal(&mut self.write.active, agreement.record_limit, buffer, len)
    }

    /// Takes the half that seals application data out, for another thread; `None` unless this is
    /// a client, established and without a handshake that may need to send. Until [`Self::put_sealer`]
    /// nothing can be sealed here: alerts are not sent, and [`Self::start_rekey`] must not be
    /// called.
    pub fn take_sealer(&mut self) -> Option<ApplicationSealer> {
        let (Status::Established { agreement, .. }, Role::Client(_) | Role::ResumingClient(_)) =
            (&self.status, &self.role)
        else {
            return None;
        };
        if self.exchange.is_some() || self.final_flight.is_some() || self.write.active.is_absent() {
            return None;
        }
        let stand_in = Sealer::absent(self.write.active.epoch());
        Some(ApplicationSealer {
            sealer: std::mem::replace(&mut self.write.active, stand_in),
            record_limit: agreement.record_limit,
        })
    }

    /// Puts the sealing half back.
    pub fn put_sealer(&mut self, lent: ApplicationSealer) {
        self.write.active = lent.sealer;
    }
}

fn seal(sealer: &mut Sealer, record_limit: u16, buffer: &mut [u8], len: usize) -> Result<usize, SealError> {
    if len > usize::from(record_limit) {
        return Err(SealError::Oversize);
    }
    sealer.seal(content_type::APPLICATION_DATA, buffer, len)
}
