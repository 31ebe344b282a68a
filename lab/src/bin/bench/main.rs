//! `make bench`: our pair of programs against Debian's, in one run, in turn, in fresh namespaces.
//!
//! `bench [--rounds N] [--seconds N] [--only PART] [--write DIR]` prints medians and ratios as a Markdown
//! table; `--only` measures one part: wire, pairs, mixed or globalprotect; `--write DIR` also writes
//! `bench.md` and `bench.svg` there.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod chart;
mod cost;
mod disturbance;
mod measure;
mod report;
mod traffic;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use culvert_lab::Make;

use cases::Results;
use disturbance::Disturbance;
use traffic::Plan;

/// What can be measured alone.
const PARTS: [&str; 4] = ["wire", "pairs", "mixed", "globalprotect"];

fn main() -> ExitCode {
    let mut plan = Plan {
        rounds: 5,
        seconds: 3,
        disturbance: Disturbance::default(),
    };
    let (mut write, mut only) = (None, None);
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
            ("--only", _, Some(part)) if PARTS.contains(&part.as_str()) => only = Some(part),
            ("--write", _, Some(dir)) => write = Some(PathBuf::from(dir)),
            _ => {
                eprintln!(
                    "usage: bench [--rounds N] [--seconds N] [--only wire|pairs|mixed|globalprotect] [--write DIR]"
                );
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
        let wanted = |part| only.as_deref().is_none_or(|only| only == part);
        let say = |what: &str| eprintln!("round {round} of {}: {what}", plan.rounds);
        if wanted("wire") {
            say("the bare wire");
            measure::bare_wire(&plan, &mut wire);
        }
        for (part, measure) in [
            ("pairs", measure::pair as fn(&Plan, Make, &mut Results)),
            ("globalprotect", measure::over_esp),
        ] {
            for make in order.into_iter().filter(|_| wanted(part)) {
                say(&format!("{part}, {make:?}"));
                measure(
                    &plan,
                    make,
                    if make == Make::Real { &mut real } else { &mut ours },
                );
            }
        }
        if wanted("mixed") {
            say("one of ours, one of theirs");
            measure::mixed(&plan, &mut ours);
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
