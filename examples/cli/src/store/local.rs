//! A database in a directory, opened by this process.

use std::ops::{Bound, ControlFlow};
use std::path::Path;

use serde_json::Value as Json;
use toykv::{Db, Options, ScanOptions, WriteBatch};

use super::{Access, Damage, Entries, Figures, Range, Store, Visit, Watch};
use crate::args::Target;
use crate::failure::Result;

/// An open database.
pub(crate) struct Local {
    db: Db,
}

impl Local {
    /// Opens the directory: for reading where that is enough.
    pub(crate) fn open(dir: &Path, target: &Target, access: Access) -> Result<Local> {
        let (read, create) = (access == Access::Read, access == Access::Create);
        let start = Options::new().read_only(read).create_if_missing(create);
        Ok(Local { db: Db::open(dir, &with_options(start, target)?)? })
    }
}

/// The options of the engine that the command line names; the others at their defaults.
pub(crate) fn options(target: &Target) -> Result<Options> {
    with_options(Options::new(), target)
}

fn with_options(mut options: Options, target: &Target) -> Result<Options> {
    for (name, value) in &target.options {
        options.set(name, value)?;
    }
    Ok(match target.durability {
        Some(durability) => options.durability(durability.into()),
        None => options,
    })
}

impl Store for Local {
    fn name(&self) -> String {
        self.db.path().display().to_string()
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.db.get(key)?.map(|value| value.to_vec()))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.db.put(key, value)?;
        Ok(())
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        self.db.delete(key)?;
        Ok(())
    }

    fn put_all(&mut self, entries: &Entries) -> Result<()> {
        let mut batch = WriteBatch::new();
        for (key, value) in entries {
            batch.put(key, value)?;
        }
        self.db.write(&batch)?;
        Ok(())
    }

    fn scan(&mut self, range: &Range, visit: &mut Visit<'_>) -> Result<()> {
        let mut scan = self.db.scan(&scan_options(range))?;
        while let Some(entry) = scan.next_entry()? {
            if visit(entry.key, entry.value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.db.len()?)
    }

    fn scans_are_frozen(&self) -> bool {
        true
    }

    fn stats(&mut self) -> Result<Figures> {
        let stats = self.db.stats();
        let health = self.db.health();
        let mut figures = Figures::new();
        let mut add = |name: &str, value: Json| figures.insert(name.into(), value);
        add("keys", self.db.len()?.into());
        for number in stats.numbers() {
            add(number.name, number.value.into());
        }
        let text = |error: Option<toykv::Error>| error.map(|error| error.to_string()).into();
        add("poisoned", text(health.poisoned));
        add("background_error", text(health.background_error));
        Ok(figures)
    }

    fn compact(&mut self, range: &Range, watch: &mut Watch<'_>) -> Result<()> {
        let lower = range.start.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let upper = range.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        self.db.compact_with(lower, upper, &mut |progress| -> ControlFlow<()> {
            watch(progress.done_bytes, progress.total_bytes)
        })?;
        Ok(())
    }

    fn explain(&mut self) -> Result<Figures> {
        let space = self.db.explain_space()?;
        let numbers = space.numbers().into_iter();
        let mut figures: Figures =
            numbers.map(|(name, bytes)| (name.into(), bytes.into())).collect();
        for (index, own) in space.snapshots.iter().enumerate() {
            figures.extend([super::snapshot_figure(index, own.held_bytes, own.age_ms)]);
        }
        Ok(figures)
    }

    fn collect(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        self.db.gc_with(&mut |progress| -> ControlFlow<()> {
            watch(progress.done_bytes, progress.total_bytes)
        })?;
        Ok(())
    }

    fn verify(&mut self, watch: &mut Watch<'_>) -> Result<Damage> {
        let report = self.db.scrub(0, &mut |progress| -> ControlFlow<()> {
            watch(progress.done_bytes, progress.total_bytes)
        })?;
        Ok(report.into())
    }

    fn close(&mut self) -> Result<()> {
        Ok(self.db.close()?)
    }
}

fn scan_options(range: &Range) -> ScanOptions {
    let mut options = ScanOptions::new().prefix(&range.prefix).reverse(range.reverse);
    if let Some(start) = &range.start {
        options = options.lower(Bound::Included(start));
    }
    if let Some(end) = &range.end {
        options = options.upper(Bound::Excluded(end));
    }
    if let Some(limit) = range.limit {
        options = options.limit(limit);
    }
    options.keys_only(range.keys_only)
}
