//! What the handles of one open database share (layer L6), and the reads that `Db` and `Snapshot`
//! have in common.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::{Engine, View};
use crate::error::Result;
use crate::key::LookupKey;
use crate::types::{DEFAULT_KEYSPACE, SeqNo};
use crate::value::Value;

/// What clones, snapshots and scans share; dropping the last one closes the database.
pub(crate) struct Handle {
    engine: Arc<Engine>,
    pub(crate) path: PathBuf,
}

impl Handle {
    /// The first handle of an engine opened at `path`.
    pub(crate) fn new(engine: Arc<Engine>, path: PathBuf) -> Handle {
        Handle { engine, path }
    }

    /// The engine.
    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    #[inline]
    pub(crate) fn get(&self, key: &[u8], at: Option<SeqNo>) -> Result<Option<Value>> {
        let key = LookupKey::new(DEFAULT_KEYSPACE, key)?;
        let key = key.as_bytes();
        let hash = self.engine.hash(key);
        self.engine.with_view(at, |view, seqno| {
            Ok(view.get(key, hash, seqno)?.map(|found| Value::new(&found)))
        })
    }

    /// Shows the value to `read` where it lies; nothing is copied or counted.
    #[inline]
    pub(crate) fn get_with<T>(
        &self,
        key: &[u8],
        at: Option<SeqNo>,
        read: impl FnOnce(&[u8]) -> Result<T>,
    ) -> Result<Option<T>> {
        let key = LookupKey::new(DEFAULT_KEYSPACE, key)?;
        let key = key.as_bytes();
        let hash = self.engine.hash(key);
        self.engine.with_view(at, |view, seqno| {
            view.get(key, hash, seqno)?.map(|found| read(&found.value)).transpose()
        })
    }

    #[inline]
    pub(crate) fn get_into(
        &self,
        key: &[u8],
        buf: &mut [u8],
        at: Option<SeqNo>,
    ) -> Result<Option<usize>> {
        let key = LookupKey::new(DEFAULT_KEYSPACE, key)?;
        let key = key.as_bytes();
        let hash = self.engine.hash(key);
        self.engine.with_view(at, |view, seqno| {
            let Some(found) = view.get(key, hash, seqno)? else { return Ok(None) };
            if let Some(target) = buf.get_mut(..found.value.len()) {
                target.copy_from_slice(&found.value);
            }
            Ok(Some(found.value.len()))
        })
    }

    #[inline]
    pub(crate) fn contains(&self, key: &[u8], at: Option<SeqNo>) -> Result<bool> {
        let key = LookupKey::new(DEFAULT_KEYSPACE, key)?;
        let key = key.as_bytes();
        let hash = self.engine.hash(key);
        self.engine.with_view(at, |view, seqno| view.contains(key, hash, seqno))
    }

    pub(crate) fn get_range(
        &self,
        key: &[u8],
        offset: u64,
        len: usize,
        at: Option<SeqNo>,
    ) -> Result<Option<Value>> {
        let key = LookupKey::new(DEFAULT_KEYSPACE, key)?;
        let key = key.as_bytes();
        let hash = self.engine.hash(key);
        self.engine.with_view(at, |view, seqno| {
            let found = view.get_range(key, hash, seqno, offset, len)?;
            Ok(found.map(|found| Value::new(&found)))
        })
    }

    pub(crate) fn multi_get<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        at: Option<SeqNo>,
    ) -> Result<Vec<Option<Value>>> {
        let mut values = Vec::with_capacity(keys.len());
        let mut encoded = Vec::with_capacity(keys.len().min(PREFETCHED));
        self.engine.with_view(at, |view, seqno| {
            for chunk in keys.chunks(PREFETCHED) {
                encoded.clear();
                for key in chunk {
                    let key = LookupKey::new(DEFAULT_KEYSPACE, key.as_ref())?;
                    let hash = self.engine.hash(key.as_bytes());
                    view.prefetch(key.as_bytes(), hash);
                    encoded.push((key, hash));
                }
                for (key, hash) in &encoded {
                    view.prefetch_entry(key.as_bytes(), *hash);
                }
                for (key, hash) in &encoded {
                    let found = view.get(key.as_bytes(), *hash, seqno)?;
                    values.push(found.map(|found| Value::new(&found)));
                }
            }
            Ok(())
        })?;
        Ok(values)
    }

    /// Pins the newest state, or the one at `at`, for a scan.
    pub(crate) fn pin(&self, at: Option<SeqNo>) -> Result<(Arc<View>, SeqNo)> {
        self.engine.pin(at)
    }
}

/// Keys whose cache misses overlap in `multi_get`: their locator lines are asked for first, then
/// their entries, then they are read: 127 ns a key instead of 277 (1 M entries).
const PREFETCHED: usize = 32;

impl Drop for Handle {
    fn drop(&mut self) {
        // Who wants to hear of a failure calls close.
        let _ = self.engine.close();
    }
}
