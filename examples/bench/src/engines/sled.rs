//! sled: the default tree, high-throughput mode, a flush after each durable write.

use std::path::Path;
use std::time::Instant;

use sled::{Config as SledConfig, Db, Mode};

use crate::Result;
use crate::engine::{Config, Durability, Engine, Reader};

/// An open sled database.
pub(crate) struct SledEngine {
    db: Db,
    sync: bool,
}

/// Reads through the handle.
pub(crate) struct SledReader<'a>(&'a Db);

impl SledEngine {
    fn persist(&self) -> Result<()> {
        if self.sync {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Engine for SledEngine {
    const NAME: &'static str = "sled";
    type Reader<'a> = SledReader<'a>;

    /// Between nothing and power loss sled has no step: its log lies in its own memory.
    fn gives(wanted: Durability) -> Durability {
        // Its flush is sync_file_range, which reaches neither sizes nor the device's own cache.
        wanted.min(Durability::None)
    }

    fn open(dir: &Path, config: &Config) -> Result<SledEngine> {
        let db = SledConfig::new()
            .path(dir)
            .mode(Mode::HighThroughput)
            .cache_capacity(config.cache_bytes)
            .open()?;
        Ok(SledEngine { db, sync: config.durability == Durability::Sync })
    }

    fn set_durability(&mut self, durability: Durability) -> Result<()> {
        self.sync = durability == Durability::Sync;
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.insert(key, value)?;
        self.persist()
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        // A batch of millions takes memory without a bound: pieces of this many.
        const PIECE: usize = 100_000;
        let mut batch = sled::Batch::default();
        for (index, (key, value)) in changes.enumerate() {
            match value {
                Some(value) => batch.insert(key.as_ref(), value.as_ref()),
                None => batch.remove(key.as_ref()),
            }
            if index % PIECE == PIECE - 1 {
                self.db.apply_batch(std::mem::take(&mut batch))?;
            }
        }
        self.db.apply_batch(batch)?;
        self.persist()
    }

    fn pop_ends(
        &self,
        count: u64,
        until: Instant,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut popped = 0;
        while popped < count && (popped % 1024 != 0 || Instant::now() < until) {
            let entry = if popped % 2 == 0 { self.db.pop_min()? } else { self.db.pop_max()? };
            let Some((key, value)) = entry else { break };
            visit(&key, &value);
            popped += 1;
        }
        self.persist()?;
        Ok(popped)
    }

    fn len(&self) -> Result<u64> {
        Ok(self.db.len() as u64)
    }

    fn settle(&mut self) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }

    fn reader(&self) -> Result<SledReader<'_>> {
        Ok(SledReader(&self.db))
    }

    fn close(self) -> Result<()> {
        self.db.flush()?;
        Ok(())
    }
}

impl Reader for SledReader<'_> {
    #[inline]
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        let value = self.0.get(key)?;
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    #[inline]
    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut entries = self.0.range(from..);
        let mut count = 0;
        while count < limit
            && let Some(entry) = entries.next()
        {
            let (key, value) = entry?;
            count += 1;
            if !visit(&key, &value) {
                break;
            }
        }
        Ok(count)
    }

    fn scan_back(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut count = 0;
        for entry in self.0.iter().rev() {
            let (key, value) = entry?;
            visit(&key, &value);
            count += 1;
        }
        Ok(count)
    }
}
