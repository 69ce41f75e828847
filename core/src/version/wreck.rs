//! Reading what can be read of a damaged manifest (layer L4).
//!
//! Every record's checksum has the place and the manifest's salt in its seed, so intact records are
//! known as such without those before them. What the lost ones said is not known: a file that they
//! removed is still named, one that they added is not.

use std::collections::BTreeMap;
use std::path::Path;

use super::edit::VersionEdit;
use super::layout::{HEADER_LEN, HEADER_SEED, Record, RecordKind, record_kind};
use super::load::read_current;
use super::meta::{SegmentMeta, SegmentState, TableMeta};
use crate::checksum::checksum64;
use crate::coding::Decoder;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::fs::FileSystem;
use crate::types::{FileNumber, SegmentId};

/// What intact edits name.
#[derive(Debug, Default)]
pub(crate) struct StateWreck {
    /// The database's hash seed; `None` when no manifest with a header is there.
    pub(crate) hash_seed: Option<u64>,
    pub(crate) tables: BTreeMap<FileNumber, TableMeta>,
    pub(crate) segments: BTreeMap<SegmentId, SegmentMeta>,
    /// Damage that was met.
    pub(crate) lost: Vec<Error>,
}

/// Reads the manifest that CURRENT names, or the newest one where that is damaged, as far as it can
/// be read.
pub(crate) fn load_wreck(fs: &dyn FileSystem, dir: &Path) -> Result<StateWreck> {
    let mut wreck = StateWreck::default();
    let listed = fs.list_dir(dir)?;
    let numbers = listed.iter().filter_map(|entry| match FileName::parse(&entry.name) {
        Some(FileName::Manifest(number)) => Some(number),
        _ => None,
    });
    let newest = numbers.max();
    let named = match read_current(fs, dir) {
        Ok(named) => named,
        Err(error) => {
            wreck.lost.push(error);
            None
        }
    };
    let there = |number: &FileNumber| {
        let name = FileName::Manifest(*number).to_string();
        listed.iter().any(|entry| entry.name == name)
    };
    let Some(number) = named.filter(there).or(newest) else {
        let path = FileName::Current.path(dir);
        wreck.lost.push(Error::corruption(&path, 0, "no manifest is there"));
        return Ok(wreck);
    };
    let path = FileName::Manifest(number).path(dir);
    let file = fs.open(&path)?;
    let mut bytes = vec![0; usize::try_from(file.size()?).unwrap_or(usize::MAX)];
    file.read_at(&mut bytes, 0)?;
    wreck.read(&path, &bytes);
    Ok(wreck)
}

impl StateWreck {
    fn read(&mut self, path: &Path, bytes: &[u8]) {
        let Some(header) = bytes.get(..HEADER_LEN) else {
            self.lost.push(Error::corruption(path, 0, "the manifest's header is gone"));
            return;
        };
        let (covered, stored) = header.split_at(HEADER_LEN - 8);
        let stored = Decoder::new(stored).u64().unwrap_or(0);
        let computed = checksum64(covered, HEADER_SEED);
        if stored != computed {
            self.lost.push(Error::corruption(path, 0, "the manifest's header is damaged"));
        }
        self.hash_seed = Decoder::new(covered.get(24..).unwrap_or(&[])).u64();
        // Whichever of the two is right has records.
        if !self.read_records(path, bytes, stored) && stored != computed {
            self.read_records(path, bytes, computed);
        }
    }

    fn read_records(&mut self, path: &Path, bytes: &[u8], salt: u64) -> bool {
        let (mut at, mut found, mut hole) = (HEADER_LEN, false, None);
        let mut budget = bytes.len().saturating_mul(64);
        while at < bytes.len() {
            let record = Record::claimed(bytes, at, salt).filter(|record| {
                let known = record_kind(record.kind).is_some();
                let affordable = known && budget >= record.len;
                budget -= if affordable { record.len } else { 0 };
                affordable && record.is_whole(bytes, at, salt)
            });
            let Some(record) = record else {
                hole.get_or_insert(at);
                at += 8;
                continue;
            };
            if let Some(offset) = hole.take() {
                let what = "edits of the manifest are damaged";
                self.lost.push(Error::corruption(path, offset as u64, what));
            }
            found = true;
            if record_kind(record.kind) == Some(RecordKind::Edit) {
                match VersionEdit::decode(record.payload) {
                    Ok(edit) => self.apply(&edit),
                    Err(_) => self.lost.push(Error::corruption(path, at as u64, "no edit")),
                }
            }
            at += record.len;
        }
        found
    }

    /// Applies an edit whatever it follows.
    fn apply(&mut self, edit: &VersionEdit) {
        for number in &edit.removed_tables {
            self.tables.remove(number);
        }
        for (_, table) in &edit.added_tables {
            self.tables.insert(table.number, table.clone());
        }
        for id in &edit.removed_segments {
            self.segments.remove(id);
        }
        for segment in &edit.added_segments {
            self.segments.insert(segment.id, segment.clone());
        }
        for (id, values) in &edit.flushed_segments {
            if let Some(segment) = self.segments.get_mut(id) {
                (segment.state, segment.values) = (SegmentState::Flushed, *values);
            }
        }
    }
}
