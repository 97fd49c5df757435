//! Runs under libFuzzer the target that `ICECORE_FUZZ_TARGET` names.
#![no_main]

use icecore_fuzz::TARGETS;
use icecore_fuzz::Target;
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fn chosen() -> Target {
    static CHOSEN: OnceLock<Target> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("ICECORE_FUZZ_TARGET").expect("ICECORE_FUZZ_TARGET names one");
        let found = TARGETS.iter().find(|target| target.name == name);
        *found.unwrap_or_else(|| panic!("there is no target {name}"))
    })
}

fuzz_target!(|data: &[u8]| (chosen().run)(data));
