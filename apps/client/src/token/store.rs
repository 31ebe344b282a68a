//! Token files (`specs/client.md` §9.2): the counter is written back before a code is used, one
//! program at a time, and never half.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use culvert_token::{Mode, Oath};
use culvert_vocab::SecretString;

use crate::prompt::reason;
use crate::replace::replace;

/// Largest token file, in octets.
const FILE_MAX: u64 = 1 << 20;
/// How often a file is opened anew because another program has replaced it meanwhile.
const REOPEN_MAX: u32 = 100;

/// Reads a token.
///
/// # Errors
/// The text to show.
pub(super) fn read(path: &Path, mode: Mode) -> Result<Oath, String> {
    let failed = |error: io::Error| format!("Failed to open {}: {}", path.display(), reason(&error));
    let mut file = File::open(path).map_err(failed)?;
    parse(&mut file, mode).map_err(failed)
}

/// The next code of a counter-based token, whose counter goes up in its file.
///
/// # Errors
/// The text to show. There is no code unless the counter was written.
pub(super) fn next_code(path: &Path) -> Result<SecretString, String> {
    let failed =
        |what: &str, error: io::Error| format!("Failed to {what} {}: {}", path.display(), reason(&error));
    // A link stays a link.
    let path = &fs::canonicalize(path).map_err(|error| failed("open", error))?;
    let mut file = open_locked(path).map_err(|error| failed("open", error))?;
    let mut token = parse(&mut file, Mode::Hotp).map_err(|error| failed("read", error))?;
    let code = token.next_code().map_err(|error| error.to_string())?;
    let text = token.to_text();
    replace(path, text.expose().as_bytes()).map_err(|error| failed("write", error))?;
    Ok(code)
}

/// Opens a file and locks it. The lock is worth nothing if the file has been replaced meanwhile.
fn open_locked(path: &Path) -> io::Result<File> {
    for _ in 0..REOPEN_MAX {
        let file = File::open(path)?;
        file.lock()?;
        let (locked, current) = (file.metadata()?, fs::metadata(path)?);
        if (locked.dev(), locked.ino()) == (current.dev(), current.ino()) {
            return Ok(file);
        }
    }
    Err(io::Error::other("other programs keep replacing it"))
}

fn parse(file: &mut File, mode: Mode) -> io::Result<Oath> {
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(FILE_MAX).read_to_string(&mut text)?;
    Oath::parse(mode, &text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::thread;

    use super::*;

    fn token_file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("token");
        fs::write(&path, text).expect("file");
        (dir, path)
    }

    #[test]
    fn the_counter_goes_up_and_the_file_keeps_its_mode() {
        let (dir, path) = token_file("12345678901234567890,0\n");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("mode");
        let link = dir.path().join("link");
        symlink(&path, &link).expect("link");
        assert_eq!(next_code(&link), Ok("755224".into()));
        assert_eq!(next_code(&path), Ok("287082".into()));
        assert_eq!(fs::read_to_string(&path).expect("file"), "12345678901234567890,2");
        assert_eq!(fs::metadata(&path).expect("file").mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 2);
    }

    #[test]
    fn no_code_twice_from_many_at_once() {
        let (_dir, path) = token_file("12345678901234567890,0");
        let codes: Vec<String> = thread::scope(|scope| {
            let handles: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..5).map(|_| next_code(&path)).collect::<Vec<_>>()))
                .collect();
            let codes = handles
                .into_iter()
                .flat_map(|handle| handle.join().expect("thread"));
            codes
                .map(|code| code.expect("code").expose().to_owned())
                .collect()
        });
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), 40);
        assert_eq!(
            fs::read_to_string(&path).expect("file"),
            "12345678901234567890,40"
        );
    }

    #[test]
    fn no_code_without_a_counter_written() {
        let (_dir, path) = token_file("not a counter,x");
        assert!(next_code(&path).is_err());
        assert_eq!(fs::read_to_string(&path).expect("file"), "not a counter,x");
        assert!(next_code(Path::new("/nonexistent")).is_err());
    }
}
