//! What readers pin (layer L5): the memtables and the version, as one immutable value.
//!
//! Invariant AGE: `parts` are newest first and newer than every run; `runs` are newest first. A
//! view never changes; installing another one replaces the pointer that readers load.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::locks::Mutex;
use super::pick::hidden_bytes;
use super::pick_files::{FileUse, file_uses};
use crate::buffer::Bytes;
use crate::error::{Error, ErrorKind, Result};
use crate::iter::head_of;
use crate::memtable::{Inserted, MemEntry, Memtable};
use crate::planted::planted;
use crate::table::Table;
use crate::types::{DEFAULT_KEYSPACE, FileNumber, Kind, SegmentId, SeqNo, ValuePointer};
use crate::version::{SegmentState, TableMeta, VersionState};
use crate::vlog::Segment;

/// How far a memtable has been counted.
pub(crate) struct CountState {
    pub(crate) cursor: Inserted,
    pub(crate) upto: SeqNo,
    pub(crate) delta: i64,
}

impl Default for CountState {
    fn default() -> CountState {
        CountState { cursor: Inserted::NONE, upto: 0, delta: 0 }
    }
}

/// A memtable and the segment that it indexes.
pub(crate) struct MemPart {
    pub(crate) memtable: Arc<Memtable>,
    pub(crate) segment: Arc<Segment>,
    /// How many keys this memtable adds to what is older; see `count`.
    pub(crate) count: Mutex<CountState>,
}

impl MemPart {
    /// An empty memtable over `segment`.
    pub(crate) fn new(segment: Arc<Segment>) -> MemPart {
        let memtable = Arc::new(Memtable::new(segment.identity().size_bytes));
        MemPart { memtable, segment, count: Mutex::default() }
    }

    /// The value of an entry of the memtable.
    #[inline]
    pub(crate) fn value(&self, key: &[u8], entry: &MemEntry) -> Result<Bytes<'_>> {
        let stored = self.segment.value(entry.offset, key.len(), entry.value_len)?;
        match entry.kind {
            Kind::Packed => self.segment.unpack(entry.offset, stored),
            _ => Ok(Bytes::Mapped(stored)),
        }
    }
}

/// A sorted run: tables with disjoint key ranges, in key order.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) tables: Vec<(Arc<TableMeta>, Arc<Table>)>,
    /// First eight bytes of each table's largest key, for a search that touches no key.
    heads: Vec<u64>,
}

/// The tables and flushed segments of one moment, open.
pub(crate) struct Version {
    /// Newest first.
    pub(crate) runs: Vec<Run>,
    /// By ascending number.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// Number of keys in the runs.
    pub(crate) count: u64,
    /// The files of the segments.
    pub(crate) files: BTreeMap<FileNumber, FileUse>,
    /// At most so much is hidden by newer entries, about.
    pub(crate) hidden_bytes: u64,
}

/// Everything a read needs.
pub(crate) struct View {
    /// Newest first. In a database that may write the first is the active one.
    pub(crate) parts: Vec<Arc<MemPart>>,
    pub(crate) version: Arc<Version>,
}

impl Run {
    /// A run of tables in key order.
    pub(crate) fn new(tables: Vec<(Arc<TableMeta>, Arc<Table>)>) -> Run {
        let heads = tables.iter().map(|(meta, _)| head_of(&meta.largest)).collect();
        Run { tables, heads }
    }

    /// Index of the first table whose largest key is at least `key`; the number of tables if none.
    #[inline]
    pub(crate) fn position(&self, key: &[u8]) -> usize {
        let head = head_of(key);
        let mut index = self.heads.partition_point(|own| *own < head);
        while self.heads.get(index) == Some(&head) && *self.tables[index].0.largest < *key {
            index += 1;
        }
        index
    }

    /// The one table that may hold `key`.
    #[inline]
    pub(crate) fn table_for(&self, key: &[u8]) -> Option<&Arc<Table>> {
        let index = if self.tables.len() == 1 { 0 } else { self.position(key) };
        self.tables.get(index).map(|(_, table)| table)
    }
}

/// The number of keys in the runs of a state.
pub(crate) fn key_count(state: &VersionState) -> u64 {
    state.counts.get(&DEFAULT_KEYSPACE).copied().unwrap_or(0)
}

impl View {
    /// Whether there is no entry at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.version.runs.is_empty() && self.parts.iter().all(|part| part.memtable.is_empty())
    }
}

impl Version {
    /// Puts the open files of a state together; Corruption never: the maps are complete.
    pub(crate) fn build(
        state: &VersionState,
        tables: &HashMap<FileNumber, Arc<Table>>,
        segments: &HashMap<SegmentId, Arc<Segment>>,
    ) -> Result<Version> {
        let missing = |what: &str, number: u64| {
            Error::new(ErrorKind::Corruption, format!("{what} {number} is not open"))
        };
        let mut runs = Vec::with_capacity(state.runs.len());
        for run in &state.runs {
            let mut open = Vec::with_capacity(run.tables.len());
            for meta in &run.tables {
                let table =
                    tables.get(&meta.number).ok_or_else(|| missing("table", meta.number))?;
                open.push((Arc::clone(meta), Arc::clone(table)));
            }
            runs.push(Run::new(open));
        }
        if planted("runs: oldest first") {
            runs.reverse();
        }
        let mut flushed = Vec::new();
        for (id, meta) in &state.segments {
            if meta.state == SegmentState::Flushed {
                let segment = segments.get(id).ok_or_else(|| missing("segment", *id))?;
                flushed.push(Arc::clone(segment));
            }
        }
        let count = key_count(state);
        let (files, hidden_bytes) = (file_uses(state), hidden_bytes(&state.runs));
        Ok(Version { runs, segments: flushed, count, files, hidden_bytes })
    }

    /// What older versions of keys take, which are kept for snapshots.
    pub(crate) fn old_bytes(&self) -> u64 {
        self.runs.iter().flat_map(|run| &run.tables).map(|(meta, _)| meta.old_bytes).sum()
    }

    /// The segment that holds a separated value.
    #[inline]
    pub(crate) fn segment_of(&self, pointer: &ValuePointer) -> Result<&Arc<Segment>> {
        match self.segments.binary_search_by_key(&pointer.segment, |segment| segment.id()) {
            Ok(index) => Ok(&self.segments[index]),
            Err(_) => Err(Error::new(
                ErrorKind::Corruption,
                format!("a table points into segment {}, which is not live", pointer.segment),
            )),
        }
    }
}
