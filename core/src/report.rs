//! What a database reports about itself and about long calls (layer L0): plain values.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind};
use crate::types::SeqNo;

/// How far a long call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes to do, estimated.
    pub total_bytes: u64,
}

/// One place of damage.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
    /// No key before this one is concerned; `None` when that is not known.
    pub first_key: Option<Vec<u8>>,
    /// No key behind this one is.
    pub last_key: Option<Vec<u8>>,
    /// How many records are concerned, versions and tombstones counted; `None` when that is not
    /// known.
    pub records: Option<u64>,
}

/// What a search for damage, or a salvage, found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DamageReport {
    /// In the order in which they were met; at most 10 000.
    pub findings: Vec<Finding>,
    /// How many there were beyond those.
    pub omitted_findings: u64,
    /// Files that were looked at.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Of verify and scrub: records that were read and are intact. Of salvage: keys that the new
    /// database has.
    pub records: u64,
}

/// More findings are only counted.
const MOST_FINDINGS: usize = 10_000;

impl DamageReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        let known = |own: &Finding| own.path == finding.path && own.offset == finding.offset;
        if self.findings.iter().rev().take(64).any(known) {
            return;
        }
        match self.findings.len() < MOST_FINDINGS {
            true => self.findings.push(finding),
            false => self.omitted_findings += 1,
        }
    }
}

impl Finding {
    /// What an error says that tells of damage; other errors come back.
    pub(crate) fn of(error: Error, fallback: &std::path::Path) -> Result<Finding, Error> {
        let unreadable = error.kind() == ErrorKind::Io && error.os_error() == Some(5);
        if !unreadable
            && !matches!(error.kind(), ErrorKind::Corruption | ErrorKind::UnsupportedFormat)
        {
            return Err(error);
        }
        Ok(Finding {
            path: error.path().unwrap_or(fallback).to_path_buf(),
            offset: error.offset().unwrap_or(0),
            what: error.message().to_owned(),
            first_key: None,
            last_key: None,
            records: None,
        })
    }

    /// The same, concerning the encoded keys from `first` to `last`.
    pub(crate) fn within(self, first: &[u8], last: &[u8]) -> Finding {
        let user = |key: &[u8]| crate::key::split(key).map(|(_, key)| key.to_vec());
        Finding { first_key: user(first), last_key: user(last), ..self }
    }
}

/// What stands in the way of writes, if anything.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// Why writes are refused until the database is opened again.
    pub poisoned: Option<Error>,
    /// The newest failure of background work, which is being tried again.
    pub background_error: Option<Error>,
    /// Microseconds that writers have been delayed since open.
    pub stalled_us: u64,
}

/// What the space of the directory is needed for, in bytes, files rounded up to blocks of 4 KiB.
/// All lines but `hidden_value_bytes`, which is part of another, add up to the total.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// All files.
    pub total_bytes: u64,
    /// Records of separated values that tables point to.
    pub live_value_bytes: u64,
    /// Of those, at most so much, about, is hidden by newer writes and will be found dead by a
    /// compaction. An estimate: each newer entry of a run, put or delete, counts as hiding one
    /// older value of average length, or of its own where that is more in all. What memtables hide
    /// does not count. After `compact` it is 0, and the live values are exact but for what
    /// snapshots see.
    pub hidden_value_bytes: u64,
    /// Records of separated values that are dead and not yet collected.
    pub dead_value_bytes: u64,
    /// What else flushed segments take: headers, offset maps, small values, unused ends.
    pub value_overhead_bytes: u64,
    /// The log as far as it is not flushed.
    pub log_bytes: u64,
    /// Allocated for the log and not written yet.
    pub preallocated_bytes: u64,
    /// Tables.
    pub table_bytes: u64,
    /// The manifest.
    pub manifest_bytes: u64,
    /// Files that are of no use any more and wait for readers who hold them.
    pub obsolete_bytes: u64,
    /// Files that background work is writing.
    pub unfinished_bytes: u64,
    /// Everything else: LOCK, CURRENT, files that are not the database's.
    pub other_bytes: u64,
    /// Snapshots by age, the oldest first, with what is kept for them.
    pub snapshots: Vec<SnapshotSpace>,
    /// The files of `obsolete_bytes`, those that have waited longest first: a scan or a value is
    /// older than each file that it holds has waited.
    pub held_files: Vec<HeldFile>,
}

impl Space {
    /// Every line: its name and its bytes.
    pub fn numbers(&self) -> [(&'static str, u64); 12] {
        [
            ("total_bytes", self.total_bytes),
            ("live_value_bytes", self.live_value_bytes),
            ("hidden_value_bytes", self.hidden_value_bytes),
            ("dead_value_bytes", self.dead_value_bytes),
            ("value_overhead_bytes", self.value_overhead_bytes),
            ("log_bytes", self.log_bytes),
            ("preallocated_bytes", self.preallocated_bytes),
            ("table_bytes", self.table_bytes),
            ("manifest_bytes", self.manifest_bytes),
            ("obsolete_bytes", self.obsolete_bytes),
            ("unfinished_bytes", self.unfinished_bytes),
            ("other_bytes", self.other_bytes),
        ]
    }
}

/// A snapshot, or several of one state.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotSpace {
    /// The newest write that it sees.
    pub seqno: SeqNo,
    /// How many hold it.
    pub count: usize,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// Keys and values of older versions that tables keep and that this is the oldest snapshot to
    /// see. What only memtables have is not counted.
    pub held_bytes: u64,
}

/// A file that is of no use any more and waits for whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldFile {
    /// Its name in the directory.
    pub name: String,
    /// What it takes, in bytes.
    pub bytes: u64,
    /// Milliseconds for which it has waited.
    pub age_ms: u64,
}

/// A sorted run: tables whose ranges of keys do not overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSize {
    /// Its tables.
    pub tables: usize,
    /// Entries in them, older versions and tombstones counted.
    pub entries: u64,
    /// Their files, in bytes. Separated values are not in them.
    pub bytes: u64,
}

/// Declares [`Stats`] and its one table of names, from which C, Python and JSON are made.
macro_rules! stats {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty,)+) => {
        /// Counts and sizes; totals are since open.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])+ pub $name: $type,)+
        }

        impl Stats {
            /// Every field: its name, its value and what it says.
            pub fn numbers(&self) -> Vec<StatNumber> {
                vec![$(StatNumber {
                    name: stringify!($name),
                    value: self.$name as u64,
                    doc: concat!($($doc,)+).trim_ascii(),
                },)+]
            }
        }
    };
}

/// One field of [`Stats`], as other languages see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatNumber {
    /// The field's name.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What it says.
    pub doc: &'static str,
}

stats! {
    /// Sequence number of the newest write.
    seqno: SeqNo,
    /// Memtables, the active one included.
    memtables: usize,
    /// Heap that they take, in bytes.
    memtable_bytes: u64,
    /// Sorted runs.
    runs: usize,
    /// Tables in them.
    tables: usize,
    /// Their files, in bytes.
    table_bytes: u64,
    /// Segments of the value log.
    segments: usize,
    /// Their files, in bytes, preallocated space included.
    segment_bytes: u64,
    /// What live separated values take, in bytes of their records.
    live_value_bytes: u64,
    /// The files that they lie in, in bytes: segments that are flushed.
    value_file_bytes: u64,
    /// Files that are open or mapped.
    open_files: usize,
    /// Registered snapshots.
    snapshots: usize,
    /// Heap that the database may take, in bytes.
    memory_budget: u64,
    /// Bytes of keys and values in writes, a byte more for each key.
    user_bytes: u64,
    /// Memtables flushed.
    flushes: u64,
    /// Compactions done.
    compactions: u64,
    /// Bytes of tables that compactions have read.
    compaction_bytes_read: u64,
    /// Bytes of tables that compactions have written.
    compaction_bytes_written: u64,
    /// Collections of segments done.
    collections: u64,
    /// Bytes of rewritten segments that collections have written.
    collection_bytes_written: u64,
    /// Bytes of tables and rewritten segments that flushes and large batches have written.
    flush_bytes_written: u64,
    /// Bytes appended to the log.
    log_bytes_written: u64,
    /// Device flushes of the log.
    syncs: u64,
    /// Microseconds that callers waited for them.
    sync_wait_us: u64,
    /// Microseconds that writers have been delayed, by all of the causes below.
    stalled_us: u64,
    /// Microseconds that writers waited for flushes.
    stalled_backlog_us: u64,
    /// Microseconds that writers waited for compactions.
    stalled_runs_us: u64,
    /// Microseconds that writers waited for collections.
    stalled_space_us: u64,
    /// Microseconds that writers waited for the next segment of the log.
    stalled_segment_us: u64,
    /// Heap that is kept of open files: locators and indexes of tables that are read directly,
    /// offset maps of rewritten segments, marks of what was checked.
    file_heap_bytes: u64,
    /// Heap that readers hold beside the cache: values that were decompressed or read directly, the
    /// blocks that they lie in, and what scans have read ahead.
    pinned_bytes: u64,
    /// Bytes that the cache takes of blocks that are not read in place.
    cache_bytes: u64,
    /// How often a block was in the cache when it was needed.
    cache_hits: u64,
    /// How often it was not.
    cache_misses: u64,
}

impl Stats {
    /// Bytes written to files for each byte of user data, since open; 0 before the first write.
    pub fn write_amplification(&self) -> f64 {
        let rewritten = self.compaction_bytes_written + self.collection_bytes_written;
        let written = self.log_bytes_written + self.flush_bytes_written + rewritten;
        ratio(written, self.user_bytes)
    }

    /// Bytes of files for each byte of live separated values, beside tables and the log; 0 when
    /// there are none. `space_amplification` bounds it.
    pub fn space_amplification(&self) -> f64 {
        ratio(self.value_file_bytes, self.live_value_bytes)
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_statistics_has_its_number() {
        let stats = Stats { runs: 7, stalled_segment_us: 9, ..Stats::default() };
        let numbers = stats.numbers();
        let text: Vec<String> =
            numbers.iter().map(|n| format!("{}: {}", n.name, n.value)).collect();
        assert_eq!(format!("Stats {{ {} }}", text.join(", ")), format!("{stats:?}"));
        assert!(numbers.iter().all(|number| number.doc.ends_with('.')), "{numbers:?}");
    }

    #[test]
    fn every_line_of_the_space_has_its_number() {
        let space = Space { total_bytes: 7, other_bytes: 9, ..Space::default() };
        let lines = space.numbers();
        let text: Vec<String> = lines.iter().map(|(name, n)| format!("{name}: {n}")).collect();
        let all = format!("Space {{ {}, snapshots: [], held_files: [] }}", text.join(", "));
        assert_eq!(all, format!("{space:?}"));
    }

    #[test]
    fn amplification_is_a_ratio() {
        let stats = Stats { log_bytes_written: 30, flush_bytes_written: 20, ..Stats::default() };
        assert_eq!(stats.write_amplification(), 0.0);
        assert_eq!(Stats { user_bytes: 20, ..stats }.write_amplification(), 2.5);
        assert_eq!(Stats::default().space_amplification(), 0.0);
        let stats = Stats { live_value_bytes: 40, value_file_bytes: 50, ..Stats::default() };
        assert_eq!(stats.space_amplification(), 1.25);
    }
}
