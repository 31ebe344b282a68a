//! Every dependency is one that `deny.toml` allows: its licence, where it comes from, and that it
//! is none of the crates that are kept out. (`cargo deny check` says the same, when installed.)

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::{cargo, metadata, root};

/// All packages that a Linux build of the workspace and of its tests uses. (`cargo metadata` alone
/// also lists what no enabled feature asks for.)
fn packages() -> Vec<Value> {
    let target = "x86_64-unknown-linux-gnu";
    let tree = cargo(&[
        "tree",
        "--workspace",
        "--prefix",
        "none",
        "--format",
        "{p}",
        "--target",
        target,
    ]);
    let used: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some(format!("{} {}", words.next()?, words.next()?.strip_prefix('v')?))
        })
        .collect();
    let metadata = metadata(&["--filter-platform", target]);
    let name = |package: &Value| {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        format!("{} {}", text("name"), text("version"))
    };
    let packages = metadata["packages"].as_array().unwrap().iter();
    let packages: Vec<Value> = packages
        .filter(|package| used.contains(&name(package)))
        .cloned()
        .collect();
    assert_eq!(packages.len(), used.len());
    packages
}

/// The strings of one list in `deny.toml`, from `start` to the closing bracket.
fn deny_list(start: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let (_, rest) = text
        .split_once(start)
        .unwrap_or_else(|| panic!("no {start} in deny.toml"));
    let (list, _) = rest.split_once("\n]").unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// True when the expression can be satisfied with the allowed licences. `/` is an old spelling of OR.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.replace('/', " OR ");
    let parts = split_outside_parentheses(&expression, " OR ");
    if parts.len() > 1 {
        return parts.iter().any(|part| is_allowed(part, allowed));
    }
    let parts = split_outside_parentheses(&expression, " AND ");
    if parts.len() > 1 {
        return parts.iter().all(|part| is_allowed(part, allowed));
    }
    let inner = expression.trim();
    match inner.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.iter().any(|licence| licence == inner),
    }
}

fn split_outside_parentheses<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ if depth == 0 && text[at..].starts_with(separator) => {
                parts.push(&text[start..at]);
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn licence_expressions() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-2.0/MIT",
        "MIT AND ISC",
        "(GPL-3.0 OR MIT) AND ISC",
    ] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND GPL-3.0", ""] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let allowed = deny_list("allow = [");
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence, &allowed), "{}: '{licence}'", package["name"]);
    }
}

#[test]
fn every_dependency_comes_from_the_registry_and_is_wanted() {
    let text = fs::read_to_string(root().join("deny.toml")).unwrap();
    let banned: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("wrappers ="))
        .filter_map(|line| line.trim().strip_prefix("{ name = \"")?.split('"').next())
        .collect();
    assert!(
        banned.contains(&"native-tls") && banned.contains(&"ring"),
        "{banned:?}"
    );
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        assert!(!banned.contains(&name), "{name} is banned in deny.toml");
        match package["source"].as_str() {
            None => assert!(
                name.starts_with("culvert-")
                    || ["openconnect", "ocserv", "occtl", "ocpasswd"].contains(&name)
            ),
            Some(source) => assert_eq!(
                source, "registry+https://github.com/rust-lang/crates.io-index",
                "{name}"
            ),
        }
    }
}

/// OpenSSL is the client's, for old gateways; the server has one TLS stack.
#[test]
fn only_the_client_has_openssl() {
    let tree = |program| {
        cargo(&[
            "tree",
            "--package",
            program,
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ])
    };
    assert!(tree("openconnect").contains("openssl-sys"));
    for program in ["ocserv", "occtl", "ocpasswd"] {
        assert!(!tree(program).contains("openssl-sys"), "{program}");
    }
}

/// `docs/dependencies.md` says why each direct dependency is there, and names no other.
#[test]
fn every_direct_dependency_is_documented() {
    let page = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    // That of libFuzzer is no member of the workspace.
    let documented: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .map(|cell| cell.split(" (").next().unwrap_or(cell))
        .flat_map(|cell| cell.split(", "))
        .filter(|name| !["crate", "libfuzzer-sys"].contains(name))
        .collect();
    let packages = packages();
    let direct: BTreeSet<&str> = packages
        .iter()
        .filter(|package| package["source"].is_null())
        .flat_map(|package| package["dependencies"].as_array().unwrap())
        .filter(|dependency| !dependency["source"].is_null())
        .map(|dependency| dependency["name"].as_str().unwrap())
        .collect();
    assert_eq!(documented, direct);
}

/// What each of our crates in this lock file depends on, by name.
fn locked() -> Vec<(String, BTreeSet<String>)> {
    let lock = fs::read_to_string(root().join("fuzz/libfuzzer/Cargo.lock")).unwrap();
    let crates = lock.split("[[package]]\n").skip(1);
    let quoted = |text: &str| text.split('"').nth(1).unwrap().to_owned();
    crates
        .filter(|entry| !entry.contains("\nsource = "))
        .map(|entry| {
            let (head, list) = entry.split_once("dependencies = [\n").unwrap();
            let names = list.lines().take_while(|line| *line != "]").map(|line| {
                let name = quoted(line);
                name.split(' ').next().unwrap().to_owned()
            });
            (quoted(head), names.collect())
        })
        .collect()
}

/// libFuzzer's own lock file follows the crates; `make fuzz` refuses to build otherwise.
#[test]
fn the_lock_file_of_the_fuzzer_is_up_to_date() {
    let metadata = metadata(&["--no-deps"]);
    let mut examined = 0;
    for (name, locked) in locked().iter().filter(|(name, _)| name != "culvert-libfuzzer") {
        let packages = metadata["packages"].as_array().unwrap();
        let package = packages.iter().find(|package| package["name"] == **name).unwrap();
        let needed = |with_optional: bool| -> BTreeSet<String> {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            dependencies
                .filter(|dependency| dependency["kind"] != "dev")
                .filter(|dependency| with_optional || dependency["optional"] == false)
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect()
        };
        assert!(
            needed(false).is_subset(locked) && locked.is_subset(&needed(true)),
            "fuzz/libfuzzer/Cargo.lock: {name}; cargo update --workspace --manifest-path fuzz/libfuzzer/Cargo.toml"
        );
        examined += 1;
    }
    assert!(examined > 20, "{examined}");
}
