//! The database handle (layer L6): contracts and delegation.

use std::cell::Cell;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use crate::batch::{BatchEntry, WriteBatch, too_large_value};
use crate::engine::{self, Found};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileSystem, OsFileSystem};
use crate::handle::Handle;
use crate::key::LookupKey;
use crate::options::{Options, WriteOptions};
use crate::report::{Health, Progress, RunSize, Space, Stats};
use crate::scan::{Scan, ScanOptions};
use crate::snapshot::Snapshot;
use crate::types::{DEFAULT_KEYSPACE, Kind, MAX_VALUE_LEN, SeqNo};
use crate::value::Value;

/// An open database. Clones share it; any thread may use any of them at any time.
///
/// The directory is locked until [`Db::close`], or until the last clone and the last snapshot and
/// scan of it are dropped. Reads never wait for writes, flushes or compactions. Keys are 0 to
/// 65 535 bytes, values 0 to 4 294 967 295 bytes; keys order bytewise.
#[derive(Clone)]
pub struct Db {
    handle: Arc<Handle>,
}

impl Db {
    /// Opens the database in the directory `path`, creating it where the options allow.
    ///
    /// Recovery replays the log; what was acknowledged is there, see [`Durability`]. Errors:
    /// InvalidArgument (options, an empty path, a path that is a file, a directory that holds
    /// something else), NotFound, Exists, Locked (with the holder), ReadOnly (no permission),
    /// Corruption, UnsupportedFormat, DiskFull, Io. A failed open changes no existing file but the
    /// lock's. Cost: some milliseconds, and about a second per GiB of log that was not flushed.
    ///
    /// [`Durability`]: crate::Durability
    pub fn open(path: impl AsRef<Path>, options: &Options) -> Result<Db> {
        Db::open_on(Arc::new(OsFileSystem), path.as_ref(), options)
    }

    /// Opens on any file system.
    pub(crate) fn open_on(fs: Arc<dyn FileSystem>, path: &Path, options: &Options) -> Result<Db> {
        let engine = engine::open(fs, path, options)?;
        Ok(Db { handle: Arc::new(Handle::new(engine, path.to_path_buf())) })
    }

    /// Deletes the database in the directory `path`: its own files, and the directory when nothing
    /// else is in it. NotFound when there is none, Locked while it is open.
    pub fn destroy(path: impl AsRef<Path>) -> Result<()> {
        engine::destroy(&OsFileSystem, path.as_ref())
    }

    /// Stores `value` under `key`, replacing what was there, at the database's durability. The
    /// answer is the write's sequence number. Costs a copy; TooLarge above the limits, ReadOnly,
    /// Closed, Poisoned, DiskFull.
    #[inline]
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<SeqNo> {
        self.put_with(key, value, &WriteOptions::new())
    }

    /// As [`Db::put`], with options for this write.
    #[inline]
    pub fn put_with(&self, key: &[u8], value: &[u8], options: &WriteOptions) -> Result<SeqNo> {
        if value.len() as u64 > MAX_VALUE_LEN {
            return Err(too_large_value(value.len()));
        }
        self.write_one(Kind::Put, key, value, options)
    }

    /// Removes `key`. Blind: nothing is read, and an absent key is no error. Errors as for put.
    #[inline]
    pub fn delete(&self, key: &[u8]) -> Result<SeqNo> {
        self.delete_with(key, &WriteOptions::new())
    }

    /// As [`Db::delete`], with options for this write.
    #[inline]
    pub fn delete_with(&self, key: &[u8], options: &WriteOptions) -> Result<SeqNo> {
        self.write_one(Kind::Delete, key, b"", options)
    }

    /// Applies a batch: all of it becomes visible at once, and after a crash all of it or nothing
    /// is there. The answer is the sequence number of its last entry. Errors as for put.
    ///
    /// A batch larger than `memtable_size_bytes` is written directly as tables and is durable when
    /// this returns; other writers wait for its last step, some milliseconds.
    pub fn write(&self, batch: &WriteBatch) -> Result<SeqNo> {
        self.write_with(batch, &WriteOptions::new())
    }

    /// As [`Db::write`], with options for this write.
    pub fn write_with(&self, batch: &WriteBatch, options: &WriteOptions) -> Result<SeqNo> {
        self.handle.engine().write(batch.entries(), options)
    }

    /// The value of `key`, or `None`. Long values are not copied but pinned, see [`Value`]. Costs
    /// a few cache misses; Closed, Corruption (with file and offset).
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.handle.get(key, None)
    }

    /// What `read` makes of the value of `key`, or `None` without a call of it when there is no
    /// key. `read` sees the bytes where they lie: the cheapest way to look at a value, above all
    /// where many threads read. While it runs, memory and files of the state that it sees stay, as
    /// with a [`Scan`]; it may use the database, also close it. A panic of it goes through and does
    /// the database no harm. Costs and errors as [`Db::get`].
    #[inline]
    pub fn get_with<T>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        self.handle.get_with(key, None, |value| Ok(read(value)))
    }

    /// The length of the value of `key`, or `None`. The value is copied to the front of `buf` when
    /// it fits whole, otherwise `buf` is unchanged. Allocates nothing for keys up to 127 bytes.
    #[inline]
    pub fn get_into(&self, key: &[u8], buf: &mut [u8]) -> Result<Option<usize>> {
        self.handle.get_into(key, buf, None)
    }

    /// The `len` bytes of the value of `key` from `offset`, cut at its end (empty beyond it), or
    /// `None` when there is no key. Of a long value nothing else is read, or copied.
    ///
    /// A checksum covers the whole of a stored value. A value from 64 KiB on is therefore not
    /// verified by this call (its key and its lengths are); one that [`Db::get`] has read since
    /// open was. A compressed value is decompressed whole, and verified.
    pub fn get_range(&self, key: &[u8], offset: u64, len: usize) -> Result<Option<Value>> {
        self.handle.get_range(key, offset, len, None)
    }

    /// Whether `key` is there. Costs as get, without reading a separated value.
    #[inline]
    pub fn contains(&self, key: &[u8]) -> Result<bool> {
        self.handle.contains(key, None)
    }

    /// The values of many keys, in their order, all of one state. Cheaper than as many gets.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Value>>> {
        self.handle.multi_get(keys, None)
    }

    /// An ordered read of the state as it is now; see [`Scan`].
    pub fn scan(&self, options: &ScanOptions) -> Result<Scan> {
        Scan::new(&self.handle, options, None)
    }

    /// Freezes the state as it is now; see [`Snapshot`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::new(Arc::clone(&self.handle))
    }

    /// Removes and answers the entry with the smallest key, or `None` when there is none; nobody
    /// else can get the same entry. Popping again and again costs the same each time.
    pub fn pop_first(&self) -> Result<Option<(Vec<u8>, Value)>> {
        self.pop_first_with(&WriteOptions::new())
    }

    /// As [`Db::pop_first`], with options for the write.
    pub fn pop_first_with(&self, options: &WriteOptions) -> Result<Option<(Vec<u8>, Value)>> {
        self.pop(true, options)
    }

    /// As [`Db::pop_first`], from the other end.
    pub fn pop_last(&self) -> Result<Option<(Vec<u8>, Value)>> {
        self.pop_last_with(&WriteOptions::new())
    }

    /// As [`Db::pop_last`], with options for the write.
    pub fn pop_last_with(&self, options: &WriteOptions) -> Result<Option<(Vec<u8>, Value)>> {
        self.pop(false, options)
    }

    /// The exact number of keys. Costs one look-up for each key written since the last call or
    /// flush; nothing when there was none.
    pub fn len(&self) -> Result<u64> {
        self.handle.engine().len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes every write that has been acknowledged durable.
    pub fn sync(&self) -> Result<()> {
        self.handle.engine().sync_all()
    }

    /// Turns what is in memtables into tables and waits for it. Not needed for durability.
    pub fn flush(&self) -> Result<()> {
        self.handle.engine().flush()
    }

    /// Flushes, then merges every run that has a key within the bounds into one, and waits. Needed
    /// for nothing; it makes scans of the range as fast as they can be. Files that it has replaced
    /// are deleted when it returns, but for those that a snapshot, a scan, a value or work of
    /// another thread still holds; what cannot be deleted goes at the next open.
    pub fn compact(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>) -> Result<()> {
        self.compact_with(lower, upper, &mut |_| ControlFlow::Continue(()))
    }

    /// As [`Db::compact`], telling `progress` how far it has come; Cancelled when that answers
    /// `Break`, and then nothing has changed. No lock is held while it runs; closing the database
    /// or compacting it in there is Misuse.
    pub fn compact_with(
        &self,
        lower: Bound<&[u8]>,
        upper: Bound<&[u8]>,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        let engine = self.handle.engine();
        engine.flush()?;
        engine.compact_user_range(lower, upper, &mut telling(progress))
    }

    /// Frees all space that can be freed now: compacts everything, which finds the values that
    /// newer ones hide, then rewrites every file of the value log that holds dead ones. Needed for
    /// nothing: `space_amplification` is kept without it. Snapshots, scans and values that are
    /// held keep what they see.
    pub fn gc(&self) -> Result<()> {
        self.gc_with(&mut |_| ControlFlow::Continue(()))
    }

    /// As [`Db::gc`], telling `progress` how far it has come, first in bytes of tables, then, from
    /// 0 again, in bytes of values; Cancelled when that answers `Break`, and then what has been
    /// rewritten so far stays so. Misuse for another one within `progress`. Otherwise as
    /// [`Db::compact_with`].
    pub fn gc_with(&self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> Result<()> {
        self.compact_with(Bound::Unbounded, Bound::Unbounded, progress)?;
        self.handle.engine().collect_all(&mut telling(progress))
    }

    /// Compares what is recorded of dead values with what tables and segments say; answers the
    /// bytes that live values take.
    #[cfg(any(test, feature = "sim"))]
    pub fn audit(&self) -> Result<u64> {
        self.handle.engine().audit()
    }

    /// Closes the database for all clones: waits for background work, makes everything
    /// acknowledged durable and frees the directory. Any thread may close, any number of times.
    ///
    /// Afterwards calls answer Closed, those of snapshots and scans too; [`Value`]s stay valid.
    /// Poisoned when writes had been refused. Misuse from within a callback.
    pub fn close(&self) -> Result<()> {
        if IN_CALLBACK.with(Cell::get) {
            return Err(Error::new(ErrorKind::Misuse, "close was called from within a callback"));
        }
        self.handle.engine().close()
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.handle.path
    }

    /// Whether it was opened for reading only.
    pub fn is_read_only(&self) -> bool {
        self.handle.engine().is_read_only()
    }

    /// Whether anything stands in the way of writes.
    pub fn health(&self) -> Health {
        self.handle.engine().health()
    }

    /// Counts and sizes.
    pub fn stats(&self) -> Stats {
        self.handle.engine().stats()
    }

    /// The sorted runs, which a read looks at one after the other, the newest first. What is only
    /// in memtables is in none of them.
    pub fn runs(&self) -> Vec<RunSize> {
        self.handle.engine().runs()
    }

    /// What the space that the directory takes is needed for. In steady state, and some seconds
    /// after writes stop, the files of flushed segments take at most `space_amplification` times
    /// what is live of them. To that come tables, two segments of `memtable_size_bytes` for the
    /// log, what waits for its flush, a file that is being written, and what readers hold. While
    /// values are overwritten faster than they are collected, half of what is live and two
    /// memtables may be dead besides before writers are slowed. Reads the directory.
    pub fn explain_space(&self) -> Result<Space> {
        self.handle.engine().explain_space()
    }

    /// What clones share.
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    fn pop(&self, first: bool, options: &WriteOptions) -> Result<Option<(Vec<u8>, Value)>> {
        let take = |key: &[u8], found: &Found<'_>| (key.to_vec(), Value::new(found));
        self.handle.engine().pop(first, options, take)
    }

    #[inline]
    fn write_one(
        &self,
        kind: Kind,
        key: &[u8],
        value: &[u8],
        options: &WriteOptions,
    ) -> Result<SeqNo> {
        let key = LookupKey::new(DEFAULT_KEYSPACE, key)?;
        let entry = BatchEntry { kind, key: key.as_bytes(), value };
        self.handle.engine().write(std::iter::once(entry), options)
    }
}

#[cfg(any(test, feature = "sim"))]
impl crate::fs::sim::SimDisk {
    /// [`Db::open`] on this disk.
    pub fn open_db(&self, path: impl AsRef<Path>, options: &Options) -> Result<Db> {
        Db::open_on(Arc::new(self.clone()), path.as_ref(), options)
    }

    /// [`Db::destroy`] on this disk.
    pub fn destroy_db(&self, path: impl AsRef<Path>) -> Result<()> {
        engine::destroy(self, path.as_ref())
    }
}

/// A callback of the user as the engine calls it.
pub(crate) fn telling(
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> impl FnMut(u64, u64) -> ControlFlow<()> {
    |done_bytes, total_bytes| {
        let _inside = InCallback::enter();
        progress(Progress { done_bytes, total_bytes })
    }
}

#[cfg(test)]
mod tests;

thread_local! {
    /// A callback of the user runs on this thread.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Marks this thread as inside a callback, also when that panics.
struct InCallback;

impl InCallback {
    fn enter() -> InCallback {
        IN_CALLBACK.with(|inside| inside.set(true));
        InCallback
    }
}

impl Drop for InCallback {
    fn drop(&mut self) {
        IN_CALLBACK.with(|inside| inside.set(false));
    }
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Db({})", self.handle.path.display())
    }
}
