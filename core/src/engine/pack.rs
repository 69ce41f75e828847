//! Compression of large values on their way into the log (layer L5), before any lock is taken.
//!
//! Only what will be a separated value is compressed here: what goes into tables is compressed with
//! its block.

use std::ops::Range;

use super::state::Engine;
use crate::batch::BatchEntry;
use crate::compress::Codec;
use crate::types::{Compression, Kind};
use crate::vlog::pack;

/// The values of a batch that are stored compressed.
#[derive(Default)]
pub(crate) struct Packing {
    /// Stored forms, one behind the other.
    bytes: Vec<u8>,
    /// The entries that have one, ascending, and where it is.
    places: Vec<(u32, Range<usize>)>,
    saved_bytes: u64,
}

impl Engine {
    /// Compresses the large values of a batch; `None` when all stay as they are.
    #[inline]
    pub(crate) fn pack<'a>(
        &self,
        entries: impl Iterator<Item = BatchEntry<'a>>,
    ) -> Option<Packing> {
        let codec = self.env.options.codec();
        if codec.compression == Compression::None {
            return None;
        }
        Packing::of(codec, self.env.options.value_threshold_bytes, entries)
    }
}

impl Packing {
    fn of<'a>(
        codec: Codec,
        least_len: u64,
        entries: impl Iterator<Item = BatchEntry<'a>>,
    ) -> Option<Packing> {
        let mut packing = Packing::default();
        for (index, BatchEntry { kind, value, .. }) in (0..).zip(entries) {
            let start = packing.bytes.len();
            let large = kind == Kind::Put && value.len() as u64 >= least_len;
            if large && pack(codec, value, &mut packing.bytes) {
                let end = packing.bytes.len();
                packing.saved_bytes += (value.len() - (end - start)) as u64;
                packing.places.push((index, start..end));
            }
        }
        (!packing.places.is_empty()).then_some(packing)
    }

    /// By how much the values of the batch are shorter now.
    pub(crate) fn saved_bytes(&self) -> u64 {
        self.saved_bytes
    }

    /// The entries as they go into the log.
    pub(crate) fn apply<'p, 'a: 'p, I>(
        &'p self,
        entries: I,
    ) -> impl Iterator<Item = BatchEntry<'p>> + Clone
    where
        I: Iterator<Item = BatchEntry<'a>> + Clone,
    {
        (0..).zip(entries).map(|(index, entry)| match self.stored(index) {
            Some(value) => BatchEntry { kind: Kind::Packed, value, ..entry },
            None => entry,
        })
    }

    fn stored(&self, index: u32) -> Option<&[u8]> {
        let found = self.places.binary_search_by_key(&index, |(own, _)| *own).ok()?;
        self.places.get(found).and_then(|(_, place)| self.bytes.get(place.clone()))
    }
}
