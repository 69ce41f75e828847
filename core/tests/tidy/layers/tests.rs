//! The rule of imports on made-up sources.

use super::*;

/// The complaints about these files of core/src.
fn complaints(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<Source> =
        files.iter().map(|(path, text)| Source::new(&format!("core/src/{path}"), text)).collect();
    check(&files)
}

#[test]
fn imports_downwards_and_sideways_are_fine() {
    let files = [
        ("lib.rs", "mod error; mod types; pub use error::Error; pub use db::Db;"),
        ("types.rs", ""),
        ("error.rs", "use crate::types::SeqNo; // use crate::db::Db;"),
        ("fs/mod.rs", "mod os; pub(crate) use os::Os; use crate::Error; pub(crate) trait Fs {}"),
        ("fs/os.rs", "use super::Fs; use crate::error::Error;"),
        ("vlog/mod.rs", "mod writer;"),
        ("vlog/writer.rs", "use crate::{fs::{Fs, Os}, types::{self}};"),
        ("engine/mod.rs", "mod state; mod open; mod flush; pub(crate) use open::open;"),
        ("engine/state.rs", "use crate::vlog::Writer;"),
        ("engine/flush.rs", "use super::state::State;"),
        ("engine/open.rs", "use super::{flush, state::State}; use crate::engine::flush::flush;"),
        ("db.rs", "use crate::engine::open; fn f() -> crate::error::Error { }"),
    ];
    assert_eq!(complaints(&files), [""; 0]);
}

#[test]
fn an_import_upwards_is_found_however_it_is_written() {
    let expected = ["core/src/fs/mod.rs: fs (L1) imports version (L4)"];
    let ways = [
        "use crate::version::Manifest;",
        "use crate::{\n    version::Manifest,\n};",
        "use crate::{error::{Error, Result}, version as v};",
        "use super::version;",
        "fn f() { crate::version::load() }",
        "use crate::Manifest;",
    ];
    for way in ways {
        let lib = ("lib.rs", "pub use version::{load, Manifest as M, Manifest};");
        let files = [lib, ("fs/mod.rs", way), ("version/mod.rs", ""), ("error.rs", "")];
        assert_eq!(complaints(&files), expected, "{way}");
    }
    for harmless in ["// use crate::version::X;", "const A: &str = \"crate::version\";"] {
        assert_eq!(complaints(&[("fs/mod.rs", harmless), ("version/mod.rs", "")]), [""; 0]);
    }
    let test = "#[cfg(test)]\nmod tests {\n    use crate::version::X;\n}\n";
    assert_eq!(complaints(&[("fs/mod.rs", test), ("version/mod.rs", "")]), [""; 0]);
}

#[test]
fn siblings_strangers_and_globs_are_found() {
    let files = [("table/mod.rs", "use crate::batch::Batch;"), ("batch.rs", "")];
    let expected = ["core/src/table/mod.rs: siblings never import each other, table imports batch"];
    assert_eq!(complaints(&files), expected);
    let files = [("helpers.rs", "use crate::error::Error;"), ("error.rs", "")];
    assert_eq!(
        complaints(&files),
        ["core/src/helpers.rs: module helpers has no layer in the table"]
    );
    let files = [("db.rs", "use crate::*;")];
    assert_eq!(complaints(&files), ["core/src/db.rs: imports everything from the crate's root"]);
}

#[test]
fn circles_are_found_at_the_top_and_inside_folders() {
    let files = [
        ("error.rs", "use crate::key::Key;"),
        ("key.rs", "use crate::types::SeqNo;"),
        ("types.rs", "use crate::error::Error;"),
        ("options.rs", "use crate::error::Error;"),
    ];
    assert_eq!(complaints(&files), ["core/src/: a circle: error -> key -> types -> error"]);
    let files = [
        ("table/mod.rs", "mod block; mod index; pub(crate) use block::Block; struct Own;"),
        ("table/block.rs", "use super::index::Index;"),
        ("table/index.rs", "use super::Block;"),
    ];
    assert_eq!(complaints(&files), ["core/src/table: a circle: block -> index -> block"]);
    let files = [
        ("table/mod.rs", "mod block; struct Own; fn f() { block::g() }"),
        ("table/block.rs", "use crate::table::Own;"),
    ];
    assert_eq!(complaints(&files), ["core/src/table: a circle: (mod) -> block -> (mod)"]);
    let files = [
        ("fs/sim/mod.rs", ""),
        ("fs/sim/a.rs", "use super::b::f;"),
        ("fs/sim/b.rs", "use super::super::sim::a::g;"),
    ];
    assert_eq!(complaints(&files), ["core/src/fs/sim: a circle: a -> b -> a"]);
}

#[test]
fn verbs_of_the_engine_know_the_state_and_no_other_verb() {
    let state = ("engine/state.rs", "");
    let flush = ("engine/flush.rs", "use super::compact::run;");
    let files = [state, flush, ("engine/compact.rs", "use super::state::State;")];
    assert_eq!(
        complaints(&files),
        ["core/src/engine/flush.rs: engine/flush imports engine/compact"]
    );
    let files = [("engine/state.rs", "use super::gc::Gc;"), ("engine/gc.rs", "")];
    assert_eq!(complaints(&files), ["core/src/engine/state.rs: engine/state imports engine/gc"]);
    let files = [("engine/gc.rs", "use super::open::open;"), ("engine/open.rs", "")];
    assert_eq!(complaints(&files), ["core/src/engine/gc.rs: engine/gc imports engine/open"]);
}
