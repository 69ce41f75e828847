//! Damage (layer L6): finding it, and saving what it has left. Contracts and delegation.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::WriteBatch;
use crate::db::{Db, telling};
use crate::engine;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileSystem, OsFileSystem};
use crate::options::{Durability, Options, WriteOptions};
use crate::planted::planted;
use crate::report::{DamageReport, Finding, Progress};
use crate::scan::ScanOptions;

/// A salvage writes this much at once.
const BATCH_BYTES: usize = 1 << 20;

/// The longest that a throttled scrub sleeps without looking whether the database was closed.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// Told how far a long call has come; it goes on or breaks off.
type Tell<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

impl Db {
    /// Searches the closed database in the directory `path` for damage: reads every file that it
    /// needs, compares every checksum, and then looks whether what the files say of each other
    /// agrees. What any read would refuse is found. Changes nothing.
    ///
    /// Damage is in the report, not an error. Errors: NotFound, Locked while it is open for
    /// writing, Cancelled when `progress` answers `Break`, Io. Where the manifest is damaged that
    /// is the only finding, since nothing else says which files are needed. Cost: reads all bytes
    /// once and looks every key up three times; some MiB of memory.
    pub fn verify(path: impl AsRef<Path>, progress: Tell<'_>) -> Result<DamageReport> {
        Db::verify_on(Arc::new(OsFileSystem), path.as_ref(), progress)
    }

    /// Verifies on any file system.
    pub(crate) fn verify_on(
        fs: Arc<dyn FileSystem>,
        path: &Path,
        progress: Tell<'_>,
    ) -> Result<DamageReport> {
        let mut tell = telling(progress);
        let mut go_on = |done, total| cancelled(tell(done, total));
        let mut report = engine::verify(Arc::clone(&fs), path, &mut go_on)?;
        if report.is_clean() {
            // Every file is right by itself. What is left is what they are together.
            let options = Options::new().read_only(true);
            let counted = Db::open_on(fs, path, &options).and_then(|db| compare_count(&db, path));
            if let Err(error) = counted {
                report.add(Finding::of(error, path)?);
            }
        }
        Ok(report)
    }

    /// Searches this open database for damage while others read and write it, as
    /// [`Db::verify`] does, but for the count of keys. The log is checked as far as it had been
    /// published when the call began. Files that compactions replace meanwhile are kept until it
    /// ends.
    ///
    /// It reads at most `bytes_per_second`, 0 for no limit, on the calling thread. Damage is in the
    /// report, not an error. Errors: Closed, also when the database is closed meanwhile, Cancelled,
    /// Io. What the system has in memory is not read from the device again, unless `io` is direct.
    pub fn scrub(&self, bytes_per_second: u64, progress: Tell<'_>) -> Result<DamageReport> {
        let start = Instant::now();
        let mut tell = telling(progress);
        self.handle().engine().scrub(&mut |done, total| {
            cancelled(tell(done, total))?;
            if bytes_per_second > 0 {
                let due = Duration::from_secs_f64(done as f64 / bytes_per_second as f64);
                while let Some(left) = due.checked_sub(start.elapsed()) {
                    std::thread::sleep(left.min(LONGEST_NAP));
                    self.handle().engine().check_open()?;
                    cancelled(tell(done, total))?;
                }
            }
            Ok(())
        })
    }

    /// Writes what can be read of the damaged database in the directory `source` into a new one in
    /// `target`, opened with `options`, and lists what was lost. The source is only read.
    ///
    /// Of every key the newest version that can be read is taken, unless its value is lost. Where a
    /// finding names keys, those may be missing, or show what was written before: the entries that
    /// said otherwise are lost. When the manifest is damaged, so may be others.
    ///
    /// Errors: NotFound, Locked while the source is open for writing, Exists when `target` holds a
    /// database already, UnsupportedFormat when a newer version wrote the source's manifest,
    /// Cancelled, and those of [`Db::open`] and [`Db::put`] of the target, which then has a part.
    /// Cost: as a load of all keys; the log is held in memory.
    pub fn salvage(
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
        options: &Options,
        progress: Tell<'_>,
    ) -> Result<DamageReport> {
        let fs = Arc::new(OsFileSystem);
        Db::salvage_on(fs, source.as_ref(), target.as_ref(), options, progress)
    }

    /// Salvages on any file system.
    pub(crate) fn salvage_on(
        fs: Arc<dyn FileSystem>,
        source: &Path,
        target: &Path,
        options: &Options,
        progress: Tell<'_>,
    ) -> Result<DamageReport> {
        engine::refuse_files(&*fs, target)?;
        let options = options.clone().create_if_missing(true).read_only(false);
        if planted("salvage: the source is recovered") {
            drop(Db::open_on(Arc::clone(&fs), source, &options));
        }
        let mut tell = telling(progress);
        let mut go_on = |done, total| cancelled(tell(done, total));
        let mut made: Option<Db> = None;
        let mut batch = WriteBatch::new();
        let mut pending = 0;
        let write = WriteOptions::new().durability(Durability::Process);
        let report = engine::salvage(&*fs, source, &mut go_on, &mut |key, value| {
            let db = match &mut made {
                Some(db) => db,
                // Not before there is something to put into it.
                None => made.insert(Db::open_on(Arc::clone(&fs), target, &options)?),
            };
            batch.put(key, value)?;
            pending += key.len() + value.len();
            if pending >= BATCH_BYTES {
                db.write_with(&batch, &write)?;
                batch.clear();
                pending = 0;
            }
            Ok(())
        })?;
        let db = match made {
            Some(db) => db,
            None => Db::open_on(fs, target, &options)?,
        };
        db.write_with(&batch, &write)?;
        db.flush()?;
        db.close()?;
        Ok(report)
    }
}

fn cancelled(answer: ControlFlow<()>) -> Result<()> {
    match answer {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::new(ErrorKind::Cancelled, "the call was cancelled")),
    }
}

/// Scans everything, and compares the number of keys with the recorded one.
fn compare_count(db: &Db, path: &Path) -> Result<()> {
    let mut count = 0;
    for entry in db.scan(&ScanOptions::new().keys_only(true))? {
        entry?;
        count += 1;
    }
    let recorded = db.len()?;
    if count == recorded || planted("verify: keys not counted") {
        return Ok(());
    }
    let what = format!("{count} keys are there, {recorded} are counted");
    Err(Error::corruption(path, 0, what))
}

#[cfg(any(test, feature = "sim"))]
impl crate::fs::sim::SimDisk {
    /// [`Db::verify`] on this disk.
    pub fn verify_db(&self, path: impl AsRef<Path>, progress: Tell<'_>) -> Result<DamageReport> {
        Db::verify_on(Arc::new(self.clone()), path.as_ref(), progress)
    }

    /// [`Db::salvage`] on this disk.
    pub fn salvage_db(
        &self,
        source: impl AsRef<Path>,
        target: impl AsRef<Path>,
        options: &Options,
        progress: Tell<'_>,
    ) -> Result<DamageReport> {
        let fs = Arc::new(self.clone());
        Db::salvage_on(fs, source.as_ref(), target.as_ref(), options, progress)
    }
}
