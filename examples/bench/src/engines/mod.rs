//! The engines that were compiled in, one file each.

#[cfg(feature = "fjall")]
mod fjall;
#[cfg(feature = "leveldb")]
mod leveldb;
#[cfg(feature = "lmdb")]
mod lmdb;
mod null;
#[cfg(feature = "redb")]
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
#[cfg(feature = "sled")]
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;
pub(crate) mod toykv;

pub(crate) use null::NullEngine;

use crate::Result;
use crate::engine::Engine;

/// Something to do with an engine whose name is known only while running.
pub(crate) trait Visit {
    /// What it answers.
    type Output;

    /// Does it.
    fn visit<E: Engine + 'static>(self) -> Result<Self::Output>;
}

macro_rules! engines {
    ($($(#[$condition:meta])? $engine:ty),* $(,)?) => {
        /// The names of all engines, toykv first: the ratios compare it with those after it.
        pub(crate) fn names() -> Vec<&'static str> {
            vec![$($(#[$condition])? <$engine as Engine>::NAME),*]
        }

        /// Shows the engine of this name to the visitor.
        pub(crate) fn visit<V: Visit>(name: &str, visitor: V) -> Result<V::Output> {
            $($(#[$condition])? if name == <$engine as Engine>::NAME {
                return visitor.visit::<$engine>();
            })*
            Err(format!("no engine {name:?} was compiled in").into())
        }
    };
}

engines! {
    toykv::ToykvEngine,
    #[cfg(feature = "lmdb")] lmdb::LmdbEngine,
    #[cfg(feature = "rocksdb")] rocksdb::RocksEngine<false>,
    #[cfg(feature = "rocksdb")] rocksdb::RocksEngine<true>,
    #[cfg(feature = "redb")] redb::RedbEngine,
    #[cfg(feature = "fjall")] fjall::FjallEngine,
    #[cfg(feature = "sqlite")] sqlite::SqliteEngine,
    #[cfg(feature = "sled")] sled::SledEngine,
    #[cfg(feature = "leveldb")] leveldb::LevelEngine,
}
