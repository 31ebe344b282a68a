//! The file of `--xmlconfig`: servers by name, and the profile that AnyConnect gateways keep up to
//! date (`specs/client.md` §5.6).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use culvert_wire::xml::{self, Element, XmlError};

use crate::prompt::reason;
use crate::replace::replace;

/// Largest file that is read.
const SIZE_MAX: u64 = 4 << 20;

/// A server of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its URL.
    pub(crate) address: String,
    /// Path for a URL that has none.
    pub(crate) user_group: Option<String>,
}

/// Why there is no profile. The texts are for users.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoProfile {
    /// The file cannot be opened: perhaps there will be one after the login.
    #[error("Failed to open {}: {}", .0.display(), reason(.1))]
    Unopened(PathBuf, #[source] io::Error),
    /// The file cannot be read.
    #[error("Failed to read {}: {}", .0.display(), reason(.1))]
    Unread(PathBuf, #[source] io::Error),
}

/// The file's content.
///
/// # Errors
/// It cannot be read, or is too large.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, NoProfile> {
    let file = File::open(path).map_err(|error| NoProfile::Unopened(path.into(), error))?;
    let mut content = Vec::new();
    let read = match file.take(SIZE_MAX + 1).read_to_end(&mut content) {
        Ok(_) if content.len() as u64 > SIZE_MAX => Err(io::Error::from(io::ErrorKind::FileTooLarge)),
        read => read,
    };
    read.map_err(|error| NoProfile::Unread(path.into(), error))?;
    Ok(content)
}

/// The server of this name in a profile.
///
/// # Errors
/// The profile is no XML.
pub(crate) fn find(profile: &[u8], name: &str) -> Result<Option<Entry>, XmlError> {
    let root = xml::parse(profile)?;
    let entries = root
        .elements()
        .filter(|list| list.name == "ServerList")
        .flat_map(Element::elements)
        .filter(|entry| entry.name == "HostEntry");
    let text = |entry: &Element, name: &str| {
        let text = entry.child(name)?.text().trim().to_owned();
        Some(text).filter(|text| !text.is_empty())
    };
    let mut named = entries.filter(|entry| text(entry, "HostName").as_deref() == Some(name));
    Ok(named.find_map(|entry| {
        Some(Entry {
            address: text(entry, "HostAddress")?,
            user_group: text(entry, "UserGroup"),
        })
    }))
}

/// Writes the file, as a whole.
///
/// # Errors
/// The text to show.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), String> {
    // What a symbolic link names is replaced, not the link.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    replace(&target, content).map_err(|error| {
        let reason = reason(&error);
        format!("Failed to write XML config file '{}': {reason}", path.display())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LIST: &[u8] = b"<AnyConnectProfile><ServerList>\
        <HostEntry><HostName> Head Office </HostName><HostAddress>vpn.test:8443</HostAddress><UserGroup>staff</UserGroup></HostEntry>\
        <HostEntry><HostName>Half</HostName></HostEntry>\
        <HostEntry><HostName>Plain</HostName><HostAddress>plain.test</HostAddress></HostEntry>\
        </ServerList></AnyConnectProfile>";

    #[test]
    fn servers_by_name() {
        let find = |name| find(LIST, name).expect("XML");
        let office = find("Head Office").expect("found");
        assert_eq!(
            (office.address.as_str(), office.user_group.as_deref()),
            ("vpn.test:8443", Some("staff"))
        );
        assert_eq!(find("Plain").expect("found").user_group, None);
        for unknown in ["Half", "head office", "", "vpn.test:8443"] {
            assert_eq!(find(unknown), None, "{unknown}");
        }
        assert!(super::find(b"no XML", "Plain").is_err());
    }

    #[test]
    fn files_are_replaced_with_their_mode() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("profile.xml");
        assert!(matches!(read(&path), Err(NoProfile::Unopened(..))));
        let error = read(folder.path()).expect_err("a folder");
        assert!(matches!(error, NoProfile::Unread(..)) && error.to_string().ends_with(": Is a directory"));
        write(&path, b"<a/>").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("link");
        write(&link, b"<b/>").expect("written");
        assert_eq!(read(&path).expect("file"), b"<b/>");
        assert!(fs::symlink_metadata(&link).expect("link").is_symlink());
        assert_eq!(
            fs::metadata(&path).expect("file").permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 2);
        let error = write(Path::new("/nonexistent/x"), b"").expect_err("no folder");
        assert!(
            error.starts_with("Failed to write XML config file '/nonexistent/x': "),
            "{error}"
        );
    }
}
