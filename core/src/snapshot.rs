//! Snapshots (layer L6).

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::error::Result;
use crate::handle::Handle;
use crate::scan::{Scan, ScanOptions};
use crate::types::SeqNo;
use crate::value::Value;

/// A frozen state of the database: reads show it as it was when the snapshot was made.
///
/// Any thread may use it. While it lives, versions that it sees are kept; drop it to release them.
/// After the database was closed its reads answer Closed; once it is older than the option
/// `snapshot_max_age_ms`, SnapshotExpired, and what it kept is freed. Scans made before go on.
pub struct Snapshot {
    handle: Arc<Handle>,
    seqno: SeqNo,
    made: Instant,
}

impl Snapshot {
    /// Registers a snapshot of the newest state.
    pub(crate) fn new(handle: Arc<Handle>) -> Result<Snapshot> {
        let made = Instant::now();
        let seqno = handle.engine().register_snapshot()?;
        Ok(Snapshot { handle, seqno, made })
    }

    /// The answer of a read, unless the snapshot is too old.
    #[inline]
    fn unless_expired<T>(&self, answer: Result<T>) -> Result<T> {
        self.handle.engine().check_age(self.made)?;
        answer
    }

    /// The sequence number of the newest write that the snapshot sees.
    pub fn seqno(&self) -> SeqNo {
        self.seqno
    }

    /// As [`Db::get`](crate::Db::get), of the frozen state.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.unless_expired(self.handle.get(key, Some(self.seqno)))
    }

    /// As [`Db::get_with`](crate::Db::get_with), of the frozen state.
    pub fn get_with<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        // Asked before `read` sees anything, and where it does not.
        let read = |value: &[u8]| self.unless_expired(Ok(())).map(|()| read(value));
        match self.handle.get_with(key, Some(self.seqno), read) {
            Ok(Some(shown)) => Ok(Some(shown)),
            unseen => self.unless_expired(unseen),
        }
    }

    /// As [`Db::get_into`](crate::Db::get_into), of the frozen state.
    pub fn get_into(&self, key: &[u8], buf: &mut [u8]) -> Result<Option<usize>> {
        self.unless_expired(self.handle.get_into(key, buf, Some(self.seqno)))
    }

    /// As [`Db::get_range`](crate::Db::get_range), of the frozen state.
    pub fn get_range(&self, key: &[u8], offset: u64, len: usize) -> Result<Option<Value>> {
        self.handle.get_range(key, offset, len, Some(self.seqno))
    }

    /// As [`Db::contains`](crate::Db::contains), of the frozen state.
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        self.unless_expired(self.handle.contains(key, Some(self.seqno)))
    }

    /// As [`Db::multi_get`](crate::Db::multi_get), of the frozen state.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.unless_expired(self.handle.multi_get(keys, Some(self.seqno)))
    }

    /// As [`Db::scan`](crate::Db::scan), of the frozen state.
    pub fn scan(&self, options: &ScanOptions) -> Result<Scan> {
        self.unless_expired(Scan::new(&self.handle, options, Some(self.seqno)))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        self.handle.engine().release_snapshot(self.seqno);
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot(seqno: {})", self.seqno)
    }
}
