//! Reading a dump, which may be damaged, cut off, or something else altogether.
//!
//! Invariants. VERIFIED: nothing of a chunk is answered before its checksum was compared. CLAIMS:
//! memory grows with the bytes that arrive, never with a length that is merely claimed.

use std::io::{self, Read};

use toykv::{MAX_KEY_LEN, MAX_VALUE_LEN};

use super::{CHUNK_BYTES, END_BYTES, ENTRY_HEAD_BYTES, HEAD_BYTES, HEADER_BYTES};
use super::{MAGIC, Totals, VERSION, chunk_checksum, head_check};
use crate::failure::{Exit, Failure, Result};

/// The entries of one chunk, in order.
pub(crate) type Chunk = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads a dump chunk by chunk.
pub(crate) struct DumpReader<R> {
    input: R,
    /// Bytes read so far.
    at: u64,
    /// Where the chunk that is being read begins.
    chunk_at: u64,
    seed: u64,
    last_key: Option<Vec<u8>>,
    totals: Totals,
    ended: bool,
}

impl<R: Read> DumpReader<R> {
    /// Reads the header.
    pub(crate) fn new(input: R) -> Result<DumpReader<R>> {
        let totals = Totals::default();
        let mut reader =
            DumpReader { input, at: 0, chunk_at: 0, seed: 0, last_key: None, totals, ended: false };
        let header = reader.read(HEADER_BYTES as u64)?;
        if !header.starts_with(&MAGIC) {
            let cut = MAGIC.starts_with(&header);
            let what = "this is no dump of toykv: it does not begin with \"toykvdmp\"";
            return Err(if cut { reader.cut_off() } else { foreign(what) });
        }
        if header.len() < HEADER_BYTES {
            return Err(reader.cut_off());
        }
        let version = number(&header[MAGIC.len()..MAGIC.len() + 2]);
        if version != u64::from(VERSION) {
            return Err(foreign(&format!(
                "the dump has version {version} of the format, this program reads {VERSION}"
            )));
        }
        if let Some(past) = header[10..].iter().position(|byte| *byte != 0) {
            return Err(reader.damage(10 + past as u64, "the header's reserved bytes are not zero"));
        }
        Ok(reader)
    }

    /// The next chunk, verified; `None` behind the last, when the stream has proved to be whole.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.ended {
            return Ok(None);
        }
        self.chunk_at = self.at;
        let head = self.read(HEAD_BYTES as u64)?;
        if head.len() < HEAD_BYTES {
            return Err(self.cut_off());
        }
        if number(&head[12..]) != u64::from(head_check(&head[..12], self.seed)) {
            return Err(self.damage(self.chunk_at, "the head of a chunk fails its check"));
        }
        let (len, count) = (number(&head[..8]), number(&head[8..12]));
        self.check_head(len, count)?;
        let payload = self.read(len)?;
        let checksum = self.read(8)?;
        if (payload.len() as u64) < len || checksum.len() < 8 {
            return Err(self.cut_off());
        }
        let expected = chunk_checksum(&head, &payload, self.seed);
        if number(&checksum) != expected {
            return Err(self.damage(self.chunk_at, "a chunk fails its checksum"));
        }
        self.seed = expected;
        if count == 0 {
            return self.end(&payload).map(|()| None);
        }
        self.totals.chunks += 1;
        self.entries(&payload, count).map(Some)
    }

    /// What has been read.
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes of the stream that have been read.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Sizes that no writer writes.
    fn check_head(&self, len: u64, count: u64) -> Result<()> {
        let most = (CHUNK_BYTES + ENTRY_HEAD_BYTES + MAX_KEY_LEN) as u64 + MAX_VALUE_LEN;
        let possible = match count {
            0 => len == END_BYTES as u64,
            _ => len >= count * ENTRY_HEAD_BYTES as u64 && len <= most,
        };
        if possible {
            return Ok(());
        }
        Err(self.damage(self.chunk_at, "the head of a chunk has impossible sizes"))
    }

    fn entries(&mut self, payload: &[u8], count: u64) -> Result<Chunk> {
        let mut entries = Vec::new();
        let mut rest = payload;
        for _ in 0..count {
            let at = self.chunk_at + (HEAD_BYTES + payload.len() - rest.len()) as u64;
            let Some((key, value, tail)) = split_entry(rest) else {
                return Err(self.damage(at, "an entry does not fit into its chunk"));
            };
            rest = tail;
            if self.last_key.as_deref().is_some_and(|last| key <= last) {
                return Err(self.damage(at, "keys are not in ascending order"));
            }
            let last = self.last_key.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            self.totals.entries += 1;
            self.totals.bytes += (key.len() + value.len()) as u64;
            entries.push((key.to_vec(), value.to_vec()));
        }
        if rest.is_empty() {
            return Ok(entries);
        }
        Err(self.damage(self.chunk_at, "a chunk is longer than its entries"))
    }

    /// The last chunk says how much there was, and nothing may follow it.
    fn end(&mut self, payload: &[u8]) -> Result<()> {
        let Totals { entries, bytes, chunks } = self.totals;
        for (stated, found) in payload.chunks_exact(8).zip([entries, bytes, chunks]) {
            if number(stated) != found {
                return Err(self.damage(self.chunk_at, "the totals at the end do not agree"));
            }
        }
        let end = self.at;
        if !self.read(1)?.is_empty() {
            return Err(self.damage(end, "something follows the end of the dump"));
        }
        self.ended = true;
        Ok(())
    }

    /// Up to `len` bytes; fewer at the end of the stream.
    fn read(&mut self, len: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(len).read_to_end(&mut bytes);
        self.at += bytes.len() as u64;
        read.map_err(|error: io::Error| Failure::from(error).within("reading the dump"))?;
        Ok(bytes)
    }

    fn cut_off(&self) -> Failure {
        self.damage(self.at, "the dump is cut off")
    }

    fn damage(&self, at: u64, what: &str) -> Failure {
        let chunk = self.totals.chunks + 1;
        Failure::new(Exit::Corruption, format!("damaged at byte {at} (chunk {chunk}): {what}"))
    }
}

fn foreign(what: &str) -> Failure {
    Failure::new(Exit::Unsupported, what)
}

/// Little-endian bytes as a number; at most eight of them.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Key, value, and what follows the first entry of `rest`.
fn split_entry(rest: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (lengths, rest) = rest.split_at_checked(ENTRY_HEAD_BYTES)?;
    let (key, rest) = rest.split_at_checked(number(&lengths[..2]) as usize)?;
    let (value, rest) = rest.split_at_checked(number(&lengths[2..]) as usize)?;
    Some((key, value, rest))
}
