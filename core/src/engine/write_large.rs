//! Batches larger than a segment (layer L5): built directly as tables, committed by one edit.
//!
//! The tables are written first, with sequence numbers relative to a base that is not known yet.
//! Then, with writers held back, everything older is flushed and the edit commits the batch.
//!
//! Invariant PREFIX: the edit is durable only after everything older is. Invariant SNAP: who has
//! pinned a view without the batch sees no write that follows it: the active memtable is replaced.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::count;
use super::counters::Counters;
use super::hooks;
use super::obsolete;
use super::run_writer::{FinishedRun, RunWriter, open_table};
use super::stall::would_stall;
use super::state::{Change, Engine, closed_error, lock};
use super::view::{MemPart, key_count};
use super::writer::Writer;
use crate::batch::BatchEntry;
use crate::checksum::hash_key;
use crate::error::{Error, ErrorKind, Result};
use crate::iter::head_of;
use crate::options::WriteOptions;
use crate::types::{DEFAULT_KEYSPACE, Kind, MAX_SEQNO, SeqNo};

/// A batch sorted, the last entry of each key only.
struct Sorted<I> {
    entries: Vec<Place<I>>,
    count: u64,
    /// Keys and values, as given.
    user_bytes: u64,
}

/// An entry: with the batch of a caller 32 bytes, less than what the entry itself would take.
struct Place<I> {
    /// The first eight bytes of the key, which decide most comparisons without a look at it.
    head: u64,
    /// Its number in the batch.
    number: u32,
    /// The batch from there on.
    here: I,
}

impl Engine {
    /// Writes a batch that no segment takes. It is durable when this returns, whatever was asked.
    pub(crate) fn write_large<'a, I>(
        &self,
        entries: I,
        count: u32,
        options: &WriteOptions,
    ) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        self.check_open()?;
        self.check_poisoned()?;
        if options.no_wait {
            return Err(would_stall("a batch larger than a memtable waits for a flush"));
        }
        let _job = self.begin_job()?;
        let sorted = sort(entries, count);
        let run = self.build_tables(&sorted)?;
        let flushed = match hooks::planted(&self.env.dir, "edit before the log") {
            true => Ok(()),
            false => self.flush(),
        };
        let result = flushed.and_then(|()| self.commit_large(&sorted, &run));
        if result.is_err() && self.is_undone() {
            run.discard(&self.env);
        }
        obsolete::collect(self);
        result
    }

    fn build_tables<'a, I>(&self, sorted: &Sorted<I>) -> Result<FinishedRun>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        let mut writer = RunWriter::new(&self.env, 0);
        for (index, entry) in sorted.iter() {
            writer.add(entry.key, SeqNo::from(index), entry.kind, entry.value)?;
        }
        let run = writer.finish()?;
        Counters::add(&self.env.counters.flush_bytes_written, run.size_bytes);
        Ok(run)
    }

    /// Holds writers back, flushes what is left before the batch, and commits it.
    fn commit_large<'a, I>(&self, sorted: &Sorted<I>, run: &FinishedRun) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        let counted_at = self.visible.load(Ordering::Acquire);
        let counted = self.count_large(sorted)?;
        let mut writer = lock(self.writer()?);
        if writer.closed {
            return Err(closed_error());
        }
        self.check_poisoned()?;
        let waiting = self.note_waiting();
        self.flush_all_locked(&mut writer)?;
        let unchanged = counted_at == self.visible.load(Ordering::Acquire);
        let delta = if unchanged { counted } else { self.count_large(sorted)? };
        let first = writer.next_seqno;
        let last = first + sorted.count - 1;
        if last > MAX_SEQNO {
            return Err(Error::new(ErrorKind::Unsupported, "sequence numbers are used up"));
        }
        let part = match hooks::planted(&self.env.dir, "active memtable stays") {
            true => Arc::clone(&writer.part),
            false => Arc::new(MemPart::new(Arc::clone(&writer.part.segment))),
        };
        let mut files = self.files()?;
        let mut change = Change { new_active: Some(Arc::clone(&part)), ..Change::default() };
        let run_id = files.state.next_run;
        for meta in &run.metas {
            let mut meta = meta.clone();
            meta.seqno_base = first;
            meta.min_seqno += first;
            meta.max_seqno += first;
            change.tables.push((meta.number, Arc::new(open_table(&self.env, &meta)?)));
            change.edit.add_table(run_id, meta);
        }
        let count = key_count(&files.state) as i64 + delta;
        change.edit.set_count(DEFAULT_KEYSPACE, count.max(0) as u64);
        self.stamp(&mut change.edit);
        change.edit.last_seqno = Some(last);
        change.publish = Some(last);
        self.commit_locked(&mut files, change)?;
        drop(files);
        hooks::reach(&self.env.dir, "large batch: committed");
        writer.part = part;
        writer.next_seqno = last + 1;
        Counters::add(&self.env.counters.user_bytes, sorted.user_bytes);
        writer.forget_ends();
        drop((waiting, writer));
        super::wake::wake_compaction(self);
        Ok(last)
    }

    /// Flushes every memtable while writers are held back; the active one is empty afterwards.
    fn flush_all_locked(&self, writer: &mut Writer) -> Result<()> {
        if hooks::planted(&self.env.dir, "edit before the log") {
            return Ok(());
        }
        if !writer.part.memtable.is_empty() {
            self.rotate(writer, 0)?;
        }
        while self.flush_oldest()? {}
        Ok(())
    }

    /// How many keys the batch adds to what there is.
    fn count_large<'a, I>(&self, sorted: &Sorted<I>) -> Result<i64>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        let view = self.view.load_full();
        let mut delta = 0;
        for (_, entry) in sorted.iter() {
            let hash = hash_key(entry.key, self.env.hash_seed);
            let existed = view.contains(entry.key, hash, MAX_SEQNO)?;
            delta += count::change(existed, entry.kind);
        }
        Ok(delta)
    }
}

fn sort<'a, I>(mut entries: I, count: u32) -> Sorted<I>
where
    I: Iterator<Item = BatchEntry<'a>> + Clone,
{
    let mut list: Vec<Place<I>> = Vec::with_capacity(count as usize);
    let (mut ascend, mut before, mut user_bytes) = (true, None, 0u64);
    loop {
        let here = entries.clone();
        let Some(entry) = entries.next() else { break };
        debug_assert!(matches!(entry.kind, Kind::Put | Kind::Delete));
        ascend = ascend && before < Some(entry.key);
        before = Some(entry.key);
        list.push(Place { head: head_of(entry.key), number: list.len() as u32, here });
        user_bytes += (entry.key.len() + entry.value.len()) as u64;
    }
    let count = list.len() as u64;
    if !ascend {
        // Newest first among equal keys, of which only the newest stays.
        list.sort_unstable_by(|a, b| a.compare(b).then(b.number.cmp(&a.number)));
        list.dedup_by(|later, earlier| later.compare(earlier).is_eq());
    }
    Sorted { entries: list, count, user_bytes }
}

impl<'a, I: Iterator<Item = BatchEntry<'a>> + Clone> Place<I> {
    fn entry(&self) -> Option<BatchEntry<'a>> {
        self.here.clone().next()
    }

    /// The order of the keys.
    #[inline]
    fn compare(&self, other: &Place<I>) -> std::cmp::Ordering {
        let key = |place: &Place<I>| place.entry().map(|entry| entry.key);
        self.head.cmp(&other.head).then_with(|| key(self).cmp(&key(other)))
    }
}

impl<'a, I: Iterator<Item = BatchEntry<'a>> + Clone> Sorted<I> {
    /// The entries with their numbers, by key.
    fn iter(&self) -> impl Iterator<Item = (u32, BatchEntry<'a>)> {
        self.entries.iter().filter_map(|place| Some((place.number, place.entry()?)))
    }
}
