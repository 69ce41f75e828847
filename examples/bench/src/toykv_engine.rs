//! toykv as the benchmark uses it: durability `process`, everything else at its default.

use std::ops::Bound;
use std::path::Path;

use toykv::{Db, Durability, Options, ScanOptions};

use crate::Result;
use crate::engine::{Engine, Reader};

/// The options of every toykv database in this benchmark.
pub(crate) fn options() -> Options {
    Options::new().durability(Durability::Process)
}

/// An open toykv database.
pub(crate) struct ToykvEngine {
    db: Db,
}

/// Reads through the handle itself: toykv needs no read transaction.
pub(crate) struct ToykvReader<'a> {
    db: &'a Db,
}

impl Engine for ToykvEngine {
    const NAME: &'static str = "toykv";
    type Reader<'a> = ToykvReader<'a>;

    fn open(dir: &Path) -> Result<ToykvEngine> {
        Ok(ToykvEngine { db: Db::open(dir, &options())? })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put(key, value)?;
        Ok(())
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
        let value = self.db.get(key)?;
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
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let mut scan = self.db.scan(&ScanOptions::new().lower(Bound::Included(from)))?;
        let mut count = 0;
        while count < limit
            && let Some(entry) = scan.next_entry()?
        {
            visit(entry.key, entry.value);
            count += 1;
        }
        Ok(count)
    }
}
