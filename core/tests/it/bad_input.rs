//! What is asked for in vain: each refusal with its kind, the thing at fault named, and the
//! directory byte for byte as before, its LOCK excepted.

mod calls;
mod files;
mod openers;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toykv::{Db, Error, ErrorKind, Options, WriteBatch};

use crate::support::value_of;

fn small() -> Options {
    Options::new().memtable_size_bytes(64 << 10).backlog_limit_bytes(1 << 20)
}

/// The bytes of every file and the names of every directory below `dir`, but for LOCK.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, None);
        } else if path.file_name().is_some_and(|name| name != "LOCK") {
            #[expect(clippy::disallowed_methods, reason = "this looks from outside")]
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}

#[expect(clippy::disallowed_methods, reason = "this damages from outside")]
fn write_file(path: impl AsRef<Path>, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "this damages from outside")]
fn read_file(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Opens in vain.
#[track_caller]
fn refused(path: &Path, options: &Options) -> Error {
    let there = path.exists();
    let before = contents(path);
    let error = Db::open(path, options).map(drop).expect_err("this was not to be opened");
    assert_eq!(path.exists(), there, "{error}");
    assert!(contents(path) == before, "a failed open has changed files: {error}");
    error
}

/// The error is of this kind, and says this.
#[track_caller]
fn says(error: &Error, kind: ErrorKind, what: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.to_string().contains(what), "{error} does not say {what:?}");
}

/// A closed database with a table that has values and points to others, a segment of those, and a
/// log that was not flushed.
fn sample(path: &Path) {
    let db = Db::open(path, &small()).unwrap();
    fill(&db);
    db.close().unwrap();
}

fn fill(db: &Db) {
    for i in 0..40u64 {
        let len = if i % 4 == 0 { 1500 } else { 100 };
        db.put(&i.to_be_bytes(), &value_of(i, len)).unwrap();
    }
    db.flush().unwrap();
    for i in 40..50u64 {
        db.put(&i.to_be_bytes(), &value_of(i, 100)).unwrap();
    }
}

fn check_sample(db: &Db) {
    assert_eq!(db.len().unwrap(), 50);
    for i in 0..50u64 {
        let len = if i % 4 == 0 && i < 40 { 1500 } else { 100 };
        assert_eq!(db.get(&i.to_be_bytes()).unwrap().as_deref(), Some(&value_of(i, len)[..]));
    }
}

/// More than the memtable of [`small`] takes.
fn large_batch() -> WriteBatch {
    let mut batch = WriteBatch::new();
    for i in 0..100 {
        batch.put(format!("large {i:03}").as_bytes(), &value_of(i, 900)).unwrap();
    }
    batch
}

#[expect(clippy::disallowed_methods, reason = "this damages from outside")]
fn remove_file(path: &Path) {
    std::fs::remove_file(path).unwrap();
}
