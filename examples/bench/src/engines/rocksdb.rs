//! RocksDB, without and with separated values (BlobDB), set as redb's benchmark sets it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, FlushOptions, Options, ReadOptions,
    SstFileWriter, WriteBatch, WriteOptions,
};

use crate::Result;
use crate::engine::{Compression, Config, Durability, Engine, Reader};

/// Bits of the bloom filter per key.
const FILTER_BITS: f64 = 10.0;

/// Values of at least this size are separated: toykv's default too.
const BLOB_BYTES: u64 = 1 << 10;

/// Changes in one batch: larger ones take memory without a bound, so redb's benchmark splits them.
const PIECE: usize = 100_000;

/// The only column family.
const COLUMN: &str = "default";

/// An open RocksDB.
pub(crate) struct RocksEngine<const BLOBS: bool> {
    db: DB,
    options: Options,
    write: WriteOptions,
    dir: PathBuf,
}

/// Reads of the newest state; the iterators are made per scan.
pub(crate) struct RocksReader<'a> {
    db: &'a DB,
    read: ReadOptions,
}

fn options(config: &Config, blobs: bool) -> Options {
    let cache = Cache::new_lru_cache(config.cache_bytes as usize);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&cache);
    table.set_bloom_filter(FILTER_BITS, false);
    table.set_cache_index_and_filter_blocks(true);
    let compression = match config.compression {
        Compression::None => DBCompressionType::None,
        Compression::Lz4 => DBCompressionType::Lz4,
        Compression::Zstd => DBCompressionType::Zstd,
    };
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    // Beside the cache, not charged to it: a RocksDB of before 8.4 cannot do that by its C API.
    options.set_db_write_buffer_size(config.cache_bytes as usize / 2);
    options.set_compression_type(compression);
    options
        .increase_parallelism(std::thread::available_parallelism().map_or(1, |n| n.get() as i32));
    if blobs {
        options.set_enable_blob_files(true);
        options.set_min_blob_size(BLOB_BYTES);
        options.set_enable_blob_gc(true);
        options.set_blob_compression_type(compression);
        options.set_blob_cache(&cache);
    }
    options
}

impl<const BLOBS: bool> Engine for RocksEngine<BLOBS> {
    const NAME: &'static str = if BLOBS { "rocksdb_blob" } else { "rocksdb" };
    type Reader<'a> = RocksReader<'a>;

    fn gives(wanted: Durability) -> Durability {
        wanted.max(Durability::Process)
    }

    fn compresses() -> bool {
        true
    }

    fn open(dir: &Path, config: &Config) -> Result<Self> {
        let options = options(config, BLOBS);
        // By name, since only then the handle that multi_get wants can be had.
        let db = DB::open_cf_with_opts(&options, dir, [(COLUMN, options.clone())])?;
        let write = WriteOptions::default();
        let mut engine = RocksEngine { db, options, write, dir: dir.to_path_buf() };
        engine.set_durability(config.durability)?;
        Ok(engine)
    }

    fn set_durability(&mut self, durability: Durability) -> Result<()> {
        self.write.set_sync(durability == Durability::Sync);
        Ok(())
    }

    #[inline]
    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut batch = WriteBatch::default();
        for (index, (key, value)) in changes.enumerate() {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
            if index % PIECE == PIECE - 1 {
                self.db.write_opt(std::mem::take(&mut batch), &self.write)?;
            }
        }
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn load_sorted<K, V>(&self, entries: impl Iterator<Item = (K, V)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let file = self.dir.join("sorted.sst");
        let mut writer = SstFileWriter::create(&self.options);
        writer.open(&file)?;
        for (key, value) in entries {
            writer.put(key, value)?;
        }
        writer.finish()?;
        let mut ingest = rocksdb::IngestExternalFileOptions::default();
        ingest.set_move_files(true);
        Ok(self.db.ingest_external_file_opts(&ingest, vec![file])?)
    }

    fn pop_ends(
        &self,
        count: u64,
        until: Instant,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<u64> {
        for popped in 0..count {
            if popped % 16 == 0 && Instant::now() > until {
                return Ok(popped);
            }
            let mut cursor = self.db.raw_iterator();
            if popped % 2 == 0 {
                cursor.seek_to_first()
            } else {
                cursor.seek_to_last()
            };
            cursor.status()?;
            let Some((key, value)) = cursor.item() else { return Ok(popped) };
            visit(key, value);
            self.db.delete_opt(key, &self.write)?;
        }
        Ok(count)
    }

    fn len(&self) -> Result<u64> {
        self.reader()?.scan(&[], u64::MAX, |_, _| true)
    }

    fn settle(&mut self) -> Result<()> {
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        self.db.flush_opt(&flush)?;
        self.db.compact_range::<&[u8], &[u8]>(None, None);
        // Not by wait_for_compact, which a RocksDB of before 8.4 does not have.
        const BUSY: [&str; 2] = ["rocksdb.compaction-pending", "rocksdb.num-running-compactions"];
        while BUSY.iter().any(|name| self.db.property_int_value(*name) != Ok(Some(0))) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn reader(&self) -> Result<RocksReader<'_>> {
        Ok(RocksReader { db: &self.db, read: ReadOptions::default() })
    }

    fn close(self) -> Result<()> {
        self.db.cancel_all_background_work(true);
        Ok(())
    }
}

impl Reader for RocksReader<'_> {
    #[inline]
    fn get(&mut self, key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        let value = self.db.get_pinned_opt(key, &self.read)?;
        if let Some(value) = &value {
            visit(value);
        }
        Ok(value.is_some())
    }

    fn multi_get<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        mut visit: impl FnMut(usize, &[u8]),
    ) -> Result<u64> {
        let column = self.db.cf_handle(COLUMN).ok_or("RocksDB has no default column family")?;
        let keys = keys.iter().map(AsRef::as_ref);
        let values = self.db.batched_multi_get_cf_opt::<[u8], _>(&column, keys, false, &self.read);
        let mut found = 0;
        for (index, value) in values.into_iter().enumerate() {
            if let Some(value) = value? {
                visit(index, &value);
                found += 1;
            }
        }
        Ok(found)
    }

    #[inline]
    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut cursor = self.db.raw_iterator();
        cursor.seek(from);
        let mut count = 0;
        while count < limit
            && let Some((key, value)) = cursor.item()
        {
            count += 1;
            if !visit(key, value) {
                break;
            }
            cursor.next();
        }
        cursor.status()?;
        Ok(count)
    }

    fn scan_back(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        let mut cursor = self.db.raw_iterator();
        cursor.seek_to_last();
        let mut count = 0;
        while let Some((key, value)) = cursor.item() {
            count += 1;
            visit(key, value);
            cursor.prev();
        }
        cursor.status()?;
        Ok(count)
    }
}
