//! Replies waiting to be sent to one client: copied bytes, and long values that are not copied but
//! pinned where the engine has them.

use std::sync::Arc;

use toykv::Value;

use crate::budget::{Budget, Share};
use crate::limits::FREE_BYTES;

/// Values of at least this size are pinned.
const PINNED_LEN: usize = 16 << 10;

/// Pinned values that a client may have for nothing, and what each other one takes beside its
/// bytes.
const FREE_PINS: usize = 64;
const PIN_BYTES: usize = size_of::<(usize, Value)>();

/// Capacity that is kept between rounds.
const KEPT_CAPACITY: usize = 32 << 10;

/// Replies in their order. What does not fit is not kept: [`Out::refused`] says so until the reply
/// is taken back; where that is not done, [`Out::is_cut`] says that nothing may be sent any more.
pub(crate) struct Out {
    bytes: Vec<u8>,
    /// Values, each before the byte at its position.
    pinned: Vec<(usize, Value)>,
    pinned_bytes: usize,
    /// Heap that pinned values take.
    held_bytes: usize,
    share: Share,
    /// Length up to which there is memory for `bytes`.
    room: usize,
    /// Length up to which `bytes` may grow without asking: within the room and the reply's end.
    allowed: usize,
    /// Length beyond which a reply is too large.
    end: usize,
    reply_limit: usize,
    refused: bool,
    cut: bool,
}

/// A state to go back to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    bytes: usize,
    pinned: usize,
    pinned_bytes: usize,
    held_bytes: usize,
}

impl Out {
    /// Nothing. `reply_limit` is what one reply may copy.
    pub(crate) fn new(budget: &Arc<Budget>, reply_limit: usize) -> Out {
        Out {
            bytes: Vec::new(),
            pinned: Vec::new(),
            pinned_bytes: 0,
            held_bytes: 0,
            share: Share::new(budget),
            room: FREE_BYTES,
            allowed: FREE_BYTES.min(reply_limit),
            end: reply_limit,
            reply_limit,
            refused: false,
            cut: false,
        }
    }

    /// Bytes waiting, those of pinned values included.
    #[inline]
    pub(crate) fn waiting(&self) -> usize {
        self.bytes.len() + self.pinned_bytes
    }

    /// Begins a reply.
    #[inline]
    pub(crate) fn mark(&mut self) -> Mark {
        self.cut |= self.refused;
        self.end = self.bytes.len().saturating_add(self.reply_limit);
        self.allowed = self.room.min(self.end);
        self.refused = false;
        Mark {
            bytes: self.bytes.len(),
            pinned: self.pinned.len(),
            pinned_bytes: self.pinned_bytes,
            held_bytes: self.held_bytes,
        }
    }

    /// Forgets what was added since.
    pub(crate) fn rewind(&mut self, mark: Mark) {
        self.bytes.truncate(mark.bytes);
        self.pinned.truncate(mark.pinned);
        self.pinned_bytes = mark.pinned_bytes;
        if self.held_bytes > mark.held_bytes {
            self.held_bytes = mark.held_bytes;
            self.share.resize(self.room + self.held_bytes);
        }
        self.refused = false;
    }

    /// Whether a reply since the mark was too large, or found no memory.
    #[inline]
    pub(crate) fn refused(&self) -> bool {
        self.refused
    }

    /// Whether bytes are missing in the middle: the client would take one reply for another.
    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.cut || self.refused
    }

    /// Whether it is better sent now: memory is short and this takes of it, or soon will.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        (self.bytes.len() >= FREE_BYTES / 2 || self.held_bytes > 0) && self.share.is_short()
    }

    /// Adds bytes.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > self.allowed && !self.grow(bytes.len()) {
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds bytes at a mark, in front of what was added since; nothing may be pinned since.
    pub(crate) fn insert(&mut self, mark: Mark, bytes: &[u8]) {
        if self.grow(bytes.len()) {
            self.bytes.splice(mark.bytes..mark.bytes, bytes.iter().copied());
        }
    }

    /// Adds a value; a long one is pinned, and takes of the memory what it holds of the heap.
    #[inline]
    pub(crate) fn push_value(&mut self, value: &Value) {
        if value.len() < PINNED_LEN {
            return self.push(value);
        }
        let own = if self.pinned.len() < FREE_PINS { 0 } else { PIN_BYTES };
        let held = self.held_bytes + value.heap_bytes() + own;
        if self.refused || held > self.held_bytes && !self.share.resize(self.room + held) {
            self.refused = true;
            return;
        }
        self.held_bytes = held;
        self.pinned.push((self.bytes.len(), value.clone()));
        self.pinned_bytes += value.len();
    }

    /// Asks for memory for so many more bytes, and then some.
    #[cold]
    fn grow(&mut self, more: usize) -> bool {
        let needed = self.bytes.len() + more;
        if self.refused || needed > self.end {
            self.refused = true;
            return false;
        }
        // A vector doubles when it grows.
        let capacity = needed.max(self.bytes.capacity() * 2);
        if needed > self.room {
            if !self.share.resize(capacity + self.held_bytes) {
                self.refused = true;
                return false;
            }
            self.room = capacity.max(FREE_BYTES);
        }
        self.allowed = self.room.min(self.end);
        true
    }

    /// What is to be sent, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let values = self.pinned.iter().flat_map(move |(position, value)| {
            let before = at;
            at = *position;
            [&self.bytes[before..*position], &value[..]]
        });
        let behind = self.pinned.last().map_or(0, |(position, _)| *position);
        values.chain([&self.bytes[behind..]])
    }

    /// Everything was sent.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pinned.clear();
        self.pinned_bytes = 0;
        if self.bytes.capacity() > FREE_BYTES {
            self.bytes = Vec::with_capacity(KEPT_CAPACITY);
            (self.room, self.allowed) = (FREE_BYTES, FREE_BYTES);
        }
        self.held_bytes = 0;
        self.share.resize(0);
        if self.pinned.capacity() > FREE_PINS {
            self.pinned = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &Out) -> Vec<u8> {
        out.pieces().flatten().copied().collect()
    }

    #[test]
    fn long_values_are_pinned_in_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let db = toykv::Db::open(dir.path().join("db"), &toykv::Options::new()).unwrap();
        db.put(b"long", &[7; PINNED_LEN]).unwrap();
        let long = db.get(b"long").unwrap().unwrap();
        let mut out = Out::new(&Budget::new(0), 1 << 20);
        out.push(b"a");
        out.push_value(&long);
        out.push_value(&long);
        let mark = out.mark();
        out.push(b"b");
        out.push_value(&long);
        out.rewind(mark);
        out.push(b"c");
        let long = &[7; PINNED_LEN][..];
        assert_eq!(text(&out), [b"a", long, long, b"c"].concat());
        assert_eq!(out.waiting(), 2 + 2 * PINNED_LEN);
        out.clear();
        assert_eq!((text(&out), out.waiting()), (vec![], 0));
    }

    #[test]
    fn a_reply_ends_at_its_limit_and_at_the_budget() {
        let budget = Budget::new(1 << 20);
        let mut out = Out::new(&budget, 100_000);
        let mark = out.mark();
        (0..11).for_each(|_| out.push(&[1; 10_000]));
        assert!(out.refused());
        out.rewind(mark);
        out.push(b"error");
        assert!(!out.refused() && text(&out) == b"error");
        let mut other = Out::new(&budget, 10 << 20);
        (0..300).for_each(|_| other.push(&[1; 10_000]));
        assert!(other.refused() && budget.used() <= 1 << 20);
        let mark = other.mark();
        other.rewind(mark);
        other.clear();
        out.clear();
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_reply_that_was_cut_and_not_taken_back_is_noticed_for_good() {
        let mut out = Out::new(&Budget::new(0), 10 << 20);
        let mark = out.mark();
        out.push(&[1; FREE_BYTES]);
        assert!(!out.is_cut());
        out.push(b"+OK\r\n");
        assert!(out.is_cut());
        out.rewind(mark);
        assert!(!out.is_cut());
        out.push(&[1; FREE_BYTES]);
        out.mark();
        out.push(b"+OK\r\n");
        out.mark();
        assert!(out.is_cut());
        out.rewind(mark);
        assert!(out.is_cut());
    }

    #[test]
    fn a_head_goes_in_front_of_what_follows_it() {
        let mut out = Out::new(&Budget::new(0), 1000);
        out.push(b"1");
        let mark = out.mark();
        out.push(b"345");
        out.insert(mark, b"2");
        assert_eq!(text(&out), b"12345");
    }
}
