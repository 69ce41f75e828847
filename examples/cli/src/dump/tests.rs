//! Dumps that are whole, damaged at every byte, cut off, mixed up, or forged.

use super::*;
use crate::failure::{Exit, Failure};

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn dump(entries: &Entries) -> Vec<u8> {
    let mut writer = DumpWriter::new(Vec::new()).unwrap();
    for (key, value) in entries {
        writer.push(key, value).unwrap();
    }
    let (totals, bytes) = writer.finish().unwrap();
    assert_eq!(totals.entries, entries.len() as u64);
    bytes
}

fn read(bytes: &[u8]) -> Result<Entries, Failure> {
    let mut reader = DumpReader::new(bytes)?;
    let mut entries = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        entries.extend(chunk);
    }
    assert_eq!(reader.position(), bytes.len() as u64);
    Ok(entries)
}

fn small() -> Entries {
    let entry = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    vec![entry(b"", b""), entry(b"\x00\xff", b"\n"), entry(b"key", &[7; 20])]
}

/// Three chunks.
fn large() -> Entries {
    (0..30u32).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 20_000])).collect()
}

#[test]
fn what_is_written_is_read() {
    for entries in [vec![], small(), large()] {
        assert_eq!(read(&dump(&entries)).unwrap(), entries);
    }
}

#[test]
fn the_bytes_are_those_of_the_readme() {
    let bytes = dump(&vec![(b"k".to_vec(), b"value".to_vec())]);
    assert_eq!(&bytes[..16], b"toykvdmp\x01\x00\x00\x00\x00\x00\x00\x00");
    assert_eq!(&bytes[16..28], b"\x0c\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00");
    let check = xxhash_rust::xxh3::xxh3_64(&bytes[16..28]) as u32;
    assert_eq!(bytes[28..32], check.to_le_bytes());
    assert_eq!(&bytes[32..44], b"\x01\x00\x05\x00\x00\x00kvalue");
    let first = xxhash_rust::xxh3::xxh3_64(&bytes[16..44]);
    assert_eq!(bytes[44..52], first.to_le_bytes());
    assert_eq!(&bytes[52..64], b"\x18\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00");
    let check = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[52..64], first) as u32;
    assert_eq!(bytes[64..68], check.to_le_bytes());
    let totals = [1u64, 6, 1].map(u64::to_le_bytes).concat();
    assert_eq!(bytes[68..92], totals);
    let last = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[52..92], first);
    assert_eq!(bytes[92..], last.to_le_bytes());
}

#[test]
fn damage_of_any_byte_is_refused() {
    let bytes = dump(&small());
    for at in 0..bytes.len() {
        for flip in [1, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let failure = read(&damaged).unwrap_err();
            let expected = if at < 10 { Exit::Unsupported } else { Exit::Corruption };
            assert_eq!(failure.exit, expected, "byte {at}: {failure}");
            assert!(at < 10 || failure.message.contains("at byte "), "{failure}");
        }
    }
}

#[test]
fn a_stream_of_any_other_length_is_refused() {
    let bytes = dump(&small());
    for len in 0..bytes.len() {
        let failure = read(&bytes[..len]).unwrap_err();
        assert_eq!(failure.exit, Exit::Corruption);
        assert!(failure.message.starts_with(&format!("damaged at byte {len} ")), "{failure}");
        assert!(failure.message.ends_with("the dump is cut off"), "{failure}");
    }
    let failure = read(&[&bytes[..], b"\n"].concat()).unwrap_err();
    assert!(failure.message.contains("follows the end"), "{failure}");
    let failure = read(&bytes.repeat(2)).unwrap_err();
    assert!(failure.message.contains("follows the end"), "{failure}");
}

/// Where each chunk of a dump begins, and where the dump ends.
fn chunk_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![HEADER_BYTES];
    while let Some(&at) = starts.last().filter(|at| **at < bytes.len()) {
        let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        starts.push(at + HEAD_BYTES + len + 8);
    }
    starts
}

#[test]
fn chunks_cannot_be_lost_doubled_swapped_or_exchanged() {
    let bytes = dump(&large());
    let starts = chunk_starts(&bytes);
    let chunk = |index: usize| &bytes[starts[index]..starts[index + 1]];
    assert_eq!(starts.len(), 5, "three chunks and the end");
    let head = &bytes[..HEADER_BYTES];
    let whole = [head, chunk(0), chunk(1), chunk(2), chunk(3)].concat();
    assert_eq!(read(&whole).unwrap(), large());
    for wrong in [
        vec![head, chunk(1), chunk(2), chunk(3)],
        vec![head, chunk(0), chunk(2), chunk(3)],
        vec![head, chunk(0), chunk(1), chunk(3)],
        vec![head, chunk(0), chunk(0), chunk(1), chunk(2), chunk(3)],
        vec![head, chunk(1), chunk(0), chunk(2), chunk(3)],
    ] {
        assert_eq!(read(&wrong.concat()).unwrap_err().exit, Exit::Corruption);
    }
    let mut other = large();
    other[0].1[0] ^= 1;
    let other = dump(&other);
    let mixed = [&other[..starts[1]], &bytes[starts[1]..]].concat();
    assert_eq!(read(&mixed).unwrap_err().exit, Exit::Corruption);
}

/// A chunk with right checksums, whatever it says.
fn forge(len: u64, count: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = b"toykvdmp\x01\x00\x00\x00\x00\x00\x00\x00".to_vec();
    let mut head = len.to_le_bytes().to_vec();
    head.extend(count.to_le_bytes());
    head.extend(head_check(&head, 0).to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.extend(chunk_checksum(&head, payload, 0).to_le_bytes());
    out
}

#[test]
fn forged_lengths_are_refused_without_the_memory_that_they_claim() {
    let cases: &[(u64, u32, &[u8], &str)] = &[
        (u64::MAX, 1, b"", "impossible sizes"),
        (1 << 40, 1, b"", "impossible sizes"),
        (4_000_000_000, 1, b"short", "cut off"),
        (6, u32::MAX, &[0; 6], "impossible sizes"),
        (6, 1, b"\x01\x00\x00\x00\x00\x00", "does not fit"),
        (6, 1, b"\x00\x00\xff\xff\xff\xff", "does not fit"),
        (7, 1, &[0; 7], "longer than its entries"),
        (12, 2, &[0; 12], "ascending"),
        (24, 0, &[1; 24], "totals"),
        (0, 0, b"", "impossible sizes"),
    ];
    for (len, count, payload, words) in cases {
        let failure = read(&forge(*len, *count, payload)).unwrap_err();
        assert_eq!(failure.exit, Exit::Corruption);
        assert!(failure.message.contains(words), "{words}: {failure}");
    }
}

#[test]
fn other_files_and_versions_are_named() {
    for foreign in [&b"PK\x03\x04 some archive"[..], b"toykvdmq\x01\0\0\0\0\0\0\0", b"{}\n"] {
        let failure = read(foreign).unwrap_err();
        assert_eq!(failure.exit, Exit::Unsupported);
        assert!(failure.message.contains("no dump of toykv"), "{failure}");
    }
    let failure = read(b"toykvdmp\x02\x01\0\0\0\0\0\0").unwrap_err();
    assert_eq!(failure.exit, Exit::Unsupported);
    assert!(failure.message.contains("version 258"), "{failure}");
}

#[test]
fn keys_must_ascend() {
    let mut writer = DumpWriter::new(Vec::new()).unwrap();
    writer.push(b"b", b"").unwrap();
    assert_eq!(writer.push(b"b", b"").unwrap_err().exit, Exit::Unsupported);
    assert_eq!(writer.push(b"a", b"").unwrap_err().exit, Exit::Unsupported);
}
