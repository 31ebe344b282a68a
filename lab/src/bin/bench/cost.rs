//! What processes use.

use std::fs;

use culvert_lab::process::children;

/// CPU seconds of a process and all its descendants.
pub(crate) fn tree_cpu(pid: u32) -> f64 {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or(Vec::new(), |(_, rest)| rest.split_ascii_whitespace().collect());
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND + children(pid).into_iter().map(tree_cpu).sum::<f64>()
}

/// Proportional set size of a process and all its descendants, in kB; 0 for those that have gone.
pub(crate) fn tree_pss(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let own = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|line| line.split_ascii_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or(0.0);
    own + children(pid).into_iter().map(tree_pss).sum::<f64>()
}
