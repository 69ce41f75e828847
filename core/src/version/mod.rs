//! Which files are live (layer L4): plain data, edits of it, and the one file that records them.
//!
//! A [`VersionState`] says which tables form which runs and which segments of the value log exist.
//! Every durable change of the file set is a [`VersionEdit`] appended to a [`Manifest`]; applying
//! all edits of a manifest in order gives the state. Nothing here opens a table or a segment.

mod dead;
mod edit;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod hostile;
mod invariants;
mod layout;
mod load;
mod manifest;
mod meta;
mod run;
mod state;
mod wreck;

pub(crate) use dead::DeadSet;
pub(crate) use edit::VersionEdit;
pub(crate) use load::load;
pub(crate) use manifest::{Manifest, make_current};
pub(crate) use meta::{RunId, SegmentMeta, SegmentState, TableMeta, Values};
pub(crate) use run::{KeyRange, RunMeta};
pub(crate) use state::VersionState;
pub(crate) use wreck::load_wreck;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use tests::documented;
