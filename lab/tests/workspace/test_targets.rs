//! What `test = false` and `doctest = false` leave out has no tests, and nothing else is without: an
//! empty run costs a linker and a start, or a compiler, each time.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::metadata;

/// The Rust files of a library, of a program in a folder, or of one in a file.
fn sources(target: &Value) -> Vec<PathBuf> {
    let root = PathBuf::from(target["src_path"].as_str().unwrap());
    if !root.ends_with("lib.rs") && !root.ends_with("main.rs") {
        return vec![root];
    }
    let top = root.parent().unwrap();
    let (mut files, mut folders) = (Vec::new(), vec![top.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && path != top.join("bin") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

fn has_test(source: &str) -> bool {
    let starts = ["#[test]", "#[tokio::test"];
    source
        .lines()
        .any(|line| starts.iter().any(|start| line.trim_start().starts_with(start)))
}

/// True when a comment has a piece of Rust that rustdoc would run.
fn has_example(source: &str) -> bool {
    let mut open = false;
    for line in source.lines().map(str::trim_start) {
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else {
            open = false;
            continue;
        };
        if let Some(language) = text.trim().strip_prefix("```") {
            if !open && language != "text" {
                return true;
            }
            open = !open;
        }
    }
    false
}

#[test]
fn only_what_has_tests_is_run() {
    let metadata = metadata(&["--no-deps"]);
    let (mut examined, mut wrong) = (0, Vec::new());
    for package in metadata["packages"].as_array().unwrap() {
        for target in package["targets"].as_array().unwrap() {
            let kind = target["kind"][0].as_str().unwrap();
            if kind != "lib" && kind != "bin" {
                continue;
            }
            let sources: Vec<String> = sources(target)
                .iter()
                .map(|path| fs::read_to_string(path).unwrap())
                .collect();
            let mut compare = |key: &str, found: bool| {
                if target[key] != found {
                    wrong.push(format!(
                        "{}: {kind} {}: {key} = {found}",
                        package["name"], target["name"]
                    ));
                }
            };
            compare("test", sources.iter().any(|source| has_test(source)));
            if kind == "lib" {
                compare("doctest", sources.iter().any(|source| has_example(source)));
            }
            examined += 1;
        }
    }
    assert!(examined > 40, "{examined}");
    assert!(wrong.is_empty(), "belongs into Cargo.toml: {wrong:#?}");
}

#[test]
fn tests_and_examples_are_seen() {
    assert!(has_test("mod tests {\n    #[test]\n    fn f() {}"));
    assert!(has_test("    #[tokio::test(flavor = \"current_thread\")]\n"));
    assert!(!has_test("// #[test]\nfn test() {}"));
    assert!(has_example("/// Like this:\n/// ```\n/// f();\n/// ```\n"));
    assert!(has_example(
        "//! ```text\n//! a picture\n//! ```\n//! ```no_run\n//! f();\n//! ```\n"
    ));
    assert!(!has_example(
        "    /// ```text\n    /// a picture\n    /// ```\nfn f() {}"
    ));
}
