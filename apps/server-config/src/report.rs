//! Collects notes and failures while a configuration is read; the first failure counts.

use std::path::Path;

use crate::note::{ConfigError, Note};

/// The checks of a complete configuration, in the order in which they are made
/// (`specs/server-config.md` §19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Check {
    Auth,
    SocketFile,
    TcpPort,
    CertificateAndKey,
    KeyCount,
    Network,
    Banner,
    CertUserOidMissing,
    CertUserOid,
    UserProfile,
    SvcPort,
    SubnetPrefix,
    Device,
    MatchCiphers,
    LocalDns,
    RadiusGroupConfig,
    CamouflageSecret,
}

/// Ranks failures: lines come before checks, checks go host by host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Line(usize),
    Check { host: usize, check: Check },
}

#[derive(Debug, Default)]
pub(crate) struct Report {
    notes: Vec<(Option<usize>, Note)>,
    failures: Vec<(Rank, Option<usize>, String)>,
}

impl Report {
    /// A note about a line; notes about lines come first, in the order of the file.
    pub(crate) fn note_at(&mut self, line: usize, text: impl Into<String>) {
        self.notes.push((Some(line), Note::Note(text.into())));
    }

    pub(crate) fn warn_at(&mut self, line: usize, text: impl Into<String>) {
        self.notes.push((Some(line), Note::Warning(text.into())));
    }

    /// A note about the whole.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push((None, Note::Note(text.into())));
    }

    /// The value in this line is wrong.
    pub(crate) fn fail_at(&mut self, line: usize, message: impl Into<String>) {
        self.failures.push((Rank::Line(line), Some(line), message.into()));
    }

    /// The configuration as a whole is wrong; `line` is to blame if one line is.
    pub(crate) fn fail_check(
        &mut self,
        host: usize,
        check: Check,
        line: Option<usize>,
        message: impl Into<String>,
    ) {
        self.failures
            .push((Rank::Check { host, check }, line, message.into()));
    }

    /// The notes in order, or the first failure.
    pub(crate) fn finish(mut self, file: &Path) -> Result<Vec<Note>, ConfigError> {
        self.notes.sort_by_key(|(line, _)| line.unwrap_or(usize::MAX));
        let notes = self.notes.into_iter().map(|(_, note)| note).collect();
        // of equal ranks the one that was found first
        match self.failures.into_iter().min_by_key(|(rank, ..)| *rank) {
            None => Ok(notes),
            Some((_, line, message)) => Err(ConfigError {
                message,
                file: file.to_owned(),
                line,
                notes,
            }),
        }
    }
}
