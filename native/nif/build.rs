//! The library stays where its threads run.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The VM closes a library when its module is purged, as two `recompile` in IEx do, and worker
    // threads would go on in memory that is no longer there.
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete");
    }
}
