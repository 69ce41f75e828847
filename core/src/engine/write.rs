//! put, delete, write (layer L5): one flow for all, a put being a batch of one.
//!
//! The critical section is short: make room, copy one frame into the log, index it, publish its
//! sequence number. Whoever asked for `sync` waits outside it.
//!
//! Invariant PUBLISH: a sequence number is published (Release) after its entries are in the log
//! and in the memtable. Invariant STICKY: after a failed append nothing is appended any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::counters::Stall;
use super::hooks;
use super::obsolete::discard_segment;
use super::stall::would_stall;
use super::state::{Change, Engine, NextSegment, Role, closed_error, lock, wait};
use super::view::{MemPart, View};
use super::wake;
use super::writer::Writer;
use crate::batch::BatchEntry;
use crate::checksum::{hash_key, mix64};
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::memtable::MemEntry;
use crate::options::{Durability, WriteOptions};
use crate::planted::planted;
use crate::types::{Kind, MAX_SEQNO, SeqNo};
use crate::version::SegmentMeta;
use crate::vlog::{FrameSize, LogWriter, Prefill, Segment, SegmentIdentity, Stamp, Store};

/// Keys that are looked up in the memtable's nodes ahead of their insertion.
const PREFETCHED: usize = 8;

/// A batch in the order of its keys is large from this part of a memtable on.
const SORTED_PART: u64 = 4;

/// End of a segment that is kept for deletes, at most an eighth of it.
const DELETE_RESERVE_BYTES: u64 = 256 << 10;

impl Engine {
    /// Writes the entries of one batch; the answer is the last one's sequence number.
    pub(crate) fn write<'a, I>(&self, entries: I, options: &WriteOptions) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone + Send + Sync,
    {
        // Who cannot write hears it before anything is compressed or written.
        self.writer()?;
        let size = FrameSize::of(entries.clone().map(|e| (e.kind, e.key, e.value)))?;
        if self.becomes_tables(&size, entries.clone(), options) {
            return self.write_large(entries, size.count(), options);
        }
        match self.pack(entries.clone()) {
            None => self.write_frame(entries, size, 0, options),
            Some(packing) => {
                let entries = packing.apply(entries);
                let size = FrameSize::of(entries.clone().map(|e| (e.kind, e.key, e.value)))?;
                self.write_frame(entries, size, packing.saved_bytes(), options)
            }
        }
    }

    /// Whether a batch goes past the log: no segment takes it, or it is large, in the order of its
    /// keys and free of values that would be separated. Such a one costs less as tables, which
    /// nobody has to rewrite where they overlap no others.
    #[inline]
    fn becomes_tables<'a>(
        &self,
        size: &FrameSize,
        mut entries: impl Iterator<Item = BatchEntry<'a>>,
        options: &WriteOptions,
    ) -> bool {
        let memtable = self.env.plan.memtable_size_bytes;
        if size.bytes() < memtable / SORTED_PART {
            return false;
        }
        if size.least_segment_size() > memtable {
            return true;
        }
        let (mut before, most) = (None, self.env.options.value_threshold_bytes);
        !options.no_wait
            && entries.all(|entry| {
                let ascends = before < Some(entry.key);
                before = Some(entry.key);
                ascends && (entry.value.len() as u64) < most
            })
    }

    /// Writes a batch that a segment takes; compression has made it shorter by `saved_bytes`.
    fn write_frame<'a, I>(
        &self,
        entries: I,
        size: FrameSize,
        saved_bytes: u64,
        options: &WriteOptions,
    ) -> Result<SeqNo>
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        let writer = self.writer()?;
        self.slow_down(size.bytes(), options)?;
        let seqno = {
            let mut writer = self.lock_writer(writer, options)?;
            let room = self.make_room(&mut writer, size, options);
            if room.is_err() && planted("write: a full disk is acknowledged") {
                return Ok(self.visible.load(Ordering::Acquire));
            }
            room?;
            let reserve = DELETE_RESERVE_BYTES.min(writer.part.segment.identity().size_bytes / 8);
            if writer.log.free_bytes() < size.bytes() + reserve
                && entries.clone().any(|entry| entry.kind != Kind::Delete)
            {
                self.keep_reserve(&mut writer, size, options)?;
            }
            let seqno = self.append(&mut writer, entries, size, options)?;
            if saved_bytes > 0 {
                self.env.counters.add_write(0, saved_bytes);
            }
            seqno
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
        let stamp = self.stamp_of(first, &writer.log, options);
        let hash_seed = self.env.hash_seed;
        let memtable = &writer.part.memtable;
        // The memtable's lines come while the log is written, in a batch some keys ahead.
        let mut ahead = entries.clone();
        let mut hashes = [0; PREFETCHED];
        let hash_of = |entry: BatchEntry<'_>| {
            let hash = hash_key(entry.key, hash_seed);
            memtable.prefetch_key(entry.key, hash);
            hash
        };
        for (hash, entry) in hashes.iter_mut().zip(ahead.by_ref()) {
            *hash = hash_of(entry);
        }
        let records = entries.clone().map(|e| (e.kind, e.key, e.value));
        let mut user_bytes = 0;
        let appended = writer.log.append(size, stamp, records, |record| {
            let kept = &mut hashes[record.index as usize % PREFETCHED];
            let hash = *kept;
            if let Some(entry) = ahead.next() {
                *kept = hash_of(entry);
            }
            user_bytes += record.key.len() as u64 + u64::from(record.value_len);
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
            for entry in entries.filter(|entry| entry.kind != Kind::Delete) {
                writer.note_put(entry.key);
            }
        }
        self.env.counters.add_write(size.bytes(), user_bytes);
        Ok(last)
    }

    #[inline]
    fn stamp_of(&self, first_seqno: SeqNo, log: &LogWriter, options: &WriteOptions) -> Stamp {
        Stamp {
            first_seqno,
            synced_seqno: self.sync_queue.synced().min(log.last_seqno()),
            store: match self.durability(options) {
                Durability::Sync => Store::Write,
                Durability::Process | Durability::Interval => Store::Map,
            },
        }
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
            Durability::Sync if planted("write: acknowledged before the sync") => Ok(()),
            Durability::Sync => self.sync_to(seqno),
            Durability::Interval => {
                let noted = self.dirty.load(Ordering::Relaxed) || wake::note_dirty(self);
                if noted { Ok(()) } else { self.sync_to(seqno) }
            }
        }
    }

    /// Makes the active segment take a frame of `size`; swaps segments where it must.
    pub(crate) fn make_room(
        &self,
        writer: &mut Writer,
        size: FrameSize,
        options: &WriteOptions,
    ) -> Result<()> {
        if writer.closed {
            return Err(closed_error());
        }
        if self.is_poisoned.load(Ordering::Relaxed) {
            self.check_poisoned()?;
        }
        // Small records: the index outgrows its share of the memory long before the log is full.
        let heap_bytes = writer.part.memtable.heap_bytes() as u64;
        let most_heap = self.env.plan.memtable_heap_bytes;
        let capacity = writer.part.segment.identity().size_bytes;
        if !writer.log.has_room(size) || heap_bytes > most_heap {
            self.swap_segment(writer, size.least_segment_size(), options)?;
        } else if !writer.asked_for_segment
            && (writer.log.free_bytes() < capacity / 2 || heap_bytes > most_heap / 2)
        {
            writer.asked_for_segment = true;
            wake::want_segment(self, self.next_segment_size(writer, 0));
        }
        Ok(())
    }

    /// The end of a segment is for deletes, which are what makes room, until the next segment is
    /// there: on a full disk a put hears so while deletes go on.
    #[cold]
    fn keep_reserve(
        &self,
        writer: &mut Writer,
        size: FrameSize,
        opts: &WriteOptions,
    ) -> Result<()> {
        let least = size.least_segment_size();
        let fresh = writer.log.offset() < writer.part.segment.identity().size_bytes / 2;
        let refuses_later = planted("write: a full disk is acknowledged");
        if fresh || self.is_segment_ready(least) || refuses_later {
            return Ok(());
        }
        self.swap_segment(writer, least, opts)
    }

    /// [`Engine::rotate`] for a write, which may have asked not to wait.
    fn swap_segment(&self, writer: &mut Writer, least: u64, options: &WriteOptions) -> Result<()> {
        if options.no_wait && !self.is_segment_ready(least) {
            wake::want_segment(self, self.next_segment_size(writer, least));
            return Err(would_stall("the next segment of the log is not ready"));
        }
        self.rotate(writer, least)
    }

    fn is_segment_ready(&self, least: u64) -> bool {
        let fits = |segment: &Arc<Segment>| segment.identity().size_bytes >= least;
        matches!(&lock(&self.shared).next_segment, NextSegment::Ready(next) if fits(next))
    }

    /// Freezes the active memtable and goes on in another segment of at least `least` bytes.
    pub(crate) fn rotate(&self, writer: &mut Writer, least: u64) -> Result<()> {
        let segment = self.take_segment(self.next_segment_size(writer, least), least)?;
        self.go_on_in(writer, segment)
    }

    /// Freezes the active memtable and goes on in a registered segment that nobody uses.
    pub(crate) fn go_on_in(&self, writer: &mut Writer, segment: Arc<Segment>) -> Result<()> {
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
        self.update_pressure(&shared);
        drop(shared);
        wake::wake_flush(self);
        Ok(())
    }

    /// Segments double until they have the size of the option, unless they end half empty.
    fn next_segment_size(&self, writer: &Writer, least: u64) -> u64 {
        let current = writer.part.segment.identity().size_bytes;
        let grown = if writer.log.offset() >= current / 2 { current * 2 } else { current };
        let most = self.env.plan.memtable_size_bytes;
        grown.max(least.next_power_of_two()).min(most).max(least)
    }

    /// The prepared segment, or a new one where none of at least `least` bytes is ready.
    fn take_segment(&self, size_bytes: u64, least: u64) -> Result<Arc<Segment>> {
        let mut shared = lock(&self.shared);
        if let NextSegment::Ready(segment) = &shared.next_segment
            && segment.identity().size_bytes >= least
        {
            let segment = Arc::clone(segment);
            shared.next_segment = NextSegment::None;
            return Ok(segment);
        }
        let start = Instant::now();
        let _waits = self.note_waiting();
        hooks::reach(&self.env.dir, "rotate: waits for a segment");
        while matches!(shared.next_segment, NextSegment::Preparing) {
            shared = wait(&self.done, shared);
        }
        let unsuitable = match std::mem::take(&mut shared.next_segment) {
            NextSegment::Ready(segment) => Some(segment),
            _ => None,
        };
        drop(shared);
        let segment = match unsuitable {
            Some(segment) if segment.identity().size_bytes >= least => Ok(segment),
            unsuitable => self.replace_segment(size_bytes, unsuitable),
        };
        self.env.counters.add_stall(Stall::Segment, start);
        segment
    }

    /// A new segment instead of one that is too small.
    fn replace_segment(
        &self,
        size_bytes: u64,
        unsuitable: Option<Arc<Segment>>,
    ) -> Result<Arc<Segment>> {
        // Replay follows segments by number, so an unused one must not stay in front.
        let replaced = unsuitable.as_ref().map(|segment| segment.id());
        let created = self.create_segment(size_bytes, replaced);
        match (&created, unsuitable) {
            (Err(error), unsuitable) => {
                if let Some(segment) = unsuitable {
                    self.give_back(segment);
                }
                wake::note_failure(&mut lock(&self.shared), Role::Log, error);
            }
            (Ok(_), _) => wake::note_success(&mut lock(&self.shared), Role::Log),
        }
        created
    }

    /// Keeps a registered segment that could not be used for the next rotation.
    pub(crate) fn give_back(&self, segment: Arc<Segment>) {
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
}

impl super::state::Env {
    /// Creates the file of a new segment, not yet registered.
    pub(crate) fn create_segment(&self, size_bytes: u64) -> Result<(Segment, SegmentMeta)> {
        let id = self.new_file_number();
        let size_bytes = size_bytes.next_multiple_of(4096);
        let salt = mix64(self.fs.random_word(), id);
        let identity = SegmentIdentity { id, salt, db_id: self.database_id, size_bytes };
        let path = FileName::Segment(id).path(&self.dir);
        let prefill = match self.options.durability {
            Durability::Sync => Prefill::All,
            Durability::Process | Durability::Interval => Prefill::Window,
        };
        match Segment::create(&*self.fs, &path, identity, prefill, &self.access) {
            Ok(segment) => Ok((segment, SegmentMeta::registered(id, salt, size_bytes))),
            Err(error) => {
                discard_segment(self, id);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::WriteBatch;
    use crate::fs::sim::SimDisk;
    use crate::options::Options;

    #[test]
    fn writes_are_refused_when_sequence_numbers_are_used_up_and_reads_go_on() {
        let options = Options::new().memtable_size_bytes(64 << 10).backlog_limit_bytes(1 << 20);
        let db = SimDisk::new().open_db("/db", &options).unwrap();
        db.put(b"first", b"1").unwrap();
        let writer = db.handle().engine().writer().unwrap();
        lock(writer).next_seqno = MAX_SEQNO;
        assert_eq!(db.put(b"last", b"2").unwrap(), MAX_SEQNO);
        let (mut two, mut large) = (WriteBatch::new(), WriteBatch::new());
        two.put(b"third", b"3").unwrap();
        two.delete(b"first").unwrap();
        for number in 0..200u32 {
            large.put(&number.to_be_bytes(), &[7; 1000]).unwrap();
        }
        for batch in [&two, &large] {
            let error = db.write(batch).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        assert_eq!(db.delete(b"first").unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(db.get(b"first").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(db.get(b"last").unwrap().as_deref(), Some(&b"2"[..]));
        assert_eq!(db.len().unwrap(), 2);
        assert!(db.health().poisoned.is_none());
        db.close().unwrap();
    }
}
