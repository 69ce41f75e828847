//! fjall: a keyspace with its default options, batches for several changes.

use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::Result;
use crate::engine::{Config, Durability, Engine, Reader};

/// An open fjall database with one keyspace.
pub(crate) struct FjallEngine {
    db: Database,
    keyspace: Keyspace,
    sync: bool,
}

/// Reads through the keyspace.
pub(crate) struct FjallReader<'a>(&'a Keyspace);

impl FjallEngine {
    /// fjall hands a write to the system before it returns; for more it must be asked.
    fn persist(&self) -> Result<()> {
        if self.sync {
            self.db.persist(PersistMode::SyncData)?;
        }
        Ok(())
    }
}

impl Engine for FjallEngine {
    const NAME: &'static str = "fjall";
    type Reader<'a> = FjallReader<'a>;

    fn gives(wanted: Durability) -> Durability {
        wanted.max(Durability::Process)
    }

    fn open(dir: &Path, config: &Config) -> Result<FjallEngine> {
        let db = Database::builder(dir).cache_size(config.cache_bytes).open()?;
        let keyspace = db.keyspace("bench", options)?;
        Ok(FjallEngine { db, keyspace, sync: config.durability == Durability::Sync })
    }

    fn set_durability(&mut self, durability: Durability) -> Result<()> {
        self.sync = durability == Durability::Sync;
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.keyspace.insert(key, value)?;
        self.persist()
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mode = if self.sync { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut batch = self.db.batch().durability(Some(mode));
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(&self.keyspace, key.as_ref(), value.as_ref()),
                None => batch.remove(&self.keyspace, key.as_ref()),
            }
        }
        Ok(batch.commit()?)
    }

    fn load_sorted<K, V>(&self, entries: impl Iterator<Item = (K, V)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut ingestion = self.keyspace.start_ingestion()?;
        for (key, value) in entries {
            ingestion.write(key.as_ref(), value.as_ref())?;
        }
        Ok(ingestion.finish()?)
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
            let entry = match popped % 2 {
                0 => self.keyspace.first_key_value(),
                _ => self.keyspace.last_key_value(),
            };
            let Some(entry) = entry else { return Ok(popped) };
            let (key, value) = entry.into_inner()?;
            visit(&key, &value);
            self.keyspace.remove(key)?;
        }
        self.persist()?;
        Ok(count)
    }

    fn len(&self) -> Result<u64> {
        Ok(self.keyspace.len()? as u64)
    }

    fn settle(&mut self) -> Result<()> {
        self.keyspace.rotate_memtable_and_wait()?;
        self.keyspace.major_compact()?;
        while self.db.outstanding_flushes() + self.db.active_compactions() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn reader(&self) -> Result<FjallReader<'_>> {
        Ok(FjallReader(&self.keyspace))
    }

    fn close(self) -> Result<()> {
        self.persist()
    }
}

/// No compression, as everywhere else here.
fn options() -> KeyspaceCreateOptions {
    use fjall::config::CompressionPolicy;
    KeyspaceCreateOptions::default().data_block_compression_policy(CompressionPolicy::disabled())
}

impl Reader for FjallReader<'_> {
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
            let (key, value) = entry.into_inner()?;
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
            let (key, value) = entry.into_inner()?;
            visit(&key, &value);
            count += 1;
        }
        Ok(count)
    }
}
