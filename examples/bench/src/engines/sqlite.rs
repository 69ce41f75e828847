//! SQLite: one table without row numbers, a write-ahead log, prepared statements, one connection
//! for writing and one for each reader.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row, Rows};

use crate::Result;
use crate::engine::{Config, Durability, Engine, Reader};

/// How long a connection waits for another's lock.
const BUSY: Duration = Duration::from_secs(600);

const INSERT: &str = "INSERT OR REPLACE INTO kv (key, value) VALUES (?, ?)";
const DELETE: &str = "DELETE FROM kv WHERE key = ?";
const FIRST: &str = "SELECT key, value FROM kv ORDER BY key LIMIT 1";
const LAST: &str = "SELECT key, value FROM kv ORDER BY key DESC LIMIT 1";
const GET: &str = "SELECT value FROM kv WHERE key = ?";
const SCAN: &str = "SELECT key, value FROM kv WHERE key >= ? ORDER BY key";
const SCAN_BACK: &str = "SELECT key, value FROM kv ORDER BY key DESC";

/// The writing connection.
pub(crate) struct SqliteEngine {
    file: PathBuf,
    cache_bytes: u64,
    writer: Mutex<Connection>,
}

/// A connection of its own.
pub(crate) struct SqliteReader {
    connection: Connection,
}

fn connect(file: &Path, cache_bytes: u64) -> Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "cache_size", -((cache_bytes >> 10) as i64))?;
    Ok(connection)
}

impl SqliteEngine {
    fn writer(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for SqliteEngine {
    const NAME: &'static str = "sqlite";
    type Reader<'a> = SqliteReader;

    fn gives(wanted: Durability) -> Durability {
        wanted.max(Durability::Process)
    }

    fn open(dir: &Path, config: &Config) -> Result<SqliteEngine> {
        let file = dir.join("bench.sqlite");
        let writer = connect(&file, config.cache_bytes)?;
        let table =
            "CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID";
        writer.execute(table, [])?;
        let mut engine =
            SqliteEngine { file, cache_bytes: config.cache_bytes, writer: Mutex::new(writer) };
        engine.set_durability(config.durability)?;
        Ok(engine)
    }

    fn set_durability(&mut self, durability: Durability) -> Result<()> {
        let level = if durability == Durability::Sync { "FULL" } else { "NORMAL" };
        Ok(self.writer().pragma_update(None, "synchronous", level)?)
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.writer().prepare_cached(INSERT)?.execute([key, value])?;
        Ok(())
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let writer = self.writer();
        let txn = writer.unchecked_transaction()?;
        let mut insert = txn.prepare_cached(INSERT)?;
        let mut delete = txn.prepare_cached(DELETE)?;
        for (key, value) in changes {
            match value {
                Some(value) => insert.execute([key.as_ref(), value.as_ref()])?,
                None => delete.execute([key.as_ref()])?,
            };
        }
        drop((insert, delete));
        Ok(txn.commit()?)
    }

    fn pop_ends(
        &self,
        count: u64,
        until: Instant,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        let writer = self.writer();
        let txn = writer.unchecked_transaction()?;
        let (mut first, mut last) = (txn.prepare_cached(FIRST)?, txn.prepare_cached(LAST)?);
        let mut delete = txn.prepare_cached(DELETE)?;
        let mut popped = 0;
        while popped < count && (popped % 1024 != 0 || Instant::now() < until) {
            let mut rows = if popped % 2 == 0 { first.query([])? } else { last.query([])? };
            let Some(row) = rows.next()? else { break };
            let (key, value) = entry(row)?;
            visit(key, value);
            let key = key.to_vec();
            drop(rows);
            delete.execute([key])?;
            popped += 1;
        }
        drop((first, last, delete));
        txn.commit()?;
        Ok(popped)
    }

    fn len(&self) -> Result<u64> {
        let count = "SELECT count(*) FROM kv";
        Ok(self.writer().query_row(count, [], |row| row.get::<_, i64>(0))?.try_into()?)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(self
            .writer()
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA optimize;")?)
    }

    fn reader(&self) -> Result<SqliteReader> {
        Ok(SqliteReader { connection: connect(&self.file, self.cache_bytes)? })
    }

    fn close(self) -> Result<()> {
        let connection = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(connection.close().map_err(|(_, error)| error)?)
    }
}

fn entry<'r>(row: &'r Row<'_>) -> Result<(&'r [u8], &'r [u8])> {
    Ok((row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?))
}

fn walk(
    mut rows: Rows<'_>,
    limit: u64,
    mut visit: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<u64> {
    let mut count = 0;
    while count < limit
        && let Some(row) = rows.next()?
    {
        let (key, value) = entry(row)?;
        count += 1;
        if !visit(key, value) {
            break;
        }
    }
    Ok(count)
}

impl Reader for SqliteReader {
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        let mut statement = self.connection.prepare_cached(GET)?;
        let mut rows = statement.query([key])?;
        let row = rows.next()?;
        if let Some(row) = row {
            visit(row.get_ref(0)?.as_blob()?);
        }
        Ok(row.is_some())
    }

    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut statement = self.connection.prepare_cached(SCAN)?;
        walk(statement.query([from])?, limit, visit)
    }

    fn scan_back(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut statement = self.connection.prepare_cached(SCAN_BACK)?;
        walk(statement.query([])?, u64::MAX, |key, value| {
            visit(key, value);
            true
        })
    }
}
