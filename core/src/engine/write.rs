//! put, delete, write (layer L5): one flow for all, a put being a batch of one.
//!
//! The critical section is short: make room, copy one frame into the log, index it, publish its
//! sequence number. Whoever asked for `sync` waits outside it.
//!
//! Invariant PUBLISH: a sequence number is published (Release) after its entries are in the log
//! and in the memtable. Invariant STICKY: after a failed append nothing is appended any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::obsolete::discard_segment;
use super::state::{Change, Counters, Engine, NextSegment, closed_error, lock, wait};
use super::view::{MemPart, View};
use super::wake;
use super::writer::Writer;
use crate::batch::BatchEntry;
use crate::checksum::{hash_key, mix64};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::memtable::MemEntry;
use crate::options::{Durability, WriteOptions};
use crate::types::{Kind, MAX_SEQNO, SeqNo};
use crate::version::SegmentMeta;
use crate::vlog::{FrameSize, LogWriter, Prefill, Segment, SegmentIdentity, Stamp, Store};

/// Keys that are looked up in the memtable's nodes ahead of their insertion.
const PREFETCHED: usize = 6;

impl Engine {
    /// Writes the entries of one batch; the answer is the last one's sequence number.
    pub(crate) fn write<'a, I>(&self, entries: I, options: &WriteOptions) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        let writer = self.writer()?;
        let size = FrameSize::of(entries.clone().map(|e| (e.kind, e.key, e.value)))?;
        if size.least_segment_size() > self.env.plan.memtable_size_bytes {
            return self.write_large(entries, options);
        }
        if self.pressure.load(Ordering::Relaxed) != 0 {
            self.slow_down(size.bytes(), options)?;
        }
        let seqno = {
            let mut writer = lock(writer);
            self.make_room(&mut writer, size)?;
            self.append(&mut writer, entries, size, options)?
        };
        self.settle(seqno, options)?;
        Ok(seqno)
    }

    /// Appends one frame for which there is room, indexes and publishes it. A batch without
    /// entries appends nothing.
    pub(crate) fn append<'a, I>(
        &self,
        writer: &mut Writer,
        entries: I,
        size: FrameSize,
        options: &WriteOptions,
    ) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        let first = writer.next_seqno;
        let last = first + u64::from(size.count()) - 1;
        if size.count() == 0 {
            return Ok(last);
        }
        if last > MAX_SEQNO {
            return Err(Error::new(ErrorKind::Unsupported, "sequence numbers are used up"));
        }
        let stamp = Stamp {
            first_seqno: first,
            synced_seqno: self.sync_queue.synced().min(writer.log.last_seqno()),
            store: match self.durability(options) {
                Durability::Sync => Store::Write,
                Durability::Process | Durability::Interval => Store::Map,
            },
        };
        let hash_seed = self.env.hash_seed;
        let memtable = &writer.part.memtable;
        // The memtable's lines come while the log is written, in a batch some keys ahead.
        let mut ahead = entries.clone();
        let prefetch = |entry: BatchEntry<'_>| {
            memtable.prefetch_key(entry.key, hash_key(entry.key, hash_seed));
        };
        ahead.by_ref().take(PREFETCHED).for_each(prefetch);
        let records = entries.clone().map(|e| (e.kind, e.key, e.value));
        let appended = writer.log.append(size, stamp, records, |record| {
            ahead.next().map(prefetch);
            let hash = hash_key(record.key, hash_seed);
            let entry = MemEntry {
                seqno: record.seqno,
                kind: record.kind,
                offset: record.offset,
                value_len: record.value_len,
            };
            // SAFETY: the writer's lock is held, so nobody else inserts.
            unsafe { memtable.insert(record.key, hash, entry) };
        });
        if let Err(error) = appended {
            return Err(self.append_failed(&writer.log, &error));
        }
        if writer.log.wants_window() {
            wake::want_window(self, writer.log.segment());
        }
        writer.next_seqno = last + 1;
        self.visible.store(last, Ordering::Release);
        if writer.low.is_some() || writer.high.is_some() {
            for entry in entries.filter(|entry| entry.kind == Kind::Put) {
                writer.note_put(entry.key);
            }
        }
        // Only the holder of the writer's lock adds to it.
        let written = &self.env.counters.log_bytes_written;
        written.store(written.load(Ordering::Relaxed) + size.bytes(), Ordering::Relaxed);
        Ok(last)
    }

    /// What a writer hears of a failed append. A disk that is full before anything is stored leaves
    /// the log as it was, so the next write may go on when there is room; after any other failure
    /// none may.
    #[cold]
    pub(crate) fn append_failed(&self, log: &LogWriter, error: &Error) -> Error {
        let harmless = error.kind() == ErrorKind::DiskFull && !log.is_in_doubt();
        if harmless { error.clone() } else { self.poison(error) }
    }

    #[inline]
    fn durability(&self, options: &WriteOptions) -> Durability {
        options.durability.unwrap_or(self.env.options.durability)
    }

    /// Does what the durability of a write asks for after it has been published.
    #[inline]
    pub(crate) fn settle(&self, seqno: SeqNo, options: &WriteOptions) -> Result<()> {
        match self.durability(options) {
            Durability::Process => Ok(()),
            Durability::Sync => self.sync_to(seqno),
            Durability::Interval => {
                if !self.dirty.load(Ordering::Relaxed) {
                    wake::note_dirty(self);
                }
                Ok(())
            }
        }
    }

    /// Makes the active segment take a frame of `size`; swaps segments where it must.
    pub(crate) fn make_room(&self, writer: &mut Writer, size: FrameSize) -> Result<()> {
        if writer.closed {
            return Err(closed_error());
        }
        if self.is_poisoned.load(Ordering::Relaxed) {
            self.check_poisoned()?;
        }
        let capacity = writer.part.segment.identity().size_bytes;
        // Small records: the index outgrows its share of the memory long before the log is full.
        let outgrown = writer.part.memtable.heap_bytes() as u64 > self.env.plan.memtable_heap_bytes;
        if !writer.log.has_room(size) || outgrown {
            self.rotate(writer, size.least_segment_size())?;
        } else if !writer.asked_for_segment && writer.log.free_bytes() < capacity / 2 {
            writer.asked_for_segment = true;
            wake::want_segment(self, self.next_segment_size(capacity, 0));
        }
        Ok(())
    }

    /// Freezes the active memtable and goes on in another segment of at least `least` bytes.
    pub(crate) fn rotate(&self, writer: &mut Writer, least: u64) -> Result<()> {
        let capacity = writer.part.segment.identity().size_bytes;
        let segment = self.take_segment(self.next_segment_size(capacity, least), least)?;
        let part = Arc::new(MemPart::new(Arc::clone(&segment)));
        if let Err(error) = writer.log.rotate(Arc::clone(&segment)) {
            self.give_back(segment);
            return Err(self.append_failed(&writer.log, &error));
        }
        writer.part = Arc::clone(&part);
        writer.asked_for_segment = false;
        let shared = lock(&self.shared);
        let view = self.view.load();
        let mut parts = Vec::with_capacity(view.parts.len() + 1);
        parts.push(part);
        parts.extend(view.parts.iter().cloned());
        self.view.store(Arc::new(View { parts, version: Arc::clone(&view.version) }));
        self.update_pressure();
        drop(shared);
        wake::wake_flush(self);
        Ok(())
    }

    /// Segments double until they have the size of the option.
    fn next_segment_size(&self, current: u64, least: u64) -> u64 {
        let most = self.env.plan.memtable_size_bytes;
        (current * 2).max(least.next_power_of_two()).min(most).max(least)
    }

    /// The prepared segment, or a new one where none of at least `least` bytes is ready.
    fn take_segment(&self, size_bytes: u64, least: u64) -> Result<Arc<Segment>> {
        let mut shared = lock(&self.shared);
        while matches!(shared.next_segment, NextSegment::Preparing) {
            shared = wait(&self.done, shared);
        }
        let unsuitable = match std::mem::take(&mut shared.next_segment) {
            NextSegment::Ready(segment) if segment.identity().size_bytes >= least => {
                return Ok(segment);
            }
            NextSegment::Ready(segment) => Some(segment),
            _ => None,
        };
        drop(shared);
        // Replay follows segments by number, so an unused one must not stay in front.
        let replaced = unsuitable.as_ref().map(|segment| segment.id());
        let created = self.create_segment(size_bytes, replaced);
        if created.is_err()
            && let Some(segment) = unsuitable
        {
            self.give_back(segment);
        }
        created
    }

    /// Keeps a registered segment that could not be used for the next rotation.
    fn give_back(&self, segment: Arc<Segment>) {
        lock(&self.shared).next_segment = NextSegment::Ready(segment);
    }

    /// Creates a segment and registers it, in one edit with the removal of `replaced`.
    pub(crate) fn create_segment(
        &self,
        size_bytes: u64,
        replaced: Option<u64>,
    ) -> Result<Arc<Segment>> {
        let (segment, meta) = self.env.create_segment(size_bytes)?;
        let segment = Arc::new(segment);
        let segments = vec![Arc::clone(&segment)];
        let mut change = Change { segments, ..Change::default() };
        if let Some(id) = replaced {
            change.edit.remove_segment(id);
        }
        change.edit.add_segment(meta);
        if let Err(error) = self.commit(change) {
            if self.is_undone() {
                discard_segment(&self.env, segment.id());
            }
            return Err(error);
        }
        Ok(segment)
    }

    /// Slows a writer down when background work lags: it owes time for each byte, and pays when
    /// a millisecond has come together. At the limit it waits until a flush makes room.
    fn slow_down(&self, bytes: u64, options: &WriteOptions) -> Result<()> {
        let full = || self.backlog_permille(&self.view.load()) >= 1000;
        let owed = self.pressure.load(Ordering::Relaxed) * bytes.div_ceil(64) / 16;
        let debt = self.debt_ns.fetch_add(owed, Ordering::Relaxed) + owed;
        if debt < 1_000_000 && !full() {
            return Ok(());
        }
        if options.no_wait {
            return Err(Error::new(ErrorKind::WouldStall, "writers wait for background work"));
        }
        self.debt_ns.store(0, Ordering::Relaxed);
        let start = Instant::now();
        let pause = Duration::from_nanos(debt.min(10_000_000));
        let mut shared = lock(&self.shared);
        let failures = shared.background_failures;
        let (guard, _) = self
            .done
            .wait_timeout(shared, pause)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        shared = guard;
        while full() && !shared.stop {
            if shared.background_failures != failures
                && let Some(error) = &shared.background_error
            {
                return Err(error.clone());
            }
            shared = wait(&self.done, shared);
        }
        drop(shared);
        let waited = start.elapsed().as_micros() as u64;
        Counters::add(&self.env.counters.stalled_us, waited);
        Ok(())
    }
}

impl super::state::Env {
    /// Creates the file of a new segment, not yet registered.
    pub(crate) fn create_segment(&self, size_bytes: u64) -> Result<(Segment, SegmentMeta)> {
        let id = self.new_file_number();
        let size_bytes = size_bytes.next_multiple_of(4096);
        let salt = mix64(random_word(), id);
        let identity = SegmentIdentity { id, salt, db_id: self.database_id, size_bytes };
        let path = FileName::Segment(id).path(&self.dir);
        let prefill = match self.options.durability {
            Durability::Sync => Prefill::All,
            Durability::Process | Durability::Interval => Prefill::Window,
        };
        match Segment::create(&*self.fs, &path, identity, prefill) {
            Ok(segment) => Ok((segment, SegmentMeta::registered(id, salt, size_bytes))),
            Err(error) => {
                discard_segment(self, id);
                Err(error)
            }
        }
    }
}

/// A random word from the standard library's source of hash keys, which the system seeds.
pub(crate) fn random_word() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u64)
}
