//! One file of the simulated disk: what processes see and what would survive.
//!
//! Invariants:
//! - a page is dirty when its bytes differ from the durable ones, however they came to differ; so
//!   mapped stores need no announcement;
//! - bytes behind the size are zeros;
//! - a page is loaded into memory when somebody asks for it, so that a disk made after a crash
//!   costs only what is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::buffer::{Buffer, PAGE, Page, SharedPage, ZEROS, bytes_of, same, share};
use super::fault::Effect;
use crate::checksum::{checksum64, mix64};

/// What a device writes as a whole.
pub(super) const SECTOR: usize = 512;

/// Larger files are refused, as a file system with small offsets would.
const MAX_SIZE: u64 = 1 << 32;

/// A regular file.
pub(super) struct FileNode {
    buffer: Option<Arc<Buffer>>,
    size: u64,
    durable: Vec<SharedPage>,
    durable_size: u64,
    /// Pages as they were when a failed sync declared them clean.
    given_up: BTreeMap<usize, SharedPage>,
    zeros: ZeroSectors,
    /// Held by every handle and map: tells whether the file is in use.
    pub(super) users: Arc<()>,
    /// Locks on the file: one writer or some readers.
    pub(super) locked_by_writer: bool,
    pub(super) locked_by_readers: usize,
}

/// Sectors that a write filled with zeros which are part of something: after a sync they hold
/// something durable, although they look as if they never did.
#[derive(Clone, Default)]
struct ZeroSectors {
    written: BTreeSet<usize>,
    durable: BTreeSet<usize>,
}

impl ZeroSectors {
    /// Notes a write. One of nothing but zeros only makes room.
    fn note(&mut self, offset: u64, data: &[u8]) {
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if is_zero(data) {
            return;
        }
        let (mut sector, mut rest) = (offset as usize / SECTOR, data);
        let mut len = SECTOR - offset as usize % SECTOR;
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(len.min(rest.len()));
            if is_zero(part) {
                self.written.insert(sector);
            }
            (sector, rest, len) = (sector + 1, behind, SECTOR);
        }
    }
}

/// A file as it was at one moment: what a power loss chooses from.
pub(super) struct Remains {
    /// What processes saw.
    pub(super) seen: Vec<SharedPage>,
    pub(super) size: u64,
    pub(super) durable: Vec<SharedPage>,
    pub(super) durable_size: u64,
    given_up: BTreeMap<usize, SharedPage>,
    zeros: ZeroSectors,
}

impl Remains {
    /// Whether the sectors from one offset in a page to another held nothing durable.
    pub(super) fn was_empty(&self, page: usize, bytes: Range<usize>) -> bool {
        let sectors = bytes.start / SECTOR..bytes.end.div_ceil(SECTOR);
        let bytes = sectors.start * SECTOR..sectors.end * SECTOR;
        let first = page * (PAGE / SECTOR);
        let mut written = self.zeros.durable.range(first + sectors.start..first + sectors.end);
        bytes_of(self.durable_page(page))[bytes.clone()] == ZEROS[bytes] && written.next().is_none()
    }

    /// Takes its unsynced pages from an earlier moment where they are the same, to save memory.
    pub(super) fn share_pages(&mut self, before: &Remains) {
        for (page, before) in self.seen.iter_mut().zip(&before.seen) {
            if same(page, before) {
                page.clone_from(before);
            }
        }
    }

    /// The durable bytes of a page.
    pub(super) fn durable_page(&self, index: usize) -> &SharedPage {
        self.durable.get(index).unwrap_or(&None)
    }

    /// The newest bytes of a page that can be durable: not those that a failed sync gave up.
    pub(super) fn latest_page(&self, index: usize) -> &SharedPage {
        let seen = &self.seen[index];
        let given_up = self.given_up.get(&index).is_some_and(|given_up| same(given_up, seen));
        if given_up { self.durable_page(index) } else { seen }
    }
}

impl FileNode {
    /// A file with these bytes, all durable.
    pub(super) fn new(pages: Vec<SharedPage>, size: u64) -> FileNode {
        FileNode {
            buffer: None,
            size,
            durable: pages,
            durable_size: size,
            given_up: BTreeMap::new(),
            zeros: ZeroSectors::default(),
            users: Arc::new(()),
            locked_by_writer: false,
            locked_by_readers: 0,
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of blocks.
    pub(super) fn allocated(&self) -> u64 {
        self.size.next_multiple_of(PAGE as u64)
    }

    fn page_count(&self) -> usize {
        pages_of(self.size)
    }

    /// The memory, loaded, with room for `size` bytes.
    fn memory(&mut self, size: u64) -> io::Result<Arc<Buffer>> {
        if size > MAX_SIZE {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        let size = size as usize;
        match &self.buffer {
            Some(buffer) if size <= buffer.capacity() => return Ok(buffer.clone()),
            Some(buffer) if Arc::strong_count(buffer) > 1 => {
                let message = "the simulated disk cannot grow a mapped file";
                return Err(io::Error::new(io::ErrorKind::Unsupported, message));
            }
            _ => {}
        }
        let had = self.buffer.as_ref().map_or(0, |buffer| buffer.capacity());
        let grown = Buffer::zeroed(size.max(2 * had).max(self.size as usize));
        for index in 0..self.page_count() {
            if let Some(page) = self.page(index) {
                grown.write(index * PAGE, &*page);
            }
        }
        Ok(self.buffer.insert(Arc::new(grown)).clone())
    }

    /// The memory, for a map of existing bytes.
    pub(super) fn mapped(&mut self) -> io::Result<Arc<Buffer>> {
        self.memory(self.size)
    }

    /// Copies out bytes that exist.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) {
        if let Some(buffer) = &self.buffer {
            buffer.read(offset as usize, out);
            return;
        }
        let mut at = offset as usize;
        let mut rest = out;
        while !rest.is_empty() {
            let page = &bytes_of(self.durable_page(at / PAGE))[at % PAGE..];
            let (part, behind) = rest.split_at_mut(rest.len().min(page.len()));
            part.copy_from_slice(&page[..part.len()]);
            at += part.len();
            rest = behind;
        }
    }

    /// Copies bytes in, growing the file as needed.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let too_large = || io::Error::from_raw_os_error(libc::EFBIG);
        let end = offset.checked_add(data.len() as u64).ok_or_else(too_large)?;
        self.memory(end)?.write(offset as usize, data);
        self.zeros.note(offset, data);
        self.size = self.size.max(end);
        Ok(())
    }

    /// A hash of its size and its bytes, seeded.
    pub(super) fn fingerprint(&self, seed: u64) -> u64 {
        let pages = (0..self.page_count()).map(|index| self.page(index));
        pages.fold(checksum64(&self.size.to_le_bytes(), seed), |hash, page| match page {
            None => mix64(hash, 0),
            Some(page) => checksum64(&*page, hash),
        })
    }

    /// Makes the file at least `size` bytes long.
    pub(super) fn grow(&mut self, size: u64) -> io::Result<()> {
        self.memory(size)?;
        self.size = self.size.max(size);
        Ok(())
    }

    /// A page as processes see it.
    fn page(&self, index: usize) -> SharedPage {
        let durable = self.durable_page(index);
        match &self.buffer {
            Some(buffer) if !buffer.page_is(index, bytes_of(durable)) => buffer.page(index),
            _ => durable.clone(),
        }
    }

    fn durable_page(&self, index: usize) -> &SharedPage {
        self.durable.get(index).unwrap_or(&None)
    }

    fn set_durable_page(&mut self, index: usize, page: SharedPage) {
        if self.durable.len() <= index {
            self.durable.resize(index + 1, None);
        }
        self.durable[index] = page;
    }

    /// A page as a sync would write it, if it would.
    fn dirty_page(&self, index: usize) -> Option<SharedPage> {
        let page = self.page(index);
        let given_up = self.given_up.get(&index).is_some_and(|given_up| same(given_up, &page));
        (!given_up && !same(&page, self.durable_page(index))).then_some(page)
    }

    /// Makes one page durable, as the system may at any time.
    pub(super) fn write_back(&mut self, index: usize) {
        if let Some(page) = self.dirty_page(index) {
            self.given_up.remove(&index);
            self.set_durable_page(index, page);
        }
    }

    /// Makes the size durable, as the system may at any time.
    pub(super) fn write_back_size(&mut self) {
        self.durable_size = self.size;
    }

    /// A sync: a whole one, or one that fails with an effect.
    pub(super) fn sync(&mut self, effect: Option<Effect>) -> io::Result<()> {
        for index in 0..self.page_count() {
            let Some(page) = self.dirty_page(index) else { continue };
            match effect {
                None | Some(Effect::Done) => self.write_back(index),
                Some(Effect::Half) if index.is_multiple_of(2) => self.write_back(index),
                Some(Effect::Lie) => {}
                Some(Effect::Half | Effect::Nothing) => {
                    self.given_up.insert(index, page);
                }
                Some(Effect::Reverted) => {
                    let durable = self.durable_page(index).clone();
                    self.memory(self.size)?.write(index * PAGE, bytes_of(&durable));
                }
            }
        }
        let mut written = std::mem::take(&mut self.zeros.written);
        if matches!(effect, None | Some(Effect::Done)) {
            self.zeros.durable.append(&mut written);
            self.write_back_size();
        }
        Ok(())
    }

    /// Makes everything durable, also what a failed sync gave up.
    pub(super) fn settle(&mut self) {
        self.given_up.clear();
        self.zeros.durable.append(&mut self.zeros.written);
        (0..self.page_count()).for_each(|index| self.write_back(index));
        self.write_back_size();
    }

    /// The file at this moment.
    pub(super) fn remains(&self) -> Remains {
        Remains {
            seen: (0..self.page_count()).map(|index| self.page(index)).collect(),
            size: self.size,
            durable: self.durable.clone(),
            durable_size: self.durable_size,
            given_up: self.given_up.clone(),
            zeros: self.zeros.clone(),
        }
    }

    /// The file as the next process finds it when the power stays on.
    pub(super) fn revive(remains: &Remains) -> io::Result<FileNode> {
        let mut file = FileNode {
            size: remains.size,
            given_up: remains.given_up.clone(),
            zeros: remains.zeros.clone(),
            ..FileNode::new(remains.durable.clone(), remains.durable_size)
        };
        for (index, page) in remains.seen.iter().enumerate() {
            if !same(page, remains.durable_page(index)) {
                file.memory(remains.size)?.write(index * PAGE, bytes_of(page));
            }
        }
        Ok(file)
    }

    /// Replaces bytes that exist behind everybody's back, seen and durable at once.
    pub(super) fn damage(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let buffer = self.memory(self.size)?;
        buffer.write(offset as usize, data);
        for index in pages_between(offset, offset + data.len() as u64) {
            let from = (index * PAGE) as u64;
            let mut page: Page = *bytes_of(self.durable_page(index));
            for (i, byte) in page.iter_mut().enumerate() {
                let at = from + i as u64;
                if at >= offset && at - offset < data.len() as u64 {
                    *byte = data[(at - offset) as usize];
                }
            }
            self.set_durable_page(index, share(&page));
        }
        Ok(())
    }

    /// Changes the size behind everybody's back, seen and durable at once.
    pub(super) fn resize(&mut self, size: u64) -> io::Result<()> {
        let cut = self.size;
        if size < cut {
            self.damage(size, &vec![0; (cut - size) as usize])?;
        } else {
            self.grow(size)?;
        }
        self.size = size;
        self.durable_size = size;
        Ok(())
    }
}

/// How many pages `size` bytes need.
pub(super) fn pages_of(size: u64) -> usize {
    size.div_ceil(PAGE as u64) as usize
}

fn pages_between(from: u64, to: u64) -> Range<usize> {
    if from >= to { 0..0 } else { from as usize / PAGE..pages_of(to) }
}
