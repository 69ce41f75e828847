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
    /// Heap that locators and indexes of tables take, which are not mapped when tables are read
    /// directly.
    pub table_heap_bytes: u64,
    /// Bytes that the cache takes of blocks that are not read in place.
    pub cache_bytes: u64,
    /// How often a block was in the cache when it was needed.
    pub cache_hits: u64,
    /// How often it was not.
    pub cache_misses: u64,
}
