//! The epochs of one direction that live side by side around a handshake.

/// Something that belongs to one epoch.
pub(crate) trait InEpoch {
    fn epoch(&self) -> u16;
}

/// The active epoch, the one that a handshake is opening, and the one before.
pub(crate) struct Epochs<T> {
    /// Carries application data, and the messages of the next handshake.
    pub(crate) active: T,
    /// Keys are there, but the handshake is not complete: Finished only.
    pub(crate) next: Option<T>,
    /// For late packets and repeated flights.
    pub(crate) old: Option<T>,
}

impl<T: InEpoch> Epochs<T> {
    pub(crate) fn new(active: T) -> Self {
        Self {
            active,
            next: None,
            old: None,
        }
    }

    /// The one of `epoch`, if it is open.
    pub(crate) fn get_mut(&mut self, epoch: u16) -> Option<&mut T> {
        [Some(&mut self.active), self.next.as_mut(), self.old.as_mut()]
            .into_iter()
            .flatten()
            .find(|one| one.epoch() == epoch)
    }

    /// The next epoch becomes the active one.
    pub(crate) fn advance(&mut self) {
        if let Some(next) = self.next.take() {
            self.old = Some(std::mem::replace(&mut self.active, next));
        }
    }
}
