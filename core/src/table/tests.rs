//! Tests of whole tables: a model, every place where bytes can be damaged, and the odd shapes.

mod damage;
mod model;
mod shapes;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::checksum::hash_key;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{
    Access, DirEntry, File, FileSystem, LockGuard, LockKind, PathKind, Region, Window,
};
use crate::table::{
    IterMode, Table, TableBuilder, TableEntry, TableIter, TableParams, TableSummary,
};
use crate::types::{Kind, SeqNo};

const SEED: u64 = 0x5eed;
const BASE: SeqNo = 1_000;
const NUMBER: u64 = 32;

/// Files in memory that a test can damage between close and open.
#[derive(Debug, Default)]
struct MemFs(Mutex<HashMap<PathBuf, Arc<MemFile>>>);

#[derive(Debug)]
struct MemFile {
    path: PathBuf,
    bytes: Mutex<Vec<u8>>,
}

fn unsupported<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, "not in these tests"))
}

impl FileSystem for MemFs {
    fn kind(&self, _: &Path) -> Result<PathKind> {
        unsupported()
    }
    fn create_dir(&self, _: &Path) -> Result<()> {
        unsupported()
    }
    fn list_dir(&self, _: &Path) -> Result<Vec<DirEntry>> {
        unsupported()
    }
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        let file = Arc::new(MemFile { path: path.to_path_buf(), bytes: Mutex::default() });
        self.0.lock().unwrap().insert(path.to_path_buf(), Arc::clone(&file));
        Ok(file)
    }
    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.0.lock().unwrap()[path].clone())
    }
    fn rename(&self, _: &Path, _: &Path) -> Result<()> {
        unsupported()
    }
    fn remove_file(&self, _: &Path) -> Result<()> {
        unsupported()
    }
    fn remove_dir(&self, _: &Path) -> Result<()> {
        unsupported()
    }
    fn sync_dir(&self, _: &Path) -> Result<()> {
        unsupported()
    }
    fn lock(&self, _: &Path, _: LockKind) -> Result<Box<dyn LockGuard>> {
        unsupported()
    }
}

impl File for MemFile {
    fn path(&self) -> &Path {
        &self.path
    }
    fn size(&self) -> Result<u64> {
        Ok(self.bytes.lock().unwrap().len() as u64)
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let bytes = self.bytes.lock().unwrap();
        buf.copy_from_slice(&bytes[offset as usize..][..buf.len()]);
        Ok(())
    }
    fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let mut bytes = self.bytes.lock().unwrap();
        assert_eq!(bytes.len() as u64, offset);
        bytes.extend_from_slice(data);
        Ok(())
    }
    fn allocate(&self, _: u64) -> Result<()> {
        unsupported()
    }
    fn sync_data(&self) -> Result<()> {
        Ok(())
    }
    fn map(&self, len: usize, _: Access) -> Result<Region> {
        let bytes = Arc::new(self.bytes.lock().unwrap()[..len].to_vec());
        // SAFETY: the owner keeps the vector, which nobody can change any more.
        Ok(unsafe { Region::new(bytes.as_ptr(), len, bytes) })
    }
    fn map_window(&self, _: u64, _: usize) -> Result<Window> {
        unsupported()
    }
}

/// An entry as the tests know it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    key: Vec<u8>,
    seqno: SeqNo,
    kind: Kind,
    value: Vec<u8>,
}

fn item(key: impl AsRef<[u8]>, seqno: SeqNo, value: impl AsRef<[u8]>) -> Item {
    let (key, value) = (key.as_ref().to_vec(), value.as_ref().to_vec());
    Item { key, seqno, kind: Kind::Put, value }
}

/// A table built of items, and what it was built from.
struct Built {
    fs: Arc<dyn FileSystem>,
    mem: Arc<MemFs>,
    items: Vec<Item>,
    summary: TableSummary,
}

fn path() -> PathBuf {
    PathBuf::from("000032.table")
}

/// Builds a table of items in order.
fn build(items: Vec<Item>) -> Built {
    let mem = Arc::new(MemFs::default());
    let fs: Arc<dyn FileSystem> = mem.clone();
    let params = TableParams { number: NUMBER, hash_seed: SEED, seqno_base: BASE };
    let mut builder = TableBuilder::new(fs.create(&path()).unwrap(), params);
    for item in &items {
        let hash = hash_key(&item.key, SEED);
        builder.add(&item.key, hash, item.seqno, item.kind, &item.value).unwrap();
    }
    let summary = builder.finish().unwrap();
    Built { fs, mem, items, summary }
}

impl Built {
    fn bytes(&self) -> Vec<u8> {
        self.mem.0.lock().unwrap()[&path()].bytes.lock().unwrap().clone()
    }

    /// Replaces the file's bytes.
    fn set_bytes(&self, bytes: Vec<u8>) {
        *self.mem.0.lock().unwrap()[&path()].bytes.lock().unwrap() = bytes;
    }

    fn open(&self) -> Result<Arc<Table>> {
        let size = self.summary.size_bytes;
        Table::open(&self.fs, &path(), NUMBER, size, SEED, BASE).map(Arc::new)
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
    TableEntry { seqno: item.seqno, kind: item.kind, value: &item.value }
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

/// Compares everything that a table answers with what it was built from.
fn check(built: &Built) {
    let table = built.open().unwrap();
    for item in &built.items {
        for seqno in [item.seqno, item.seqno - 1, SeqNo::MAX] {
            let expected = built.expected(&item.key, seqno).map(as_entry);
            assert_eq!(get(&table, &item.key, seqno).unwrap(), expected, "{:?}", item.key);
        }
    }
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
