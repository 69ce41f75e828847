//! Which long records of a segment have been found intact (layer L3): one bit per KiB of its file,
//! made when the first is.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::buffer::Charge;
use crate::cache::Cache;

/// Shorter records may share a KiB with others, so no bit is theirs alone; of longer ones at most
/// one starts in any KiB.
pub(super) const SHARED_KIB: u64 = 1024;

/// The bits of one segment.
#[derive(Default)]
pub(super) struct Verified(OnceLock<Bits>);

struct Bits {
    words: Box<[AtomicU64]>,
    _charge: Charge,
}

impl Verified {
    /// Whether the long record at this place has been found intact.
    #[inline]
    pub(super) fn has(&self, place: u64) -> bool {
        let Some(bits) = self.0.get() else { return false };
        let kib = (place >> 10) as usize;
        let word = bits.words.get(kib / 64).map_or(0, |word| word.load(Ordering::Relaxed));
        word >> (kib % 64) & 1 == 1
    }

    /// Notes that a record has been, in a file of so many bytes.
    pub(super) fn note(&self, place: u64, size_bytes: u64, cache: &Cache) {
        let bits = self.0.get_or_init(|| {
            let words = size_bytes.div_ceil(64 << 10);
            let _charge = cache.charge_file(8 * words);
            Bits { words: (0..words).map(|_| AtomicU64::new(0)).collect(), _charge }
        });
        let kib = (place >> 10) as usize;
        if let Some(word) = bits.words.get(kib / 64) {
            word.fetch_or(1 << (kib % 64), Ordering::Relaxed);
        }
    }
}
