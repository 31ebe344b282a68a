//! Running one case under callgrind and reading its result.

use std::fs;
use std::process::Command;

/// Instructions per packet, by whose they are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Everything written in Rust.
    pub(crate) ours: f64,
    /// aws-lc, which has other code for other processors.
    pub(crate) cryptography: f64,
    /// The C library: mostly copying.
    pub(crate) library: f64,
}

/// Counts what the functions named `measured` do in a case of `packets` packets.
///
/// # Panics
/// valgrind is missing, or the case fails.
pub(crate) fn count(case: &str, packets: u32) -> Counts {
    let out = tempfile::NamedTempFile::new().unwrap();
    let run = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--quiet",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .args(["--collect-atstart=no", "--toggle-collect=*measured*"])
        .arg(format!("--callgrind-out-file={}", out.path().display()))
        .arg(std::env::current_exe().unwrap())
        .args(["case", case])
        .output()
        .expect("valgrind (Debian package valgrind)");
    assert!(
        run.status.success(),
        "{case}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    let totals = totals(&fs::read_to_string(out.path()).unwrap());
    let per_packet = |total: u64| total as f64 / f64::from(packets);
    let [ours, cryptography, library] = totals.map(per_packet);
    assert!(ours > 0.0, "{case}: nothing was counted");
    Counts {
        ours,
        cryptography,
        library,
    }
}

/// Instructions of Rust, of the program's other code, and of shared objects, from a profile in
/// callgrind's format. Costs of calls are left out: the callee has its own lines.
fn totals(profile: &str) -> [u64; 3] {
    let (mut totals, mut class) = ([0; 3], 2);
    let (mut in_program, mut is_call) = (false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            in_program = object.ends_with("/instructions");
        } else if let Some(file) = ["fl=", "fi=", "fe="]
            .iter()
            .find_map(|prefix| line.strip_prefix(prefix))
        {
            class = match (in_program, file.ends_with(".rs")) {
                (true, true) => 0,
                (true, false) => 1,
                (false, _) => 2,
            };
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) && !std::mem::take(&mut is_call) {
            let cost: Option<u64> = line
                .split_ascii_whitespace()
                .nth(1)
                .and_then(|cost| cost.parse().ok());
            totals[class] += cost.unwrap_or(0);
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_sorted_and_calls_left_out() {
        let profile = "\
            events: Ir\n\
            ob=/x/release/instructions\nfl=/src/split.rs\nfn=split\n10 100\n\
            cob=/lib/libc.so.6\ncfn=memcpy\ncalls=3 0\n11 999\n12 5\n\
            fi=/rust/core.rs\n3 7\nfe=/src/split.rs\n4 1\n\
            fl=???\nfn=aes_gcm\n0 50\n\
            ob=/lib/libc.so.6\nfl=???\nfn=memcpy\n0 30\n";
        assert_eq!(totals(profile), [113, 50, 30]);
    }
}
