//! The shared library exports what the header declares and nothing else, under its soname.

mod support;

use std::process::Command;
use support::{declared_functions, header, library, run};

fn text_of(command: &mut Command) -> String {
    String::from_utf8(run(command, false).stdout).expect("text")
}

#[test]
fn exactly_the_functions_of_the_header_are_exported() {
    let nm = text_of(Command::new("nm").args(["-D", "--defined-only"]).arg(library()));
    let mut exported: Vec<&str> =
        nm.lines().filter_map(|line| line.split_whitespace().last()).collect();
    exported.sort_unstable();
    let header = header();
    let mut declared: Vec<&str> =
        declared_functions(&header).into_iter().map(|(name, _)| name).collect();
    declared.sort_unstable();
    assert!(declared.len() >= 43, "{declared:?}");
    assert_eq!(exported, declared);
}

#[test]
fn the_library_has_its_soname_and_stays_loaded() {
    let dynamic = text_of(Command::new("readelf").arg("-d").arg(library()));
    assert!(dynamic.contains("Library soname: [libtoykv.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so", "libgcc_s.so", "libm.so", "ld-linux"];
        assert!(known.iter().any(|name| line.contains(name)), "{line}");
    }
}
