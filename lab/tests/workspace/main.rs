//! The repository itself: what it depends on, that no test is left out, what its pages name, its scripts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod dependencies;
mod pages;
mod scripts;
mod test_targets;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--locked")
        .current_dir(root())
        // Each program with its own features only.
        .env_remove("CARGO_RESOLVER_FEATURE_UNIFICATION")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn metadata(arguments: &[&str]) -> Value {
    let all = [&["metadata", "--format-version", "1"], arguments].concat();
    serde_json::from_str(&cargo(&all)).unwrap()
}
