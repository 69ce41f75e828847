//! redb: a transaction for each write, one read transaction until the reader is refreshed, as its
//! own benchmark does.

use std::path::Path;
use std::time::Instant;

use redb::{
    Database, ReadOnlyTable, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, WriteTransaction,
};

use crate::Result;
use crate::engine::{Config, Durability, Engine, Reader};

type Bytes = &'static [u8];

const TABLE: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("bench");

/// An open redb database.
pub(crate) struct RedbEngine {
    db: Database,
    durability: redb::Durability,
}

/// One read transaction's table.
pub(crate) struct RedbReader<'a> {
    db: &'a Database,
    table: ReadOnlyTable<Bytes, Bytes>,
}

fn durability(wanted: Durability) -> redb::Durability {
    match wanted {
        Durability::Sync => redb::Durability::Immediate,
        _ => redb::Durability::None,
    }
}

impl RedbEngine {
    fn begin(&self) -> Result<WriteTransaction> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(self.durability)?;
        Ok(txn)
    }
}

impl Engine for RedbEngine {
    const NAME: &'static str = "redb";
    type Reader<'a> = RedbReader<'a>;

    /// Between nothing and power loss redb has no step.
    fn gives(wanted: Durability) -> Durability {
        if wanted == Durability::Sync { wanted } else { Durability::None }
    }

    fn open(dir: &Path, config: &Config) -> Result<RedbEngine> {
        let db = Database::builder()
            .set_cache_size(config.cache_bytes as usize)
            .create(dir.join("bench.redb"))?;
        let engine = RedbEngine { db, durability: durability(config.durability) };
        let txn = engine.begin()?;
        txn.open_table(TABLE)?;
        txn.commit()?;
        Ok(engine)
    }

    fn set_durability(&mut self, wanted: Durability) -> Result<()> {
        self.durability = durability(wanted);
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let txn = self.begin()?;
        txn.open_table(TABLE)?.insert(key, value)?;
        Ok(txn.commit()?)
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let txn = self.begin()?;
        let mut table = txn.open_table(TABLE)?;
        for (key, value) in changes {
            match value {
                Some(value) => table.insert(key.as_ref(), value.as_ref())?,
                None => table.remove(key.as_ref())?,
            };
        }
        drop(table);
        Ok(txn.commit()?)
    }

    fn load_sorted<K, V>(&self, entries: impl Iterator<Item = (K, V)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let txn = self.begin()?;
        let mut table = txn.open_table(TABLE)?;
        let mut cursor = table.upper_bound_mut(std::ops::Bound::<&[u8]>::Unbounded)?;
        for (key, value) in entries {
            cursor.insert_before(key.as_ref(), value.as_ref())?;
        }
        cursor.close()?;
        drop(table);
        Ok(txn.commit()?)
    }

    fn remove_where(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut remove: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let txn = self.begin()?;
        let mut table = txn.open_table(TABLE)?;
        let mut removed = 0;
        let keep = |key: &[u8], value: &[u8]| {
            let gone = remove(key, value);
            removed += u64::from(gone);
            !gone
        };
        match to {
            Some(to) => table.retain_in(from..to, keep)?,
            None => table.retain_in(from.., keep)?,
        }
        drop(table);
        txn.commit()?;
        Ok(removed)
    }

    fn pop_ends(
        &self,
        count: u64,
        until: Instant,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let txn = self.begin()?;
        let mut table = txn.open_table(TABLE)?;
        let mut popped = 0;
        while popped < count && (popped % 1024 != 0 || Instant::now() < until) {
            let entry = if popped % 2 == 0 { table.pop_first()? } else { table.pop_last()? };
            let Some((key, value)) = entry else { break };
            visit(key.value(), value.value());
            popped += 1;
        }
        drop(table);
        txn.commit()?;
        Ok(popped)
    }

    fn len(&self) -> Result<u64> {
        Ok(self.db.begin_read()?.open_table(TABLE)?.len()?)
    }

    fn settle(&mut self) -> Result<()> {
        self.db.compact()?;
        Ok(())
    }

    fn reader(&self) -> Result<RedbReader<'_>> {
        Ok(RedbReader { db: &self.db, table: self.db.begin_read()?.open_table(TABLE)? })
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl Reader for RedbReader<'_> {
    fn refresh(&mut self) -> Result<()> {
        self.table = self.db.begin_read()?.open_table(TABLE)?;
        Ok(())
    }

    // The trait's calls borrow the table; the table's own count references instead.
    #[inline]
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        let value = ReadableTable::get(&self.table, key)?;
        if let Some(value) = &value {
            visit(value.value());
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
        let mut entries = ReadableTable::range(&self.table, from..)?;
        let mut count = 0;
        while count < limit
            && let Some(entry) = entries.next()
        {
            let (key, value) = entry?;
            count += 1;
            if !visit(key.value(), value.value()) {
                break;
            }
        }
        Ok(count)
    }

    fn scan_back(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut count = 0;
        for entry in ReadableTable::iter(&self.table)?.rev() {
            let (key, value) = entry?;
            visit(key.value(), value.value());
            count += 1;
        }
        Ok(count)
    }
}
