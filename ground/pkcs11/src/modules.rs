//! Which modules there are: p11-kit's configuration (pkcs11.conf(5)).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Uri;

/// Configurations of packages, then of the administrator; the later one counts.
const CONFIGURATIONS: [&str; 2] = ["/usr/share/p11-kit/modules", "/etc/pkcs11/modules"];
/// The user's, under the home directory.
const USER_CONFIGURATION: &str = ".config/pkcs11/modules";
/// Where modules are that are named without a path.
const FOLDERS: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu/pkcs11",
    "/usr/lib/aarch64-linux-gnu/pkcs11",
    "/usr/lib64/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/local/lib/pkcs11",
];
/// This program, as `enable-in` and `disable-in` name it.
const PROGRAM: &str = "openconnect";

/// Paths of the modules in which objects of `uri` may be.
pub(crate) fn paths(uri: &Uri) -> Vec<PathBuf> {
    if let Some(path) = &uri.module_path {
        return vec![path.into()];
    }
    let mut folders: Vec<PathBuf> = CONFIGURATIONS.iter().map(PathBuf::from).collect();
    folders.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(USER_CONFIGURATION)));
    let mut configurations = BTreeMap::new();
    for folder in folders {
        configurations.extend(read_folder(&folder));
    }
    let paths = configurations.values().filter_map(|text| module_path(text));
    paths
        .filter(|path| has_name(path, uri.module_name.as_deref()))
        .collect()
}

/// The `.module` files of a folder, by name. One that cannot be read counts as absent.
fn read_folder(folder: &Path) -> Vec<(OsString, String)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let files = entries.flatten().map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "module"))
        .filter_map(|path| Some((path.file_name()?.to_owned(), fs::read_to_string(&path).ok()?)))
        .collect()
}

/// The module of a configuration file, if it is for us.
fn module_path(configuration: &str) -> Option<PathBuf> {
    let value = |name: &str| {
        configuration.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let listed = |list: &str| list.split([',', ' ']).any(|program| program.trim() == PROGRAM);
    // Stores of trusted certificates hold no keys.
    if value("trust-policy") == Some("yes")
        || value("enable-in").is_some_and(|list| !listed(list))
        || value("disable-in").is_some_and(listed)
    {
        return None;
    }
    let module = Path::new(value("module")?);
    if module.is_absolute() {
        return Some(module.to_owned());
    }
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(module))
        .find(|path| path.exists())
}

/// RFC 7512 §2.4: the name of the file without `lib` and without what follows the first dot.
fn has_name(path: &Path, name: Option<&str>) -> bool {
    let file = path
        .file_name()
        .map(|file| file.to_string_lossy())
        .unwrap_or_default();
    let stem = file.split('.').next().unwrap_or_default();
    name.is_none_or(|name| stem == name || stem.strip_prefix("lib") == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_files() {
        let path = |text: &str| module_path(text).map(|path| path.display().to_string());
        assert_eq!(
            path("# x\nmodule: /opt/a.so\ncritical: no\n").as_deref(),
            Some("/opt/a.so")
        );
        assert_eq!(
            path("module : /a.so\nenable-in: openconnect, p11tool").as_deref(),
            Some("/a.so")
        );
        assert_eq!(path("module: /a.so\nenable-in: firefox"), None);
        assert_eq!(path("module: /a.so\ndisable-in: openconnect"), None);
        assert_eq!(path("module: /a.so\ntrust-policy: yes"), None);
        assert_eq!(path("module: nonexistent.so"), None);
        assert_eq!(path(""), None);
    }

    #[test]
    fn names_of_modules() {
        let path = Path::new("/usr/lib/softhsm/libsofthsm2.so");
        assert!(
            has_name(path, None) && has_name(path, Some("softhsm2")) && has_name(path, Some("libsofthsm2"))
        );
        assert!(!has_name(path, Some("opensc-pkcs11")));
        let uri = Uri::parse("pkcs11:?module-path=/opt/x.so").expect("URI");
        assert_eq!(paths(&uri), [Path::new("/opt/x.so")]);
    }
}
