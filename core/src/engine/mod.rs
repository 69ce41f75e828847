//! The verbs of the store (layer L5), one file each, over the shared [`state`].
//!
//! Locks are taken in this order: `writer`, `files`, `shared`; the sync queue's lock is taken alone
//! or inside `writer`. Readers take none of them. Every durable change of the file set is a
//! `VersionEdit` committed by `state::Engine::commit`; every deletion of a file is in `obsolete`.

#[cfg(any(test, feature = "sim"))]
mod audit;
mod background;
mod close;
mod compact;
mod count;
mod counters;
mod cursor;
mod directory;
mod dropped;
mod flush;
mod gc;
mod hooks;
mod insight;
mod locks;
mod lookup;
mod obsolete;
mod open;
mod pack;
mod pick;
mod pick_files;
mod pop;
mod read;
mod recount;
mod rest;
mod retain;
mod rewrite;
mod run_cursor;
mod run_writer;
mod salvage;
mod scrub;
mod space;
mod stall;
mod state;
mod sync;
mod view;
mod wake;
mod write;
mod write_large;
mod writer;

pub(crate) use cursor::TreeCursor;
pub(crate) use directory::refuse_files;
#[cfg(any(test, feature = "sim"))]
pub use hooks::Intervention;
pub(crate) use lookup::{Found, Owner};
pub(crate) use open::{destroy, open};
pub(crate) use salvage::salvage;
pub(crate) use scrub::verify;
pub(crate) use state::Engine;
pub(crate) use view::View;
