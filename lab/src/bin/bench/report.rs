//! The results as a page.

use crate::cases::{Case, Facts, Results};
use crate::traffic::Plan;

/// One line of the table.
pub(crate) struct Row {
    facts: Facts,
    real: f64,
    ours: f64,
    wire: Option<f64>,
}

/// How a row stands against its targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Missed,
    Floor,
    Aim,
    /// There is no target.
    Open,
}

impl Row {
    pub(crate) fn what(&self) -> &'static str {
        self.facts.what
    }

    /// How many times better ours is.
    pub(crate) fn ratio(&self) -> f64 {
        if self.facts.more_is_better {
            self.ours / self.real
        } else {
            self.real / self.ours
        }
    }

    /// Ours as a share of the bare wire.
    fn of_wire(&self) -> Option<f64> {
        self.wire
            .filter(|_| self.facts.more_is_better)
            .map(|wire| self.ours / wire)
    }

    /// The worst of all targets. Ratios count as they are printed.
    pub(crate) fn verdict(&self) -> Verdict {
        let at_least = |value: f64, (aim, floor): (f64, f64)| {
            if value >= aim {
                Verdict::Aim
            } else if value >= floor {
                Verdict::Floor
            } else {
                Verdict::Missed
            }
        };
        let as_printed = (self.ratio() * 10.0).round() / 10.0;
        let ratio = self.facts.ratio.map(|target| at_least(as_printed, target));
        let of_wire = self.facts.of_wire.zip(self.of_wire());
        let of_wire = of_wire.map(|(target, share)| at_least(share, target));
        let absolute = self.facts.absolute.map(|(aim, floor)| {
            if self.facts.more_is_better {
                at_least(self.ours, (aim, floor))
            } else {
                at_least(-self.ours, (-aim, -floor))
            }
        });
        [ratio, of_wire, absolute]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(Verdict::Open)
    }

    /// Aim and floor in words.
    fn targets(&self) -> String {
        let ratio = self
            .facts
            .ratio
            .map(|(aim, floor)| format!("{} / {}", number(aim), number(floor)));
        let of_wire = self
            .facts
            .of_wire
            .map(|(aim, floor)| format!("{:.0} % / {:.0} % of the wire", aim * 100.0, floor * 100.0));
        let absolute = self
            .facts
            .absolute
            .map(|(aim, floor)| format!("{} / {} {}", number(aim), number(floor), self.facts.unit));
        let all: Vec<String> = [ratio, of_wire, absolute].into_iter().flatten().collect();
        all.join("; ")
    }
}

/// The rows for which both sides were measured.
pub(crate) fn rows(ours: &Results, real: &Results, wire: &Results) -> Vec<Row> {
    let row = |case: Case| {
        Some(Row {
            facts: case.facts(),
            real: real.median(case.reference())?,
            ours: ours.median(case)?,
            wire: wire.median(case),
        })
    };
    Case::ALL.into_iter().filter_map(row).collect()
}

fn number(value: f64) -> String {
    match value {
        _ if value >= 1000.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The results as a page.
pub(crate) fn markdown(rows: &[Row], plan: &Plan) -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "# Benchmark\n\n`make bench` on {cores} cores of {model}: medians of {} interleaved rounds, {} s per transfer, both ends\n\
         on this machine. Real: openconnect and ocserv of Debian 12; where one of ours meets one of theirs, the column has the\n\
         real pair's cost of the same end, and both GlobalProtect clients meet our server. The ratio says how many times better ours is; aim and floor are ratios unless they\n\
         say otherwise. {}\n\n\
         | case | unit | real | ours | ratio | aim / floor | reached | bare veth | ours of it |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        plan.rounds,
        plan.seconds,
        plan.disturbance.summary()
    );
    for row in rows {
        let reached = match row.verdict() {
            Verdict::Missed => "**neither**",
            Verdict::Floor => "floor",
            Verdict::Aim => "aim",
            Verdict::Open => "",
        };
        let of_wire = row.of_wire().map(|share| format!("{:.0} %", share * 100.0));
        text.push_str(&format!(
            "| {} | {} | {} | {} | {:.1} | {} | {reached} | {} | {} |\n",
            row.facts.what,
            row.facts.unit,
            number(row.real),
            number(row.ours),
            row.ratio(),
            row.targets(),
            row.wire.map(number).unwrap_or_default(),
            of_wire.unwrap_or_default(),
        ));
    }
    text.push_str("\n![ratios](bench.svg)\n");
    text
}
