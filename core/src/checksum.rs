//! The checksum and the hash of the format (layer L0): XXH3 of 64 bits with a seed.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The checksum of `bytes` under `seed`. Seeds are places or identities, so bytes that are right in
/// another place are wrong here.
#[inline]
pub(crate) fn checksum64(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// [`checksum64`] of bytes that come one after the other.
pub(crate) struct Streaming(xxhash_rust::xxh3::Xxh3);

impl Streaming {
    /// Nothing so far, under `seed`.
    pub(crate) fn new(seed: u64) -> Streaming {
        Streaming(xxhash_rust::xxh3::Xxh3::with_seed(seed))
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of what was added.
    pub(crate) fn digest(&self) -> u64 {
        self.0.digest()
    }
}

/// The lower half of [`checksum64`].
#[inline]
pub(crate) fn checksum32(bytes: &[u8], seed: u64) -> u32 {
    xxh3_64_with_seed(bytes, seed) as u32
}

/// The hash of an encoded key under the database's hash seed, for locators and tag filters.
#[inline]
pub(crate) fn hash_key(encoded_key: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(encoded_key, seed)
}

/// Mixes two words into one; every bit of both changes about half of the result
/// (the finalizer of SplitMix64, Steele et al. 2014).
#[inline]
pub(crate) fn mix64(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
