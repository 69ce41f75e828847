//! What may stand only in certain places: unsafe code, the system's files, deletions of files.

use crate::Source;
use crate::source::words;

/// Folders and files that may have unsafe code: maps, the memtable's structure and its two callers,
/// prefetches, pinned values, the languages' borders, and what benchmarks measure with.
const UNSAFE: &[&str] = &[
    "core/src/fs/",
    "core/src/memtable/",
    "core/src/table/",
    "core/src/engine/open.rs",
    "core/src/engine/write.rs",
    "core/src/prefetch.rs",
    "core/src/value.rs",
    "core/benches/",
    "ffi/",
    "python/src/value.rs",
    "examples/bench/src/alloc.rs",
    "examples/bench/src/engines/leveldb.rs",
    "examples/bench/src/engines/lmdb.rs",
];

/// The crates that reach files only through the door in [`DOOR`].
const ENGINE: &[&str] = &["core/src/", "ffi/src/", "python/src/"];

/// The one folder that calls the operating system for files.
const DOOR: &str = "core/src/fs/";

/// The one file outside of the door that deletes files.
const DELETIONS: &str = "core/src/engine/obsolete.rs";

fn is_in(file: &Source, places: &[&str]) -> bool {
    places.iter().any(|place| file.path.starts_with(place))
}

fn complaint(file: &Source, code: &str, at: usize, what: &str) -> String {
    format!("{}:{}: {what}", file.path, Source::line(code, at))
}

/// Unsafe code out of its places.
pub(crate) fn unsafe_code(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| !is_in(file, UNSAFE)) {
        let code = file.code();
        complaints.extend(words(&code, "unsafe").map(|at| complaint(file, &code, at, "unsafe")));
    }
    complaints
}

/// Uses of the standard library's files outside of the door, in tests too.
pub(crate) fn system_files(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| is_in(file, ENGINE) && !is_in(file, &[DOOR])) {
        let code = file.code();
        for at in words(&code, "std") {
            let Some(rest) = code[at..].strip_prefix("std::") else { continue };
            let group = rest.strip_prefix('{').and_then(|group| group.split_once(';'));
            let named = match group {
                Some((group, _)) => words(group, "fs").any(|at| !group[..at].ends_with("::")),
                None => words(rest, "fs").next() == Some(0),
            };
            if named {
                complaints.push(complaint(file, &code, at, "std::fs"));
            }
        }
    }
    complaints
}

/// Deletions of files, outside of tests, anywhere but in their one place.
pub(crate) fn deletions(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    let elsewhere = |file: &&Source| is_in(file, ENGINE) && !is_in(file, &[DOOR, DELETIONS]);
    for file in files.iter().filter(elsewhere) {
        let code = file.code();
        let production = file.production(&code);
        let calls = words(production, "remove_file");
        complaints.extend(calls.map(|at| complaint(file, &code, at, "remove_file")));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> [Source; 1] {
        [Source::new(path, text)]
    }

    #[test]
    fn unsafe_code_is_found_outside_of_its_places() {
        let text = "// unsafe\nfn f() { unsafe { g() } }\nconst A: &str = \"unsafe\";\n";
        for path in ["core/src/db.rs", "core/src/vlog/a.rs", "python/src/a.rs", "core/tests/a.rs"] {
            assert_eq!(unsafe_code(&file(path, text)), [format!("{path}:2: unsafe")]);
        }
        for path in ["core/src/fs/os.rs", "core/src/memtable/a.rs", "ffi/src/lib.rs"] {
            assert_eq!(unsafe_code(&file(path, text)), [""; 0]);
        }
        let allowed = "#![deny(unsafe_op_in_unsafe_fn)]";
        assert_eq!(unsafe_code(&file("core/src/db.rs", allowed)), [""; 0]);
    }

    #[test]
    fn the_systems_files_are_found_outside_of_the_door() {
        let ways = [
            "use std::fs;",
            "use std::fs::File;",
            "fn f() { std::fs::read(a) }",
            "use std::{\n    fs,\n    io,\n};",
            "use std::{io, fs::{self, File}};",
        ];
        for way in ways {
            let found = system_files(&file("core/src/engine/a.rs", way));
            assert_eq!(found, ["core/src/engine/a.rs:1: std::fs"], "{way}");
            assert_eq!(system_files(&file("core/src/fs/os.rs", way)), [""; 0]);
            assert_eq!(system_files(&file("examples/cli/src/main.rs", way)), [""; 0]);
        }
        for fine in ["use crate::fs;", "use std::fmt;", "use std::{io, path::Path};", "// std::fs"]
        {
            assert_eq!(system_files(&file("core/src/engine/a.rs", fine)), [""; 0], "{fine}");
        }
    }

    #[test]
    fn deletions_are_found_outside_of_their_one_file() {
        let text = "fn f() {\n    fs.remove_file(path)\n}\n";
        let found = deletions(&file("core/src/engine/gc.rs", text));
        assert_eq!(found, ["core/src/engine/gc.rs:2: remove_file"]);
        assert_eq!(deletions(&file("core/src/db.rs", "let f = Fs::remove_file;")).len(), 1);
        let test = format!("#[cfg(test)]\nmod tests {{\n{text}}}\n");
        for (path, text) in [
            ("core/src/engine/obsolete.rs", text),
            ("core/src/fs/os.rs", text),
            ("core/src/version/load/tests.rs", text),
            ("core/src/engine/gc.rs", test.as_str()),
        ] {
            assert_eq!(deletions(&file(path, text)), [""; 0], "{path}");
        }
    }
}
