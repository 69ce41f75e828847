//! Writing one sorted run (layer L5): splits entries over tables, shared by flush, compaction,
//! recovery and large batches.
//!
//! Invariant WHOLE: the versions of one user key never span two tables.

use std::sync::Arc;

use super::hooks;
use super::obsolete::discard_tables;
use super::state::Env;
use crate::checksum::hash_key;
use crate::error::Result;
use crate::filename::FileName;
use crate::planted::planted;
use crate::table::{Table, TableBuilder, TableParams};
use crate::types::{FileNumber, Kind, SeqNo, ValuePointer};
use crate::version::TableMeta;

/// A finished run: its tables in key order, synced, their names durable.
pub(crate) struct FinishedRun {
    pub(crate) metas: Vec<TableMeta>,
    pub(crate) size_bytes: u64,
}

/// Builds the tables of a run. Dropped before `finish`, it deletes what it made.
pub(crate) struct RunWriter<'a> {
    env: &'a Env,
    seqno_base: SeqNo,
    builder: Option<TableBuilder>,
    numbers: Vec<FileNumber>,
    metas: Vec<TableMeta>,
    /// What the table's entries take that are not the newest of their key.
    old_bytes: u64,
    /// A table ends at the first new key after so many bytes.
    table_size_bytes: u64,
}

impl<'a> RunWriter<'a> {
    /// A run whose sequence numbers are all at least `seqno_base`.
    pub(crate) fn new(env: &'a Env, seqno_base: SeqNo) -> RunWriter<'a> {
        let (numbers, metas) = (Vec::new(), Vec::new());
        let table_size_bytes = hooks::limit(&env.dir, "table size", env.plan.table_size_bytes);
        let (builder, old_bytes) = (None, 0);
        RunWriter { env, seqno_base, builder, numbers, metas, old_bytes, table_size_bytes }
    }

    /// The next entry: ascending keys, the versions of a key newest first.
    pub(crate) fn add(&mut self, key: &[u8], seqno: SeqNo, kind: Kind, value: &[u8]) -> Result<()> {
        let full = |builder: &TableBuilder| {
            builder.file_size_estimate() >= self.table_size_bytes
                && (builder.last_key() != key || hooks::planted(&self.env.dir, "key split"))
        };
        if self.builder.as_ref().is_some_and(full) {
            self.finish_table()?;
        }
        let builder = match &mut self.builder {
            Some(builder) => builder,
            empty => {
                let number = self.env.new_file_number();
                let path = FileName::Table(number).path(&self.env.dir);
                self.numbers.push(number);
                let file = match self.env.access.direct {
                    true => self.env.fs.create_direct(&path)?,
                    false => self.env.fs.create(&path)?,
                };
                let (hash_seed, seqno_base) = (self.env.hash_seed, self.seqno_base);
                let codec = self.env.options.codec();
                let params = TableParams { number, hash_seed, seqno_base, codec };
                empty.insert(TableBuilder::new(file, params))
            }
        };
        let older = builder.add(key, hash_key(key, self.env.hash_seed), seqno, kind, value)?;
        if older {
            self.old_bytes += entry_bytes(key, kind, value);
        }
        Ok(())
    }

    /// Finishes the last table and makes the names durable.
    pub(crate) fn finish(mut self) -> Result<FinishedRun> {
        self.finish_table()?;
        if !self.metas.is_empty() && !planted("table: name not synced") {
            self.env.fs.sync_dir(&self.env.dir)?;
        }
        self.numbers.clear();
        let metas = std::mem::take(&mut self.metas);
        let size_bytes = metas.iter().map(|meta| meta.size_bytes).sum();
        Ok(FinishedRun { metas, size_bytes })
    }

    fn finish_table(&mut self) -> Result<()> {
        let Some(builder) = self.builder.take() else { return Ok(()) };
        let summary = builder.finish()?;
        let number = self.numbers.last().copied().unwrap_or_default();
        self.metas.push(TableMeta {
            number,
            size_bytes: summary.size_bytes,
            smallest: summary.smallest,
            largest: summary.largest,
            min_seqno: summary.min_seqno,
            max_seqno: summary.max_seqno,
            seqno_base: self.seqno_base,
            entries: summary.entries,
            tombstones: summary.tombstones,
            value_bytes: summary.value_bytes,
            old_bytes: std::mem::take(&mut self.old_bytes),
        });
        Ok(())
    }
}

/// Key and value of an entry, wherever that lies.
fn entry_bytes(key: &[u8], kind: Kind, value: &[u8]) -> u64 {
    let pointer = if kind == Kind::Pointer { ValuePointer::decode(value) } else { None };
    key.len() as u64 + pointer.map_or(value.len() as u64, |pointer| u64::from(pointer.len))
}

impl Drop for RunWriter<'_> {
    fn drop(&mut self) {
        self.builder = None;
        discard_tables(self.env, &self.numbers);
    }
}

impl FinishedRun {
    /// Both as one run; the keys of `upper` are behind those of this one.
    pub(crate) fn followed_by(mut self, upper: FinishedRun) -> FinishedRun {
        self.metas.extend(upper.metas);
        self.size_bytes += upper.size_bytes;
        self
    }

    /// Opens the tables for readers. They are new: nothing has been read from them yet.
    pub(crate) fn open(&self, env: &Env) -> Result<Vec<(FileNumber, Arc<Table>)>> {
        let open = |meta: &TableMeta| Ok((meta.number, Arc::new(open_table(env, meta)?)));
        self.metas.iter().map(open).collect()
    }

    /// Deletes the tables again, for a job that fails before its edit.
    pub(crate) fn discard(&self, env: &Env) {
        let numbers: Vec<_> = self.metas.iter().map(|meta| meta.number).collect();
        discard_tables(env, &numbers);
    }
}

/// Opens a table that the state names.
pub(crate) fn open_table(env: &Env, meta: &TableMeta) -> Result<Table> {
    let path = FileName::Table(meta.number).path(&env.dir);
    let (size, base) = (meta.size_bytes, meta.seqno_base);
    Table::open(&env.fs, &path, meta.number, size, env.hash_seed, base, &env.access)
}
