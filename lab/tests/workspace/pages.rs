//! Files and folders that the pages in `docs/` name exist. (Tables of options have tests of their own.)

use std::fs;
use std::path::Path;

use crate::root;

/// Paths below `folder`, each with a `/` in front, without what is built.
fn paths(folder: &Path, all: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == ".git" || name.starts_with("target") {
            continue;
        }
        if path.is_dir() {
            paths(&path, all);
        }
        all.push(format!("/{}", path.strip_prefix(root()).unwrap().display()));
    }
}

/// Paths in back quotes: what has a slash inside or at its end, or is a Rust file.
fn named(page: &str) -> impl Iterator<Item = &str> {
    let of_a_path = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    page.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(move |span| {
            span.starts_with(|first: char| first.is_ascii_alphabetic())
                && span.chars().all(of_a_path)
                && (span.contains('/') || span.ends_with(".rs"))
        })
}

#[test]
fn files_that_pages_name_exist() {
    let mut present = Vec::new();
    paths(&root(), &mut present);
    let mut count = 0;
    for page in [
        "architecture.md",
        "dependencies.md",
        "findings.md",
        "performance.md",
    ] {
        let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
        for name in named(&text) {
            let end = format!("/{}", name.trim_end_matches('/'));
            assert!(
                present.iter().any(|path| path.ends_with(&end)),
                "{page} names {name}"
            );
            count += 1;
        }
    }
    assert!(count > 50, "{count}");
}
