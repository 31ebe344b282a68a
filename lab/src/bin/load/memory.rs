//! Memory of a server's processes, as the kernel counts it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use culvert_lab::process::{children, title};

/// Memory by kind of process, in KiB.
pub(crate) struct Memory(BTreeMap<String, Share>);

/// What the processes of one title have.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    processes: u64,
    /// Shared pages divided by those who share them.
    proportional: u64,
    /// Pages of nobody else.
    private: u64,
}

impl Memory {
    /// Of a process and its children.
    pub(crate) fn of(main: u32) -> Self {
        let mut shares: BTreeMap<String, Share> = BTreeMap::new();
        for pid in std::iter::once(main).chain(children(main)) {
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
                // It has ended meanwhile.
                continue;
            };
            let field = |name: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
                    .unwrap_or(0)
            };
            let share = shares.entry(title(pid)).or_default();
            share.processes += 1;
            share.proportional += field("Pss:");
            share.private += field("Private_Clean:") + field("Private_Dirty:");
        }
        Self(shares)
    }

    fn sum(&self, part: impl Fn(&Share) -> u64) -> u64 {
        self.0.values().map(part).sum()
    }

    /// What each of the clients since `earlier` costs.
    pub(crate) fn print_slope(&self, earlier: &Self, clients: usize) {
        let per_client = |part: fn(&Share) -> u64| {
            (self.sum(part) as f64 - earlier.sum(part) as f64) / clients.max(1) as f64
        };
        println!(
            "memory per client: {:.1} KiB proportional, {:.1} KiB private",
            per_client(|share| share.proportional),
            per_client(|share| share.private)
        );
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, share) in &self.0 {
            let Share {
                processes,
                proportional,
                private,
            } = share;
            write!(f, "{title} x{processes} {proportional}/{private} KiB, ")?;
        }
        write!(
            f,
            "all {}/{} KiB",
            self.sum(|share| share.proportional),
            self.sum(|share| share.private)
        )
    }
}
