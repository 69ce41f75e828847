//! Tests of whole tables: a model, every place where bytes can be damaged, and the odd shapes.

mod compressed;
mod damage;
pub(crate) mod documented;
mod model;
mod refused;
mod shapes;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builder::TableSummary;
use super::reader::TableEntry;
use crate::buffer::Bytes;
use crate::cache::{Cache, FileAccess};
use crate::checksum::hash_key;
use crate::compress::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::fs::sim::SimDisk;
use crate::table::{IterMode, Table, TableBuilder, TableIter, TableParams, Watch};
use crate::types::{Compression, Kind, SeqNo};

const SEED: u64 = 0x5eed;
const BASE: SeqNo = 1_000;
const NUMBER: u64 = 32;

/// An entry as the tests know it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    key: Vec<u8>,
    seqno: SeqNo,
    kind: Kind,
    value: Vec<u8>,
}

/// Ends a check at the first damage.
struct First;

impl Watch for First {
    fn read(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn entry(&mut self, _: &[u8], _: Kind, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn damage(&mut self, error: Error, _: &[u8], _: &[u8], _: Option<u64>) -> Result<()> {
        Err(error)
    }
}

impl Table {
    /// Checks everything; the first thing that is wrong is the error.
    fn verify(self: &Arc<Table>) -> Result<()> {
        self.inspect(&mut First).map(drop)
    }
}

fn item(key: impl AsRef<[u8]>, seqno: SeqNo, value: impl AsRef<[u8]>) -> Item {
    let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
    Item { key, seqno, kind: Kind::Put, value }
}

/// A table built of items, and what it was built from.
struct Built {
    disk: SimDisk,
    fs: Arc<dyn FileSystem>,
    items: Vec<Item>,
    summary: TableSummary,
    access: FileAccess,
}

fn path() -> PathBuf {
    PathBuf::from("/000032.table")
}

fn start(disk: &SimDisk, codec: Codec) -> Result<TableBuilder> {
    let params = TableParams { number: NUMBER, hash_seed: SEED, seqno_base: BASE, codec };
    Ok(TableBuilder::new(disk.create(&path())?, params))
}

const PLAIN: Codec = Codec { compression: Compression::None, level: 3 };
const LZ4: Codec = Codec { compression: Compression::Lz4, level: 3 };
const ZSTD: Codec = Codec { compression: Compression::Zstd, level: 3 };

fn access() -> FileAccess {
    FileAccess::new(1 << 20, false)
}

/// Directly, with the locator of no table in memory.
fn paged(cache_bytes: u64) -> FileAccess {
    FileAccess { cache: Arc::new(Cache::new(cache_bytes, 0, true)), direct: true }
}

fn add(builder: &mut TableBuilder, item: &Item) -> Result<()> {
    let hash = hash_key(&item.key, SEED);
    builder.add(&item.key, hash, item.seqno, item.kind, &item.value).map(drop)
}

/// Writes a table of items in order.
fn write(disk: &SimDisk, items: &[Item], codec: Codec) -> Result<TableSummary> {
    let mut builder = start(disk, codec)?;
    items.iter().try_for_each(|item| add(&mut builder, item))?;
    builder.finish()
}

/// Builds a table of items in order.
fn build(items: Vec<Item>) -> Built {
    build_with(items, PLAIN)
}

/// Builds a table of items in order, its blocks compressed.
fn build_with(items: Vec<Item>, codec: Codec) -> Built {
    let disk = SimDisk::new();
    let summary = write(&disk, &items, codec).unwrap();
    Built { fs: Arc::new(disk.clone()), disk, items, summary, access: access() }
}

impl Built {
    /// The same table once more.
    fn share(&self) -> Built {
        let (disk, items) = (self.disk.clone(), self.items.clone());
        let (summary, access) = (self.summary.clone(), self.access.clone());
        Built { fs: Arc::new(disk.clone()), disk, items, summary, access }
    }

    fn bytes(&self) -> Vec<u8> {
        self.disk.read_file(path()).unwrap()
    }

    /// Replaces bytes of the file.
    fn overwrite(&self, offset: usize, bytes: &[u8]) {
        self.disk.overwrite(path(), offset as u64, bytes).unwrap();
    }

    fn open(&self) -> Result<Arc<Table>> {
        let size = self.summary.size_bytes;
        Table::open(&self.fs, &path(), NUMBER, size, SEED, BASE, &self.access).map(Arc::new)
    }

    fn iter(&self, mode: IterMode) -> TableIter {
        TableIter::new(self.open().unwrap(), mode).unwrap()
    }

    /// What `get` must answer.
    fn expected(&self, key: &[u8], max_seqno: SeqNo) -> Option<&Item> {
        self.items.iter().find(|item| item.key == key && item.seqno <= max_seqno)
    }
}

fn get<'a>(table: &'a Table, key: &[u8], max_seqno: SeqNo) -> Result<Option<TableEntry<'a>>> {
    table.get(key, hash_key(key, SEED), max_seqno)
}

fn as_entry(item: &Item) -> TableEntry<'_> {
    TableEntry { seqno: item.seqno, kind: item.kind, value: Bytes::Mapped(&item.value) }
}

/// The cursor's entry.
fn current(iter: &TableIter) -> Option<Item> {
    iter.valid().then(|| Item {
        key: iter.key().to_vec(),
        seqno: iter.seqno(),
        kind: iter.kind(),
        value: iter.value().to_vec(),
    })
}

/// Every entry from the first on.
fn scan(iter: &mut TableIter) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    iter.seek_to_first()?;
    while let Some(item) = current(iter) {
        items.push(item);
        iter.next()?;
    }
    Ok(items)
}

/// Compares everything that a table answers with what it was built from, compressed or not.
fn check(built: &Built) {
    check_answers(built);
    for codec in [PLAIN, LZ4, ZSTD] {
        let mut built = build_with(built.items.clone(), codec);
        if codec != PLAIN {
            check_answers(&built);
        }
        built.access.direct = true;
        check_answers(&built);
    }
}

fn check_answers(built: &Built) {
    let table = built.open().unwrap();
    for item in &built.items {
        for seqno in [item.seqno, item.seqno - 1, SeqNo::MAX] {
            let expected = built.expected(&item.key, seqno).map(as_entry);
            assert_eq!(get(&table, &item.key, seqno).unwrap(), expected, "{:?}", item.key);
        }
    }
    table.verify().unwrap();
    assert_eq!(table.smallest(), built.items.first().map_or(&[][..], |item| &item.key));
    assert_eq!(table.largest(), built.items.last().map_or(&[][..], |item| &item.key));
    for mode in [IterMode::Mapped, IterMode::Buffered] {
        let mut iter = built.iter(mode);
        assert!(scan(&mut iter).unwrap() == built.items, "{mode:?}");
        iter.seek_to_last().unwrap();
        for item in built.items.iter().rev() {
            assert_eq!(current(&iter).as_ref(), Some(item), "{mode:?}");
            iter.prev().unwrap();
        }
        assert!(!iter.valid());
        check_seeks(built, &mut iter);
    }
}

/// Seeks to every key, and to its neighbours that are not there.
fn check_seeks(built: &Built, iter: &mut TableIter) {
    let mut probes: Vec<Vec<u8>> = vec![vec![], vec![0], vec![0xff; 12]];
    for item in &built.items {
        probes.push(item.key.clone());
        probes.push([&item.key[..], &[0]].concat());
        probes.push(item.key[..item.key.len().saturating_sub(1)].to_vec());
    }
    for probe in probes {
        let at = built.items.partition_point(|item| item.key < probe);
        iter.seek(&probe).unwrap();
        assert_eq!(current(iter).as_ref(), built.items.get(at));
        iter.prev().unwrap();
        if at < built.items.len() {
            assert_eq!(current(iter).as_ref(), at.checked_sub(1).map(|at| &built.items[at]));
        }
        iter.seek_before(&probe).unwrap();
        let before = at.checked_sub(1).map(|last| {
            let key = &built.items[last].key;
            built.items.iter().position(|item| item.key == *key).unwrap()
        });
        assert_eq!(current(iter).as_ref(), before.map(|at| &built.items[at]));
        if let Some(before) = before {
            iter.next().unwrap();
            assert_eq!(current(iter).as_ref(), built.items.get(before + 1));
        }
    }
}
