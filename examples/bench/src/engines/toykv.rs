//! toykv as the benchmark uses it: its defaults, but the durability that a row asks for.

use std::ops::Bound;
use std::path::Path;
use std::time::Instant;

use toykv::{Db, Options, ScanOptions, WriteBatch, WriteOptions};

use crate::Result;
use crate::engine::{Compression, Config, Durability, Engine, Reader};

/// The options of every toykv database in this benchmark.
pub(crate) fn options() -> Options {
    Options::new().durability(toykv::Durability::Process)
}

/// An open toykv database.
pub(crate) struct ToykvEngine {
    db: Db,
    write: WriteOptions,
}

/// Reads through the handle itself: toykv needs no read transaction.
pub(crate) struct ToykvReader<'a> {
    db: &'a Db,
}

fn durability(wanted: Durability) -> toykv::Durability {
    match wanted {
        Durability::None | Durability::Process => toykv::Durability::Process,
        Durability::Sync => toykv::Durability::Sync,
    }
}

impl Engine for ToykvEngine {
    const NAME: &'static str = "toykv";
    type Reader<'a> = ToykvReader<'a>;

    fn gives(wanted: Durability) -> Durability {
        wanted.max(Durability::Process)
    }

    fn compresses() -> bool {
        Options::describe().iter().any(|option| option.name == "compression")
    }

    fn open(dir: &Path, config: &Config) -> Result<ToykvEngine> {
        let mut options = options().durability(durability(config.durability));
        // As much as others cache; its default is a gibibyte at most, and more is of no use here.
        options.set("memory_budget", &config.cache_bytes.min(1 << 30).to_string())?;
        let compression = match config.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        options.set("compression", compression)?;
        if config.compression != Compression::None {
            // Compressed blocks come from its own cache: as large as the others'.
            options.set("cache_size_bytes", &config.cache_bytes.to_string())?;
        }
        for (name, value) in &config.options {
            options.set(name, value)?;
        }
        let write = WriteOptions::new().durability(durability(config.durability));
        Ok(ToykvEngine { db: Db::open(dir, &options)?, write })
    }

    fn set_durability(&mut self, wanted: Durability) -> Result<()> {
        self.write = WriteOptions::new().durability(durability(wanted));
        Ok(())
    }

    #[inline]
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put_with(key, value, &self.write)?;
        Ok(())
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut batch = WriteBatch::new();
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key.as_ref(), value.as_ref())?,
                None => batch.delete(key.as_ref())?,
            }
        }
        self.db.write_with(&batch, &self.write)?;
        Ok(())
    }

    /// A scan within bounds, whose keys go straight into the batch.
    fn remove_where(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut remove: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = ScanOptions::new().lower(Bound::Included(from)).upper(upper);
        let mut scan = self.db.scan(&range)?;
        let mut batch = WriteBatch::new();
        while let Some(entry) = scan.next_entry()? {
            if remove(entry.key, entry.value) {
                batch.delete(entry.key)?;
            }
        }
        drop(scan);
        self.db.write_with(&batch, &self.write)?;
        Ok(batch.len() as u64)
    }

    fn pop_ends(
        &self,
        count: u64,
        until: Instant,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        for popped in 0..count {
            let entry = match popped % 2 {
                0 => self.db.pop_first_with(&self.write)?,
                _ => self.db.pop_last_with(&self.write)?,
            };
            let Some((key, value)) = entry else { return Ok(popped) };
            visit(&key, &value);
            if popped % 1024 == 1023 && Instant::now() > until {
                return Ok(popped + 1);
            }
        }
        Ok(count)
    }

    fn len(&self) -> Result<u64> {
        Ok(self.db.len()?)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self.db.compact(Bound::Unbounded, Bound::Unbounded)?)
    }

    fn reader(&self) -> Result<ToykvReader<'_>> {
        Ok(ToykvReader { db: &self.db })
    }

    fn close(self) -> Result<()> {
        Ok(self.db.close()?)
    }
}

impl Reader for ToykvReader<'_> {
    #[inline]
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        Ok(self.db.get_with(key, visit)?.is_some())
    }

    fn multi_get<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        mut visit: impl FnMut(usize, &[u8]),
    ) -> Result<u64> {
        let mut found = 0;
        for (index, value) in self.db.multi_get(keys)?.iter().enumerate() {
            if let Some(value) = value {
                visit(index, value);
                found += 1;
            }
        }
        Ok(found)
    }

    #[inline]
    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut scan = self.db.scan(&ScanOptions::new().lower(Bound::Included(from)))?;
        let mut count = 0;
        while count < limit
            && let Some(entry) = scan.next_entry()?
        {
            count += 1;
            if !visit(entry.key, entry.value) {
                break;
            }
        }
        Ok(count)
    }

    fn scan_back(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut scan = self.db.scan(&ScanOptions::new().reverse(true))?;
        let mut count = 0;
        while let Some(entry) = scan.next_entry()? {
            count += 1;
            visit(entry.key, entry.value);
        }
        Ok(count)
    }
}
