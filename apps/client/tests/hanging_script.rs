//! A script that hangs must not make the client unkillable. Signals are blocked per thread, so this
//! test has its process to itself and no harness.

#![allow(clippy::expect_used, missing_docs)]

use std::ffi::OsStr;

use culvert_client::script::{RunError, run_script};
use culvert_client::signals::{Signal, Signals};

fn main() {
    let signals = Signals::new().expect("signalfd");
    let me = std::process::id();
    let command = format!("kill -TERM {me}; sleep 1; kill -INT {me}; sleep 600");
    let ran = run_script(OsStr::new(&command), &[], &signals);
    assert_eq!(ran.signal, Some(Signal::Terminate));
    assert!(
        matches!(ran.result, Err(RunError::Abnormal { status: 9, .. })),
        "{:?}",
        ran.result
    );
}
