//! Garbage collection of segments (layer L5): the live values of the files with most to gain move
//! into a new file, and one edit puts that in their place.
//!
//! It touches neither the index nor the write path: addresses stay what they are. Invariant MOVED:
//! values that died while they were being copied are recorded dead in the new file, under the lock
//! under which every edit is made. Invariant PINNED lets readers go on in the old file.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counters::Counters;
use super::hooks;
use super::locks::thread;
use super::obsolete;
use super::pick_files::{Goal, JOIN_FILES, file_uses, pick_files};
use super::rewrite::{Input, Moved, rewrite};
use super::state::{Change, Engine, closed_error, lock, wait};
use crate::error::{Error, ErrorKind, Result};
use crate::types::FileNumber;
use crate::version::{DeadSet, SegmentMeta, VersionEdit, VersionState};

/// Asks the owner of a job whether to go on, with bytes copied since it was asked last.
type Check<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// The one collection under way. No lock is held meanwhile: the owner of the job is asked whether
/// to go on.
struct Collecting<'a>(&'a Engine);

impl Collecting<'_> {
    /// Waits for another one; Misuse when this thread is in it.
    fn begin(engine: &Engine) -> Result<Collecting<'_>> {
        let own = thread::current().id();
        let mut shared = lock(&engine.shared);
        while let Some(other) = shared.collector {
            if other == own {
                let what = "a collection was asked for by the progress of another";
                return Err(Error::new(ErrorKind::Misuse, what));
            }
            shared = wait(&engine.done, shared);
        }
        shared.collector = Some(own);
        Ok(Collecting(engine))
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        lock(&self.0.shared).collector = None;
        self.0.done.notify_all();
    }
}

impl Engine {
    /// Collects the files with most to gain when too much space is spent. False when it is not.
    pub(crate) fn collect_once(&self) -> Result<bool> {
        let goal = self.goal(self.env.options.space_amplification_percent - 100, u64::MAX);
        let mut go_on = |_| match lock(&self.shared).stop {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        match self.collect_files(&goal, &mut go_on) {
            Err(error) if error.kind() == ErrorKind::Cancelled => Ok(false),
            other => other,
        }
    }

    /// Collects every file that is there now and has something to gain. `check` is told how many
    /// bytes have been copied of how many.
    pub(crate) fn collect_all(
        &self,
        check: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
    ) -> Result<()> {
        let _job = self.begin_job()?;
        // What is written from now on is not collected, so it ends whatever others write.
        let goal = self.goal(0, self.env.next_file.load(Ordering::Relaxed));
        let mut done = 0;
        loop {
            let uses = file_uses(&self.files()?.state);
            let there = uses.iter().filter(|(number, _)| **number < goal.before);
            let paying = there.filter(|(_, file)| file.pays());
            let left: u64 = paying.map(|(_, file)| file.live_bytes).sum();
            let total = done + left;
            let mut go_on = |copied| {
                done += copied;
                if lock(&self.shared).stop { ControlFlow::Break(()) } else { check(done, total) }
            };
            match self.collect_files(&goal, &mut go_on) {
                Ok(true) => {}
                Ok(false) => {
                    obsolete::collect_and_wait(self);
                    return Ok(());
                }
                Err(_) if lock(&self.shared).stop => return Err(closed_error()),
                Err(error) => return Err(error),
            }
        }
    }

    fn goal(&self, spare_percent: u64, before: FileNumber) -> Goal {
        let file_bytes = self.env.plan.memtable_size_bytes;
        let file_bytes = hooks::limit(&self.env.dir, "collected file size", file_bytes);
        let join_files = hooks::limit(&self.env.dir, "joined files", JOIN_FILES);
        Goal { spare_percent, file_bytes, before, join_files, most_live: u64::MAX }
    }

    fn collect_files(&self, goal: &Goal, check: Check<'_>) -> Result<bool> {
        let _one_at_a_time = Collecting::begin(self)?;
        self.check_poisoned()?;
        let (mut goal, mut full) = (*goal, None);
        let (inputs, moved) = loop {
            let Some((inputs, files)) = self.choose_inputs(&goal)? else {
                return full.map_or(Ok(false), Err);
            };
            hooks::reach(&self.env.dir, "collection: chosen");
            match rewrite(&self.env, &inputs, check) {
                Ok(moved) => break (inputs, moved),
                // With less at once it may go on: each file that moves makes room.
                Err(error) if error.kind() == ErrorKind::DiskFull => {
                    let live: u64 = inputs.iter().map(|(_, meta)| meta.live_bytes()).sum();
                    goal.most_live = live / 2;
                    full = Some(error);
                }
                Err(error) => {
                    if matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Io) {
                        self.spare(&files, &inputs, &error);
                    }
                    return Err(error);
                }
            }
        };
        hooks::reach(&self.env.dir, "collection: copied");
        self.install(&inputs, moved)?;
        drop(inputs);
        obsolete::collect(self);
        Ok(true)
    }

    /// Leaves the file alone that an error names: its damage, or what the device cannot read of it,
    /// would be met again and again.
    fn spare(&self, files: &[FileNumber], inputs: &[Input], error: &Error) {
        let named = inputs.iter().find(|(segment, _)| error.path() == Some(segment.path()));
        let mut shared = lock(&self.shared);
        match named {
            Some((_, meta)) => shared.spared_files.push(meta.file),
            None if error.kind() == ErrorKind::Io => {}
            None => shared.spared_files.extend(files),
        }
    }

    /// All segments of the chosen files, of one state.
    fn choose_inputs(&self, goal: &Goal) -> Result<Option<(Vec<Input>, Vec<FileNumber>)>> {
        let files = self.files()?;
        let spared = lock(&self.shared).spared_files.clone();
        let Some(chosen) = pick_files(&files.state, goal, &spared) else { return Ok(None) };
        let mut inputs = Vec::new();
        for meta in files.state.segments.values().filter(|meta| chosen.contains(&meta.file)) {
            let segment = files.segments.get(&meta.id).ok_or_else(|| {
                let what = format!("segment {} is not open", meta.id);
                Error::new(ErrorKind::Corruption, what)
            })?;
            inputs.push((Arc::clone(segment), meta.clone()));
        }
        Ok(Some((inputs, chosen)))
    }

    /// Puts the new file in the place of the old ones.
    fn install(&self, inputs: &[Input], mut moved: Moved) -> Result<()> {
        let mut files = self.files()?;
        let mut change = Change::default();
        let stale = hooks::planted(&self.env.dir, "collection trusts a stale count");
        for (_, copied) in inputs {
            if files.state.segments.contains_key(&copied.id) || stale {
                let died = died_since(&files.state, copied, stale);
                describe_move(copied, &moved, died, &mut change.edit);
            } else {
                moved.forget(copied.id);
            }
        }
        if moved.metas.is_empty() {
            moved.discard(&self.env);
            return Ok(());
        }
        self.stamp(&mut change.edit);
        let size_bytes = moved.identity.size_bytes;
        change.segments.clone_from(&moved.segments);
        if let Err(error) = self.commit_locked(&mut files, change) {
            if self.is_undone() {
                moved.discard(&self.env);
            }
            return Err(error);
        }
        Counters::add(&self.env.counters.collections, 1);
        Counters::add(&self.env.counters.collection_bytes_written, size_bytes);
        Ok(())
    }
}

/// What has died of a segment since it was copied.
fn died_since(state: &VersionState, copied: &SegmentMeta, stale: bool) -> DeadSet {
    match state.segments.get(&copied.id) {
        Some(current) if !stale => current.dead.since(&copied.dead),
        _ => DeadSet::default(),
    }
}

/// Puts a segment into its new file.
fn describe_move(copied: &SegmentMeta, moved: &Moved, died: DeadSet, edit: &mut VersionEdit) {
    let meta = moved.metas.iter().find(|meta| meta.id == copied.id);
    if let Some(meta) = meta {
        edit.remove_segment(copied.id);
        edit.add_segment(meta.clone());
        edit.add_dead(copied.id, died);
    }
}
