//! The simulated disk must be a file system like the real one: the same random programs run on
//! both and must see the same things.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sim::SimDisk;
use super::{Access, File, FileSystem, LockGuard, LockKind, OsFileSystem, PathKind};
use super::{Region, Window};
use crate::error::{ErrorKind, Result};

const NAMES: [&str; 9] = ["a", "b", "c", "d/x", "d/y", "d", "e", "a/under", "none/x"];

/// One file system with everything that a program holds of it.
struct Machine {
    fs: Box<dyn FileSystem>,
    root: PathBuf,
    files: BTreeMap<u64, Arc<dyn File>>,
    regions: BTreeMap<u64, Region>,
    windows: BTreeMap<u64, Window>,
    locks: BTreeMap<u64, Box<dyn LockGuard>>,
}

/// What a step showed: bytes, or an error's kind and number.
type Seen = std::result::Result<Vec<u8>, (ErrorKind, Option<i32>)>;

fn seen<T>(result: Result<T>, show: impl FnOnce(T) -> Vec<u8>) -> Seen {
    result.map(show).map_err(|error| (error.kind(), error.os_error()))
}

/// The numbers that decide what a step does.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: u64,
    name: u64,
    other: u64,
    slot: u64,
    offset: u64,
    len: u64,
}

impl Machine {
    fn new(fs: Box<dyn FileSystem>, root: &Path) -> Machine {
        Machine {
            fs,
            root: root.to_path_buf(),
            files: BTreeMap::new(),
            regions: BTreeMap::new(),
            windows: BTreeMap::new(),
            locks: BTreeMap::new(),
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.root.join(NAMES[number as usize % NAMES.len()])
    }

    fn step(&mut self, step: Step) -> Seen {
        let (path, other) = (self.path(step.name), self.path(step.other));
        match step.what % 10 {
            0 => self.keep(step.slot, self.fs.create(&path)),
            1 => self.keep(step.slot, self.fs.open(&path)),
            2 => match step.offset % 4 {
                0 => seen(self.fs.create_dir(&path), |()| vec![]),
                1 => seen(self.fs.remove_dir(&path), |()| vec![]),
                2 => seen(self.fs.sync_dir(&path), |()| vec![]),
                _ => seen(self.fs.remove_file(&path), |()| vec![]),
            },
            3 => self.rename(&path, &other),
            4 => self.look(&path),
            5 => self.lock(&path, step),
            _ => self.on_file(step),
        }
    }

    fn keep(&mut self, slot: u64, file: Result<Arc<dyn File>>) -> Seen {
        // Directories can be opened on neither, with words of their own.
        let file = file.map_err(|error| error.with_kind(ErrorKind::Io));
        seen(file, |file| {
            self.regions.remove(&slot);
            self.windows.remove(&slot);
            self.files.insert(slot, file);
            vec![]
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Seen {
        // A database renames files only.
        match (self.fs.kind(from), self.fs.kind(to)) {
            (Ok(PathKind::Directory), _) | (_, Ok(PathKind::Directory)) => Ok(vec![]),
            _ => seen(self.fs.rename(from, to), |()| vec![]),
        }
    }

    fn look(&self, path: &Path) -> Seen {
        let kind = seen(self.fs.kind(path), |kind| vec![kind as u8])?;
        if kind != [PathKind::Directory as u8] {
            return Ok(kind);
        }
        seen(self.fs.list_dir(path), |mut entries| {
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            format!("{entries:?}").into_bytes()
        })
    }

    fn lock(&mut self, path: &Path, step: Step) -> Seen {
        self.locks.remove(&step.slot);
        let kind =
            if step.offset.is_multiple_of(2) { LockKind::Shared } else { LockKind::Exclusive };
        // The holder's words differ, so files that hold data are left alone.
        let path = path.with_extension("lock");
        seen(self.fs.lock(&path, kind), |lock| {
            self.locks.insert(step.slot, lock);
            vec![]
        })
    }

    fn on_file(&mut self, step: Step) -> Seen {
        let Step { slot, offset, len, .. } = step;
        let Some(file) = self.files.get(&slot) else { return Ok(vec![]) };
        let bytes = vec![step.other as u8; len as usize];
        match step.name % 8 {
            0 => seen(file.size(), |size| size.to_le_bytes().to_vec()),
            1 => {
                let mut buf = vec![0; len as usize];
                seen(file.read_at(&mut buf, offset), |()| buf)
            }
            // A mapped file of the simulated disk cannot grow.
            2 | 3 if !self.is_mapped() => seen(file.write_at(&bytes, offset), |()| vec![]),
            4 if !self.is_mapped() => seen(file.allocate(offset), |()| vec![]),
            5 => seen(file.sync_data(), |()| vec![]),
            6 => {
                let region = seen(file.map(len as usize, Access::Random), |region| {
                    self.regions.insert(slot, region);
                    vec![]
                });
                region.and_then(|_| self.read_maps())
            }
            7 => {
                let (offset, len) = (offset / 4096 * 4096, len.next_multiple_of(4096) as usize);
                seen(file.map_window(offset, len), |mut window| {
                    window.write(len / 2, &bytes[..bytes.len().min(len / 2)]);
                    let read = window.read(0, len).to_vec();
                    self.windows.insert(slot, window);
                    read
                })
            }
            _ => self.read_maps(),
        }
    }

    fn is_mapped(&self) -> bool {
        !self.regions.is_empty() || !self.windows.is_empty()
    }

    fn read_maps(&mut self) -> Seen {
        let mut all = Vec::new();
        for region in self.regions.values() {
            all.extend_from_slice(region.get(0, region.len()).unwrap());
        }
        for window in self.windows.values() {
            all.extend_from_slice(window.read(0, window.len()));
        }
        if all.len().is_multiple_of(3) {
            self.regions.clear();
            self.windows.clear();
        }
        Ok(all)
    }
}

#[test]
fn both_file_systems_show_the_same() {
    let mut seed = 1u64;
    let mut next = move |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let (mut failed, mut done, mut shown) = (0, 0, 0);
    for round in 0..30 {
        let dir = tempfile::tempdir().unwrap();
        let mut real = Machine::new(Box::new(OsFileSystem), dir.path());
        let disk = SimDisk::new();
        disk.set_write_back(30, round);
        disk.create_dir(Path::new("/sim")).unwrap();
        let mut simulated = Machine::new(Box::new(disk.clone()), Path::new("/sim"));
        for number in 0..400 {
            let step = Step {
                what: next(16),
                name: next(72),
                other: next(72),
                slot: next(5),
                offset: [0, 1, 5, 4095, 4096, 8192, 10_000, 20_000][next(8) as usize],
                len: [0, 1, 7, 512, 4096, 8192, 9000][next(7) as usize],
            };
            let expected = real.step(step);
            let found = simulated.step(step);
            assert_eq!(found, expected, "round {round}, step {number}: {step:?}");
            match expected {
                Err(_) => failed += 1,
                Ok(bytes) if bytes.is_empty() => done += 1,
                Ok(_) => shown += 1,
            }
        }
    }
    // A program that only ever fails would show nothing.
    assert!(failed > 1000 && done > 1000 && shown > 1000, "{failed}, {done}, {shown}");
}
