//! The bridge finds libtorch in the folder `libtorch` beside itself, wherever both are moved.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let here = match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("macos") => "@loader_path",
        _ => "$ORIGIN",
    };
    println!("cargo::rustc-link-arg-cdylib=-Wl,-rpath,{here}/libtorch");
}
