//! LMDB through heed: a transaction for each write, one read transaction until the reader is
//! refreshed. The reason for each setting stands in README.md.

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Instant;

use heed::types::Bytes;
use heed::{
    CompactionOption, Database, Env, EnvFlags, EnvOpenOptions, FlagSetMode, PutFlags, RoTxn,
    WithTls,
};

use crate::Result;
use crate::engine::{Config, Durability, Engine, Reader};

/// Address space for the map; the sparse file grows only as far as it is used.
const MAP_SIZE_BYTES: usize = 64 << 30;

type Table = Database<Bytes, Bytes>;

/// An open LMDB environment and its unnamed database.
pub(crate) struct LmdbEngine {
    env: Option<Env>,
    db: Table,
    dir: PathBuf,
    flags: EnvFlags,
}

/// One read transaction; none only while it is replaced.
pub(crate) struct LmdbReader<'a> {
    env: &'a Env,
    txn: Option<RoTxn<'a, WithTls>>,
    db: Table,
}

fn open(dir: &Path, flags: EnvFlags) -> Result<(Env, Table)> {
    let mut options = EnvOpenOptions::new();
    options.map_size(MAP_SIZE_BYTES);
    // SAFETY: the flags trade durability for speed; losing the database to a power failure is
    // what this benchmark accepts for it, and it opens no environment twice.
    unsafe { options.flags(flags) };
    // SAFETY: the directory belongs to this process alone and nobody changes the file under the
    // map.
    let env = unsafe { options.open(dir)? };
    let mut txn = env.write_txn()?;
    let db = env.create_database(&mut txn, None)?;
    txn.commit()?;
    Ok((env, db))
}

impl LmdbEngine {
    fn env(&self) -> Result<&Env> {
        Ok(self.env.as_ref().ok_or("LMDB could not be opened again")?)
    }
}

impl Engine for LmdbEngine {
    const NAME: &'static str = "lmdb";
    type Reader<'a> = LmdbReader<'a>;

    fn gives(wanted: Durability) -> Durability {
        wanted.max(Durability::Process)
    }

    fn open(dir: &Path, config: &Config) -> Result<LmdbEngine> {
        let flags = match config.durability {
            Durability::Sync => EnvFlags::empty(),
            _ => EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP,
        };
        let (env, db) = open(dir, flags)?;
        Ok(LmdbEngine { env: Some(env), db, dir: dir.to_path_buf(), flags })
    }

    fn set_durability(&mut self, durability: Durability) -> Result<()> {
        let mode = match durability {
            Durability::Sync => FlagSetMode::Disable,
            _ => FlagSetMode::Enable,
        };
        // SAFETY: nothing else uses the environment meanwhile, since it is borrowed mutably.
        unsafe { self.env()?.set_flags(EnvFlags::NO_SYNC, mode)? };
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.env()?.write_txn()?;
        self.db.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut txn = self.env()?.write_txn()?;
        for (key, value) in changes {
            match value {
                Some(value) => self.db.put(&mut txn, key.as_ref(), value.as_ref())?,
                None => {
                    self.db.delete(&mut txn, key.as_ref())?;
                }
            }
        }
        Ok(txn.commit()?)
    }

    fn load_sorted<K, V>(&self, entries: impl Iterator<Item = (K, V)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut txn = self.env()?.write_txn()?;
        for (key, value) in entries {
            let flags = PutFlags::APPEND;
            self.db.put_with_flags(&mut txn, flags, key.as_ref(), value.as_ref())?;
        }
        Ok(txn.commit()?)
    }

    fn remove_where(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut remove: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut txn = self.env()?.write_txn()?;
        let mut removed = 0;
        let upper = to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries = self.db.range_mut(&mut txn, &(Bound::Included(from), upper))?;
        while let Some(entry) = entries.next() {
            let (key, value) = entry?;
            if remove(key, value) {
                // SAFETY: nothing borrowed from the database is used after this call.
                unsafe { entries.del_current()? };
                removed += 1;
            }
        }
        drop(entries);
        txn.commit()?;
        Ok(removed)
    }

    fn pop_ends(
        &self,
        count: u64,
        until: Instant,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut txn = self.env()?.write_txn()?;
        let mut popped = 0;
        while popped < count && (popped % 1024 != 0 || Instant::now() < until) {
            if popped % 2 == 0 {
                let mut entries = self.db.iter_mut(&mut txn)?;
                let Some(entry) = entries.next() else { break };
                let (key, value) = entry?;
                visit(key, value);
                // SAFETY: nothing borrowed from the database is used after this call.
                unsafe { entries.del_current()? };
            } else {
                let mut entries = self.db.rev_iter_mut(&mut txn)?;
                let Some(entry) = entries.next() else { break };
                let (key, value) = entry?;
                visit(key, value);
                // SAFETY: as above.
                unsafe { entries.del_current()? };
            }
            popped += 1;
        }
        txn.commit()?;
        Ok(popped)
    }

    fn len(&self) -> Result<u64> {
        let txn = self.env()?.read_txn()?;
        Ok(self.db.len(&txn)?)
    }

    #[expect(clippy::disallowed_methods, reason = "LMDB's file, not one of toykv's engine")]
    /// A compacted copy takes the place of the file: the only way to give space back.
    fn settle(&mut self) -> Result<()> {
        let copy = self.dir.join("copy.mdb");
        self.env()?.copy_to_path(&copy, CompactionOption::Enabled)?.sync_all()?;
        if let Some(env) = self.env.take() {
            env.prepare_for_closing().wait();
        }
        std::fs::rename(&copy, self.dir.join("data.mdb"))?;
        let (env, db) = open(&self.dir, self.flags)?;
        self.db = db;
        self.env = Some(env);
        Ok(())
    }

    fn reader(&self) -> Result<LmdbReader<'_>> {
        let env = self.env()?;
        Ok(LmdbReader { env, txn: Some(env.read_txn()?), db: self.db })
    }

    fn close(mut self) -> Result<()> {
        if let Some(env) = self.env.take() {
            env.prepare_for_closing().wait();
        }
        Ok(())
    }
}

impl LmdbReader<'_> {
    #[inline]
    fn txn(&self) -> Result<&RoTxn<'_, WithTls>> {
        Ok(self.txn.as_ref().ok_or("a reader whose refresh failed")?)
    }
}

impl Reader for LmdbReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        // A thread has one read transaction at a time.
        self.txn = None;
        self.txn = Some(self.env.read_txn()?);
        Ok(())
    }

    #[inline]
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        let value = self.db.get(self.txn()?, key)?;
        if let Some(value) = value {
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
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let mut entries = self.db.range(self.txn()?, &bounds)?;
        let mut count = 0;
        while count < limit
            && let Some(entry) = entries.next()
        {
            let (key, value) = entry?;
            count += 1;
            if !visit(key, value) {
                break;
            }
        }
        Ok(count)
    }

    fn scan_back(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut count = 0;
        for entry in self.db.rev_iter(self.txn()?)? {
            let (key, value) = entry?;
            visit(key, value);
            count += 1;
        }
        Ok(count)
    }
}
