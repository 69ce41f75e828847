//! The data: 16-byte keys and 100-byte values, both functions of an entry's number, so that every
//! run and every engine stores the same bytes and each value read can be checked whole.
//!
//! Keys are spread evenly, so loading entries 0, 1, 2 ... inserts in random key order. Numbers from
//! the entry count on are never stored: they are the absent keys.

/// Length of every key in bytes.
pub(crate) const KEY_LEN: usize = 16;

/// Length of every value in bytes.
pub(crate) const VALUE_LEN: usize = 100;

/// A key.
pub(crate) type Key = [u8; KEY_LEN];

/// A value.
pub(crate) type Value = [u8; VALUE_LEN];

/// SplitMix64's output function: a bijection that looks random.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The key of an entry; no two entries share one.
pub(crate) fn key(number: u64) -> Key {
    let mut out = [0; KEY_LEN];
    out[..8].copy_from_slice(&mix(number).to_be_bytes());
    out[8..].copy_from_slice(&mix(number ^ 0x7465_7961).to_be_bytes());
    out
}

/// The value of an entry.
pub(crate) fn value(number: u64) -> Value {
    let seed = mix(number ^ 0x6c61_7600_0000_0000);
    let mut out = [0; VALUE_LEN];
    for (index, chunk) in out.chunks_mut(8).enumerate() {
        let word = seed.rotate_left(5 * index as u32) ^ (index as u64);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    out
}

/// The number of the `index`th entry that a row reads: uniform in 0..`count`, the same for every
/// engine, another for each `round`.
pub(crate) fn choose(round: u64, index: u64, count: u64) -> u64 {
    let random = mix((round << 40) ^ index);
    ((u128::from(random) * u128::from(count)) >> 64) as u64
}

/// A word that depends on both ends of key and value: summed up over what a scan visits, it is the
/// same for every engine, or one of them answered something else.
pub(crate) fn fingerprint(key: &[u8], value: &[u8]) -> u64 {
    let end = |bytes: &[u8]| bytes.last_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    let start = |bytes: &[u8]| bytes.first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
    let key_word = start(key) ^ end(key).rotate_left(32);
    let value_word = start(value) ^ end(value).rotate_left(17);
    key_word.wrapping_mul(3).wrapping_add(value_word).wrapping_add(value.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_differ_and_values_are_told_apart_by_any_byte() {
        let keys: HashSet<Key> = (0..10_000).map(key).collect();
        assert_eq!(keys.len(), 10_000);
        let (a, b) = (value(1), value(2));
        assert!(a.chunks(8).zip(b.chunks(8)).all(|(a, b)| a != b));
    }

    #[test]
    fn choices_stay_below_the_count_and_cover_it() {
        let seen: HashSet<u64> = (0..1_000).map(|index| choose(3, index, 10)).collect();
        assert_eq!(seen, (0..10).collect());
    }

    #[test]
    fn a_fingerprint_depends_on_key_value_and_length() {
        let base = fingerprint(&key(1), &value(1));
        assert_ne!(base, fingerprint(&key(2), &value(1)));
        assert_ne!(base, fingerprint(&key(1), &value(2)));
        assert_ne!(base, fingerprint(&key(1), &value(1)[..99]));
    }
}
