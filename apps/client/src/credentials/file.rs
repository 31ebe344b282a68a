//! Reading of credential files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};

use zeroize::Zeroizing;

/// Largest file that is read, in octets.
const FILE_MAX: u64 = 1 << 20;

/// The content of a file, which may be a pipe (`<(command)` of a shell).
///
/// # Errors
/// It cannot be read, or is larger than any file of this kind.
pub(crate) fn read(path: &OsStr) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    // Room for all of it: nothing of a key is left behind where a smaller buffer was.
    let len = file.metadata()?.len().min(FILE_MAX);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(len).unwrap_or_default() + 1));
    file.take(FILE_MAX + 1).read_to_end(&mut content)?;
    match content.len() as u64 > FILE_MAX {
        true => Err(io::Error::other("the file is too large")),
        false => Ok(content),
    }
}
