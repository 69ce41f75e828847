//! What power loss takes and leaves.

use super::*;

#[test]
fn a_name_is_durable_after_a_sync_of_its_directory() {
    let disk = disk();
    let file = disk.create(path("/db/f")).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    file.sync_data().unwrap();
    // The mistake: only the file was synced. Its name may be lost, its bytes not.
    assert_eq!(outcomes(&disk, "/db/f"), [None, some(b"bytes")].into());
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [None, some(b"bytes")].into());
    disk.sync_dir(path("/db")).unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [some(b"bytes")].into());
}

#[test]
fn a_directory_is_durable_after_a_sync_of_its_parent() {
    let disk = SimDisk::new();
    disk.create_dir(path("/db")).unwrap();
    durable(&disk, "/db/f", b"bytes");
    assert_eq!(outcomes(&disk, "/db/f"), [None, some(b"bytes")].into());
    let image = disk.crash_image(&CrashPolicy::DROP_ALL, 0);
    assert_eq!(image.kind(path("/db")).unwrap(), PathKind::Absent);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [some(b"bytes")].into());
}

#[test]
fn a_removal_is_durable_after_a_sync_of_its_directory() {
    let disk = disk();
    drop(durable(&disk, "/db/f", b"bytes"));
    disk.remove_file(path("/db/f")).unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [None, some(b"bytes")].into());
    disk.create(path("/db/f")).unwrap();
    let all: BTreeSet<_> = [None, some(b"bytes"), some(b"")].into();
    assert_eq!(outcomes(&disk, "/db/f"), all);
    disk.sync_dir(path("/db")).unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [some(b"")].into());
}

#[test]
fn a_rename_is_atomic() {
    let disk = disk();
    durable(&disk, "/db/CURRENT", b"old");
    let temp = disk.create(path("/db/CURRENT.tmp")).unwrap();
    temp.write_at(b"new", 0).unwrap();
    temp.sync_data().unwrap();
    disk.rename(path("/db/CURRENT.tmp"), path("/db/CURRENT")).unwrap();
    assert_eq!(outcomes(&disk, "/db/CURRENT"), [some(b"old"), some(b"new")].into());
    for (name, image) in images(&disk) {
        let renamed = image.read_file("/db/CURRENT").unwrap() == b"new";
        let left = image.kind(path("/db/CURRENT.tmp")).unwrap() == PathKind::File;
        assert!(!(renamed && left), "{name}: one file has two names");
    }
    assert_eq!(outcomes(&disk, "/db/CURRENT.tmp"), [None, some(b"new")].into());
    disk.sync_dir(path("/db")).unwrap();
    assert_eq!(outcomes(&disk, "/db/CURRENT"), [some(b"new")].into());
    assert_eq!(outcomes(&disk, "/db/CURRENT.tmp"), [None].into());
}

#[test]
fn renaming_before_syncing_the_bytes_is_found_out() {
    let disk = disk();
    durable(&disk, "/db/CURRENT", b"old");
    let temp = disk.create(path("/db/CURRENT.tmp")).unwrap();
    temp.write_at(b"new", 0).unwrap();
    // The mistake: the temporary file was not synced.
    disk.rename(path("/db/CURRENT.tmp"), path("/db/CURRENT")).unwrap();
    disk.sync_dir(path("/db")).unwrap();
    let outcomes = outcomes(&disk, "/db/CURRENT");
    assert!(outcomes.contains(&some(b"")) && outcomes.contains(&some(b"\0\0\0")));
    assert!(outcomes.contains(&some(b"n\0\0")) || outcomes.contains(&some(b"n")));
    assert!(!outcomes.contains(&some(b"old")) && !outcomes.contains(&None));
}

#[test]
fn renames_over_directories_stay_whole() {
    let disk = disk();
    disk.create_dir(path("/other")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    let file = disk.create(path("/other/a")).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    file.sync_data().unwrap();
    disk.rename(path("/other/a"), path("/db/b")).unwrap();
    for (name, image) in images(&disk) {
        let found = image.files().len();
        assert!(found <= 1, "{name}: {found}");
    }
    disk.sync_dir(path("/db")).unwrap();
    for (name, image) in images(&disk) {
        assert_eq!(image.files(), [("/db/b".into(), 5)], "{name}");
    }
    disk.sync_dir(path("/other")).unwrap();
    for (name, image) in images(&disk) {
        assert_eq!(image.files(), [("/db/b".into(), 5)], "{name}");
    }
}

#[test]
fn each_name_is_lost_or_kept_by_itself() {
    let disk = disk();
    for name in ["/db/a", "/db/b", "/db/c"] {
        disk.create(path(name)).unwrap();
    }
    let sets: BTreeSet<Vec<PathBuf>> = images(&disk)
        .into_iter()
        .map(|(_, image)| image.files().into_iter().map(|(path, _)| path).collect())
        .collect();
    assert_eq!(sets.len(), 8, "{sets:?}");
    let oldest = CrashPolicy { names: Keep::Oldest, ..CrashPolicy::KEEP_ALL };
    let counts: BTreeSet<usize> = (0..50)
        .map(|seed| {
            let files = disk.crash_image(&oldest, seed).files();
            let expected: Vec<PathBuf> = vec!["/db/a".into(), "/db/b".into(), "/db/c".into()];
            let found: Vec<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
            assert_eq!(found, expected[..found.len()]);
            found.len()
        })
        .collect();
    assert_eq!(counts, [0, 1, 2, 3].into());
}

#[test]
fn bytes_are_durable_after_a_sync_of_their_file() {
    let disk = disk();
    let file = durable(&disk, "/db/f", &[1; 10_000]);
    file.write_at(&[2; 4096], 4096).unwrap();
    let mut new = vec![1; 10_000];
    new[4096..8192].fill(2);
    let found = outcomes(&disk, "/db/f");
    assert!(found.contains(&some(&[1; 10_000])) && found.contains(&some(&new)));
    for bytes in &found {
        let bytes = bytes.as_ref().unwrap();
        assert_eq!(bytes.len(), 10_000);
        for (at, word) in bytes.chunks(8).enumerate() {
            let new = if (512..1024).contains(&at) { 2 } else { 1 };
            assert!(*word == [1; 8] || *word == [new; 8], "word {at} is torn");
        }
    }
    assert!(found.len() > 10, "{}", found.len());
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [some(&new)].into());
}

/// A durable file of four pages of zeros and a window over it.
fn windowed(disk: &SimDisk) -> (Arc<dyn File>, crate::fs::Window) {
    let file = disk.create(path("/db/log")).unwrap();
    file.allocate(4 * 4096).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path("/db")).unwrap();
    let window = file.map_window(0, 4 * 4096).unwrap();
    (file, window)
}

#[test]
fn mapped_stores_are_lost_by_the_page_until_they_are_synced() {
    let disk = disk();
    let (file, mut window) = windowed(&disk);
    window.write(0, &[1; 4 * 4096]);
    let pages = CrashPolicy { data: Keep::Percent(50), ..CrashPolicy::DROP_ALL };
    let sets: BTreeSet<Vec<u8>> = (0..300)
        .map(|seed| {
            let bytes = disk.crash_image(&pages, seed).read_file("/db/log").unwrap();
            let pages = bytes.chunks(4096).inspect(|page| {
                assert!(**page == [0; 4096] || **page == [1; 4096], "a page is torn");
            });
            pages.map(|page| page[0]).collect()
        })
        .collect();
    assert_eq!(sets.len(), 16, "every set of pages can survive");
    let sectors = CrashPolicy { unit: Unit::Sector, ..pages };
    let torn = disk.crash_image(&sectors, 1).read_file("/db/log").unwrap();
    assert!(torn.chunks(4096).any(|page| page.contains(&0) && page.contains(&1)));
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "/db/log"), [some(&[1; 4 * 4096])].into());
}

#[test]
fn one_page_is_lost_or_kept_alone() {
    let disk = disk();
    let (_file, mut window) = windowed(&disk);
    window.write(0, &[1; 4 * 4096]);
    for (data, kept) in [(Keep::One, 1), (Keep::AllButOne, 3), (Keep::All, 4), (Keep::Nothing, 0)] {
        let policy = CrashPolicy { data, ..CrashPolicy::KEEP_ALL };
        let which: BTreeSet<Vec<u8>> = (0..50)
            .map(|seed| {
                let bytes = disk.crash_image(&policy, seed).read_file("/db/log").unwrap();
                bytes.chunks(4096).map(|page| page[77]).collect()
            })
            .collect();
        let choices = if kept == 1 || kept == 3 { 4 } else { 1 };
        assert_eq!(which.len(), choices, "{data:?}");
        assert!(which.iter().all(|pages| pages.iter().sum::<u8>() == kept), "{data:?}");
    }
}

#[test]
fn a_page_fetched_during_a_store_is_torn_by_the_word() {
    let disk = disk();
    let (_file, mut window) = windowed(&disk);
    window.write(64, &[1; 128]);
    let one = CrashPolicy { unit: Unit::Word, data: Keep::AllButOne, ..CrashPolicy::KEEP_ALL };
    let lost: BTreeSet<usize> = (0..300)
        .map(|seed| {
            let bytes = disk.crash_image(&one, seed).read_file("/db/log").unwrap();
            let words: Vec<usize> = (8..24).filter(|i| bytes[i * 8..i * 8 + 8] == [0; 8]).collect();
            assert_eq!((words.len(), bytes.iter().map(|b| usize::from(*b)).sum()), (1, 120));
            words[0]
        })
        .collect();
    assert_eq!(lost, (8..24).collect());
}

#[test]
fn one_file_is_lost_or_kept_alone() {
    let disk = disk();
    let names = ["/db/a", "/db/b", "/db/c"];
    for name in names {
        durable(&disk, name, b"").write_at(&[1; 10_000], 0).unwrap();
    }
    for (data, kept) in [(Keep::One, 1), (Keep::AllButOne, 2)] {
        let policy = CrashPolicy { unit: Unit::File, data, ..CrashPolicy::KEEP_ALL };
        let found: BTreeSet<Vec<bool>> = (0..50)
            .map(|seed| {
                let image = disk.crash_image(&policy, seed);
                let whole = names.map(|name| {
                    let bytes = image.read_file(name).unwrap();
                    assert!(bytes == [0; 10_000] || bytes == [1; 10_000]);
                    bytes[0] == 1
                });
                whole.to_vec()
            })
            .collect();
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|kinds| kinds.iter().filter(|whole| **whole).count() == kept));
    }
}

#[test]
fn the_death_of_the_process_makes_nothing_durable() {
    let disk = disk();
    let (file, mut window) = windowed(&disk);
    window.write(0, &[1; 4096]);
    disk.fail(Fault::when(|_| true).on(OpKind::Sync));
    file.sync_data().unwrap_err();
    window.write(8192, &[2; 4096]);
    let other = disk.create(path("/db/other")).unwrap();
    other.write_at(&[3; 5000], 0).unwrap();
    disk.rename(path("/db/other"), path("/db/renamed")).unwrap();
    let lock = disk.lock(path("/db/LOCK"), LockKind::Exclusive).unwrap();
    disk.power_off();
    window.write(0, b"after");

    let next = disk.process_image();
    drop(lock);
    let log = next.read_file("/db/log").unwrap();
    let pages: Vec<u8> = log.chunks(4096).map(|page| page[0]).collect();
    assert_eq!(pages, [1, 0, 2, 0], "the cache shows everything, also what was given up");
    assert_eq!(next.read_file("/db/renamed").unwrap(), [3; 5000]);
    next.lock(path("/db/LOCK"), LockKind::Exclusive).unwrap();
    // All of that can still be lost, and what was given up cannot be saved by a sync.
    assert!(outcomes(&next, "/db/renamed").contains(&None));
    assert!(outcomes(&next, "/db/log").contains(&some(&[0; 4 * 4096])));
    let again = next.create(path("/db/new")).unwrap();
    again.write_at(b"x", 0).unwrap();
    let disk = next.process_image();
    let files = disk.files();
    let expected = [("LOCK", 64), ("log", 16_384), ("new", 1), ("renamed", 5000)];
    assert_eq!(files, expected.map(|(name, size)| (Path::new("/db").join(name), size)));
    let image = disk.crash_image(&CrashPolicy::KEEP_ALL, 0);
    let pages: Vec<u8> =
        image.read_file("/db/log").unwrap().chunks(4096).map(|page| page[0]).collect();
    assert_eq!(pages, [0, 0, 2, 0]);
}

#[test]
fn a_store_may_be_durable_early_and_an_older_one_with_it() {
    let disk = disk();
    let (_file, mut window) = windowed(&disk);
    disk.set_write_back(100, 3);
    let mut seen = BTreeSet::new();
    for round in 1..=50u8 {
        window.write(0, &[round; 4 * 4096]);
        disk.kind(path("/db")).unwrap();
        window.write(0, &[round + 100; 4 * 4096]);
        let bytes = disk.crash_image(&CrashPolicy::DROP_ALL, 0).read_file("/db/log").unwrap();
        let pages: Vec<u8> = bytes.chunks(4096).map(|page| page[0]).collect();
        // What no operation saw cannot have been written back.
        assert!(pages.iter().all(|page| *page <= round), "{pages:?}");
        seen.insert(pages);
    }
    let mixed = seen.iter().filter(|pages| pages.iter().any(|page| *page != pages[0]));
    assert!(mixed.count() > 10, "{seen:?}");
    let early = seen.iter().flatten().collect::<BTreeSet<_>>();
    assert!(early.len() > 10, "{early:?}");
}

#[test]
fn sizes_and_bytes_are_lost_apart() {
    let disk = disk();
    let file = durable(&disk, "/db/f", &[1; 100]);
    file.write_at(&[2; 9000], 100).unwrap();
    let mut latest = vec![2; 9100];
    latest[..100].fill(1);
    let torn = CrashPolicy { sizes: Sizes::Torn, ..CrashPolicy::KEEP_ALL };
    let mut sizes = BTreeSet::new();
    for seed in 0..200 {
        let bytes = disk.crash_image(&torn, seed).read_file("/db/f").unwrap();
        assert_eq!(bytes, latest[..bytes.len()]);
        sizes.insert(bytes.len());
    }
    for size in [100, 101, 108, 512, 4096, 8192, 9099, 9100] {
        assert!(sizes.contains(&size), "{size} of {sizes:?}");
    }
    assert!(*sizes.first().unwrap() >= 100 && *sizes.last().unwrap() <= 9100);
    // A size without its bytes: zeros behind what was durable.
    let policy = CrashPolicy { data: Keep::Nothing, ..CrashPolicy::KEEP_ALL };
    let mut hollow = vec![0; 9100];
    hollow[..100].fill(1);
    assert_eq!(disk.crash_image(&policy, 0).read_file("/db/f").unwrap(), hollow);
    // Bytes without their size: nothing behind what was durable, also when the file grows again.
    let policy = CrashPolicy { sizes: Sizes::Durable, ..CrashPolicy::KEEP_ALL };
    let image = disk.crash_image(&policy, 0);
    assert_eq!(image.read_file("/db/f").unwrap(), [1; 100]);
    image.truncate("/db/f", 9100).unwrap();
    assert_eq!(image.read_file("/db/f").unwrap(), hollow);
}

#[test]
fn allocated_but_unsynced_space_may_be_gone() {
    let disk = disk();
    let file = disk.create(path("/db/log")).unwrap();
    disk.sync_dir(path("/db")).unwrap();
    file.allocate(8192).unwrap();
    let found = outcomes(&disk, "/db/log");
    assert!(found.contains(&some(b"")) && found.contains(&some(&[0; 8192])));
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "/db/log"), [some(&[0; 8192])].into());
}

#[test]
fn garbage_stands_only_where_nothing_was_durable() {
    let disk = disk();
    durable(&disk, "/db/other", &[9; 8192]);
    let file = durable(&disk, "/db/f", &[1; 4096]);
    file.write_at(&[2; 8192], 0).unwrap();
    let lost = CrashPolicy { data: Keep::Nothing, ..CrashPolicy::KEEP_ALL };
    let mut foreign = 0;
    for seed in 0..20 {
        let noise = CrashPolicy { filler: Filler::Noise, ..lost };
        let bytes = disk.crash_image(&noise, seed).read_file("/db/f").unwrap();
        assert_eq!(bytes[..4096], [1; 4096]);
        let values: BTreeSet<u8> = bytes[4096..].iter().copied().collect();
        assert!(values.len() > 200, "{values:?}");
        let words = CrashPolicy { unit: Unit::Word, ..noise };
        let bytes = disk.crash_image(&words, seed).read_file("/db/f").unwrap();
        assert!(bytes[..4096] == [1; 4096] && bytes[4096..] != [0; 4096]);
        let other = CrashPolicy { filler: Filler::Foreign, ..lost };
        let image = disk.crash_image(&other, seed);
        let bytes = image.read_file("/db/f").unwrap();
        assert_eq!(bytes[..4096], [1; 4096]);
        assert!(bytes[4096..] == [0; 4096] || bytes[4096..] == [9; 4096]);
        foreign += u32::from(bytes[4096] == 9);
        assert_eq!(image.read_file("/db/other").unwrap(), [9; 8192]);
    }
    assert!(foreign > 0);
}

#[test]
fn no_garbage_beside_durable_bytes_in_a_sector() {
    let disk = disk();
    let file = durable(&disk, "/db/f", b"12345678");
    file.write_at(&[2; 2000], 8).unwrap();
    let noise = CrashPolicy { data: Keep::Nothing, filler: Filler::Noise, ..CrashPolicy::KEEP_ALL };
    for (unit, clean) in [(Unit::Word, 512), (Unit::Sector, 512), (Unit::Page, 2008)] {
        let image = disk.crash_image(&CrashPolicy { unit, ..noise }, 1);
        let bytes = image.read_file("/db/f").unwrap();
        assert!(bytes.starts_with(b"12345678") && bytes[8..clean].iter().all(|byte| *byte == 0));
        assert_eq!(clean < 2008, bytes[clean..].iter().any(|byte| *byte != 0), "{unit:?}");
    }
}

#[test]
fn the_power_goes_off_at_the_operation_asked_for() {
    let disk = disk();
    let (file, mut window) = windowed(&disk);
    let before = disk.operation_count();
    disk.crash_at(before + 2);
    window.write(0, b"before");
    file.sync_data().unwrap();
    file.size().unwrap();
    assert!(!disk.is_off());
    window.write(0, b"BEFORE");
    let error = file.sync_data().unwrap_err();
    assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, None));
    assert!(error.message().contains("the power is off"), "{error}");
    assert!(disk.is_off());
    let failed = [
        disk.kind(path("/db")).map(drop),
        disk.create_dir(path("/db2")),
        disk.list_dir(path("/db")).map(drop),
        disk.create(path("/db/x")).map(drop),
        disk.open(path("/db/log")).map(drop),
        disk.rename(path("/db/log"), path("/db/x")),
        disk.remove_file(path("/db/log")),
        disk.remove_dir(path("/db")),
        disk.sync_dir(path("/db")),
        disk.lock(path("/db/LOCK"), LockKind::Exclusive).map(drop),
        file.size().map(drop),
        file.read_at(&mut [0], 0),
        file.write_at(b"x", 0),
        file.allocate(1),
        file.sync_data(),
        file.map(1, Access::Random).map(drop),
        file.map_window(0, 4096).map(drop),
    ];
    for result in failed {
        assert!(result.unwrap_err().message().contains("the power is off"));
    }
    assert_eq!(disk.operation_count(), before + 2);
    // A store after the end goes nowhere, for the image is from the moment of the loss.
    window.write(4096, b"after");
    let drop_all = disk.crash_image(&CrashPolicy::DROP_ALL, 0).read_file("/db/log").unwrap();
    assert!(drop_all.starts_with(b"before") && drop_all[4096] == 0);
    let keep_all = disk.crash_image(&CrashPolicy::KEEP_ALL, 0).read_file("/db/log").unwrap();
    assert!(keep_all.starts_with(b"BEFORE") && keep_all[4096] == 0);
}

#[test]
fn the_power_can_go_off_at_the_nth_change() {
    let disk = disk();
    disk.crash_at_change(disk.change_count() + 1);
    let file = disk.create(path("/db/f")).unwrap();
    file.size().unwrap();
    disk.list_dir(path("/db")).unwrap();
    assert!(!disk.is_off());
    file.write_at(b"x", 0).unwrap_err();
    assert!(disk.is_off());
    file.size().unwrap_err();
    assert_eq!(outcomes(&disk, "/db/f"), [None, some(b"")].into());
}

#[test]
fn crashes_follow_crashes() {
    let disk = disk();
    let file = durable(&disk, "/db/f", b"1");
    file.write_at(b"2", 1).unwrap();
    let second = disk.crash_image(&CrashPolicy::KEEP_ALL, 0);
    // What was found after the first crash is durable for the second.
    assert_eq!(outcomes(&second, "/db/f"), [some(b"12")].into());
    let file = second.create(path("/db/g")).unwrap();
    file.write_at(b"3", 0).unwrap();
    let third = second.crash_image(&CrashPolicy::DROP_ALL, 0);
    assert_eq!(third.files(), [("/db/f".into(), 2)]);
}

#[test]
fn the_standard_policies_are_different() {
    let standard = CrashPolicy::standard();
    let names: BTreeSet<_> = standard.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), standard.len());
    for (i, (name, policy)) in standard.iter().enumerate() {
        assert!(standard[..i].iter().all(|(_, other)| other != policy), "{name}");
    }
    assert_eq!(CrashPolicy::default(), CrashPolicy::DROP_ALL);
    assert_eq!(CrashPolicy::random(5), CrashPolicy::random(5));
}

/// Appends to a few files with syncs at random, crashes, and compares with what was promised.
#[test]
fn random_programs_keep_their_promises() {
    let mut lost_some = 0;
    for seed in 0..300 {
        let mut random = Random::new(seed);
        let disk = disk();
        disk.set_write_back(40, seed);
        let mut files = Vec::new();
        for index in 0..4u8 {
            let name = format!("/db/{index}");
            files.push((name.clone(), disk.create(path(&name)).unwrap(), Vec::new(), 0));
        }
        let mut named = false;
        for _ in 0..random.below(60) {
            let index = random.below(4) as usize;
            let (_, file, written, synced) = &mut files[index];
            match random.below(10) {
                0 => {
                    disk.sync_dir(path("/db")).unwrap();
                    named = true;
                }
                1 | 2 => {
                    file.sync_data().unwrap();
                    *synced = written.len();
                }
                _ => {
                    let mut bytes = vec![0; random.below(3000) as usize];
                    random.fill(&mut bytes);
                    file.write_at(&bytes, written.len() as u64).unwrap();
                    written.extend_from_slice(&bytes);
                }
            }
        }
        let image = disk.crash_image(&CrashPolicy::random(seed), seed);
        for (name, _, written, synced) in files {
            let Ok(found) = image.read_file(&name) else {
                assert!(!named, "seed {seed}: {name} is lost");
                continue;
            };
            assert!(found.len() >= synced && found.len() <= written.len(), "seed {seed}");
            assert_eq!(found[..synced], written[..synced], "seed {seed}: {name}");
            lost_some += u32::from(found != written);
        }
    }
    assert!(lost_some > 100, "{lost_some}");
}
