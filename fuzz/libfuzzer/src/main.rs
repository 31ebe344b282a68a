//! libFuzzer around one of the targets: the one that `CULVERT_FUZZ_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use culvert_fuzz::{Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("CULVERT_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| {
        eprintln!("CULVERT_FUZZ_TARGET={name} is no target");
        std::process::exit(2)
    })
});

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
