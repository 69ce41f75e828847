//! Write batches (layer L3): several writes that become visible, and survive a crash, together.

use crate::coding::{Decoder, put_bytes, put_varint};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{check_key_len, put_prefix};
use crate::types::{DEFAULT_KEYSPACE, Kind, MAX_VALUE_LEN};

/// First byte of the wire form.
const WIRE_VERSION: u8 = 1;

/// An ordered list of puts and deletes that [`Db::write`](crate::Db::write) applies atomically.
///
/// A later entry for a key wins over an earlier one. One thread at a time may use a batch; it may
/// move between threads. A batch may be larger than memory tables are; at most 2^32-1 entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteBatch {
    records: Vec<u8>,
    count: u32,
}

/// One entry of a batch, its key encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchEntry<'a> {
    pub(crate) kind: Kind,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl WriteBatch {
    /// An empty batch.
    pub fn new() -> WriteBatch {
        WriteBatch::default()
    }

    /// Adds a put. The bytes are copied. TooLarge above the limits; the batch is then unchanged.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if value.len() as u64 > MAX_VALUE_LEN {
            return Err(too_large_value(value.len()));
        }
        self.push(Kind::Put, key, value)
    }

    /// Adds a delete. Deleting an absent key is not an error.
    pub fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.push(Kind::Delete, key, b"")
    }

    /// Adds all of `other`'s entries after its own.
    pub fn append(&mut self, other: &WriteBatch) -> Result<()> {
        let count = self.count.checked_add(other.count).ok_or_else(too_many)?;
        self.records.extend_from_slice(&other.records);
        self.count = count;
        Ok(())
    }

    /// Removes all entries and keeps the memory.
    pub fn clear(&mut self) {
        self.records.clear();
        self.count = 0;
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Memory that the entries take, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.records.len()
    }

    /// The wire form: version 1, count as varint, then per entry kind (1 put, 2 delete), encoded
    /// key and value, each with a varint length. The C ABI and Python use the same.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.records.len() + 6);
        out.push(WIRE_VERSION);
        put_varint(&mut out, u64::from(self.count));
        out.extend_from_slice(&self.records);
        out
    }

    /// Reads the wire form; InvalidArgument when `bytes` is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<WriteBatch> {
        let bad =
            |what: &str| Error::new(ErrorKind::InvalidArgument, format!("batch bytes: {what}"));
        let mut decoder = Decoder::new(bytes);
        if decoder.u8() != Some(WIRE_VERSION) {
            return Err(bad("unknown version"));
        }
        let count = decoder.varint().and_then(|count| u32::try_from(count).ok());
        let count = count.ok_or_else(|| bad("no count"))?;
        let records = decoder.rest();
        let mut entries = Entries { decoder };
        for _ in 0..count {
            let entry = entries.next().ok_or_else(|| bad("entry cut short or of unknown kind"))?;
            let user_key = match crate::key::split(entry.key) {
                Some((DEFAULT_KEYSPACE, user_key)) => user_key,
                _ => return Err(bad("unknown keyspace")),
            };
            check_key_len(user_key)?;
            if entry.value.len() as u64 > MAX_VALUE_LEN {
                return Err(too_large_value(entry.value.len()));
            }
            if entry.kind == Kind::Delete && !entry.value.is_empty() {
                return Err(bad("a delete with a value"));
            }
        }
        if !entries.decoder.is_empty() {
            return Err(bad("bytes after the last entry"));
        }
        Ok(WriteBatch { records: records.to_vec(), count })
    }

    /// The entries in order.
    pub(crate) fn entries(&self) -> Entries<'_> {
        Entries { decoder: Decoder::new(&self.records) }
    }

    fn push(&mut self, kind: Kind, key: &[u8], value: &[u8]) -> Result<()> {
        check_key_len(key)?;
        let count = self.count.checked_add(1).ok_or_else(too_many)?;
        self.records.reserve(key.len() + value.len() + 16);
        self.records.push(kind as u8);
        put_varint(&mut self.records, key.len() as u64 + 1);
        put_prefix(&mut self.records, DEFAULT_KEYSPACE);
        self.records.extend_from_slice(key);
        put_bytes(&mut self.records, value);
        self.count = count;
        Ok(())
    }
}

#[cold]
fn too_many() -> Error {
    Error::new(ErrorKind::TooLarge, "a batch holds at most 4294967295 entries")
}

/// The error for a value above the limit.
#[cold]
pub(crate) fn too_large_value(len: usize) -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!("value of {len} bytes exceeds the limit of {MAX_VALUE_LEN}"),
    )
}

/// Iterates over the entries of a batch.
#[derive(Clone)]
pub(crate) struct Entries<'a> {
    decoder: Decoder<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = BatchEntry<'a>;

    #[inline]
    fn next(&mut self) -> Option<BatchEntry<'a>> {
        let kind = match Kind::from_u8(self.decoder.u8()?)? {
            Kind::Pointer | Kind::Packed => return None,
            kind => kind,
        };
        Some(BatchEntry { kind, key: self.decoder.bytes()?, value: self.decoder.bytes()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> WriteBatch {
        let mut batch = WriteBatch::new();
        batch.put(b"a", b"1").unwrap();
        batch.delete(b"").unwrap();
        batch.put(b"", &[7; 300]).unwrap();
        batch
    }

    #[test]
    fn the_wire_form_comes_back_and_every_truncation_is_refused() {
        let batch = sample();
        let bytes = batch.to_bytes();
        assert_eq!(WriteBatch::from_bytes(&bytes).unwrap(), batch);
        for len in 0..bytes.len() {
            let error = WriteBatch::from_bytes(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{len}");
        }
    }

    #[test]
    fn a_refused_entry_leaves_the_batch_as_it_was() {
        let mut batch = sample();
        assert!(batch.put(&vec![0; 65_536], b"").is_err());
        assert_eq!(batch, sample());
    }
}
