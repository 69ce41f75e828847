//! Keys and values of any length, as functions of an entry's number (values: and of a version),
//! made without an allocation, and checked by their own bytes.
//!
//! A value is a window into one pool of words. The low bits of a word say where it stands, so the
//! first word of a value tells which window it must be and the last one that all of it is there.
//! Six bits of the window's place come from the key: another key's value shows, too.

use std::sync::OnceLock;

use crate::data::mix;

/// The longest key.
const KEY_MAX: usize = 32;

/// Windows of the pool; their start is kept in the low bits of each word.
const WINDOWS: usize = 1 << 15;

/// Low bits of a word that say where it stands: they cover the windows and the longest value.
const PLACE_BITS: u32 = 17;

/// The longest value in bytes.
pub(crate) const VALUE_MAX: usize = 128 << 10;

/// Bits of a window's place that are the key's.
const CLASS: u64 = 63;

/// A key on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Key {
    bytes: [u8; KEY_MAX],
    length: usize,
}

impl Key {
    /// A copy of at most 32 bytes; longer keys are cut.
    #[inline]
    pub(crate) fn copy(from: &[u8]) -> Key {
        let length = from.len().min(KEY_MAX);
        let mut bytes = [0; KEY_MAX];
        bytes[..length].copy_from_slice(&from[..length]);
        Key { bytes, length }
    }

    /// Its first eight bytes as a number: as it, so the key is ordered, but for equal ones.
    pub(crate) fn first_word(&self) -> u64 {
        self.bytes.first_chunk().map_or(0, |word| u64::from_be_bytes(*word))
    }
}

impl AsRef<[u8]> for Key {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// How keys follow from numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Spread evenly.
    Random,
    /// Ascending, behind all random ones.
    Sorted,
    /// Spread evenly in groups of [`GROUP`] with a common first word.
    Grouped,
}

/// Entries with a common first word in [`Order::Grouped`].
pub(crate) const GROUP: u64 = 100;

/// Shape of a row's entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How keys follow from numbers.
    pub(crate) order: Order,
    /// Bytes of a key: 16 to 32.
    pub(crate) key_len: usize,
    /// Bytes of a value: 8 to [`VALUE_MAX`].
    pub(crate) value_len: usize,
}

impl Shape {
    /// The key of an entry.
    #[inline]
    pub(crate) fn key(&self, number: u64) -> Key {
        let mut bytes = [0; KEY_MAX];
        let words = match self.order {
            Order::Random => [mix(number), mix(number ^ 0x7465_7961)],
            Order::Sorted => [u64::MAX, number],
            Order::Grouped => [mix(number / GROUP), mix(number)],
        };
        bytes[..8].copy_from_slice(&words[0].to_be_bytes());
        bytes[8..16].copy_from_slice(&words[1].to_be_bytes());
        if self.key_len > 16 {
            let rest = words[0].rotate_left(23) ^ words[1];
            bytes[16..24].copy_from_slice(&rest.to_be_bytes());
            bytes[24..].copy_from_slice(&rest.rotate_left(17).to_be_bytes());
        }
        Key { bytes, length: self.key_len }
    }

    /// Key and value of an entry in one of its versions.
    #[inline]
    pub(crate) fn entry(&self, number: u64, version: u64) -> (Key, &'static [u8]) {
        let key = self.key(number);
        (key, value(key.as_ref(), number, version, self.value_len))
    }
}

fn pool() -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    POOL.get_or_init(|| {
        let words = WINDOWS + VALUE_MAX / 8;
        (0..words as u64)
            .flat_map(|place| ((mix(place) << PLACE_BITS) | place).to_le_bytes())
            .collect()
    })
}

fn class(key: &[u8]) -> u64 {
    key.get(15).map_or(0, |byte| u64::from(*byte)) & CLASS
}

/// The value of `length` bytes that entry `number` has in its version.
#[inline]
pub(crate) fn value(key: &[u8], number: u64, version: u64, length: usize) -> &'static [u8] {
    let random = mix(number ^ version.rotate_left(40) ^ 0x6c61_7600_0000_0000);
    let window = (random & (WINDOWS as u64 - 1) & !CLASS) | class(key);
    let start = 8 * window as usize;
    &pool()[start..start + length]
}

fn place(value: &[u8], word: usize) -> Option<u64> {
    let word = value.get(8 * word..8 * word + 8)?.first_chunk()?;
    Some(u64::from_le_bytes(*word) & ((1 << PLACE_BITS) - 1))
}

/// Whether this is some version of the key's value and all of it: the first and the last word are
/// read. The same work for every engine, cheap enough for the clock.
#[inline]
pub(crate) fn belongs(key: &[u8], value: &[u8], length: usize) -> bool {
    let last = length / 8 - 1;
    match (place(value, 0), place(value, last)) {
        (Some(first), Some(end)) => {
            value.len() == length && first & CLASS == class(key) && end == first + last as u64
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SHAPE: Shape = Shape { order: Order::Random, key_len: 24, value_len: 150 };

    #[test]
    fn keys_are_unique_in_every_order() {
        for order in [Order::Random, Order::Sorted, Order::Grouped] {
            let shape = Shape { order, ..SHAPE };
            let keys: HashSet<Vec<u8>> =
                (0..20_000).map(|n| shape.key(n).as_ref().into()).collect();
            assert_eq!(keys.len(), 20_000, "{order:?}");
            assert!(keys.iter().all(|key| key.len() == 24));
        }
    }

    #[test]
    fn sorted_keys_ascend_behind_all_others() {
        let sorted = Shape { order: Order::Sorted, ..SHAPE };
        let keys: Vec<Key> = (0..1_000).map(|number| sorted.key(number)).collect();
        assert!(keys.windows(2).all(|pair| pair[0].as_ref() < pair[1].as_ref()));
        assert!((0..1_000).all(|number| SHAPE.key(number).as_ref() < keys[0].as_ref()));
    }

    #[test]
    fn groups_share_their_first_word_and_nothing_else_does() {
        let grouped = Shape { order: Order::Grouped, ..SHAPE };
        let first = |number| grouped.key(number).as_ref()[..8].to_vec();
        assert_eq!(first(0), first(GROUP - 1));
        let words: HashSet<Vec<u8>> = (0..50 * GROUP).map(first).collect();
        assert_eq!(words.len(), 50);
    }

    #[test]
    fn a_value_belongs_to_its_key_in_every_version_and_to_hardly_any_other() {
        for length in [8, 100, 150, 1000, 65_536, VALUE_MAX] {
            let shape = Shape { value_len: length, ..SHAPE };
            for version in 0..3 {
                let value = shape.entry(7, version).1;
                assert!(belongs(shape.key(7).as_ref(), value, length));
                assert!(!belongs(shape.key(7).as_ref(), &value[..length - 1], length));
            }
            let wrong = (0..6_400)
                .filter(|number| belongs(shape.key(*number).as_ref(), shape.entry(7, 0).1, length));
            assert!(wrong.count() < 200);
        }
        assert_ne!(SHAPE.entry(7, 0).1, SHAPE.entry(7, 1).1);
    }

    #[test]
    fn a_value_whose_end_is_another_ones_is_noticed() {
        let mut value = SHAPE.entry(7, 0).1.to_vec();
        value[136..].copy_from_slice(&SHAPE.entry(8, 0).1[136..]);
        assert!(!belongs(SHAPE.key(7).as_ref(), &value, 150));
    }
}
