//! What the simulated disk loses, keeps and refuses. A test of a crash tests both ways: what must
//! survive does under every policy, and the mistake it guards against shows in some image.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::error::ErrorKind;
use crate::fs::{Access, File, FileSystem, LockKind, PathKind};

mod crashes;
mod faults;

fn path(name: &str) -> &Path {
    Path::new(name)
}

/// A disk with a durable directory /db.
fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(path("/db")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk
}

/// A durable file.
fn durable(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create(path(name)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path("/db")).unwrap();
    file
}

/// Images under every standard policy and many random ones.
fn images(disk: &SimDisk) -> Vec<(String, SimDisk)> {
    let mut images = Vec::new();
    let (few, many) = if cfg!(miri) { (1, 5) } else { (4, 100) };
    for (name, policy) in CrashPolicy::standard() {
        for seed in 0..few {
            images.push((format!("{name}, seed {seed}"), disk.crash_image(&policy, seed)));
        }
    }
    for seed in 0..many {
        let policy = CrashPolicy::random(seed);
        images.push((format!("{policy:?}, seed {seed}"), disk.crash_image(&policy, seed)));
    }
    images
}

/// The bytes of a file in every image; `None` where it is absent.
fn outcomes(disk: &SimDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    images(disk).into_iter().map(|(_, image)| image.read_file(name).ok()).collect()
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

#[test]
fn the_disk_is_controlled_from_outside() {
    let disk = disk();
    disk.write_file("/db/a", b"hello").unwrap();
    disk.write_file("/db/b", &[7; 5000]).unwrap();
    disk.write_file("/db/b", b"again").unwrap();
    assert_eq!(disk.read_file("/db/b").unwrap(), b"again");
    assert_eq!(disk.files(), [("/db/a".into(), 5), ("/db/b".into(), 5)]);
    disk.overwrite("/db/a", 1, b"E").unwrap();
    disk.truncate("/db/a", 3).unwrap();
    disk.truncate("/db/a", 6).unwrap();
    disk.remove("/db/b").unwrap();
    assert_eq!(outcomes(&disk, "/db/a"), [some(b"hEl\0\0\0")].into());
    assert_eq!(outcomes(&disk, "/db/b"), [None].into());
    assert_eq!(disk.operation_count(), 2, "only what a program did");

    assert_eq!(disk.overwrite("/db/a", 6, b"x").unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(disk.overwrite("/db/a", u64::MAX, b"x").unwrap_err().kind(), ErrorKind::Io);
    for error in [
        disk.read_file("/db/b").unwrap_err(),
        disk.remove("/db/b").unwrap_err(),
        disk.truncate("/db/b", 0).unwrap_err(),
        disk.write_file("/none/b", b"").unwrap_err(),
    ] {
        assert_eq!(error.os_error(), Some(libc::ENOENT), "{error}");
    }
}

#[test]
fn damage_is_seen_by_open_files_and_maps() {
    let disk = disk();
    let file = durable(&disk, "/db/f", &[1; 10_000]);
    let region = file.map(10_000, Access::Random).unwrap();
    disk.overwrite("/db/f", 4090, &[2; 10]).unwrap();
    let mut expected = vec![1; 10_000];
    expected[4090..4100].fill(2);
    assert_eq!(region.get(0, 10_000), Some(&expected[..]));
    assert_eq!(disk.read_file("/db/f").unwrap(), expected);
    assert_eq!(outcomes(&disk, "/db/f"), [some(&expected)].into());
    disk.truncate("/db/f", 4100).unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [some(&expected[..4100])].into());
    assert_eq!(file.map(4101, Access::Random).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn one_writer_or_many_readers_and_none_after_a_crash() {
    let disk = disk();
    let lock = path("/db/LOCK");
    drop(disk.lock(lock, LockKind::Shared).unwrap());
    assert_eq!(disk.kind(lock).unwrap(), PathKind::Absent);
    let writer = disk.lock(lock, LockKind::Exclusive).unwrap();
    for kind in [LockKind::Exclusive, LockKind::Shared] {
        let error = disk.clone().lock(lock, kind).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        assert!(error.message().contains("locked by process 1 (since 1 "), "{error}");
        assert_eq!(error.path(), Some(lock));
    }
    assert_eq!(disk.read_file(lock).unwrap().len(), 64);
    for (name, image) in images(&disk) {
        let again = image.lock(lock, LockKind::Exclusive);
        assert!(again.is_ok(), "{name}");
        assert_eq!(image.lock(lock, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::Locked);
    }
    drop(writer);
    let readers = [(); 3].map(|()| disk.lock(lock, LockKind::Shared).unwrap());
    assert_eq!(disk.lock(lock, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::Locked);
    // The death of a holder lets go even when the power is off.
    disk.power_off();
    drop(readers);
    assert!(disk.crash_image(&CrashPolicy::KEEP_ALL, 0).lock(lock, LockKind::Exclusive).is_ok());
}

#[test]
fn a_lock_that_fails_is_not_held() {
    let disk = disk();
    let lock = path("/db/LOCK");
    for effect in [Effect::Nothing, Effect::Done] {
        disk.fail(Fault::when(|_| true).on(OpKind::Lock).effect(effect));
        assert_eq!(disk.lock(lock, LockKind::Exclusive).unwrap_err().os_error(), Some(libc::EIO));
        drop(disk.lock(lock, LockKind::Exclusive).unwrap());
    }
}

#[test]
fn a_full_disk_refuses_and_has_room_again() {
    let disk = disk();
    disk.set_capacity(Some(5 * 4096));
    let a = disk.create(path("/db/a")).unwrap();
    a.allocate(3 * 4096).unwrap();
    assert_eq!(disk.total_bytes(), 3 * 4096);
    let b = disk.create(path("/db/b")).unwrap();
    let error = b.allocate(3 * 4096).unwrap_err();
    assert_eq!((error.kind(), error.os_error()), (ErrorKind::DiskFull, Some(libc::ENOSPC)));
    assert_eq!(b.size().unwrap(), 0);
    // A write fills what there is.
    let error = b.write_at(&[1; 10_000], 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert_eq!(b.size().unwrap(), 8192);
    assert_eq!(disk.total_bytes(), 5 * 4096);
    a.write_at(&[2; 3 * 4096], 0).unwrap();
    assert_eq!(a.write_at(b"x", 3 * 4096).unwrap_err().kind(), ErrorKind::DiskFull);
    let image = disk.crash_image(&CrashPolicy::KEEP_ALL, 0);
    assert_eq!(image.total_bytes(), 5 * 4096);
    let c = image.create(path("/db/c")).unwrap();
    assert_eq!(c.write_at(b"x", 0).unwrap_err().kind(), ErrorKind::DiskFull);
    // A removed file takes room as long as it is open or mapped.
    let region = a.map(4096, Access::Random).unwrap();
    disk.remove_file(path("/db/a")).unwrap();
    assert_eq!(disk.total_bytes(), 5 * 4096);
    drop(a);
    assert_eq!(disk.total_bytes(), 5 * 4096);
    assert_eq!(region.get(4095, 1), Some(&[2][..]));
    drop(region);
    assert_eq!(disk.total_bytes(), 2 * 4096);
    b.write_at(&[1; 10_000], 0).unwrap();
}

#[test]
fn a_mapped_file_keeps_its_memory_or_does_not_grow() {
    let disk = disk();
    let file = disk.create(path("/db/f")).unwrap();
    file.allocate(8192).unwrap();
    let region = file.map(8192, Access::Random).unwrap();
    file.write_at(b"seen", 4096).unwrap();
    assert_eq!(region.get(4096, 4), Some(&b"seen"[..]));
    let error = file.write_at(b"behind", 8192).unwrap_err();
    assert!(error.message().contains("cannot grow a mapped file"), "{error}");
    drop(region);
    file.write_at(b"behind", 8192).unwrap();
    assert_eq!(file.write_at(b"x", 1 << 40).unwrap_err().os_error(), Some(libc::EFBIG));
    assert_eq!(file.write_at(b"x", u64::MAX).unwrap_err().os_error(), Some(libc::EFBIG));
    assert_eq!(file.allocate(1 << 40).unwrap_err().os_error(), Some(libc::EFBIG));
    assert_eq!(file.size().unwrap(), 8198);
}

#[test]
fn the_trace_tells_what_happened() {
    let disk = disk();
    disk.record_trace(true);
    let file = disk.create(path("/db/f")).unwrap();
    file.write_at(b"abc", 5).unwrap();
    disk.fail_at(4, libc::EIO, Times::Once);
    assert!(file.sync_data().is_err());
    disk.rename(path("/db/f"), path("/db/g")).unwrap();
    let expected = [
        "2 Create /db/f: ok",
        "3 Write /db/f 5+3: ok",
        "4 Sync /db/f: failed: Input/output error (os error 5)",
        "5 Rename /db/f to /db/g: ok",
    ];
    assert_eq!(disk.trace(), expected);
    disk.record_trace(false);
    assert_eq!(disk.trace(), [""; 0]);
    assert_eq!(disk.operation_count(), 6);
    assert_eq!(disk.change_count(), 6);
    disk.kind(path("/db/g")).unwrap();
    assert_eq!((disk.operation_count(), disk.change_count()), (7, 6));
}

/// A program with all sorts of operations; its result depends on the seed alone.
fn scribble(disk: &SimDisk, seed: u64) {
    let mut random = Random::new(seed);
    let mut files = Vec::new();
    for step in 0..200 {
        let name = format!("/db/{}", random.below(6));
        let other = format!("/db/{}", random.below(6));
        match random.below(8) {
            0 => files.extend(disk.create(path(&name))),
            1 => drop(disk.rename(path(&name), path(&other))),
            2 => drop(disk.remove_file(path(&name))),
            3 => drop(disk.sync_dir(path("/db"))),
            _ if files.is_empty() => {}
            what => {
                let file = &files[random.below(files.len() as u64) as usize];
                match what {
                    4 => drop(file.sync_data()),
                    5 => drop(file.allocate(random.below(20_000))),
                    _ => drop(file.write_at(&[step; 700], random.below(20_000))),
                }
            }
        }
    }
}

fn contents(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let files = disk.files().into_iter();
    files.map(|(path, _)| (path.clone(), disk.read_file(path).unwrap())).collect()
}

#[test]
fn equal_seeds_give_equal_disks() {
    let run = |seed, write_back, image| {
        let disk = disk();
        disk.set_write_back(50, write_back);
        scribble(&disk, seed);
        contents(&disk.crash_image(&CrashPolicy::random(image), image))
    };
    let mut different = BTreeSet::new();
    for seed in 0..20 {
        assert_eq!(run(1, 2, seed), run(1, 2, seed));
        assert_eq!(run(1, seed, 3), run(1, seed, 3));
        different.insert(run(1, 2, seed));
        different.insert(run(1, seed, 3));
        different.insert(run(seed, 2, 3));
    }
    assert!(different.len() > 30, "{}", different.len());
}

#[test]
fn an_image_is_a_disk_of_its_own() {
    let disk = disk();
    durable(&disk, "/db/f", b"one");
    let image = disk.crash_image(&CrashPolicy::DROP_ALL, 0);
    disk.overwrite("/db/f", 0, b"two").unwrap();
    let file = image.open(path("/db/f")).unwrap();
    let mut buf = [0; 3];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"one");
    image.overwrite("/db/f", 0, b"ten").unwrap();
    assert_eq!(disk.read_file("/db/f").unwrap(), b"two");
    assert_eq!((image.operation_count(), image.is_off()), (2, false));
}

#[test]
fn many_threads_lose_nothing_that_was_synced() {
    let disk = disk();
    disk.set_write_back(50, 7);
    let done = AtomicBool::new(false);
    let finished = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4u8)
            .map(|number| {
                let disk = disk.clone();
                scope.spawn(move || write_rounds(&disk, number))
            })
            .collect();
        let watcher = scope.spawn(|| {
            let mut seed = 0;
            while !done.load(Ordering::Relaxed) {
                let image = disk.crash_image(&CrashPolicy::random(seed), seed);
                image.files().iter().for_each(|(path, _)| drop(image.read_file(path).unwrap()));
                seed += 1;
            }
            seed
        });
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
        results
    });
    for (number, result) in finished.into_iter().enumerate() {
        let last = result.unwrap();
        for (name, image) in images(&disk) {
            let bytes = image.read_file(format!("/db/{number}")).unwrap();
            assert_eq!(bytes, [last; 3 * 4096], "{name}");
        }
    }
}

/// Overwrites a file through a window and by writes, syncing each round, and answers the last
/// byte it synced.
fn write_rounds(disk: &SimDisk, number: u8) -> u8 {
    let name = format!("/db/{number}");
    let file = disk.create(path(&name)).unwrap();
    file.allocate(3 * 4096).unwrap();
    disk.sync_dir(path("/db")).unwrap();
    let mut window = file.map_window(0, 8192).unwrap();
    for round in 1..=100 {
        window.write(0, &[round; 8192]);
        file.write_at(&[round; 4096], 8192).unwrap();
        file.sync_data().unwrap();
    }
    100
}
