//! The recorded numbers, and what differs from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::callgrind::Counts;

/// A difference that is worth a line.
const NOTABLE: f64 = 0.05;
/// A difference that nobody may overlook.
const FAILURE: f64 = 0.25;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.json")
}

/// Records the numbers.
pub(crate) fn write(counts: &[(&str, Counts)]) -> ExitCode {
    let table: Map<String, Value> = counts
        .iter()
        .map(|(name, counts)| ((*name).to_owned(), json!(counts.ours.round())))
        .collect();
    let text = serde_json::to_string_pretty(&table).unwrap() + "\n";
    fs::write(path(), text).unwrap();
    print(counts);
    ExitCode::SUCCESS
}

/// Prints the numbers and what differs from the recorded ones; fails when something differs
/// much, in either direction: then it is a mistake, or to be recorded.
pub(crate) fn compare(counts: &[(&str, Counts)]) -> ExitCode {
    print(counts);
    let text = fs::read_to_string(path()).expect("lab/instructions.json");
    let recorded: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let mut code = ExitCode::SUCCESS;
    for (name, counts) in counts {
        let Some(before) = recorded.get(*name).and_then(Value::as_f64) else {
            println!("{name}: not recorded yet");
            code = ExitCode::FAILURE;
            continue;
        };
        let change = counts.ours / before - 1.0;
        if change.abs() > NOTABLE {
            println!(
                "{name}: {:.0} instructions per packet, {:+.0} % against the recorded {before:.0}",
                counts.ours,
                change * 100.0
            );
        }
        if change.abs() > FAILURE {
            code = ExitCode::FAILURE;
        }
    }
    if code == ExitCode::FAILURE {
        println!("if that is meant, record it: make instructions INSTRUCTIONS=--write");
    }
    code
}

fn print(counts: &[(&str, Counts)]) {
    println!("| instructions per packet | ours | aws-lc | C library |\n|---|---|---|---|");
    for (name, counts) in counts {
        println!(
            "| {name} | {:.0} | {:.0} | {:.0} |",
            counts.ours, counts.cryptography, counts.library
        );
    }
}
