//! A few seconds of every target, the same at every run. `bin/fuzz` has the rest.

#![allow(clippy::unwrap_used)]

use fuzz::session::run;
use fuzz::{TARGETS, scratch};

#[test]
fn no_parser_is_brought_down() {
    for target in TARGETS {
        let last = scratch().join("input");
        let result = run(target, 2_000, 1, &last, |_| ());
        let report = result.unwrap_or_else(|fault| panic!("{}: {fault:?}", target.name));
        println!("{}: {report:?}", target.name);
        assert!(report.outcomes >= 2, "{}: {report:?}", target.name);
    }
    std::fs::remove_dir_all(scratch()).unwrap();
}
