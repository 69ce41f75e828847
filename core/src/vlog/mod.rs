//! The value log (layer L3): segments of frames of records, the one place where writes become
//! durable and where large values live for good. `format` has the bytes, `segment` one file as
//! readers see it, `writer` the append path over `frame` and `ahead`, `replay` what recovery reads.
//! After the flush: `values` walks what is separated, `rewrite` copies what of it is live into
//! another file, and `map` leads from addresses, which never change, to places in that. `packed` is
//! how compressed values are stored.
//!
//! Invariants: bytes behind the end of the log are never read as values; published bytes never
//! change; a frame is found by replay only if it and all frames before it are whole.

mod ahead;
mod check;
mod direct;
mod file;
mod format;
mod frame;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod hostile;
mod identify;
mod map;
mod open;
mod packed;
mod replay;
mod rewrite;
mod segment;
mod values;
mod verified;
mod wreck;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use check::check_log;
pub(crate) use format::{MAX_SEGMENT_SIZE, RewrittenIdentity, SegmentIdentity, record_len};
pub(crate) use frame::FrameSize;
pub(crate) use open::{OpenFor, Prefill};
pub(crate) use packed::pack;
pub(crate) use replay::replay;
pub(crate) use rewrite::Rewriter;
pub(crate) use segment::{ASKED_FROM, Segment};
pub(crate) use values::{Source, for_each_value};
pub(crate) use wreck::SegmentWreck;
pub(crate) use writer::{LogWriter, Stamp, Store};

#[cfg(test)]
pub(crate) use tests::documented;
