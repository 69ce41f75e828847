//! Compressed values as records hold them (layer L3): the length of the value, the scheme, then the
//! compressed bytes. Such a record has a kind of its own.
//!
//! Invariants: what does not shrink is stored plain; a record is moved as it is, never compressed
//! anew; what is allocated for a value is bounded, whatever its record claims.

use crate::coding::Decoder;
use crate::compress::{Codec, MAX_COMPRESSED_LEN, compress, decompress};
use crate::types::Compression;

/// Bytes before the compressed ones: length of the value u32, scheme u8.
pub(super) const PACKED_HEADER_LEN: usize = 5;

/// Appends the stored form of `value` to `out`; false, and nothing appended, when it is to be
/// stored plain.
pub(crate) fn pack(codec: Codec, value: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.push(codec.compression as u8);
    let shrunk = compress(codec, value, out);
    if !shrunk {
        out.truncate(start);
    }
    shrunk
}

/// What a stored form begins with: the length of the value and the scheme; the number of a scheme
/// that is not known is the error, `None` where there is something else.
fn head(stored: &[u8]) -> Result<(usize, Compression), Option<u8>> {
    let mut from = Decoder::new(stored);
    let (Some(len), Some(scheme)) = (from.u32(), from.u8()) else { return Err(None) };
    match Compression::from_u8(scheme).ok_or(Some(scheme))? {
        Compression::None => Err(None),
        _ if len as usize > MAX_COMPRESSED_LEN => Err(None),
        compression => Ok((len as usize, compression)),
    }
}

/// Whether bytes may be a stored form, as far as their beginning tells.
pub(super) fn check(stored: &[u8]) -> Result<(), Option<u8>> {
    head(stored).map(drop)
}

/// The value of a stored form; `None` when it is none.
pub(super) fn unpack(stored: &[u8]) -> Option<Box<[u8]>> {
    unpack_behind(0, stored)
}

/// As unpack, behind so many zeros.
pub(super) fn unpack_behind(zeros: usize, stored: &[u8]) -> Option<Box<[u8]>> {
    let (len, compression) = head(stored).ok()?;
    let mut bytes = vec![0; zeros + len].into_boxed_slice();
    let target = bytes.get_mut(zeros..)?;
    let whole = decompress(compression, stored.get(PACKED_HEADER_LEN..)?, target);
    whole.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LZ4: Codec = Codec { compression: Compression::Lz4, level: 3 };

    fn packed(value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(pack(LZ4, value, &mut out));
        out
    }

    #[test]
    fn values_come_back_and_what_does_not_shrink_stays_plain() {
        for codec in [LZ4, Codec { compression: Compression::Zstd, level: 1 }] {
            for len in [100, 5000, MAX_COMPRESSED_LEN] {
                let value: Vec<u8> = (0..len).map(|i| (i / 60) as u8).collect();
                let mut out = b"before".to_vec();
                assert!(pack(codec, &value, &mut out));
                assert!(out.len() < len && out.starts_with(b"before"));
                assert_eq!(unpack(&out[6..]).as_deref(), Some(&value[..]));
            }
            let mut out = b"before".to_vec();
            assert!(!pack(codec, b"0123456789abcdefghijklmnopqrstuvwxyz", &mut out));
            assert_eq!(out, b"before");
            assert!(!pack(codec, &vec![0; MAX_COMPRESSED_LEN + 1], &mut out));
        }
        assert!(!pack(Codec::default(), &[0; 5000], &mut Vec::new()));
    }

    #[test]
    fn other_bytes_are_refused_without_a_panic() {
        let good = packed(&[7; 3000]);
        for len in 0..good.len() {
            assert_eq!(unpack(&good[..len]), None, "{len}");
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let value = unpack(&bad);
            assert!(value.is_none_or(|value| value.len() == 3000 && bit >= 40), "{bit}");
        }
        let with = |at: usize, byte| {
            let mut bad = good.clone();
            bad[at] = byte;
            check(&bad)
        };
        assert_eq!(check(&good), Ok(()));
        assert_eq!(with(4, 9), Err(Some(9)));
        assert_eq!(with(4, 0), Err(None));
        assert_eq!(with(3, 2), Err(None), "longer than anything that is compressed");
        assert_eq!(check(&good[..4]), Err(None));
    }
}
