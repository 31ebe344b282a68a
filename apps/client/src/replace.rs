//! Replacing a file of the user as a whole, so that nobody ever sees half of it.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use culvert_sys::random;
use data_encoding::HEXLOWER;

/// Puts a new file with the same owner and mode in the place of the one at `path`, which is no
/// symbolic link; if there is none, one as the umask allows. Where the user may not do that, the
/// file itself is overwritten.
///
/// # Errors
/// It cannot be written.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let old = match fs::metadata(path) {
        Ok(old) => Some(old),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", HEXLOWER.encode(&random::array::<6>()?)));
    let fresh = path.with_file_name(name);
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if old.is_some() { 0o600 } else { 0o644 })
        .open(&fresh);
    let replaced = created.and_then(|file| {
        fill(file, old.as_ref(), content)
            .and_then(|()| fs::rename(&fresh, path))
            .inspect_err(|_| {
                // The error is what matters.
                let _ = fs::remove_file(&fresh);
            })
    });
    match replaced {
        Ok(()) => {
            // The name, too, should outlive a crash; not every folder can be opened.
            let _ = path.parent().map(|dir| File::open(dir)?.sync_all());
            Ok(())
        }
        Err(error)
            if old.is_some()
                && matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
        {
            overwrite(path, content)
        }
        Err(error) => Err(error),
    }
}

fn fill(mut file: File, like: Option<&Metadata>, content: &[u8]) -> io::Result<()> {
    if let Some(like) = like {
        let ours = file.metadata()?;
        if (like.uid(), like.gid()) != (ours.uid(), ours.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(like.mode() & 0o7777))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(content)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    #[test]
    fn owner_and_mode_stay() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("file");
        fs::write(&path, "long before").expect("file");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).expect("mode");
        chown(&path, Some(12345), Some(54321)).expect("root is needed");
        replace(&path, b"after").expect("replaced");
        let now = fs::metadata(&path).expect("file");
        assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (12345, 54321, 0o640));
        assert_eq!(fs::read(&path).expect("file"), b"after");
        assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 1);
    }

    #[test]
    fn files_that_are_not_there_yet() {
        let dir = tempfile::tempdir().expect("folder");
        replace(&dir.path().join("file"), b"x").expect("written");
        assert_eq!(fs::read(dir.path().join("file")).expect("file"), b"x");
        let error = replace(&dir.path().join("none/file"), b"x").expect_err("no folder");
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn an_overwritten_file_has_nothing_of_the_old_one() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("file");
        fs::write(&path, "long before").expect("file");
        overwrite(&path, b"after").expect("written");
        assert_eq!(fs::read(&path).expect("file"), b"after");
    }
}
