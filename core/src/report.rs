//! What a database reports about itself and about long calls (layer L0): plain values.

use crate::error::Error;
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
    /// compaction.
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

/// Counts and sizes; totals are since open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Sequence number of the newest write.
    pub seqno: SeqNo,
    /// Memtables, the active one included.
    pub memtables: usize,
    /// Heap that they take, in bytes.
    pub memtable_bytes: u64,
    /// Sorted runs.
    pub runs: usize,
    /// Tables in them.
    pub tables: usize,
    /// Their files, in bytes.
    pub table_bytes: u64,
    /// Segments of the value log.
    pub segments: usize,
    /// Their files, in bytes, preallocated space included.
    pub segment_bytes: u64,
    /// Registered snapshots.
    pub snapshots: usize,
    /// Memtables flushed.
    pub flushes: u64,
    /// Compactions done.
    pub compactions: u64,
    /// Bytes of tables that compactions have read.
    pub compaction_bytes_read: u64,
    /// Bytes of tables that compactions have written.
    pub compaction_bytes_written: u64,
    /// Collections of segments done.
    pub collections: u64,
    /// Bytes of rewritten segments that collections have written.
    pub collection_bytes_written: u64,
    /// Bytes of tables and rewritten segments that flushes and large batches have written.
    pub flush_bytes_written: u64,
    /// Bytes appended to the log.
    pub log_bytes_written: u64,
    /// Device flushes of the log.
    pub syncs: u64,
    /// Microseconds that writers have been delayed.
    pub stalled_us: u64,
}
