//! Where the records of a rewritten segment are (layer L3): its *offset map*, from the offset of
//! the first write to the place in the file, as it is stored and as readers use it.
//!
//! Invariants: addresses ascend, and so do places; a page is verified before its first use; an
//! address that the map lacks is Corruption. In memory is one number for every page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::file::SegmentFile;
use super::format::{MAP_PAGE_ENTRIES, PAGE, RewrittenHeader};
use crate::buffer::Bytes;
use crate::checksum::{checksum64, mix64};
use crate::coding::Decoder;
use crate::error::{Error, Result};
use crate::fs::Region;
use crate::types::SegmentId;

/// The offset map of one segment in a file that may hold several.
pub(crate) struct OffsetMap {
    file: MapFile,
    /// Number of records.
    entries: u64,
    /// Offset in the file of its first page.
    start: u64,
    /// The first address of every page.
    firsts: Box<[u32]>,
    /// One bit per page: it has been found intact.
    checked: Box<[AtomicU64]>,
}

/// The file that a map is in.
#[derive(Clone)]
pub(super) struct MapFile {
    /// Empty when it is read directly.
    pub(super) region: Region,
    pub(super) file: Arc<SegmentFile>,
    pub(super) salt: u64,
}

impl MapFile {
    /// Bytes of the file; `None` beyond its end.
    fn read(&self, offset: u64, len: u64) -> Result<Option<Bytes<'_>>> {
        let Ok(len) = usize::try_from(len) else { return Ok(None) };
        if self.region.len() == 0 {
            let bytes = self.file.read(offset, len)?;
            return Ok(Some(Bytes::Shared(self.file.cache.buffer(bytes).part(0..len))));
        }
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(self.region.get(offset, len).map(Bytes::Mapped))
    }
}

/// The bytes of the map page at `offset` with these addresses and places.
pub(super) fn encode_page(entries: &[(u32, u32)], salt: u64, offset: u64) -> Vec<u8> {
    let mut page = vec![0; 8];
    page.reserve(PAGE as usize);
    for (unit, place) in entries {
        page.extend_from_slice(&unit.to_le_bytes());
        page.extend_from_slice(&place.to_le_bytes());
    }
    page.resize(PAGE as usize, 0);
    let sum = checksum64(&page[8..], mix64(salt, offset));
    page[..8].copy_from_slice(&sum.to_le_bytes());
    page
}

/// The segments that a file has, with their maps.
pub(super) fn decode_directory(
    file: &MapFile,
    header: &RewrittenHeader,
) -> Result<Vec<(SegmentId, OffsetMap)>> {
    let at = header.directory_at;
    let bad = |what| Error::corruption(file.file.path(), at, what);
    let len = header.directory_len;
    let bytes =
        file.read(at, len)?.ok_or_else(|| bad("directory of a rewritten segment cut short"))?;
    if checksum64(&bytes, file.salt) != header.directory_sum {
        return Err(bad("checksum of the directory of a rewritten segment does not match"));
    }
    let mut from = Decoder::new(&bytes);
    let maps = (|| {
        let count = from.u64()?;
        let mut maps = Vec::new();
        for _ in 0..count {
            maps.push(decode_map(file, &mut from)?);
        }
        from.is_empty().then_some(maps)
    })();
    maps.ok_or_else(|| bad("directory of a rewritten segment makes no sense"))
}

fn decode_map(file: &MapFile, from: &mut Decoder<'_>) -> Option<(SegmentId, OffsetMap)> {
    let (id, entries, start) = (from.u64()?, from.u64()?, from.u64()?);
    let pages = entries.div_ceil(MAP_PAGE_ENTRIES as u64);
    let bytes = from.take(usize::try_from(pages).ok()?.checked_mul(4)?)?;
    let (firsts, _) = bytes.as_chunks::<4>();
    let firsts = firsts.iter().map(|first| u32::from_le_bytes(*first)).collect();
    Some((id, OffsetMap::new(file.clone(), entries, start, firsts)))
}

impl OffsetMap {
    /// A map of `entries` records from `start` on; `firsts` has a number for every page.
    pub(super) fn new(file: MapFile, entries: u64, start: u64, firsts: Box<[u32]>) -> OffsetMap {
        let words = firsts.len().div_ceil(64);
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        OffsetMap { file, entries, start, firsts, checked }
    }

    /// What it takes on the heap.
    pub(super) fn heap_bytes(&self) -> u64 {
        (size_of_val(&*self.firsts) + size_of_val(&*self.checked)) as u64
    }

    /// Where the record of an address lies in the file.
    #[inline]
    pub(super) fn find(&self, offset: u64) -> Result<u64> {
        let absent = || self.corrupt(offset, "no record with this address is in the segment");
        let unit = u32::try_from(offset / 8).map_err(|_| absent())?;
        let page = self.firsts.partition_point(|first| *first <= unit);
        let page = page.checked_sub(1).ok_or_else(absent)?;
        let bytes = self.page(page, true)?;
        let entries = self.entries_of(page, &bytes);
        let found = entries.binary_search_by_key(&unit, |entry| decode(entry).0);
        let entry = found.ok().and_then(|index| entries.get(index)).ok_or_else(absent)?;
        Ok(u64::from(decode(entry).1) * 8)
    }

    /// All addresses, in units of 8 bytes, with their places in bytes.
    pub(super) fn entries(&self) -> Result<Vec<(u32, u64)>> {
        let mut all: Vec<(u32, u64)> = Vec::new();
        for page in 0..self.firsts.len() {
            let bytes = self.page(page, false)?;
            let entries = self.entries_of(page, &bytes).iter().map(decode);
            all.extend(entries.map(|(unit, place)| (unit, u64::from(place) * 8)));
        }
        Ok(all)
    }

    /// The bytes of a page, verified when first used; `kept`: a page that is read directly is to
    /// be in the cache afterwards.
    #[inline]
    fn page(&self, page: usize, kept: bool) -> Result<Bytes<'_>> {
        let offset = self.start.saturating_add(page as u64 * PAGE);
        if self.file.region.len() == 0 {
            return self.load_page(offset, kept);
        }
        let bytes = self.file.region.get(offset as usize, PAGE as usize);
        let bytes = bytes.ok_or_else(|| self.corrupt(offset, "offset map cut short"))?;
        let bit = 1 << (page % 64);
        let word = self.checked.get(page / 64);
        if word.is_none_or(|word| word.load(Ordering::Relaxed) & bit == 0) {
            self.check_page(bytes, offset)?;
            if let Some(word) = word {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
        Ok(Bytes::Mapped(bytes))
    }

    /// A page of a file that is read directly.
    #[inline(never)]
    fn load_page(&self, offset: u64, kept: bool) -> Result<Bytes<'_>> {
        let file = &self.file.file;
        if let Some(page) = file.cached(offset) {
            return Ok(Bytes::Shared(page.part(0..page.len())));
        }
        let page = file.cache.buffer(file.read(offset, PAGE as usize)?);
        self.check_page(&page, offset)?;
        if kept {
            file.keep(offset, &page);
        }
        Ok(Bytes::Shared(page.part(0..page.len())))
    }

    /// The entries of a page.
    #[inline]
    fn entries_of<'a>(&self, page: usize, bytes: &'a [u8]) -> &'a [[u8; 8]] {
        let (pairs, _) = bytes.get(8..).unwrap_or_default().as_chunks::<8>();
        let behind = self.entries.saturating_sub((page * MAP_PAGE_ENTRIES) as u64);
        pairs.get(..behind.min(MAP_PAGE_ENTRIES as u64) as usize).unwrap_or_default()
    }

    #[cold]
    fn check_page(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let covered = bytes.get(8..).unwrap_or_default();
        if Decoder::new(bytes).u64() == Some(checksum64(covered, mix64(self.file.salt, offset))) {
            return Ok(());
        }
        Err(self.corrupt(offset, "checksum of a page of the offset map does not match"))
    }

    #[cold]
    fn corrupt(&self, offset: u64, what: &str) -> Error {
        Error::corruption(self.file.file.path(), offset, what)
    }
}

#[inline]
fn decode(entry: &[u8; 8]) -> (u32, u32) {
    let word = u64::from_le_bytes(*entry);
    (word as u32, (word >> 32) as u32)
}
