//! What reading a configuration has to say.

use std::fmt;
use std::path::PathBuf;

/// A remark that does not stop the server; `Display` gives the line to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// `note: …`
    Note(String),
    /// `warning: …`
    Warning(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => write!(f, "note: {text}"),
            Self::Warning(text) => write!(f, "warning: {text}"),
        }
    }
}

/// Why a configuration cannot be used. `Display` gives the lines to print, each beginning with
/// `error: `: what is wrong and, if one line of the file is to blame, which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// What is wrong, without `error: `.
    pub message: String,
    /// The file.
    pub file: PathBuf,
    /// Number of the line, from 1.
    pub line: Option<usize>,
    /// Notes and warnings found so far; print them first.
    pub notes: Vec<Note>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match self.line {
            Some(line) => write!(
                f,
                "\nerror: config file error in line {line} ({})",
                self.file.display()
            ),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
