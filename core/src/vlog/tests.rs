//! Tests of the value log: what is appended is replayed, and whatever happens to the bytes, replay
//! answers a prefix of it or Corruption.

mod crashes;
mod damage;
pub(crate) mod documented;
mod faults;
mod refused;
mod roundtrip;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::format::{
    FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, fold, record_checksum, record_len,
};
use super::frame::Written;
use super::replay::{LogPosition, LogRecord, Replayed};
use super::writer::Appended;
use super::*;
use crate::cache::FileAccess;
use crate::error::Result;
use crate::fs::FileSystem;
use crate::fs::sim::SimDisk;
use crate::types::{Kind, SeqNo};

const DB_ID: u64 = 0xD0_0D;

/// One record as a test knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What replay visited.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    segment_index: usize,
    seqno: SeqNo,
    offset: u64,
    entry: Entry,
}

fn put(key: &[u8], value: &[u8]) -> Entry {
    Entry { kind: Kind::Put, key: [&[0], key].concat(), value: value.to_vec() }
}

fn delete(key: &[u8]) -> Entry {
    Entry { kind: Kind::Delete, key: [&[0], key].concat(), value: Vec::new() }
}

/// A frame after `last` numbers that claims nothing.
fn stamp(first_seqno: SeqNo) -> Stamp {
    Stamp { first_seqno, synced_seqno: 0, store: Store::Map }
}

fn parts(entries: &[Entry]) -> impl Iterator<Item = (Kind, &[u8], &[u8])> + Clone {
    entries.iter().map(|entry| (entry.kind, &entry.key[..], &entry.value[..]))
}

fn identity(id: u64, size_bytes: u64) -> SegmentIdentity {
    SegmentIdentity { id, salt: 0x5A17_0000_0000_0000 + id * 0x1_0001, db_id: DB_ID, size_bytes }
}

/// A log on a disk of its own.
struct TestLog {
    disk: SimDisk,
    writer: LogWriter,
    store: Store,
    ids: Vec<SegmentIdentity>,
    written: Vec<Seen>,
}

fn path(id: u64) -> PathBuf {
    Path::new("/").join(format!("{id}.vlog"))
}

fn access() -> FileAccess {
    FileAccess::new(0, false)
}

fn create(fs: &dyn FileSystem, identity: SegmentIdentity) -> Result<Arc<Segment>> {
    Segment::create(fs, &path(identity.id), identity, Prefill::Window, &access()).map(Arc::new)
}

fn open(fs: &dyn FileSystem, identity: SegmentIdentity, purpose: OpenFor) -> Result<Segment> {
    Segment::open(fs, &path(identity.id), identity, purpose, &access())
}

fn open_all(fs: &dyn FileSystem, ids: &[SegmentIdentity]) -> Vec<Arc<Segment>> {
    ids.iter().map(|id| Arc::new(open(fs, *id, OpenFor::Replay).unwrap())).collect()
}

impl TestLog {
    fn new(size_bytes: u64) -> TestLog {
        let disk = SimDisk::new();
        let identity = identity(1, size_bytes);
        let writer = LogWriter::new(create(&disk, identity).unwrap(), 0, 0).unwrap();
        TestLog { disk, writer, store: Store::Map, ids: vec![identity], written: Vec::new() }
    }

    fn rotate(&mut self, size_bytes: u64) -> Arc<Segment> {
        let identity = identity(self.ids.len() as u64 + 1, size_bytes);
        let segment = create(&self.disk, identity).unwrap();
        self.ids.push(identity);
        self.writer.rotate(segment).unwrap()
    }

    fn append_empty(&mut self, synced_seqno: SeqNo) -> Option<Appended> {
        self.writer.append_empty(synced_seqno, Store::Map).unwrap()
    }

    fn append(&mut self, synced_seqno: SeqNo, entries: &[Entry]) -> Appended {
        let first = self.writer.last_seqno() + 1;
        self.append_at(first, synced_seqno, entries)
    }

    fn append_at(&mut self, first: SeqNo, synced_seqno: SeqNo, entries: &[Entry]) -> Appended {
        let size = FrameSize::of(parts(entries)).unwrap();
        let stamp = Stamp { first_seqno: first, synced_seqno, store: self.store };
        let written = &mut self.written;
        let segment_index = self.ids.len() - 1;
        let on_record = |record: Written<'_>| {
            let entry = entries[record.index as usize].clone();
            assert_eq!((record.kind, record.key), (entry.kind, &entry.key[..]));
            assert_eq!(record.value_len as usize, entry.value.len());
            let Written { seqno, offset, .. } = record;
            written.push(Seen { segment_index, seqno, offset, entry });
        };
        self.writer.append(size, stamp, parts(entries), on_record).unwrap()
    }

    fn open(&self) -> Vec<Arc<Segment>> {
        open_all(&self.disk, &self.ids)
    }

    fn replay(&self) -> Result<(Replayed, Vec<Seen>)> {
        collect(&self.open(), 0)
    }

    /// The bytes of segment `id` as they are now.
    fn bytes(&self, id: u64) -> Vec<u8> {
        self.disk.read_file(path(id)).unwrap()
    }

    /// Gives segment `id` other bytes.
    fn replace(&self, id: u64, bytes: &[u8]) {
        self.disk.overwrite(path(id), 0, bytes).unwrap();
    }

    /// Changes one byte of segment `id`.
    fn flip(&self, id: u64, offset: u64) {
        let byte = self.bytes(id)[offset as usize] ^ 0x10;
        self.disk.overwrite(path(id), offset, &[byte]).unwrap();
    }
}

fn collect(segments: &[Arc<Segment>], flushed: SeqNo) -> Result<(Replayed, Vec<Seen>)> {
    let mut seen = Vec::new();
    let found = replay(segments, flushed, |record| {
        let LogRecord { segment_index, kind, key, value, seqno, offset } = record;
        let entry = Entry { kind, key: key.to_vec(), value: value.to_vec() };
        seen.push(Seen { segment_index, seqno, offset, entry });
        Ok(())
    })?;
    Ok((found, seen))
}

/// A whole frame made by hand from records with any kind and any claimed key and value lengths.
fn forge(identity: &SegmentIdentity, at: u64, header: FrameHeader, record: Vec<u8>) -> Vec<u8> {
    let mut record = record;
    let offset = at + FRAME_HEADER_LEN as u64;
    let sum = record_checksum(&record[4..], identity.id, offset);
    record[..4].copy_from_slice(&sum.to_le_bytes());
    record.resize(record.len().next_multiple_of(8), 0);
    let fold = fold(0, sum);
    let payload_len = record.len() as u64;
    let (bytes, _) = FrameHeader { fold, payload_len, ..header }.encode(identity.salt, at);
    [&bytes[..], &record].concat()
}
