//! Writing a dump.

use std::io::Write;

use super::{CHUNK_BYTES, HEADER_BYTES, MAGIC, Totals, VERSION, chunk_checksum, head_check};
use crate::failure::{Exit, Failure, Result};

/// Writes a dump: entries in ascending order of their keys, then [`DumpWriter::finish`].
pub(crate) struct DumpWriter<W> {
    out: W,
    payload: Vec<u8>,
    /// Entries in the payload.
    count: u32,
    last_key: Option<Vec<u8>>,
    totals: Totals,
    seed: u64,
}

impl<W: Write> DumpWriter<W> {
    /// Begins a dump.
    pub(crate) fn new(mut out: W) -> Result<DumpWriter<W>> {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.resize(HEADER_BYTES, 0);
        out.write_all(&header)?;
        let (totals, payload) = (Totals::default(), Vec::new());
        Ok(DumpWriter { out, payload, count: 0, last_key: None, totals, seed: 0 })
    }

    /// One more entry. Keys must ascend.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if self.last_key.as_deref().is_some_and(|last| key <= last) {
            return Err(Failure::new(Exit::Unsupported, "the store's keys are not in order"));
        }
        let (Ok(key_len), Ok(value_len)) = (u16::try_from(key.len()), u32::try_from(value.len()))
        else {
            return Err(Failure::usage("a key or value is too long for a dump"));
        };
        self.payload.extend_from_slice(&key_len.to_le_bytes());
        self.payload.extend_from_slice(&value_len.to_le_bytes());
        self.payload.extend_from_slice(key);
        self.payload.extend_from_slice(value);
        self.count += 1;
        self.totals.entries += 1;
        self.totals.bytes += (key.len() + value.len()) as u64;
        let last = self.last_key.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        if self.payload.len() >= CHUNK_BYTES {
            self.end_chunk()?;
        }
        Ok(())
    }

    /// Ends the stream; answers what it holds, and its destination.
    pub(crate) fn finish(mut self) -> Result<(Totals, W)> {
        if self.count > 0 {
            self.end_chunk()?;
        }
        let totals = self.totals;
        for number in [totals.entries, totals.bytes, totals.chunks] {
            self.payload.extend_from_slice(&number.to_le_bytes());
        }
        self.end_chunk()?;
        self.out.flush()?;
        Ok((totals, self.out))
    }

    fn end_chunk(&mut self) -> Result<()> {
        let mut head = (self.payload.len() as u64).to_le_bytes().to_vec();
        head.extend_from_slice(&self.count.to_le_bytes());
        head.extend_from_slice(&head_check(&head, self.seed).to_le_bytes());
        self.seed = chunk_checksum(&head, &self.payload, self.seed);
        self.out.write_all(&head)?;
        self.out.write_all(&self.payload)?;
        self.out.write_all(&self.seed.to_le_bytes())?;
        self.totals.chunks += 1;
        self.payload.clear();
        self.count = 0;
        Ok(())
    }
}
