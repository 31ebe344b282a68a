//! `make instructions`: how many instructions of ours each packet costs, step by step, counted by
//! callgrind. Time varies with the machine and its other work; these numbers do not, so a change
//! of the code shows in them.
//!
//! `instructions [--write]` counts every case and compares with the recorded table
//! (`lab/instructions.json`), or records it anew. `instructions case NAME` is what runs under
//! callgrind.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod callgrind;
mod cases;
mod channels;
mod pump;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => table::compare(&count_all()),
        ["--write"] => table::write(&count_all()),
        ["case", name] => {
            let case = cases::CASES.iter().find(|case| case.name == name);
            (case.expect("the name of a case").run)();
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: instructions [--write | case NAME]");
            ExitCode::FAILURE
        }
    }
}

fn count_all() -> Vec<(&'static str, callgrind::Counts)> {
    cases::CASES
        .iter()
        .map(|case| (case.name, callgrind::count(case.name, case.packets)))
        .collect()
}
