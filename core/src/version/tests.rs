//! Power loss and failing calls while manifests are written, on the simulated disk (layer L4).
//!
//! One script creates a manifest, appends to it, and switches to others. It is stopped before every
//! operation, or goes on after every operation has failed in every way; then the power goes. What
//! is loaded afterwards is the last acknowledged state, or one that was being made (ACK, ATOM,
//! STICKY, RECOV, DETECT). Planted bugs show that each of these checks can fail.

pub(crate) mod documented;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::load::Loaded;
use super::samples::{self, table};
use super::{Manifest, VersionEdit, VersionState, load};
use crate::error::{ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::sim::{CrashPolicy, Effect, Fault, Filler, Keep, SimDisk, Times, Unit};
use crate::fs::{
    Access, DirEntry, File, FileSystem, LockGuard, LockKind, PathKind, Region, Window,
};
use crate::types::FileNumber;

const DIR: &str = "/db";

#[derive(Clone, Copy)]
enum Step {
    /// A new manifest becomes the live one.
    Create,
    /// An edit with a table whose last key has this length.
    Append(usize),
}

/// The second and third edit with a long key make the manifest grow.
const SCRIPT: [Step; 13] = [
    Step::Create,
    Step::Append(20),
    Step::Append(700),
    Step::Append(9_000),
    Step::Append(7_000),
    Step::Append(3),
    Step::Create,
    Step::Append(50),
    Step::Append(40_000),
    Step::Append(400),
    Step::Create,
    Step::Append(16),
    Step::Append(1_500),
];

/// Somebody who writes manifests and knows what may be found after power loss.
struct Player<'a> {
    fs: &'a dyn FileSystem,
    manifest: Option<Manifest>,
    /// The last acknowledged state.
    acked: Option<VersionState>,
    /// States that were being made since, and failed.
    tried: Vec<VersionState>,
    next_number: FileNumber,
    /// The live manifest is unknown: nothing more may be written.
    dead: bool,
}

impl<'a> Player<'a> {
    fn new(fs: &'a dyn FileSystem) -> Player<'a> {
        let (manifest, acked) = (None, None);
        Player { fs, manifest, acked, tried: Vec::new(), next_number: 100, dead: false }
    }

    /// One step. An edit may be tried twice, as the engine does when the disk was full.
    fn step(&mut self, step: Step) -> Result<()> {
        if self.dead {
            return Ok(());
        }
        let number = self.next_number;
        self.next_number += 1;
        match step {
            Step::Create => self.create(number),
            Step::Append(len) => self.append(number, len),
        }
    }

    fn create(&mut self, number: FileNumber) -> Result<()> {
        let mut state = self.acked.clone().unwrap_or_else(samples::state);
        state.next_file = number + 1;
        let created = Manifest::create(self.fs, Path::new(DIR), number, &state);
        match created {
            Ok(manifest) => {
                self.manifest = Some(manifest);
                self.acknowledge(state);
                Ok(())
            }
            Err(error) => {
                self.tried.push(state);
                self.dead = error.kind() == ErrorKind::Poisoned;
                Err(error)
            }
        }
    }

    fn append(&mut self, number: FileNumber, len: usize) -> Result<()> {
        let (Some(manifest), Some(state)) = (&mut self.manifest, &self.acked) else {
            return Ok(());
        };
        let seqno = state.last_seqno + 1;
        let mut edit = VersionEdit::new();
        edit.add_table(state.next_run, table(number, "a", &"x".repeat(len), seqno, seqno));
        let state = state.with(&edit)?;
        let outcome = manifest.append(&edit);
        match outcome {
            Ok(()) => self.acknowledge(state),
            Err(_) => self.tried.push(state),
        }
        outcome
    }

    fn acknowledge(&mut self, state: VersionState) {
        self.acked = Some(state);
        self.tried.clear();
    }

    /// What is wrong with what a disk holds after power loss; else whether it is the state that was
    /// acknowledged (0) or one that was being made.
    fn judge(&self, disk: &SimDisk) -> std::result::Result<usize, String> {
        match load(disk, Path::new(DIR)) {
            Ok(None) if self.acked.is_none() => Ok(0),
            Ok(None) => Err("nothing is found".into()),
            Ok(Some(Loaded { state, .. })) if Some(&state) == self.acked.as_ref() => Ok(0),
            Ok(Some(Loaded { state, .. })) => {
                let tried = self.tried.iter().position(|tried| *tried == state);
                tried.map(|index| index + 1).ok_or("another state is found".into())
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// An empty directory on a new disk.
fn new_disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(Path::new(DIR)).unwrap();
    disk.sync_all();
    disk
}

/// What was found after many crashes.
#[derive(Debug, Default)]
struct Findings {
    judged: u64,
    violations: Vec<String>,
    /// Crashes with a state that was being made, by its number; 0 is the acknowledged one.
    outcomes: BTreeSet<usize>,
}

impl Findings {
    fn judge(&mut self, player: &Player<'_>, disk: &SimDisk, seed: u64, what: &str) {
        for (name, policy) in CrashPolicy::standard() {
            let image = disk.crash_image(&policy, seed);
            self.judged += 1;
            match player.judge(&image) {
                Ok(outcome) => {
                    self.outcomes.insert(outcome);
                }
                Err(violation) => {
                    self.violations.push(format!("{what}, {name}, seed {seed}: {violation}"));
                }
            }
        }
    }
}

/// Runs the script with the power cut before every operation in turn.
fn crash_everywhere(
    seeds: std::ops::Range<u64>,
    write_back: u8,
    wrap: impl Fn(&SimDisk) -> Arc<dyn FileSystem>,
) -> Findings {
    let mut findings = Findings::default();
    for seed in seeds {
        let mut index = 0;
        loop {
            let disk = new_disk();
            disk.set_write_back(write_back, seed);
            disk.crash_at(disk.operation_count() + index);
            let fs = wrap(&disk);
            let mut player = Player::new(&*fs);
            let stopped = SCRIPT.iter().any(|&step| player.step(step).is_err());
            findings.judge(&player, &disk, seed, &format!("operation {index}"));
            if !stopped {
                break;
            }
            index += 1;
        }
        assert!(index > 50, "only {index} operations");
    }
    findings
}

fn as_it_is(disk: &SimDisk) -> Arc<dyn FileSystem> {
    Arc::new(disk.clone())
}

#[test]
fn power_loss_at_every_operation_leaves_the_state_before_or_after() {
    for write_back in [0, 30, 90] {
        let findings = crash_everywhere(0..4, write_back, as_it_is);
        assert_eq!(findings.violations, [""; 0]);
        assert!(findings.judged > 4_000, "{}", findings.judged);
        assert_eq!(findings.outcomes, BTreeSet::from([0, 1]), "both are reached");
    }
}

#[test]
fn power_loss_while_recovering_reaches_the_same_state() {
    let (mut judged, mut seed) = (0, 0);
    for index in (0..).step_by(3) {
        let disk = new_disk();
        disk.crash_at(disk.operation_count() + index);
        let mut player = Player::new(&disk);
        let stopped = SCRIPT.iter().any(|&step| player.step(step).is_err());
        for (_, policy) in CrashPolicy::standard().into_iter().step_by(4) {
            seed += 1;
            judged += recover_with_crashes(&disk.crash_image(&policy, seed), seed);
        }
        if !stopped {
            break;
        }
    }
    assert!(judged > 3_000, "{judged}");
}

/// Opens a disk after power loss by writing a new manifest, with the power cut again before every
/// operation: the state stays. Answers how often that was seen.
fn recover_with_crashes(disk: &SimDisk, seed: u64) -> u64 {
    let Some(Loaded { state, .. }) = load(disk, Path::new(DIR)).unwrap() else { return 0 };
    let highest = disk.files().into_iter().filter_map(|(path, _)| {
        let name = path.file_name()?.to_str()?;
        FileName::parse(name)?.number()
    });
    let number = highest.max().unwrap_or(0).max(state.next_file) + 1;
    let new = VersionState { next_file: number + 1, ..state.clone() };
    let mut judged = 0;
    for index in 0.. {
        let disk = disk.crash_image(&CrashPolicy::KEEP_ALL, seed);
        disk.crash_at(disk.operation_count() + index);
        let created = Manifest::create(&disk, Path::new(DIR), number, &new);
        for (name, policy) in CrashPolicy::standard() {
            let image = disk.crash_image(&policy, seed);
            let found = load(&image, Path::new(DIR)).unwrap().map(|loaded| loaded.state);
            judged += 1;
            if created.is_ok() {
                assert_eq!(found.as_ref(), Some(&new), "{name}");
            } else {
                assert!(found == Some(state.clone()) || found == Some(new.clone()), "{name}");
            }
        }
        if created.is_ok() {
            break;
        }
    }
    judged
}

#[test]
fn after_any_failed_call_nothing_wrong_is_acknowledged() {
    let operations = {
        let disk = new_disk();
        let before = disk.operation_count();
        let mut player = Player::new(&disk);
        SCRIPT.iter().for_each(|&step| player.step(step).unwrap());
        disk.operation_count() - before
    };
    let effects = [Effect::Nothing, Effect::Half, Effect::Done, Effect::Reverted];
    let mut findings = Findings::default();
    let mut failures = 0;
    for index in 0..operations {
        for errno in [libc::EIO, libc::ENOSPC] {
            for effect in effects {
                for times in [Times::Once, Times::Forever] {
                    let disk = new_disk();
                    let at = disk.operation_count() + index;
                    disk.fail(Fault::at(at).errno(errno).effect(effect).times(times));
                    let mut player = Player::new(&disk);
                    for step in SCRIPT {
                        failures += u64::from(player.step(step).is_err());
                    }
                    let what = format!("operation {index} fails: {errno} {effect:?} {times:?}");
                    findings.judge(&player, &disk, index, &what);
                }
            }
        }
    }
    assert_eq!(findings.violations, [""; 0]);
    assert!(failures > 16 * operations / 2, "{failures} of {operations} operations");
    assert!(findings.outcomes.len() > 1, "{:?}", findings.outcomes);
}

#[test]
fn a_failed_write_or_sync_ends_appending_and_a_new_manifest_goes_on() {
    for kind in [crate::fs::sim::OpKind::Sync, crate::fs::sim::OpKind::Write] {
        let disk = new_disk();
        let mut player = Player::new(&disk);
        player.step(Step::Create).unwrap();
        player.step(Step::Append(10)).unwrap();
        let acked = player.acked.clone();
        disk.fail(Fault::when(|_| true).on(kind).errno(libc::EIO));
        let error = player.step(Step::Append(11)).unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, Some(libc::EIO)));
        for _ in 0..2 {
            let error = player.step(Step::Append(12)).unwrap_err();
            assert_eq!((error.kind(), error.os_error()), (ErrorKind::Poisoned, Some(libc::EIO)));
        }
        assert_eq!(player.acked, acked);
        player.step(Step::Create).unwrap();
        player.step(Step::Append(13)).unwrap();
        let image = disk.crash_image(&CrashPolicy::DROP_ALL, 1);
        assert_eq!(player.judge(&image), Ok(0));
    }
}

#[test]
fn an_edit_that_nobody_could_read_again_is_refused_before_it_is_written() {
    let disk = new_disk();
    let mut player = Player::new(&disk);
    player.step(Step::Create).unwrap();
    let before = disk.total_bytes();
    // The last key of the table is longer than any key may be.
    let error = player.step(Step::Append(70_000)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(disk.total_bytes(), before);
    player.step(Step::Append(100)).unwrap();
    assert_eq!(player.judge(&disk.crash_image(&CrashPolicy::DROP_ALL, 1)), Ok(0));
}

#[test]
fn a_full_disk_refuses_to_grow_and_the_same_manifest_goes_on_when_there_is_room() {
    let disk = new_disk();
    let mut player = Player::new(&disk);
    player.step(Step::Create).unwrap();
    disk.set_capacity(Some(disk.total_bytes()));
    for _ in 0..10 {
        player.step(Step::Append(900)).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(player.step(Step::Append(9_000)).unwrap_err().kind(), ErrorKind::DiskFull);
        player.step(Step::Append(100)).unwrap();
    }
    let created = player.step(Step::Create).unwrap_err();
    assert_eq!(created.kind(), ErrorKind::DiskFull);
    player.step(Step::Append(100)).unwrap();
    disk.set_capacity(None);
    player.step(Step::Append(9_000)).unwrap();
    player.step(Step::Create).unwrap();
    assert_eq!(player.judge(&disk.crash_image(&CrashPolicy::DROP_ALL, 1)), Ok(0));
}

#[test]
fn a_switch_that_may_have_happened_is_told_as_poisoned() {
    for (kind, nth, expected) in [
        (crate::fs::sim::OpKind::Rename, 0, ErrorKind::Poisoned),
        (crate::fs::sim::OpKind::SyncDir, 0, ErrorKind::Io),
        (crate::fs::sim::OpKind::SyncDir, 1, ErrorKind::Poisoned),
        (crate::fs::sim::OpKind::Create, 1, ErrorKind::Io),
        (crate::fs::sim::OpKind::Sync, 1, ErrorKind::Io),
    ] {
        let disk = new_disk();
        let mut player = Player::new(&disk);
        player.step(Step::Create).unwrap();
        let mut seen = 0;
        let counted = move |_: &crate::fs::sim::Operation<'_>| {
            seen += 1;
            seen == nth + 1
        };
        disk.fail(Fault::when(counted).on(kind));
        let error = player.step(Step::Create).unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (expected, Some(libc::EIO)), "{kind:?} {nth}");
    }
}

#[test]
fn a_failed_call_while_loading_is_an_error_and_not_an_empty_database() {
    let disk = new_disk();
    let mut player = Player::new(&disk);
    SCRIPT.iter().for_each(|&step| player.step(step).unwrap());
    let before = disk.operation_count();
    assert_eq!(load(&disk, Path::new(DIR)).unwrap().map(|loaded| loaded.state), player.acked);
    let operations = disk.operation_count() - before;
    assert!(operations >= 6, "{operations}");
    for index in 0..operations {
        disk.fail_at(disk.operation_count() + index, libc::EIO, Times::Once);
        let error = load(&disk, Path::new(DIR)).unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, Some(libc::EIO)));
        disk.clear_faults();
    }
}

/// What a careless file system forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgets {
    Nothing,
    /// Syncs of the directory: every one, each first of two, each second of two.
    Dir,
    DirBeforeCurrent,
    DirAfterCurrent,
    /// Syncs of the manifest.
    Manifest,
    /// Syncs of what becomes `CURRENT`.
    Current,
    /// Syncs of the manifest right after it was made larger.
    Grown,
}

/// A file system with a bug.
#[derive(Debug)]
struct Careless {
    disk: SimDisk,
    forgets: Forgets,
    dir_syncs: AtomicU64,
}

#[derive(Debug)]
struct CarelessFile {
    file: Arc<dyn File>,
    forgets: Forgets,
    grown: AtomicBool,
}

impl Careless {
    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        let grown = AtomicBool::new(false);
        Arc::new(CarelessFile { file, forgets: self.forgets, grown })
    }
}

impl FileSystem for Careless {
    fn kind(&self, path: &Path) -> Result<PathKind> {
        self.disk.kind(path)
    }
    fn create_dir(&self, dir: &Path) -> Result<()> {
        self.disk.create_dir(dir)
    }
    fn list_dir(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        self.disk.list_dir(dir)
    }
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.wrap(self.disk.create(path)?))
    }
    fn create_direct(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.create(path)
    }
    fn open_direct(&self, path: &Path) -> Result<Arc<dyn File>> {
        self.open(path)
    }
    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        Ok(self.wrap(self.disk.open(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.disk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> Result<()> {
        self.disk.remove_file(path)
    }
    fn remove_dir(&self, dir: &Path) -> Result<()> {
        self.disk.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        let first_of_two = self.dir_syncs.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        let forgotten = match self.forgets {
            Forgets::Dir => true,
            Forgets::DirBeforeCurrent => first_of_two,
            Forgets::DirAfterCurrent => !first_of_two,
            _ => false,
        };
        if forgotten { Ok(()) } else { self.disk.sync_dir(dir) }
    }
    fn lock(&self, path: &Path, kind: LockKind) -> Result<Box<dyn LockGuard>> {
        self.disk.lock(path, kind)
    }
    fn random_word(&self) -> u64 {
        self.disk.random_word()
    }
}

impl File for CarelessFile {
    fn path(&self) -> &Path {
        self.file.path()
    }
    fn size(&self) -> Result<u64> {
        self.file.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(data, offset)
    }
    fn allocate(&self, size: u64) -> Result<()> {
        let old = self.file.size()?;
        self.grown.store(old > 0, Ordering::Relaxed);
        self.file.allocate(size)
    }
    fn sync_data(&self) -> Result<()> {
        let name = self.path().file_name().unwrap().to_string_lossy().into_owned();
        let grown = self.grown.swap(false, Ordering::Relaxed);
        let forgotten = match self.forgets {
            Forgets::Manifest => name.starts_with("MANIFEST"),
            Forgets::Current => name.starts_with("CURRENT"),
            Forgets::Grown => grown,
            _ => false,
        };
        if forgotten { Ok(()) } else { self.file.sync_data() }
    }
    fn map(&self, len: usize, access: Access) -> Result<Region> {
        self.file.map(len, access)
    }
    fn map_window(&self, offset: u64, len: usize) -> Result<Window> {
        self.file.map_window(offset, len)
    }
}

#[test]
fn every_forgotten_sync_is_found_out() {
    let run = |forgets| {
        crash_everywhere(0..2, 20, |disk| {
            let (disk, dir_syncs) = (disk.clone(), AtomicU64::new(0));
            Arc::new(Careless { disk, forgets, dir_syncs })
        })
    };
    assert_eq!(run(Forgets::Nothing).violations, [""; 0]);
    for forgets in [
        Forgets::Dir,
        Forgets::DirBeforeCurrent,
        Forgets::DirAfterCurrent,
        Forgets::Manifest,
        Forgets::Current,
        Forgets::Grown,
    ] {
        let findings = run(forgets);
        assert!(!findings.violations.is_empty(), "{forgets:?} is not noticed");
    }
}

/// Every file of the disk by path, for looking at what a load leaves.
fn contents(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let files = disk.files().into_iter();
    files.map(|(path, _)| (path.clone(), disk.read_file(&path).unwrap())).collect()
}

#[test]
fn loading_changes_nothing_whatever_it_finds() {
    let disk = new_disk();
    let mut player = Player::new(&disk);
    SCRIPT.iter().for_each(|&step| player.step(step).unwrap());
    for (path, bytes) in contents(&disk) {
        for damage in [0, bytes.len() / 2, bytes.len() - 1] {
            let image = disk.crash_image(&CrashPolicy::KEEP_ALL, 0);
            image.overwrite(&path, damage as u64, &[0xee]).unwrap();
            let (before, changes) = (contents(&image), image.change_count());
            let _ = load(&image, Path::new(DIR));
            assert_eq!(image.change_count(), changes);
            assert!(contents(&image) == before);
        }
    }
}

/// The record of a durable edit may end with zeros, which lie in a sector of their own.
#[test]
fn a_durable_edit_that_ends_with_zeros_survives_whatever_is_written_behind_it() {
    let dir = Path::new(DIR);
    let noise = CrashPolicy {
        data: Keep::Nothing,
        unit: Unit::Sector,
        filler: Filler::Noise,
        ..CrashPolicy::KEEP_ALL
    };
    for len in 1..1_100 {
        let disk = SimDisk::new();
        disk.create_dir(dir).unwrap();
        let mut state = samples::state();
        state.next_file = 101;
        let mut manifest = Manifest::create(&disk, dir, 100, &state).unwrap();
        let mut table = table(101, "a", &"x".repeat(len), 60, 60);
        (table.tombstones, table.value_bytes) = (0, 0);
        let mut edit = VersionEdit::new();
        edit.add_table(state.next_run, table);
        manifest.append(&edit).unwrap();
        let loaded = load(&disk.crash_image(&noise, 1), dir).unwrap().unwrap();
        assert_eq!(loaded.state, state.with(&edit).unwrap(), "with a key of {len} bytes");
    }
}
