//! Tests of writing the manifest, read back by loading it (layer L4).

use super::super::layout::decode_current;
use super::super::load::{Loaded, load};
use super::super::samples::{self, table};
use super::*;
use crate::fs::OsFileSystem;

fn load_some(fs: &dyn FileSystem, dir: &Path) -> Loaded {
    load(fs, dir).unwrap().expect("a database")
}

fn current(fs: &dyn FileSystem, dir: &Path) -> Vec<u8> {
    let file = fs.open(&FileName::Current.path(dir)).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// An edit that adds one table with keys of `len` bytes to a new run above all others.
fn add_run(state: &VersionState, len: usize) -> VersionEdit {
    let number = state.next_file;
    let seqno = state.last_seqno + 1;
    let last = "x".repeat(len);
    let mut edit = VersionEdit::new();
    edit.add_table(state.next_run, table(number, "a", &last, seqno, seqno));
    edit
}

#[test]
fn created_appended_and_switched_manifests_are_loaded_back() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, dir) = (OsFileSystem, dir.path());
    assert_eq!(load(&fs, dir).unwrap(), None);

    let empty = VersionState { next_file: 2, ..VersionState::new(7, 8) };
    let mut manifest = Manifest::create(&fs, dir, 1, &empty).unwrap();
    assert_eq!(load_some(&fs, dir), Loaded { state: empty.clone(), number: 1, is_fresh: true });
    let mut state = empty;
    for _ in 0..5 {
        let edit = add_run(&state, 20);
        state = state.with(&edit).unwrap();
        manifest.append(&edit).unwrap();
        assert_eq!(
            load_some(&fs, dir),
            Loaded { state: state.clone(), number: 1, is_fresh: false }
        );
    }
    assert_eq!(manifest.number(), 1);

    let number = state.next_file;
    state.next_file += 1;
    let mut manifest = Manifest::create(&fs, dir, number, &state).unwrap();
    assert_eq!(load_some(&fs, dir), Loaded { state: state.clone(), number, is_fresh: true });
    let edit = add_run(&state, 20);
    manifest.append(&edit).unwrap();
    assert_eq!(load_some(&fs, dir).state, state.with(&edit).unwrap());
    let mut names: Vec<String> =
        fs.list_dir(dir).unwrap().into_iter().map(|entry| entry.name).collect();
    names.sort();
    assert_eq!(names, ["CURRENT", "MANIFEST-000001", "MANIFEST-000007"]);
    assert_eq!(decode_current(&current(&fs, dir)), Some(7));
}

#[test]
fn a_manifest_grows_in_steps_and_keeps_every_edit() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, dir) = (OsFileSystem, dir.path());
    let mut state = samples::state();
    state.next_file = 101;
    let mut manifest = Manifest::create(&fs, dir, 100, &state).unwrap();
    let path = FileName::Manifest(100).path(dir);
    let mut sizes = Vec::new();
    for len in (0..60).map(|round| 100 + 37 * round).chain([60_000, 1, 5]) {
        let edit = add_run(&state, len);
        state = state.with(&edit).unwrap();
        let before = manifest.size_bytes();
        manifest.append(&edit).unwrap();
        assert!(manifest.size_bytes() > before + len as u64);
        assert_eq!(load_some(&fs, dir).state, state, "{len}");
        sizes.push(fs.open(&path).unwrap().size().unwrap());
    }
    sizes.dedup();
    let step = |count: u64| count * (16 << 10);
    assert_eq!(sizes[..5], [step(1), step(2), step(3), step(4), step(5)]);
    assert_eq!(sizes.len(), 6, "the large edit takes one growth: {sizes:?}");
}

#[test]
fn nonsense_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, dir) = (OsFileSystem, dir.path());
    let mut state = samples::state();
    let error = Manifest::create(&fs, dir, state.next_file, &state).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    state.next_run = 0;
    let error = Manifest::create(&fs, dir, 1, &state).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(fs.list_dir(dir).unwrap(), []);
}
