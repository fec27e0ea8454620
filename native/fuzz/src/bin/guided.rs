//! libFuzzer, which looks for new ways through the code. Built and run by `bin/fuzz --guided`.
//!
//! `FUZZ_TARGET` names the target, `FUZZ_SEEDS` a folder that gets its sound inputs.

#![no_main]
#![allow(clippy::unwrap_used, clippy::panic, unsafe_code)]

use std::sync::LazyLock;

use fuzz::{Target, session, target};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap();
    target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

fn write_seeds() {
    let folder = std::path::PathBuf::from(std::env::var_os("FUZZ_SEEDS").unwrap());
    for (index, seed) in (TARGET.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed).unwrap();
    }
}

fuzz_target!(init: write_seeds(), |bytes: &[u8]| {
    if let Err(why) = session::check(&TARGET, bytes) {
        panic!("{why}");
    }
});

fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(bytes, size, max_size);
    if !seed.is_multiple_of(4) {
        (TARGET.mend)(&mut bytes[..size]);
    }
    size
});
