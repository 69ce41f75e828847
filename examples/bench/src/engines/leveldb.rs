//! LevelDB by its C API: a write batch for several changes, an iterator for each scan.

use std::ffi::{CStr, CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::{null, null_mut};
use std::time::Instant;

use leveldb_sys::*;

use crate::Result;
use crate::engine::{Config, Durability, Engine, Reader};

/// As large as toykv's memtable and RocksDB's.
const WRITE_BUFFER_BYTES: usize = 64 << 20;

/// Bits of the bloom filter per key, as LevelDB's documentation advises.
const FILTER_BITS: i32 = 10;

/// An open LevelDB; every pointer belongs to it until `close`.
pub(crate) struct LevelEngine {
    db: *mut leveldb_t,
    cache: *mut leveldb_cache_t,
    filter: *mut leveldb_filterpolicy_t,
    read: *mut leveldb_readoptions_t,
    write: *mut leveldb_writeoptions_t,
}

// SAFETY: LevelDB's handle and its options may be used by any thread; the write options change
// only while the engine is borrowed mutably.
unsafe impl Send for LevelEngine {}
// SAFETY: as above.
unsafe impl Sync for LevelEngine {}

/// Reads through the handle.
pub(crate) struct LevelReader<'a>(&'a LevelEngine);

/// An iterator, destroyed with this.
struct Cursor(*mut leveldb_iterator_t);

/// A batch, destroyed with this.
struct Batch(*mut leveldb_writebatch_t);

/// What a call left in its error pointer.
fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: LevelDB answers a string of its own, which ends with a zero and is freed here, once.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        leveldb_free(error.cast());
        text
    };
    Err(format!("LevelDB: {text}").into())
}

/// A pointer and a length as the C API wants them.
fn parts(bytes: &[u8]) -> (*const c_char, usize) {
    (bytes.as_ptr().cast(), bytes.len())
}

impl Engine for LevelEngine {
    const NAME: &'static str = "leveldb";
    type Reader<'a> = LevelReader<'a>;

    fn gives(wanted: Durability) -> Durability {
        wanted.max(Durability::Process)
    }

    fn open(dir: &Path, config: &Config) -> Result<LevelEngine> {
        let name = CString::new(dir.as_os_str().as_bytes())?;
        let mut error = null_mut();
        // SAFETY: every object is created here and handed to the engine; the options are destroyed
        // after the call that reads them.
        let engine = unsafe {
            let cache = leveldb_cache_create_lru(config.cache_bytes as usize);
            let filter = leveldb_filterpolicy_create_bloom(FILTER_BITS);
            let options = leveldb_options_create();
            leveldb_options_set_create_if_missing(options, 1);
            leveldb_options_set_write_buffer_size(options, WRITE_BUFFER_BYTES);
            leveldb_options_set_cache(options, cache);
            leveldb_options_set_filter_policy(options, filter);
            leveldb_options_set_compression(options, Compression::No);
            let db = leveldb_open(options, name.as_ptr(), &mut error);
            leveldb_options_destroy(options);
            let (read, write) = (leveldb_readoptions_create(), leveldb_writeoptions_create());
            LevelEngine { db, cache, filter, read, write }
        };
        check(error)?;
        let mut engine = engine;
        engine.set_durability(config.durability)?;
        Ok(engine)
    }

    fn set_durability(&mut self, durability: Durability) -> Result<()> {
        // SAFETY: the options live as long as the engine, and nobody else uses it now.
        unsafe {
            leveldb_writeoptions_set_sync(self.write, u8::from(durability == Durability::Sync));
        }
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let ((key, key_len), (value, value_len)) = (parts(key), parts(value));
        let mut error = null_mut();
        // SAFETY: both slices outlive the call, which copies them.
        unsafe {
            leveldb_put(self.db, self.write, key, key_len, value, value_len, &mut error);
        }
        check(error)
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        // A batch is one record of the log and one buffer in memory: pieces of this many.
        const PIECE: usize = 100_000;
        // SAFETY: no arguments.
        let batch = Batch(unsafe { leveldb_writebatch_create() });
        for (index, (key, value)) in changes.enumerate() {
            let (key, key_len) = parts(key.as_ref());
            match &value {
                Some(value) => {
                    let (value, value_len) = parts(value.as_ref());
                    // SAFETY: both slices outlive the call, which copies them.
                    unsafe { leveldb_writebatch_put(batch.0, key, key_len, value, value_len) };
                }
                // SAFETY: as above.
                None => unsafe { leveldb_writebatch_delete(batch.0, key, key_len) },
            }
            if index % PIECE == PIECE - 1 {
                self.commit(&batch)?;
            }
        }
        self.commit(&batch)
    }

    fn pop_ends(
        &self,
        count: u64,
        until: Instant,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        for popped in 0..count {
            if popped % 16 == 0 && Instant::now() > until {
                return Ok(popped);
            }
            let mut cursor = self.cursor();
            if popped % 2 == 0 {
                cursor.first()
            } else {
                cursor.last()
            };
            let Some((key, value)) = cursor.entry() else { return Ok(popped) };
            visit(key, value);
            let (key, key_len) = parts(key);
            let mut error = null_mut();
            // SAFETY: the key lies in the cursor, which lives past this call.
            unsafe { leveldb_delete(self.db, self.write, key, key_len, &mut error) };
            check(error)?;
        }
        Ok(count)
    }

    fn len(&self) -> Result<u64> {
        let mut reader = self.reader()?;
        reader.scan(&[], u64::MAX, |_, _| true)
    }

    fn settle(&mut self) -> Result<()> {
        // SAFETY: null pointers mean everything.
        unsafe { leveldb_compact_range(self.db, null(), 0, null(), 0) };
        Ok(())
    }

    fn reader(&self) -> Result<LevelReader<'_>> {
        Ok(LevelReader(self))
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl LevelEngine {
    fn commit(&self, batch: &Batch) -> Result<()> {
        let mut error = null_mut();
        // SAFETY: the batch is alive.
        unsafe {
            leveldb_write(self.db, self.write, batch.0, &mut error);
            leveldb_writebatch_clear(batch.0);
        }
        check(error)
    }

    fn cursor(&self) -> Cursor {
        // SAFETY: the database outlives the cursor: every caller drops it before the engine.
        Cursor(unsafe { leveldb_create_iterator(self.db, self.read) })
    }
}

impl Drop for LevelEngine {
    fn drop(&mut self) {
        // SAFETY: all of these were created in `open` and are destroyed here, once; nothing uses
        // the database any more.
        unsafe {
            if !self.db.is_null() {
                leveldb_close(self.db);
            }
            leveldb_cache_destroy(self.cache);
            leveldb_filterpolicy_destroy(self.filter);
            leveldb_readoptions_destroy(self.read);
            leveldb_writeoptions_destroy(self.write);
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // SAFETY: created by `leveldb_writebatch_create`, destroyed once.
        unsafe { leveldb_writebatch_destroy(self.0) };
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // SAFETY: created by `leveldb_create_iterator`, destroyed once.
        unsafe { leveldb_iter_destroy(self.0) };
    }
}

impl Cursor {
    fn first(&mut self) {
        // SAFETY: the iterator is alive.
        unsafe { leveldb_iter_seek_to_first(self.0) };
    }

    fn last(&mut self) {
        // SAFETY: the iterator is alive.
        unsafe { leveldb_iter_seek_to_last(self.0) };
    }

    #[inline]
    fn seek(&mut self, key: &[u8]) {
        let (key, key_len) = parts(key);
        // SAFETY: the iterator is alive, and the call copies the key.
        unsafe { leveldb_iter_seek(self.0, key, key_len) };
    }

    #[inline]
    fn step(&mut self, back: bool) {
        // SAFETY: the iterator is alive and at an entry.
        unsafe { if back { leveldb_iter_prev(self.0) } else { leveldb_iter_next(self.0) } };
    }

    #[inline]
    fn entry(&self) -> Option<(&[u8], &[u8])> {
        let (mut key_len, mut value_len) = (0usize, 0usize);
        // SAFETY: a valid iterator answers pointers and lengths that hold until it moves, which
        // needs it mutably.
        unsafe {
            if leveldb_iter_valid(self.0) == 0 {
                return None;
            }
            let key = leveldb_iter_key(self.0, &raw mut key_len);
            let value = leveldb_iter_value(self.0, &raw mut value_len);
            let key = std::slice::from_raw_parts(key.cast(), key_len);
            Some((key, std::slice::from_raw_parts(value.cast(), value_len)))
        }
    }

    fn check(&self) -> Result<()> {
        let mut error: *mut c_char = null_mut();
        // SAFETY: the call stores a pointer or null through the pointer it is given, whose type
        // the bindings have as one that is only read.
        unsafe { leveldb_iter_get_error(self.0, (&raw mut error).cast_const().cast()) };
        check(error)
    }
}

impl Reader for LevelReader<'_> {
    #[inline]
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        let (key, key_len) = parts(key);
        let (mut length, mut error) = (0, null_mut());
        // SAFETY: the key outlives the call; the answer is a copy of that length, freed here, once.
        unsafe {
            let db = self.0;
            let value = leveldb_get(db.db, db.read, key, key_len, &mut length, &mut error);
            if !value.is_null() {
                visit(std::slice::from_raw_parts(value.cast(), length));
                leveldb_free(value.cast());
            }
            check(error)?;
            Ok(!value.is_null())
        }
    }

    #[inline]
    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut cursor = self.0.cursor();
        cursor.seek(from);
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = cursor.entry()
        {
            count += 1;
            if !visit(key, value) {
                break;
            }
            cursor.step(false);
        }
        cursor.check()?;
        Ok(count)
    }

    fn scan_back(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut cursor = self.0.cursor();
        cursor.last();
        let mut count = 0;
        while let Some((key, value)) = cursor.entry() {
            visit(key, value);
            count += 1;
            cursor.step(true);
        }
        cursor.check()?;
        Ok(count)
    }
}
