//! Bytes that were read (layer L1): in a file's map, or in a buffer on the heap, which is counted
//! as long as anybody holds it.
//!
//! Invariant: a meter has what its buffers and charges take, neither more nor less, whoever drops
//! the last of them.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a buffer takes beside its bytes: counts, a slot in a cache, the allocator's share.
pub(crate) const BUFFER_BYTES: u64 = 96;

/// Counts bytes of the heap.
#[derive(Debug, Default)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    /// Bytes that are charged now.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bytes that a meter counts while this lives.
#[derive(Debug)]
pub(crate) struct Charge {
    meter: Arc<Meter>,
    bytes: u64,
}

impl Charge {
    /// So many bytes.
    pub(crate) fn new(meter: &Arc<Meter>, bytes: u64) -> Charge {
        meter.0.fetch_add(bytes, Ordering::Relaxed);
        Charge { meter: Arc::clone(meter), bytes }
    }

    /// How many.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// From now on so many bytes.
    pub(crate) fn set(&mut self, bytes: u64) {
        // Wraps round where it shrinks.
        self.meter.0.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Bytes on the heap that never change. Clones are the same bytes, counted once.
#[derive(Clone)]
pub(crate) struct Buffer(Arc<Counted>);

struct Counted {
    bytes: Box<[u8]>,
    _charge: Charge,
}

impl Buffer {
    /// Takes the bytes over; `meter` counts them until the last clone is dropped.
    pub(crate) fn new(bytes: Box<[u8]>, meter: &Arc<Meter>) -> Buffer {
        let _charge = Charge::new(meter, bytes.len() as u64 + BUFFER_BYTES);
        Buffer(Arc::new(Counted { bytes, _charge }))
    }

    /// A part of it, cut at its end.
    #[inline]
    pub(crate) fn part(&self, range: Range<usize>) -> SharedBytes {
        let end = range.end.min(self.len());
        SharedBytes { start: range.start.min(end), end, buffer: self.clone() }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

/// A part of a buffer, which stays as long as it.
#[derive(Clone)]
pub(crate) struct SharedBytes {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl SharedBytes {
    /// What keeps the bytes.
    #[inline]
    pub(crate) fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }
}

/// Bytes that were read: in a file's map, or in a buffer that they keep.
#[derive(Clone)]
pub(crate) enum Bytes<'a> {
    /// In the map of a file that somebody else keeps.
    Mapped(&'a [u8]),
    /// In a buffer.
    Shared(SharedBytes),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(bytes) => bytes,
            Bytes::Shared(bytes) => bytes,
        }
    }
}

impl Bytes<'_> {
    /// Keeps only this part, itself cut at the end of what there is.
    pub(crate) fn cut(&mut self, range: Range<usize>) {
        let end = range.end.min(self.len());
        let start = range.start.min(end);
        match self {
            Bytes::Mapped(bytes) => *bytes = &bytes[start..end],
            Bytes::Shared(bytes) => {
                (bytes.start, bytes.end) = (bytes.start + start, bytes.start + end);
            }
        }
    }
}

impl PartialEq for Bytes<'_> {
    fn eq(&self, other: &Bytes<'_>) -> bool {
        **self == **other
    }
}

impl Eq for Bytes<'_> {}

impl std::fmt::Debug for Bytes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", &**self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(meter: &Arc<Meter>) -> Buffer {
        Buffer::new((0..10).collect(), meter)
    }

    #[test]
    fn a_part_of_a_buffer_is_cut_at_its_end() {
        let buffer = buffer(&Arc::default());
        let part = |range| buffer.part(range).to_vec();
        assert_eq!(part(2..5), [2, 3, 4]);
        assert_eq!(part(8..50), [8, 9]);
        assert_eq!(part(50..60), []);
        for shared in [true, false] {
            let cut = |range| {
                let whole = buffer.part(1..9);
                let mut bytes = match shared {
                    true => Bytes::Shared(whole),
                    false => Bytes::Mapped(&buffer[1..9]),
                };
                bytes.cut(range);
                bytes.to_vec()
            };
            assert_eq!(cut(0..3), [1, 2, 3]);
            assert_eq!(cut(2..usize::MAX), [3, 4, 5, 6, 7, 8]);
            assert_eq!(cut(8..9), []);
            assert_eq!(cut(usize::MAX..usize::MAX), []);
        }
    }

    #[test]
    fn it_is_counted_once_until_the_last_part_of_it_goes() {
        let meter = Arc::default();
        let (one, two) = (buffer(&meter), buffer(&meter));
        assert_eq!(meter.bytes(), 2 * (10 + BUFFER_BYTES));
        let part = Bytes::Shared(one.part(3..4));
        let clones = vec![one.clone(), one];
        let kept = part.clone();
        drop((two, clones, part));
        assert_eq!(meter.bytes(), 10 + BUFFER_BYTES);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let kept = kept.clone();
                scope.spawn(move || drop(kept));
            }
        });
        drop(kept);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn a_charge_follows_what_is_said_of_it() {
        let meter = Arc::default();
        let mut charge = Charge::new(&meter, 7);
        let other = Charge::new(&meter, 100);
        assert_eq!(meter.bytes(), 107);
        for bytes in [9, 0, 1000, 3] {
            charge.set(bytes);
            assert_eq!(meter.bytes(), 100 + bytes);
        }
        drop(charge);
        assert_eq!(meter.bytes(), 100);
        drop(other);
        assert_eq!(meter.bytes(), 0);
    }
}
