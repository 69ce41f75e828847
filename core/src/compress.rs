//! Compression of blocks and values (layer L0): bytes in, bytes out, and no length is believed.
//!
//! Invariants: what does not shrink by an eighth is not compressed; decompressing writes into bytes
//! that the caller has, fills them exactly or fails, and never panics.

use std::cell::RefCell;

use lz4_flex::block as lz4;
use zstd::bulk as zstd;

use crate::types::Compression;

/// How new files are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Codec {
    /// The scheme.
    pub(crate) compression: Compression,
    /// Of Zstandard.
    pub(crate) level: i32,
}

/// Larger pieces stay as they are: compressing and decompressing happens in memory as a whole, and
/// a part of a larger value is to be read without the rest.
pub(crate) const MAX_COMPRESSED_LEN: usize = 16 << 20;

thread_local! {
    /// Contexts of Zstandard, which take longer to make than a block takes to decompress.
    static COMPRESSOR: RefCell<Option<(i32, zstd::Compressor<'static>)>> =
        const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Appends the compressed form of `bytes` to `out`. False, and nothing appended, when there is no
/// compression, when it saves too little, and for more than [`MAX_COMPRESSED_LEN`] bytes.
pub(crate) fn compress(codec: Codec, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    if codec.compression == Compression::None || bytes.len() > MAX_COMPRESSED_LEN {
        return false;
    }
    let start = out.len();
    let most = bytes.len() - bytes.len() / 8;
    let len = match codec.compression {
        Compression::None => None,
        Compression::Lz4 => {
            out.resize(start + lz4::get_maximum_output_size(bytes.len()), 0);
            lz4::compress_into(bytes, &mut out[start..]).ok()
        }
        Compression::Zstd => {
            // What does not fit into so much saves too little.
            out.resize(start + most, 0);
            compress_zstd(codec.level, bytes, &mut out[start..])
        }
    };
    let shrunk = len.filter(|len| *len <= most);
    out.truncate(start + shrunk.unwrap_or(0));
    shrunk.is_some()
}

fn compress_zstd(level: i32, bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|kept| {
        if kept.as_ref().is_none_or(|(of, _)| *of != level) {
            *kept = Some((level, zstd::Compressor::new(level).ok()?));
        }
        let (_, compressor) = kept.as_mut()?;
        compressor.compress_to_buffer(bytes, out).ok()
    })
}

/// Fills `out` with what `bytes` are the compressed form of; false when that is not as long as
/// `out`, or `bytes` are no compressed form.
pub(crate) fn decompress(compression: Compression, bytes: &[u8], out: &mut [u8]) -> bool {
    let len = match compression {
        Compression::None => None,
        Compression::Lz4 => lz4::decompress_into(bytes, out).ok(),
        Compression::Zstd => decompress_zstd(bytes, out),
    };
    len == Some(out.len())
}

/// Appends what `bytes` are the compressed form of, of which no length is known but that it is at
/// most [`MAX_COMPRESSED_LEN`]; false when they are none.
pub(crate) fn decompress_all(compression: Compression, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // Doubled until it fits: nothing says how much it will be.
    let mut room = (64 << 10).min(MAX_COMPRESSED_LEN);
    loop {
        out.resize(start + room, 0);
        let target = out.get_mut(start..).unwrap_or_default();
        let len = match compression {
            Compression::None => None,
            Compression::Lz4 => lz4::decompress_into(bytes, target).ok(),
            Compression::Zstd => decompress_zstd(bytes, target),
        };
        if let Some(len) = len {
            out.truncate(start + len);
            return true;
        }
        if room >= MAX_COMPRESSED_LEN {
            out.truncate(start);
            return false;
        }
        room = (room * 4).min(MAX_COMPRESSED_LEN);
    }
}

fn decompress_zstd(bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Some(zstd::Decompressor::new().ok()?);
        }
        kept.as_mut()?.decompress_to_buffer(bytes, out).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::mix64;

    const CODECS: [Codec; 3] = [
        Codec { compression: Compression::Lz4, level: 3 },
        Codec { compression: Compression::Zstd, level: 1 },
        Codec { compression: Compression::Zstd, level: 9 },
    ];

    fn text(len: usize) -> Vec<u8> {
        (0..len).map(|i| b"the quick brown fox "[i % 20] ^ (i / 777) as u8).collect()
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len as u64).map(|i| mix64(i, 5) as u8).collect()
    }

    #[test]
    fn bytes_come_back() {
        for codec in CODECS {
            for len in [100, 4096, 8184, 65_528, 1 << 20] {
                let mut out = b"before".to_vec();
                assert!(compress(codec, &text(len), &mut out), "{codec:?} {len}");
                assert!(out.starts_with(b"before") && out.len() < 6 + len);
                let mut back = vec![1; len];
                assert!(decompress(codec.compression, &out[6..], &mut back));
                assert!(back == text(len));
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        for codec in CODECS {
            for len in [0, 1, 100, 8184] {
                let mut out = b"before".to_vec();
                assert!(!compress(codec, &noise(len), &mut out), "{codec:?} {len}");
                assert_eq!(out, b"before");
            }
            assert!(!compress(codec, &vec![0; MAX_COMPRESSED_LEN + 1], &mut Vec::new()));
        }
        assert!(!compress(Codec::default(), &text(8184), &mut Vec::new()));
    }

    #[test]
    fn a_wrong_length_and_damage_are_refused_without_a_panic() {
        for codec in CODECS {
            let raw = text(3000);
            let mut packed = Vec::new();
            assert!(compress(codec, &raw, &mut packed));
            for len in [0, 1, 2999, 3001, 100_000] {
                assert!(!decompress(codec.compression, &packed, &mut vec![0; len]), "{len}");
            }
            for len in 0..packed.len() {
                assert!(!decompress(codec.compression, &packed[..len], &mut vec![0; 3000]));
            }
            for bit in 0..packed.len() * 8 {
                let mut damaged = packed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                let mut out = vec![0; 3000];
                decompress(codec.compression, &damaged, &mut out);
                assert_eq!(out.len(), 3000);
            }
        }
        assert!(!decompress(Compression::None, b"x", &mut [0]));
    }
}
