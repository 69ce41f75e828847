//! Batches larger than a segment, and large ones in order (layer L5): built directly as tables,
//! committed by one edit.
//!
//! The tables are written first, with sequence numbers relative to a base that is not known yet.
//! Then, with writers held back, everything older is flushed and the edit commits the batch.
//!
//! Invariant PREFIX: the edit is durable only after everything older is. Invariant SNAP: who has
//! pinned a view without the batch sees no write that follows it: the active memtable is replaced.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

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

/// From so many bytes on two threads sort a batch and build its tables.
const SHARED_BYTES: u64 = 32 << 20;

/// Keys whose lines are asked for ahead of their look-up.
const PREFETCHED: usize = 16;

/// A batch sorted, the last entry of each key only.
struct Sorted<I> {
    entries: Vec<Place<I>>,
    /// Whether a second thread takes half of the work.
    shared: bool,
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
    kind: Kind,
    /// The batch from there on.
    here: I,
}

impl Engine {
    /// Writes a batch past the log. It is durable when this returns, whatever was asked.
    pub(crate) fn write_large<'a, I>(
        &self,
        entries: I,
        count: u32,
        options: &WriteOptions,
    ) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone + Send + Sync,
    {
        self.check_open()?;
        self.check_poisoned()?;
        if options.no_wait {
            return Err(would_stall("a batch larger than a memtable waits for a flush"));
        }
        let _job = self.begin_job()?;
        let least = hooks::limit(&self.env.dir, "shared batch", SHARED_BYTES);
        let sorted = sort(entries, count, least);
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
        I: Iterator<Item = BatchEntry<'a>> + Clone + Sync,
    {
        let build = |places: &[Place<I>]| {
            let mut writer = RunWriter::new(&self.env, 0);
            for (index, entry) in entries(places) {
                writer.add(entry.key, SeqNo::from(index), entry.kind, entry.value)?;
            }
            writer.finish()
        };
        let run = match sorted.halves(build) {
            (Ok(lower), Ok(upper)) => lower.followed_by(upper),
            (Ok(run), Err(error)) | (Err(error), Ok(run)) => {
                run.discard(&self.env);
                return Err(error);
            }
            (Err(error), Err(_)) => return Err(error),
        };
        Counters::add(&self.env.counters.flush_bytes_written, run.size_bytes);
        Ok(run)
    }

    /// Holds writers back, flushes what is left before the batch, and commits it.
    fn commit_large<'a, I>(&self, sorted: &Sorted<I>, run: &FinishedRun) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone + Sync,
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
        I: Iterator<Item = BatchEntry<'a>> + Clone + Sync,
    {
        let view = self.view.load_full();
        let seed = self.env.hash_seed;
        let count = |places: &[Place<I>]| {
            if view.is_empty() {
                return Ok(places.iter().map(|place| count::change(false, place.kind)).sum());
            }
            let mut keys = entries(places).map(|(_, entry)| {
                let hash = hash_key(entry.key, seed);
                view.prefetch(entry.key, hash);
                (entry, hash)
            });
            let mut ahead: VecDeque<_> = keys.by_ref().take(PREFETCHED).collect();
            let mut delta = 0;
            while let Some((entry, hash)) = ahead.pop_front() {
                ahead.extend(keys.next());
                let existed = view.contains(entry.key, hash, MAX_SEQNO)?;
                delta += count::change(existed, entry.kind);
            }
            Ok(delta)
        };
        let (lower, upper): (Result<i64>, Result<i64>) = sorted.halves(count);
        Ok(lower? + upper?)
    }
}

/// Sorts a batch; one of `least_shared` bytes and more with a second thread.
fn sort<'a, I>(mut entries: I, count: u32, least_shared: u64) -> Sorted<I>
where
    I: Iterator<Item = BatchEntry<'a>> + Clone + Send,
{
    let mut list: Vec<Place<I>> = Vec::with_capacity(count as usize);
    let (mut ascend, mut before, mut user_bytes) = (true, None, 0u64);
    loop {
        let here = entries.clone();
        let Some(entry) = entries.next() else { break };
        debug_assert!(matches!(entry.kind, Kind::Put | Kind::Delete));
        ascend = ascend && before < Some(entry.key);
        before = Some(entry.key);
        let (head, number) = (head_of(entry.key), list.len() as u32);
        list.push(Place { head, number, kind: entry.kind, here });
        user_bytes += (entry.key.len() + entry.value.len()) as u64;
    }
    let count = list.len() as u64;
    let shared = user_bytes >= least_shared && list.len() > 1;
    if !ascend {
        // Newest first among equal keys, of which only the newest stays.
        let order = |a: &Place<I>, b: &Place<I>| a.compare(b).then(b.number.cmp(&a.number));
        if shared {
            let middle = list.len() / 2;
            list.select_nth_unstable_by(middle, order);
            let (lower, upper) = list.split_at_mut(middle);
            let sort = |half: &mut [Place<I>]| half.sort_unstable_by(order);
            beside(|| sort(lower), || sort(upper));
        } else {
            list.sort_unstable_by(order);
        }
        list.dedup_by(|later, earlier| later.compare(earlier).is_eq());
    }
    Sorted { entries: list, shared, count, user_bytes }
}

/// Does both, the first in a thread of its own if there can be one.
fn beside<A: Send, B>(first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    let first = Mutex::new(Some(first));
    let take_first = || first.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run_first = || take_first().map(|first| first());
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("toykv-batch".into());
        let thread = builder.spawn_scoped(scope, run_first).ok();
        let second = second();
        let done = thread.and_then(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let done = done.or_else(run_first);
        (done.expect("done here if not in the thread"), second)
    })
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

/// The entries of these places with their numbers.
fn entries<'a, I>(places: &[Place<I>]) -> impl Iterator<Item = (u32, BatchEntry<'a>)>
where
    I: Iterator<Item = BatchEntry<'a>> + Clone,
{
    places.iter().filter_map(|place| Some((place.number, place.entry()?)))
}

impl<I: Sync> Sorted<I> {
    /// Does `work` for the lower and for the upper half, which may be empty.
    fn halves<R: Send>(&self, work: impl Fn(&[Place<I>]) -> R + Sync) -> (R, R) {
        if !self.shared {
            return (work(&self.entries), work(&[]));
        }
        let (lower, upper) = self.entries.split_at(self.entries.len() / 2);
        beside(|| work(lower), || work(upper))
    }
}
