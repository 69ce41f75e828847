//! Batches larger than a segment (layer L5): built directly as tables, committed by one edit.
//!
//! Only heads and numbers are sorted, and a batch that comes in order is not; two threads build the
//! tables of a long one, each half of them: 5 M entries of 24 + 150 bytes take half the time.
//!
//! The tables are written first, with sequence numbers relative to a base that is not known yet.
//! Then, with writers held back, everything older is flushed and the edit commits the batch.
//!
//! Invariant PREFIX: the edit is durable only after everything older is. Invariant SNAP: who has
//! pinned a view without the batch sees no write that follows it: the active memtable is replaced.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::count;
use super::hooks;
use super::obsolete;
use super::run_writer::{FinishedRun, RunWriter, open_table};
use super::state::{Change, Counters, Engine, closed_error, lock};
use super::view::{MemPart, key_count};
use super::writer::Writer;
use crate::batch::BatchEntry;
use crate::checksum::hash_key;
use crate::error::{Error, ErrorKind, Result};
use crate::iter::head_of;
use crate::options::WriteOptions;
use crate::table::prefetch;
use crate::types::{DEFAULT_KEYSPACE, Kind, MAX_SEQNO, SeqNo};

/// A batch and the order of its keys, the last entry of each key only.
struct Sorted<'a> {
    /// As in the batch.
    entries: Vec<BatchEntry<'a>>,
    /// Numbers of entries by ascending key.
    order: Vec<u32>,
    /// Keys and values, as given.
    user_bytes: u64,
}

impl<'a> Sorted<'a> {
    /// The entries by ascending key, each with its number.
    fn iter(&self) -> impl Iterator<Item = (u32, &BatchEntry<'a>)> {
        self.order.iter().map(|&number| (number, &self.entries[number as usize]))
    }

    /// Asks the processor for the entries that come some places after this one.
    #[inline]
    fn prefetch(&self, place: usize) {
        if let Some(&number) = self.order.get(place + 2 * AHEAD) {
            prefetch(std::ptr::from_ref(&self.entries[number as usize]).cast());
        }
        if let Some(&number) = self.order.get(place + AHEAD) {
            let entry = &self.entries[number as usize];
            prefetch(entry.key.as_ptr());
            for line in entry.value.chunks(64).take(PREFETCHED_LINES) {
                prefetch(line.as_ptr());
            }
        }
    }
}

/// Entries between the one that is added to a table and those that are asked for.
const AHEAD: usize = 8;

/// Cache lines of a value that are asked for; the processor follows longer ones itself.
const PREFETCHED_LINES: usize = 4;

/// A batch of so many bytes is built by two threads.
const TWO_THREADS_BYTES: u64 = 32 << 20;

impl Engine {
    /// Writes a batch that no segment takes. It is durable when this returns, whatever was asked.
    pub(crate) fn write_large<'a, I>(&self, entries: I, options: &WriteOptions) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        self.check_open()?;
        self.check_poisoned()?;
        if options.no_wait {
            let message = "a batch larger than a memtable waits for a flush";
            return Err(Error::new(ErrorKind::WouldStall, message));
        }
        let _job = self.begin_job()?;
        let sorted = sort(entries);
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

    fn build_tables(&self, sorted: &Sorted<'_>) -> Result<FinishedRun> {
        let len = sorted.order.len();
        let two = sorted.user_bytes >= TWO_THREADS_BYTES;
        let middle = if two { len / 2 } else { len };
        let upper = || self.build_part(sorted, middle..len);
        let (lower, upper) = thread::scope(|scope| {
            let name = "toykv-build".to_owned();
            let other = two.then(|| thread::Builder::new().name(name).spawn_scoped(scope, upper));
            let lower = self.build_part(sorted, 0..middle);
            let upper = match other {
                Some(Ok(thread)) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                _ => upper(),
            };
            (lower, upper)
        });
        let run = match (lower, upper) {
            (Ok(mut run), Ok(upper)) => {
                run.metas.extend(upper.metas);
                run.size_bytes += upper.size_bytes;
                run
            }
            (Err(error), other) | (other, Err(error)) => {
                if let Ok(run) = other {
                    run.discard(&self.env);
                }
                return Err(error);
            }
        };
        Counters::add(&self.env.counters.flush_bytes_written, run.size_bytes);
        Ok(run)
    }

    /// Builds the tables of the entries in these places of the order.
    fn build_part(&self, sorted: &Sorted<'_>, places: Range<usize>) -> Result<FinishedRun> {
        let mut writer = RunWriter::new(&self.env, 0);
        for place in places {
            sorted.prefetch(place);
            let number = sorted.order[place];
            let entry = &sorted.entries[number as usize];
            writer.add(entry.key, SeqNo::from(number), entry.kind, entry.value)?;
        }
        writer.finish()
    }

    /// Holds writers back, flushes what is left before the batch, and commits it.
    fn commit_large(&self, sorted: &Sorted<'_>, run: &FinishedRun) -> Result<SeqNo> {
        let counted_at = self.visible.load(Ordering::Acquire);
        let counted = self.count_large(sorted)?;
        let mut writer = lock(self.writer()?);
        if writer.closed {
            return Err(closed_error());
        }
        self.check_poisoned()?;
        self.flush_all_locked(&mut writer)?;
        let unchanged = counted_at == self.visible.load(Ordering::Acquire);
        let delta = if unchanged { counted } else { self.count_large(sorted)? };
        let first = writer.next_seqno;
        let last = first + sorted.entries.len() as u64 - 1;
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
        writer.forget_ends();
        drop(writer);
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
    fn count_large(&self, sorted: &Sorted<'_>) -> Result<i64> {
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

fn sort<'a>(batch: impl Iterator<Item = BatchEntry<'a>>) -> Sorted<'a> {
    let mut entries: Vec<BatchEntry<'a>> = Vec::new();
    let (mut ascend, mut user_bytes) = (true, 0);
    for entry in batch {
        debug_assert!(entry.kind != Kind::Pointer);
        ascend = ascend && entries.last().is_none_or(|before| before.key < entry.key);
        user_bytes += (entry.key.len() + entry.value.len()) as u64;
        entries.push(entry);
    }
    let numbers = 0..entries.len() as u32;
    if ascend {
        return Sorted { entries, order: numbers.collect(), user_bytes };
    }
    let key = |number: u32| entries[number as usize].key;
    let mut order: Vec<(u64, u32)> = numbers.map(|number| (head_of(key(number)), number)).collect();
    // Newest first among equal keys, of which only the newest stays.
    order.sort_unstable_by(|(head_a, a), (head_b, b)| {
        head_a.cmp(head_b).then_with(|| key(*a).cmp(key(*b))).then(b.cmp(a))
    });
    order.dedup_by(|(head, later), (kept_head, kept)| {
        head == kept_head && key(*later) == key(*kept)
    });
    let order = order.into_iter().map(|(_, number)| number).collect();
    Sorted { entries, order, user_bytes }
}
