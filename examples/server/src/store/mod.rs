//! The store: the one place that turns commands of all dialects into calls of the engine.
//!
//! Invariants. ATOMIC: every write holds the stripes of its keys, so a command that reads and then
//! writes is atomic among all clients. UNLOCKED: no stripe is held while a write waits for the
//! device or for a backlog: writes are made with `no_wait` and at most at `interval`; whoever
//! acknowledges them calls [`Store::settle`] first.

mod cursors;
mod glob;
mod locks;
mod modify;
mod range;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use toykv::{Db, Durability, Error, ErrorKind, Options, Result, SeqNo, Value, WriteBatch};
use toykv::{Health, Space, Stats, WriteOptions};

pub(crate) use cursors::Cursors;
pub(crate) use glob::Glob;
pub(crate) use locks::Stripes;
pub(crate) use modify::{SetCondition, parse_integer};
pub(crate) use upkeep::{Found, Job, Upkeep};

/// How often a write that would stall waits without a lock before it waits with one.
const UNLOCKED_WAITS: usize = 8;

/// Keys that are looked up together: the engine's cache misses for them overlap.
pub(crate) const KEYS_AT_ONCE: usize = 16;

/// How a command may wait for the engine's background work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all: it answers WouldStall with nothing changed.
    None,
    /// As long as it takes, on a thread that may block.
    Blocking,
}

/// Errors that may be the engine's WouldStall.
pub(crate) trait Stall: From<Error> {
    /// Whether it is.
    fn would_stall(&self) -> bool;
}

impl Stall for Error {
    fn would_stall(&self) -> bool {
        self.kind() == ErrorKind::WouldStall
    }
}

/// An open database and the locks of its keys.
pub(crate) struct Store {
    db: Db,
    locks: locks::KeyLocks,
    durability: Durability,
    /// Positions of SCAN by number.
    pub(crate) cursors: Cursors,
    /// Whether a compaction or a collection is under way that somebody asked for.
    upkeep: Arc<AtomicBool>,
}

impl Store {
    /// Opens the database. `durability` is what writes are acknowledged at.
    pub(crate) fn open(
        dir: &std::path::Path,
        options: Options,
        durability: Durability,
    ) -> Result<Store> {
        let db = Db::open(dir, &options.durability(durability))?;
        let (locks, cursors) = (locks::KeyLocks::new(), Cursors::new());
        Ok(Store { db, locks, durability, cursors, upkeep: Arc::default() })
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Value>> {
        self.db.get(key)
    }

    /// The values of many keys, all of one state.
    pub(crate) fn multi_get(&self, keys: &[&[u8]]) -> Result<Vec<Option<Value>>> {
        self.db.multi_get(keys)
    }

    /// Tells `visit` the values of any number of keys, all of one state, until it answers false.
    /// Only some of the values are held at a time.
    pub(crate) fn get_each(
        &self,
        keys: &[&[u8]],
        visit: &mut dyn FnMut(Option<&Value>) -> bool,
    ) -> Result<()> {
        let mut tell = |values: Vec<Option<Value>>| values.iter().all(|own| visit(own.as_ref()));
        if keys.len() <= KEYS_AT_ONCE {
            tell(self.db.multi_get(keys)?);
            return Ok(());
        }
        let state = self.db.snapshot()?;
        for part in keys.chunks(KEYS_AT_ONCE) {
            if !tell(state.multi_get(part)?) {
                break;
            }
        }
        Ok(())
    }

    /// Whether a key is there.
    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool> {
        self.db.contains(key)
    }

    /// The exact number of keys. May take long.
    pub(crate) fn len(&self) -> Result<u64> {
        self.db.len()
    }

    /// The engine's counts and sizes.
    pub(crate) fn stats(&self) -> Stats {
        self.db.stats()
    }

    /// The sorted runs, the newest first.
    pub(crate) fn runs(&self) -> Vec<toykv::RunSize> {
        self.db.runs()
    }

    /// What the space of the directory is needed for. Reads the directory.
    pub(crate) fn explain_space(&self) -> Result<Space> {
        self.db.explain_space()
    }

    /// What stands in the way of writes.
    pub(crate) fn health(&self) -> Health {
        self.db.health()
    }

    /// The stripe of a key, for [`Store::write`].
    #[inline]
    pub(crate) fn stripe(&self, key: &[u8]) -> Stripes {
        self.locks.stripe(key)
    }

    /// Stores a value.
    pub(crate) fn put(&self, key: &[u8], value: &[u8], patience: Patience) -> Result<SeqNo> {
        let _held = self.locks.hold(self.locks.stripe(key));
        self.db.put_with(key, value, &self.unsettled(patience))
    }

    /// Removes a key without looking whether it is there.
    pub(crate) fn delete(&self, key: &[u8], patience: Patience) -> Result<SeqNo> {
        let _held = self.locks.hold(self.locks.stripe(key));
        self.db.delete_with(key, &self.unsettled(patience))
    }

    /// Applies a batch whose keys have these stripes.
    pub(crate) fn write(
        &self,
        batch: &WriteBatch,
        stripes: Stripes,
        patience: Patience,
    ) -> Result<SeqNo> {
        let _held = self.locks.hold(stripes);
        self.db.write_with(batch, &self.unsettled(patience))
    }

    /// What writes are acknowledged at unless they ask for something else.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether what was written has to be made durable before it is acknowledged at the server's
    /// own durability.
    #[inline]
    pub(crate) fn settles(&self) -> bool {
        self.durability == Durability::Sync
    }

    /// Makes everything written so far durable; concurrent callers share a device flush. Blocks.
    pub(crate) fn settle(&self) -> Result<()> {
        self.db.sync()
    }

    /// Runs a command on a thread that may block: waits for background work, at first without
    /// any lock.
    pub(crate) fn patiently<T, E: Stall>(
        &self,
        mut run: impl FnMut(Patience) -> Result<T, E>,
    ) -> Result<T, E> {
        for _ in 0..UNLOCKED_WAITS {
            match run(Patience::None) {
                Err(error) if error.would_stall() => self.wait_for_room()?,
                answer => return answer,
            }
        }
        run(Patience::Blocking)
    }

    /// Waits as long as a write would have to, holding nothing: a batch without entries stores
    /// nothing and waits like any other.
    pub(crate) fn wait_for_room(&self) -> Result<()> {
        self.db.write(&WriteBatch::new()).map(drop)
    }

    /// Makes everything durable and closes the database.
    pub(crate) fn close(&self) -> Result<()> {
        self.db.close()
    }

    /// Options of a write inside of a stripe: whoever answers the client settles it afterwards.
    #[inline]
    fn unsettled(&self, patience: Patience) -> WriteOptions {
        let durability = match self.durability {
            Durability::Process => Durability::Process,
            Durability::Interval | Durability::Sync => Durability::Interval,
        };
        WriteOptions::new().durability(durability).no_wait(patience == Patience::None)
    }
}

/// An error for arguments that the engine would take but the command does not.
pub(crate) fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}
