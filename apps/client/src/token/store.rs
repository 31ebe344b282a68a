//! Token files (`specs/client.md` §9.2): the counter is written back before a code is used, one
//! program at a time, and never half.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use culvert_token::{Mode, Oath};
use culvert_vocab::SecretString;

use crate::prompt::reason;

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
    replace(path, &file, &token.to_text()).map_err(|error| failed("write", error))?;
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

/// Puts a new file with the same owner and mode in the place of the old one. In a folder where
/// the user may not do that, the file itself is overwritten.
fn replace(path: &Path, old: &File, text: &SecretString) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = path.with_file_name(name);
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh);
    match created {
        Ok(file) => fill(file, old, text)
            .and_then(|()| fs::rename(&fresh, path))
            // The name, too, should outlive a crash; not every folder can be opened.
            .inspect(|()| drop(path.parent().map(|dir| File::open(dir)?.sync_all())))
            .inspect_err(|_| {
                let _ = fs::remove_file(&fresh);
            }),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            overwrite(path, text)
        }
        Err(error) => Err(error),
    }
}

fn fill(mut file: File, old: &File, text: &SecretString) -> io::Result<()> {
    let like = old.metadata()?;
    let ours = file.metadata()?;
    if (like.uid(), like.gid()) != (ours.uid(), ours.gid()) {
        fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
    file.write_all(text.expose().as_bytes())?;
    file.sync_all()
}

fn overwrite(path: &Path, text: &SecretString) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.rewind()?;
    file.write_all(text.expose().as_bytes())?;
    file.set_len(text.expose().len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::symlink;
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
