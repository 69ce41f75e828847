//! What an engine must offer to be measured. A peer is one file in `engines/` that implements
//! [`Engine`], and one line in `engines/mod.rs`.

use std::path::Path;
use std::time::Instant;

use crate::Result;

/// What a write survives once it is acknowledged; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// Nothing: the death of the process may take it.
    None,
    /// The death of the process.
    Process,
    /// Power loss.
    Sync,
}

impl Durability {
    /// As the tables and JSON lines have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Durability::None => "none",
            Durability::Process => "process",
            Durability::Sync => "sync",
        }
    }
}

/// What blocks are compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Nothing.
    None,
    /// LZ4.
    Lz4,
    /// Zstandard at the engine's own level.
    Zstd,
}

/// How an engine is opened; everything else is the engine's own file and README.md.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// What each write must survive.
    pub(crate) durability: Durability,
    /// Memory for what the engine caches itself; engines that map files have none.
    pub(crate) cache_bytes: u64,
    /// Compress with this; only engines that can are asked.
    pub(crate) compression: Compression,
    /// Options of toykv by name.
    pub(crate) options: Vec<(String, String)>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            durability: Durability::Process,
            cache_bytes: 4 << 30,
            compression: Compression::None,
            options: Vec::new(),
        }
    }
}

/// An embedded ordered key-value store, opened on a directory.
pub(crate) trait Engine: Sized + Send + Sync {
    /// Its name in the table and in the JSON lines.
    const NAME: &'static str;

    /// Its way to read: one is made before a row's clock starts, and serves the whole row on the
    /// thread that made it.
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// What a write really survives when `wanted` is asked for.
    fn gives(wanted: Durability) -> Durability {
        wanted
    }

    /// Whether it can compress.
    fn compresses() -> bool {
        false
    }

    /// Opens the directory, which exists and may be empty.
    fn open(dir: &Path, config: &Config) -> Result<Self>;

    /// From now on writes survive this.
    fn set_durability(&mut self, durability: Durability) -> Result<()>;

    /// One acknowledged write.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// All these changes as one; `None` deletes.
    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>;

    /// Entries in ascending order, all behind what is there, by the engine's fastest way.
    fn load_sorted<K, V>(&self, entries: impl Iterator<Item = (K, V)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        self.write(entries.map(|(key, value)| (key, Some(value))))
    }

    /// Shows the entries from `from` up to and without `to` in order, and removes those for which
    /// `remove` answers true, as one; answers how many.
    fn remove_where(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut remove: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut doomed: Vec<Box<[u8]>> = Vec::new();
        self.reader()?.scan(from, u64::MAX, |key, value| {
            let inside = to.is_none_or(|to| key < to);
            if inside && remove(key, value) {
                doomed.push(key.into());
            }
            inside
        })?;
        self.write(doomed.iter().map(|key| (key, None::<&[u8]>)))?;
        Ok(doomed.len() as u64)
    }

    /// Takes the first and the last entry in turns, `count` in all or until the time is up, and
    /// shows each; answers how many. As one transaction, where the engine has them.
    fn pop_ends(&self, count: u64, until: Instant, visit: impl FnMut(&[u8], &[u8])) -> Result<u64>;

    /// The exact number of entries, by the engine's fastest way.
    fn len(&self) -> Result<u64>;

    /// What its owner would do after a load and before a long time of reading; returns when no
    /// background work is left.
    fn settle(&mut self) -> Result<()>;

    /// A reader, which sees what was written before.
    fn reader(&self) -> Result<Self::Reader<'_>>;

    /// Closes; nothing of the engine runs afterwards.
    fn close(self) -> Result<()>;
}

/// Reads of one engine.
pub(crate) trait Reader {
    /// From now on it sees what was written before this call.
    fn refresh(&mut self) -> Result<()> {
        Ok(())
    }

    /// Shows the value to `visit`, if there is one, and says whether there is.
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool>;

    /// Shows the values that are there, with the index of their keys; answers how many.
    fn multi_get<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        mut visit: impl FnMut(usize, &[u8]),
    ) -> Result<u64> {
        let mut found = 0;
        for (index, key) in keys.iter().enumerate() {
            found += u64::from(self.get(key.as_ref(), |value| visit(index, value))?);
        }
        Ok(found)
    }

    /// Shows at most `limit` entries from the first key at or after `from`, until `visit` answers
    /// false; answers how many.
    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64>;

    /// Shows all entries from the last one backwards; answers how many.
    fn scan_back(&mut self, visit: impl FnMut(&[u8], &[u8])) -> Result<u64>;
}
