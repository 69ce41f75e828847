//! Files that nobody needs any more (layer L5): the only place that deletes files of a database.
//!
//! Invariant PINNED: a file goes only when no version names it and no reader holds it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::hooks;
use super::state::{Engine, Env, lock, wait};
use crate::error::Result;
use crate::filename::FileName;
use crate::fs::{DirEntry, FileSystem, PathKind};
use crate::planted::planted;
use crate::types::FileNumber;

/// A deletion under way, by its number; over when it is dropped.
struct Deletion<'a>(&'a Engine, u64);

impl Drop for Deletion<'_> {
    fn drop(&mut self) {
        lock(&self.0.shared).deletions.retain(|number| *number != self.1);
        self.0.done.notify_all();
    }
}

/// Deletes the obsolete files that nobody holds. A file that cannot be deleted now is an orphan
/// for the next open; nothing depends on its absence.
pub(crate) fn collect(engine: &Engine) {
    if !engine.has_obsolete.load(Ordering::Relaxed) {
        return;
    }
    let mut ready = Vec::new();
    let _deletion = {
        let mut shared = lock(&engine.shared);
        ready.extend(shared.obsolete.extract_if(.., |file| Arc::strong_count(&file.pin) == 1));
        engine.has_obsolete.store(!shared.obsolete.is_empty(), Ordering::Relaxed);
        if ready.is_empty() {
            return;
        }
        let number = shared.next_deletion;
        shared.next_deletion += 1;
        shared.deletions.push(number);
        Deletion(engine, number)
    };
    hooks::reach(&engine.env.dir, "obsolete: chosen");
    for file in ready {
        drop(file.pin);
        let _ = engine.env.fs.remove_file(&file.path);
    }
}

/// The same, and waits for the files that other threads are deleting meanwhile.
pub(crate) fn collect_and_wait(engine: &Engine) {
    collect(engine);
    let dir = &engine.env.dir;
    let mut shared = lock(&engine.shared);
    let begun = shared.next_deletion;
    while shared.deletions.iter().any(|number| *number < begun) {
        if hooks::planted(dir, "deletions go on") {
            return;
        }
        hooks::reach(dir, "obsolete: waits");
        shared = wait(&engine.done, shared);
    }
}

/// Deletes tables that were being built when their job failed or was cancelled.
pub(crate) fn discard_tables(env: &Env, numbers: &[FileNumber]) {
    for number in numbers {
        let _ = env.fs.remove_file(&FileName::Table(*number).path(&env.dir));
    }
}

/// Deletes a segment that was created but could not be registered.
pub(crate) fn discard_segment(env: &Env, number: FileNumber) {
    let _ = env.fs.remove_file(&FileName::Segment(number).path(&env.dir));
}

/// Deletes what a failed open made.
pub(crate) fn discard_made(env: &Env, made: &[FileName]) {
    for name in made {
        let _ = env.fs.remove_file(&name.path(&env.dir));
    }
}

/// Deletes a whole database: CURRENT first, so that no half of it can be opened; foreign files
/// stay, and with them the directory. Goes on where an earlier call was cut short.
pub(crate) fn delete_all(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    let current = FileName::Current.path(dir);
    if fs.kind(&current)? != PathKind::Absent && !planted("destroy: CURRENT stays") {
        fs.remove_file(&current)?;
    }
    fs.sync_dir(dir)?;
    let mut empty = true;
    for entry in fs.list_dir(dir)? {
        match FileName::parse(&entry.name) {
            Some(FileName::Lock) => {}
            Some(_) if entry.kind == PathKind::File => fs.remove_file(&dir.join(&entry.name))?,
            _ => empty = false,
        }
    }
    fs.remove_file(&FileName::Lock.path(dir))?;
    if empty { fs.remove_dir(dir) } else { Ok(()) }
}

/// Deletes what is left of attempts to create a database, or to destroy one: manifests without
/// CURRENT. That it is gone becomes durable first.
pub(crate) fn delete_unborn(fs: &dyn FileSystem, dir: &Path, listing: &[DirEntry]) -> Result<()> {
    let numbered = |entry: &DirEntry| FileName::parse(&entry.name).and_then(|name| name.number());
    if listing.iter().any(|entry| numbered(entry).is_some()) {
        fs.sync_dir(dir)?;
        let _ = delete_orphans(fs, dir, |name| name.number().is_none());
    }
    Ok(())
}

/// Deletes what an earlier process left behind: files with the database's own kind of names that
/// `is_live` denies. Foreign files stay.
pub(crate) fn delete_orphans(
    fs: &dyn FileSystem,
    dir: &Path,
    is_live: impl Fn(FileName) -> bool,
) -> Result<()> {
    for entry in fs.list_dir(dir)? {
        let Some(name) = FileName::parse(&entry.name) else { continue };
        if entry.kind == PathKind::File && !is_live(name) {
            fs.remove_file(&dir.join(&entry.name))?;
        }
    }
    Ok(())
}
