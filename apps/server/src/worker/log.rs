use crate::ipc::fields::Text;
use crate::ipc::link::{Blocking, LinkError};
use crate::ipc::messages::{LogLevel, MainToWorker, WorkerToMain};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// A worker's channel to main: log lines, reports, orders.
pub(super) struct Reporter {
    main: Blocking,
    level: u8,
}

impl Reporter {
    /// `level` is the configured log level: lines that main would drop are not sent.
    pub(super) fn new(main: Blocking, level: u8) -> Self {
        Self { main, level }
    }

    /// Writes a log line.
    pub(super) fn log(&self, level: LogLevel, text: &str) {
        if crate::log::passes(self.level, level) {
            self.tell(&WorkerToMain::Log {
                level,
                text: Text::truncated(text),
            });
        }
    }

    /// Sends a message. When main is gone this worker ends anyway: its channel says so.
    pub(super) fn tell(&self, message: &WorkerToMain) {
        let _main_gone = self.main.send(message, &[]);
    }

    /// The next order of main; see [`Blocking::receive`].
    pub(super) fn order(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Option<(MainToWorker, Vec<OwnedFd>)>, LinkError> {
        self.main.receive(deadline)
    }
}

impl AsFd for Reporter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.main.as_fd()
    }
}
