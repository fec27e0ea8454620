//! What the linker has to be told about libtorch, and the C++.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// As torch-sys compiles its own.
const STANDARD: &str = "-std=c++17";

const SOURCES: [&str; 3] =
    ["src/pinned.cpp", "src/runtime/inference_mode.cpp", "src/towers/linear.cpp"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cpp.h");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={source}");
    }
    println!("cargo::rerun-if-env-changed=LIBTORCH_INCLUDE");

    // torch-sys says where it found libtorch.
    if let Ok(lib) = env::var("DEP_TCH_LIBTORCH_LIB") {
        // The tests, examples and benches of this crate find it there.
        println!("cargo::rustc-link-arg=-Wl,-rpath,{lib}");
        compile(Path::new(&lib));
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

fn compile(lib: &Path) {
    let include = match env::var_os("LIBTORCH_INCLUDE") {
        Some(folder) => PathBuf::from(folder).join("include"),
        None => lib.with_file_name("include"),
    };
    cc::Build::new()
        .cpp(true)
        .pic(true)
        // libtorch's headers have many.
        .warnings(false)
        .includes([include.join("torch/csrc/api/include"), include])
        .include("src")
        .flag(STANDARD)
        .files(SOURCES)
        .compile("image_zero_shot_torch");
}
