//! LMDB through heed: one-put transactions for writes, one long read transaction for reads. The
//! reason for each setting stands in README.md.

use std::ops::Bound;
use std::path::Path;

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, RoTxn, WithTls};

use crate::Result;
use crate::engine::{Engine, Reader};

/// Address space for the map; the sparse file grows only as far as it is used.
const MAP_SIZE_BYTES: usize = 64 << 30;

/// An open LMDB environment and its unnamed database.
pub(crate) struct LmdbEngine {
    env: Env,
    db: Database<Bytes, Bytes>,
}

/// One read transaction, open for the whole row.
pub(crate) struct LmdbReader<'a> {
    txn: RoTxn<'a, WithTls>,
    db: Database<Bytes, Bytes>,
}

impl Engine for LmdbEngine {
    const NAME: &'static str = "lmdb";
    type Reader<'a> = LmdbReader<'a>;

    fn open(dir: &Path) -> Result<LmdbEngine> {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_SIZE_BYTES);
        // SAFETY: the flags trade durability for speed; losing the database to a power failure is
        // what this benchmark accepts for it, and it opens no environment twice.
        unsafe { options.flags(EnvFlags::NO_SYNC | EnvFlags::WRITE_MAP) };
        // SAFETY: the directory belongs to this process alone and nobody changes the file under
        // the map.
        let env = unsafe { options.open(dir)? };
        let mut txn = env.write_txn()?;
        let db = env.create_database(&mut txn, None)?;
        txn.commit()?;
        Ok(LmdbEngine { env, db })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.db.put(&mut txn, key, value)?;
        Ok(txn.commit()?)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn reader(&self) -> Result<LmdbReader<'_>> {
        Ok(LmdbReader { txn: self.env.read_txn()?, db: self.db })
    }

    fn close(self) -> Result<()> {
        self.env.prepare_for_closing().wait();
        Ok(())
    }
}

impl Reader for LmdbReader<'_> {
    #[inline]
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        let value = self.db.get(&self.txn, key)?;
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
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let bounds = (Bound::Included(from), Bound::Unbounded);
        let mut entries = self.db.range(&self.txn, &bounds)?;
        let mut count = 0;
        while count < limit
            && let Some(entry) = entries.next()
        {
            let (key, value) = entry?;
            visit(key, value);
            count += 1;
        }
        Ok(count)
    }
}
