//! `make bench`: our pair of programs against Debian's, in one run, in turn, in fresh namespaces.
//!
//! `bench [--rounds N] [--seconds N] [--write DIR]` prints medians and ratios as a Markdown table;
//! `--write DIR` also writes `bench.md` and `bench.svg` there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod chart;
mod cost;
mod measure;
mod report;
mod traffic;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use culvert_lab::Make;

use cases::Results;
use traffic::Plan;

fn main() -> ExitCode {
    let mut plan = Plan {
        rounds: 5,
        seconds: 3,
    };
    let mut write = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next();
        let number = value
            .as_deref()
            .and_then(|text| text.parse().ok())
            .filter(|number| *number > 0);
        match (argument.as_str(), number, value) {
            ("--rounds", Some(number), _) => plan.rounds = number,
            ("--seconds", Some(number), _) => plan.seconds = number,
            ("--write", _, Some(dir)) => write = Some(PathBuf::from(dir)),
            _ => {
                eprintln!("usage: bench [--rounds N] [--seconds N] [--write DIR]");
                return ExitCode::FAILURE;
            }
        }
    }

    let (mut ours, mut real, mut wire) = (Results::default(), Results::default(), Results::default());
    for round in 1..=plan.rounds {
        // The order changes every round, so that drift of the machine's speed hits both alike.
        let order = if round % 2 == 1 {
            [Make::Real, Make::Culvert]
        } else {
            [Make::Culvert, Make::Real]
        };
        eprintln!("round {round} of {}: the bare wire", plan.rounds);
        measure::bare_wire(&plan, &mut wire);
        for make in order {
            eprintln!("round {round} of {}: {make:?}", plan.rounds);
            measure::pair(
                &plan,
                make,
                if make == Make::Real { &mut real } else { &mut ours },
            );
        }
        eprintln!("round {round} of {}: one of ours, one of theirs", plan.rounds);
        measure::mixed(&plan, &mut ours);
        eprintln!("round {round} of {}: GlobalProtect", plan.rounds);
        for make in order {
            let results = if make == Make::Real { &mut real } else { &mut ours };
            measure::over_esp(&plan, make, results);
        }
    }
    let rows = report::rows(&ours, &real, &wire);
    let markdown = report::markdown(&rows, &plan);
    println!("{markdown}");
    if let Some(dir) = write {
        fs::write(dir.join("bench.md"), &markdown).unwrap();
        fs::write(dir.join("bench.svg"), chart::svg(&rows)).unwrap();
    }
    ExitCode::SUCCESS
}
