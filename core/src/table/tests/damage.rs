//! Damaged files: every bit, every length, and nonsense behind mended checksums.

use super::*;
use crate::checksum::mix64;

/// Two blocks, several versions, a tombstone, two large values.
fn sample() -> Built {
    let mut items = Vec::new();
    for key in 0..40u32 {
        for version in (0..1 + key % 3).rev() {
            let value = vec![key as u8; 20 + version as usize];
            items.push(item(
                [b"0user", &key.to_be_bytes()[..]].concat(),
                BASE + u64::from(version),
                value,
            ));
        }
    }
    items[7].kind = Kind::Delete;
    items.push(item(b"0v", BASE + 1, vec![1; 8300]));
    build(items)
}

/// Reads everything in every way; every answer must be right or Corruption, and name the file.
fn probe(built: &Built) -> usize {
    let mut refused = 0;
    let mut judge = |right: Result<bool>| match right {
        Ok(right) => assert!(right, "a wrong answer"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert_eq!(error.path(), Some(&*path()));
            assert!(error.offset().is_some());
            refused += 1;
        }
    };
    let table = match built.open() {
        Ok(table) => table,
        Err(error) => {
            judge(Err(error));
            return refused;
        }
    };
    for item in &built.items {
        let found = get(&table, &item.key, item.seqno);
        judge(found.map(|found| found == Some(as_entry(item))));
    }
    judge(get(&table, b"0user", SeqNo::MAX).map(|found| found.is_none()));
    for mode in [IterMode::Mapped, IterMode::Buffered] {
        let mut iter = TableIter::new(Arc::clone(&table), mode).unwrap();
        judge(scan(&mut iter).map(|items| items == built.items));
    }
    let mut iter = TableIter::new(Arc::clone(&table), IterMode::Mapped).unwrap();
    let middle = &built.items[30].key;
    judge(iter.seek(middle).map(|()| iter.key() == middle));
    judge(iter.seek_before(middle).map(|()| iter.key() == &built.items[29].key[..]));
    refused
}

#[test]
fn every_flipped_bit_is_found_before_it_matters() {
    let built = sample();
    let bytes = built.bytes();
    assert_eq!(probe(&built), 0);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        built.set_bytes(damaged);
        assert!(probe(&built) > 0, "bit {bit} is under no checksum");
    }
}

#[test]
fn every_other_length_is_refused() {
    let built = sample();
    let bytes = built.bytes();
    for len in (0..bytes.len()).chain([bytes.len() + 1, bytes.len() + 8192]) {
        let mut other = bytes.clone();
        other.resize(len, 0);
        built.set_bytes(other);
        assert_eq!(probe(&built), 1, "length {len}");
        // A version that knows the wrong length meets the footer.
        let table = Table::open(&built.fs, &path(), NUMBER, len as u64, SEED, BASE);
        assert_eq!(table.unwrap_err().kind(), ErrorKind::Corruption, "length {len}");
    }
}
