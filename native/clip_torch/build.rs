//! What the linker has to be told about libtorch.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");

    // The tests, examples and benches of this crate find libtorch where torch-sys linked it.
    if let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
    }

    // torch-sys, compiled against a libtorch with CUDA, tells the linker to link libtorch_cuda from
    // then on, also when `native/build/libtorch` leads to another libtorch by now. Nothing of ours calls
    // it, so an empty archive does, and saves compiling torch-sys again.
    if let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) {
        fs::write(out.join("libtorch_cuda.a"), "!<arch>\n")?;
        println!("cargo::rustc-link-search=native={}", out.display());
    }
    Ok(())
}
