//! An embedded, ordered, crash-safe key-value store.
//!
//! ```
//! # fn main() -> toykv::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("db");
//! use toykv::{Db, Options, ScanOptions};
//! let db = Db::open(&path, &Options::new())?;
//! db.put(b"apple", b"red")?;
//! db.put(b"banana", b"yellow")?;
//! assert_eq!(db.get(b"apple")?.as_deref(), Some(&b"red"[..]));
//! for entry in db.scan(&ScanOptions::new().prefix(b"b"))? {
//!     let (key, value) = entry?;
//!     assert_eq!((&key[..], &value[..]), (&b"banana"[..], &b"yellow"[..]));
//! }
//! db.close()
//! # }
//! ```
//!
//! Start at [`Db`]. The files are specified in [`mod@format`].

mod budget;
mod checksum;
mod coding;
mod compress;
mod error;
mod key;
mod options;
mod planted;
mod prefetch;
mod report;
mod types;

mod buffer;
mod cache;
mod filename;
mod fs;

mod iter;

mod batch;
mod memtable;
mod table;
mod vlog;

mod version;

mod engine;

mod db;
mod handle;
#[cfg(any(test, feature = "sim"))]
mod hostile;
mod repair;
mod scan;
mod snapshot;
mod value;

pub mod format;

/// A disk in memory that loses what real disks may lose: for crash and fault tests.
#[cfg(any(test, feature = "sim"))]
pub mod sim {
    pub use crate::engine::Intervention;
    pub use crate::fs::sim::{
        CrashPolicy, Effect, Fault, Filler, Keep, Moment, OpKind, Operation, SimDisk, Sizes, Times,
        Unit,
    };
    pub use crate::hostile::{Part, mend};
}

pub use batch::WriteBatch;
pub use db::Db;
pub use error::{Error, ErrorKind, Result};
pub use options::{Durability, IoMode, OptionInfo, Options, WriteOptions};
pub use report::{
    DamageReport, Finding, Health, HeldFile, Progress, RunSize, SnapshotSpace, Space, StatNumber,
    Stats,
};
pub use scan::{Entry, Scan, ScanOptions};
pub use snapshot::Snapshot;
pub use types::{Compression, FileNumber, MAX_KEY_LEN, MAX_VALUE_LEN, SegmentId, SeqNo};
pub use value::Value;
