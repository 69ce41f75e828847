//! The database handle.
use crate::*;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
/// SKELETON: a handle; clones share the database. Send + Sync.
#[derive(Clone, Debug)]
pub struct Db {
    _p: (),
}
/// How far a long call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /** done */
    pub done_bytes: u64,
    /** estimate */
    pub total_bytes: u64,
}
/// What stands in the way of writes, if anything.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /** why writes are refused until reopened */
    pub poisoned: Option<Error>,
    /** newest failure of background work that will be tried again */
    pub background_error: Option<Error>,
    /** microseconds writers were delayed */
    pub stalled_us: u64,
}
/// Counts and sizes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /** . */
    pub seqno: SeqNo,
    /** . */
    pub memtables: usize,
    /** . */
    pub memtable_bytes: u64,
    /** . */
    pub runs: usize,
    /** . */
    pub tables: usize,
    /** . */
    pub table_bytes: u64,
    /** . */
    pub segments: usize,
    /** . */
    pub segment_bytes: u64,
    /** . */
    pub snapshots: usize,
    /** . */
    pub flushes: u64,
    /** . */
    pub compactions: u64,
    /** . */
    pub compaction_bytes_read: u64,
    /** . */
    pub compaction_bytes_written: u64,
    /** . */
    pub flush_bytes_written: u64,
    /** . */
    pub log_bytes_written: u64,
    /** . */
    pub syncs: u64,
    /** . */
    pub stalled_us: u64,
}
impl Db {
    /// Opens.
    pub fn open(_path: impl AsRef<Path>, _options: &Options) -> Result<Db> {
        todo!()
    }
    /// Removes the database's own files (nothing foreign) and the directory if then empty. Locked when open; NotFound when none.
    pub fn destroy(_path: impl AsRef<Path>) -> Result<()> {
        todo!()
    }
    /// put
    pub fn put(&self, _key: &[u8], _value: &[u8]) -> Result<SeqNo> {
        todo!()
    }
    /// put with options
    pub fn put_with(&self, _key: &[u8], _value: &[u8], _options: &WriteOptions) -> Result<SeqNo> {
        todo!()
    }
    /// blind delete
    pub fn delete(&self, _key: &[u8]) -> Result<SeqNo> {
        todo!()
    }
    /// blind delete with options
    pub fn delete_with(&self, _key: &[u8], _options: &WriteOptions) -> Result<SeqNo> {
        todo!()
    }
    /// batch; SeqNo of its last entry
    pub fn write(&self, _batch: &WriteBatch) -> Result<SeqNo> {
        todo!()
    }
    /// batch with options
    pub fn write_with(&self, _batch: &WriteBatch, _options: &WriteOptions) -> Result<SeqNo> {
        todo!()
    }
    /// pinned get
    pub fn get(&self, _key: &[u8]) -> Result<Option<Value>> {
        todo!()
    }
    /// Length of the value; copied into buf only if it fits whole. No heap allocation.
    pub fn get_into(&self, _key: &[u8], _buf: &mut [u8]) -> Result<Option<usize>> {
        todo!()
    }
    /// is it there
    pub fn contains(&self, _key: &[u8]) -> Result<bool> {
        todo!()
    }
    /// many gets of one state
    pub fn multi_get<K: AsRef<[u8]>>(&self, _keys: &[K]) -> Result<Vec<Option<Value>>> {
        todo!()
    }
    /// ordered read of one frozen state
    pub fn scan(&self, _options: &ScanOptions) -> Result<Scan> {
        todo!()
    }
    /// snapshot
    pub fn snapshot(&self) -> Result<Snapshot> {
        todo!()
    }
    /// removes and returns the first entry, atomically
    pub fn pop_first(&self) -> Result<Option<(Vec<u8>, Value)>> {
        todo!()
    }
    /// removes and returns the first entry
    pub fn pop_first_with(&self, _options: &WriteOptions) -> Result<Option<(Vec<u8>, Value)>> {
        todo!()
    }
    /// removes and returns the last entry
    pub fn pop_last(&self) -> Result<Option<(Vec<u8>, Value)>> {
        todo!()
    }
    /// removes and returns the last entry
    pub fn pop_last_with(&self, _options: &WriteOptions) -> Result<Option<(Vec<u8>, Value)>> {
        todo!()
    }
    /// exact count
    pub fn len(&self) -> Result<u64> {
        todo!()
    }
    /// exact
    pub fn is_empty(&self) -> Result<bool> {
        todo!()
    }
    /// everything acknowledged so far becomes durable
    pub fn sync(&self) -> Result<()> {
        todo!()
    }
    /// memtable to tables, waits
    pub fn flush(&self) -> Result<()> {
        todo!()
    }
    /// flush, then merge everything overlapping the range into one run; waits
    pub fn compact(&self, _lower: Bound<&[u8]>, _upper: Bound<&[u8]>) -> Result<()> {
        todo!()
    }
    /// the same with progress; Break cancels (Cancelled)
    pub fn compact_with(
        &self,
        _lower: Bound<&[u8]>,
        _upper: Bound<&[u8]>,
        _progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        todo!()
    }
    /// idempotent; from any thread; children answer Closed afterwards; Values stay valid
    pub fn close(&self) -> Result<()> {
        todo!()
    }
    /// path as given at open
    pub fn path(&self) -> &Path {
        todo!()
    }
    /// opened with read_only
    pub fn is_read_only(&self) -> bool {
        todo!()
    }
    /// health
    pub fn health(&self) -> Health {
        todo!()
    }
    /// stats
    pub fn stats(&self) -> Stats {
        todo!()
    }
}
