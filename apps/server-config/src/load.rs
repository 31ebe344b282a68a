//! Reading a whole configuration file.

use std::path::Path;

use crate::config::Config;
use crate::grammar;
use crate::note::{ConfigError, Note};
use crate::raw;
use crate::reader::Reader;
use crate::report::Report;
use crate::{global, host};

/// Largest configuration file, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// What checks ask the machine about.
pub(crate) trait System {
    fn can_open(&self, path: &Path) -> bool;
    /// A file is there. It is not opened: whoever opens a pipe waits, and takes what is in it.
    fn is_file(&self, path: &Path) -> bool;
    fn is_directory(&self, path: &Path) -> bool;
    fn user_exists(&self, name: &str) -> bool;
    fn group_exists(&self, name: &str) -> bool;
}

/// This machine.
struct ThisSystem;

impl System for ThisSystem {
    fn can_open(&self, path: &Path) -> bool {
        std::fs::File::open(path).is_ok()
    }

    fn is_file(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| !found.is_dir())
    }

    fn is_directory(&self, path: &Path) -> bool {
        path.is_dir()
    }

    fn user_exists(&self, name: &str) -> bool {
        matches!(culvert_sys::user::by_name(name), Ok(Some(_)))
    }

    fn group_exists(&self, name: &str) -> bool {
        matches!(culvert_sys::user::group_by_name(name), Ok(Some(_)))
    }
}

/// A machine that has whatever a configuration names.
struct AnySystem;

impl System for AnySystem {
    fn can_open(&self, _: &Path) -> bool {
        true
    }

    fn is_file(&self, _: &Path) -> bool {
        true
    }

    fn is_directory(&self, _: &Path) -> bool {
        true
    }

    fn user_exists(&self, _: &str) -> bool {
        true
    }

    fn group_exists(&self, _: &str) -> bool {
        true
    }
}

impl Config {
    /// Reads and checks a configuration file. Keys and certificates are not looked at.
    ///
    /// # Errors
    /// The file cannot be read, or the first thing that is wrong with it.
    pub fn load(path: &Path) -> Result<(Self, Vec<Note>), ConfigError> {
        let text = crate::file::read_bounded(path, FILE_MAX).map_err(|_| ConfigError {
            message: format!("cannot access config file: {}", path.display()),
            file: path.to_owned(),
            line: None,
            notes: Vec::new(),
        })?;
        read(&text, path, &ThisSystem)
    }

    /// Checks the text of a configuration file, as if everything that it names existed.
    /// `path` is only for messages.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(text: &[u8], path: &Path) -> Result<(Self, Vec<Note>), ConfigError> {
        read(text, path, &AnySystem)
    }
}

fn read(text: &[u8], path: &Path, system: &dyn System) -> Result<(Config, Vec<Note>), ConfigError> {
    let lines = grammar::read(text).map_err(|bad| bad.into_error(path))?;
    let mut report = Report::default();
    let raw = raw::hosts(lines, &mut report);
    let mut reader = Reader {
        values: &raw.default_host,
        host: 0,
        vhost: None,
        report: &mut report,
    };
    let global = global::read(&mut reader, system);
    let default_host = host::read(&mut reader, &global, system);
    let mut vhosts = Vec::with_capacity(raw.vhosts.len());
    for (index, (name, values)) in raw.vhosts.iter().enumerate() {
        let mut reader = Reader {
            values,
            host: index + 1,
            vhost: Some(name),
            report: &mut report,
        };
        vhosts.push(host::read(&mut reader, &global, system));
    }
    let notes = report.finish(path)?;
    Ok((
        Config {
            global,
            default_host,
            vhosts,
        },
        notes,
    ))
}
