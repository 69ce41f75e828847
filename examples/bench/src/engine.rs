//! What an engine must offer to be measured. A peer is one file that implements [`Engine`] and one
//! line each in [`NAMES`] and [`subjects`].

use std::path::Path;

use crate::Result;
use crate::lmdb_engine::LmdbEngine;
use crate::subject::{Runner, Subject};
use crate::toykv_engine::ToykvEngine;

/// An embedded ordered key-value store, opened on a directory.
pub(crate) trait Engine: Sized {
    /// Its name in the table and in the JSON lines.
    const NAME: &'static str;

    /// Its way to read: one is made before a row's clock starts, and serves the whole row.
    type Reader<'a>: Reader
    where
        Self: 'a;

    /// Opens the directory, which exists and may be empty.
    fn open(dir: &Path) -> Result<Self>;

    /// One acknowledged write that survives the death of the process.
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// What its owner would do after a load and before a long time of reading; returns when no
    /// background work is left.
    fn settle(&mut self) -> Result<()>;

    /// A reader.
    fn reader(&self) -> Result<Self::Reader<'_>>;

    /// Closes; nothing of the engine runs afterwards.
    fn close(self) -> Result<()>;
}

/// Reads of one engine.
pub(crate) trait Reader {
    /// Shows the value to `visit`, if there is one, and says whether there is.
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool>;

    /// Shows at most `limit` entries from the first key at or after `from`; answers how many.
    fn scan(&mut self, from: &[u8], limit: u64, visit: impl FnMut(&[u8], &[u8])) -> Result<u64>;
}

/// The names of all engines.
pub(crate) const NAMES: [&str; 2] = [ToykvEngine::NAME, LmdbEngine::NAME];

/// All engines, toykv first: the ratios compare it with those after it.
pub(crate) fn subjects(dir: &Path) -> Vec<Box<dyn Subject>> {
    vec![Box::new(Runner::<ToykvEngine>::new(dir)), Box::new(Runner::<LmdbEngine>::new(dir))]
}
