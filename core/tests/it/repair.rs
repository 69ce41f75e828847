//! verify, scrub and salvage: what they find, what they save, and what they leave alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use toykv::sim::{SimDisk, mend};
use toykv::{DamageReport, Db, Durability, ErrorKind, Options, Progress, WriteOptions};

use crate::damage::{Answer, Sample, is_lock, options};
use crate::golden::{self, files, sample, samples};
use crate::oracle::{Dice, Map, PATH, key_of, read_all, value_of};

const TARGET: &str = "/saved";

pub(crate) fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn verify(disk: &SimDisk) -> DamageReport {
    disk.verify_db(PATH, &mut go_on).unwrap()
}

/// Salvages, and reads what was saved.
fn salvage(disk: &SimDisk) -> (DamageReport, Map) {
    let report = disk.salvage_db(PATH, TARGET, &options(), &mut go_on).unwrap();
    let db = disk.open_db(TARGET, &options().create_if_missing(false)).unwrap();
    let found = read_all(&db).unwrap();
    assert_eq!(report.records, found.len() as u64);
    assert_eq!(db.len().unwrap(), found.len() as u64);
    db.close().unwrap();
    assert!(disk.verify_db(TARGET, &mut go_on).unwrap().is_clean());
    (report, found)
}

/// The files below a directory.
pub(crate) fn only(disk: &SimDisk, dir: &str) -> Vec<(PathBuf, Vec<u8>)> {
    files(disk).into_iter().filter(|(path, _)| path.starts_with(dir)).collect()
}

/// The files with an ending.
fn named(sample: &Sample, part: &str) -> Vec<PathBuf> {
    let paths = sample.files.iter().map(|(path, _)| path.clone());
    paths.filter(|path| path.to_str().unwrap().contains(part)).collect()
}

fn bytes_of<'a>(sample: &'a Sample, path: &Path) -> &'a [u8] {
    sample.files.iter().find(|(own, _)| own == path).map(|(_, bytes)| bytes).unwrap()
}

#[test]
fn an_intact_database_is_clean_and_is_saved_whole() {
    for sample in samples() {
        let disk = sample.disk();
        let before = only(&disk, PATH);
        let report = verify(&disk);
        assert!(report.is_clean(), "{:?}", report.findings);
        assert!(report.files >= 1 && report.records >= sample.state.len() as u64, "{report:?}");
        let (report, found) = salvage(&disk);
        assert!(report.is_clean(), "{:?}", report.findings);
        assert_eq!(found, sample.state);
        assert_eq!(only(&disk, PATH), before, "the source is only read");
    }
}

#[test]
fn a_database_of_several_batches_on_real_files_is_clean_and_is_saved_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("db"), dir.path().join("saved"));
    let expected: Map = (0..3000).map(|tag| (key_of(tag), value_of(tag, 1100))).collect();
    let db = Db::open(&source, &options()).unwrap();
    for (key, value) in &expected {
        db.put(key, value).unwrap();
    }
    db.close().unwrap();
    let report = Db::verify(&source, &mut go_on).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    let mut told = Vec::new();
    let report = Db::salvage(&source, &target, &options(), &mut |progress| {
        told.push((progress.done_bytes, progress.total_bytes));
        ControlFlow::Continue(())
    });
    assert_eq!(report.unwrap().records, expected.len() as u64);
    assert!(told.is_sorted_by_key(|(done, _)| *done) && told.len() > 1, "{told:?}");
    let saved = Db::open(&target, &options().create_if_missing(false)).unwrap();
    assert!(read_all(&saved).unwrap() == expected);
}

/// What verify and salvage have to say after a damage; an error says what is wrong with it.
fn judge(sample: &Sample, path: &Path, at: usize, bit: u64) -> Result<bool, String> {
    let disk = sample.disk();
    let flipped = bytes_of(sample, path)[at] ^ (1 << bit);
    disk.overwrite(path, at as u64, &[flipped]).unwrap();
    judge_disk(sample, &disk).map(|(clean, _)| !clean)
}

/// What verify and salvage have to say of a damaged disk, and what reads and a compaction make of
/// it: whether verify finds nothing, and whether anything is refused.
pub(crate) fn judge_disk(sample: &Sample, disk: &SimDisk) -> Result<(bool, Answer), String> {
    let report = verify(disk);
    for finding in &report.findings {
        if finding.path.as_os_str().is_empty() || finding.what.is_empty() {
            return Err(format!("says nothing: {finding:?}"));
        }
    }
    let before = only(disk, PATH);
    let (lost, found) = salvage(disk);
    if only(disk, PATH) != before {
        return Err("the source was changed".into());
    }
    let differing = sample.state.iter().filter(|(key, value)| found.get(*key) != Some(*value));
    let returned = found.keys().filter(|key| !sample.state.contains_key(*key));
    for key in differing.map(|(key, _)| key).chain(returned) {
        let named = |own: &toykv::Finding| match (&own.first_key, &own.last_key) {
            (Some(first), Some(last)) => first <= key && key <= last,
            _ => true,
        };
        if !lost.findings.iter().any(named) {
            return Err(format!("{key:?} is not as it was, unsaid: {:?}", lost.findings));
        }
    }
    let answer = sample.judge(disk)?;
    if answer == Answer::Refused && report.is_clean() {
        return Err("something is refused and verify has not found it".into());
    }
    Ok((report.is_clean(), answer))
}

/// Flips bits of all files; answers how many were found, and the first complaint.
fn flip(sample: &Sample, count: u64) -> (usize, Option<String>) {
    let mut dice = Dice::new(11);
    let mut found = 0;
    for (path, bytes) in sample.files.iter().filter(|(path, _)| !is_lock(path)) {
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        for _ in 0..count {
            let (at, bit) = (dice.pick(&used), dice.below(8));
            match judge(sample, path, at, bit) {
                Ok(noticed) => found += usize::from(noticed),
                Err(what) => return (found, Some(format!("{} at {at}: {what}", path.display()))),
            }
        }
    }
    (found, None)
}

#[test]
fn whatever_a_read_refuses_verify_has_found_and_salvage_says_what_is_lost() {
    for sample in samples() {
        let (found, complaint) = flip(&sample, 25);
        assert_eq!(complaint, None);
        assert!(found > 20, "{found}");
    }
}

/// Damages the file with `damage`; answers what salvage says and saves.
fn after(
    sample: &Sample,
    path: &Path,
    damage: impl FnOnce(&mut Vec<u8>),
) -> (DamageReport, Map, SimDisk) {
    let disk = sample.disk();
    let mut bytes = bytes_of(sample, path).to_vec();
    damage(&mut bytes);
    disk.write_file(path, &bytes).unwrap();
    assert!(!verify(&disk).is_clean());
    let (report, found) = salvage(&disk);
    (report, found, disk)
}

#[test]
fn a_table_without_footer_or_index_is_saved_whole() {
    for sample in samples() {
        for path in named(&sample, ".table") {
            let (report, found, _) = after(&sample, &path, |bytes| {
                let end = bytes.len();
                bytes[end - 160..].fill(0x55);
            });
            assert!(found == sample.state, "{}: {:?}", path.display(), report.findings);
            assert!(report.findings.iter().any(|own| own.path == path));
            let [_, index, _] = parts(bytes_of(&sample, &path));
            let (report, found, _) = after(&sample, &path, |bytes| bytes[index] ^= 4);
            assert!(found == sample.state, "{}: {:?}", path.display(), report.findings);
        }
    }
}

/// A number of a table's footer.
fn of_footer(table: &[u8], at: usize) -> usize {
    let at = table.len() - 160 + at;
    u64::from_le_bytes(table[at..at + 8].try_into().unwrap()) as usize
}

/// Where a table's locator, index and tail begin.
fn parts(table: &[u8]) -> [usize; 3] {
    let locator = of_footer(table, 112);
    let index = locator + (of_footer(table, 40) + 7) * 64;
    let keys = |at: usize| u32::from_le_bytes(table[at..at + 4].try_into().unwrap()) as usize;
    let (smallest, largest) = (keys(table.len() - 40), keys(table.len() - 36));
    let pages = (index - locator).div_ceil(4096);
    [locator, index, table.len() - 160 - smallest - largest - pages * 8]
}

#[test]
fn every_part_of_a_table_is_looked_at() {
    for sample in samples() {
        for path in named(&sample, ".table") {
            let bytes = bytes_of(&sample, &path);
            let [locator, index, tail] = parts(bytes);
            let found = |start: usize, end: usize| {
                let used = (start..end).rev().find(|at| bytes[*at] != 0);
                let at = used.unwrap_or_else(|| panic!("nothing from {start} to {end}"));
                let disk = sample.disk();
                disk.overwrite(&path, at as u64, &[bytes[at] ^ 16]).unwrap();
                let report = verify(&disk);
                let [finding] = &report.findings[..] else { panic!("{at}: {:?}", report.findings) };
                assert_eq!(finding.path, path, "{at}: {finding:?}");
                assert!(finding.first_key.is_some() && finding.last_key.is_some(), "{finding:?}");
                (at as u64, finding.clone())
            };
            let (at, block) = found(0, locator);
            assert!(block.offset <= at && block.what.contains("block"), "{at}: {block:?}");
            let (at, page) = found(locator, index);
            assert!(page.offset <= at && at - page.offset < 4096, "{at}: {page:?}");
            let (at, words) = found(index, tail);
            assert!(words.offset <= at && words.offset >= index as u64, "{at}: {words:?}");
            let (at, end) = found(tail, bytes.len() - 160);
            assert!(end.offset <= at && end.offset >= tail as u64, "{at}: {end:?}");
            let (at, footer) = found(bytes.len() - 160, bytes.len());
            assert!(footer.offset <= at && footer.offset > tail as u64, "{at}: {footer:?}");
        }
    }
}

#[test]
fn what_no_checksum_tells_the_parts_of_a_table_say_of_each_other() {
    let sample = sample("tables");
    let [path] = &named(&sample, ".table")[..] else { panic!("one table") };
    let bytes = bytes_of(&sample, path);
    let [locator, index, _] = parts(bytes);
    let found = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.to_vec();
        change(&mut changed);
        mend(path.file_name().unwrap().to_str().unwrap(), &mut changed);
        let disk = sample.disk();
        disk.write_file(path, &changed).unwrap();
        let report = verify(&disk);
        let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
        assert_eq!(&finding.path, path);
        finding.what.clone()
    };
    // The number of the second block, one less: what lies between is in no block.
    let before_second = |table: &mut Vec<u8>| {
        let number = u64::from_le_bytes(table[index + 8..index + 16].try_into().unwrap());
        table[index + 8..index + 16].copy_from_slice(&(number - 1).to_le_bytes());
    };
    assert_eq!(found(&before_second), "index is wrong");
    // A slot of the locator that is empty: its key is found by a search only.
    let without_slot = |table: &mut Vec<u8>| {
        let slots = (0..12).map(|slot| locator + 24 + slot * 3);
        let slot = slots.into_iter().find(|at| table[*at..at + 3] != [0; 3]).unwrap();
        let lane = locator + (slot - locator - 24) / 3 * 2;
        table[slot..slot + 3].fill(0);
        table[lane..lane + 2].fill(0);
    };
    assert_eq!(found(&without_slot), "an entry is not found by its key");
    let one_tombstone = |table: &mut Vec<u8>| {
        let at = table.len() - 160 + 64;
        table[at] += 1;
    };
    assert_eq!(found(&one_tombstone), "footer is not what the blocks hold");
}

#[test]
fn frames_that_only_a_collection_reads_are_looked_at() {
    let sample = sample("values");
    let value = golden::value(3, 2200, true);
    let holds = |bytes: &[u8]| bytes.windows(2200).any(|window| window == value);
    let (path, bytes) = sample.files.iter().find(|(_, bytes)| holds(bytes)).unwrap();
    let disk = sample.disk();
    disk.overwrite(path, 4096 + 16, &[bytes[4096 + 16] ^ 8]).unwrap();
    assert_eq!(sample.judge(&disk), Ok(Answer::Same), "reads do not need it");
    let report = verify(&disk);
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!((&finding.path, finding.offset), (path, 4096));
}

#[test]
fn damage_in_a_table_and_in_the_log_is_found_twice() {
    let disk = SimDisk::new();
    filled(&disk).close().unwrap();
    let paths = [value_of(1, 50), value_of(110, 700)].map(|value| damage_value(&disk, &value));
    let report = verify(&disk);
    for path in &paths {
        assert!(report.findings.iter().any(|own| own.path == *path), "{:?}", report.findings);
    }
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
}

#[test]
fn a_segment_without_header_is_saved_whole() {
    for sample in samples() {
        for path in named(&sample, ".vlog") {
            let (report, found, _) = after(&sample, &path, |bytes| bytes[..4096].fill(0x55));
            assert!(found == sample.state, "{}: {:?}", path.display(), report.findings);
            assert!(report.findings.iter().any(|own| own.path == path));
        }
    }
}

#[test]
fn a_database_without_current_or_manifest_is_saved_as_far_as_files_go() {
    for sample in samples() {
        let disk = sample.disk();
        disk.remove(Path::new(PATH).join("CURRENT")).unwrap();
        let (report, found) = salvage(&disk);
        assert!(!report.is_clean());
        assert!(found == sample.state, "{:?}", report.findings);
        let manifest = &named(&sample, "MANIFEST")[0];
        let (report, found, _) = after(&sample, manifest, |bytes| bytes[50] ^= 1);
        assert!(found == sample.state, "{:?}", report.findings);
    }
}

#[test]
fn one_damaged_value_is_one_key_lost() {
    let sample = sample("values");
    let (key, needle) = (golden::key(3), golden::value(3, 2200, true));
    assert_eq!(sample.state.get(&key), Some(&needle));
    let holds = |bytes: &[u8]| bytes.windows(2200).position(|window| window == needle);
    let found = sample.files.iter().find_map(|(path, bytes)| Some((path.clone(), holds(bytes)?)));
    let (path, at) = found.unwrap();
    let (report, found, disk) = after(&sample, &path, |bytes| bytes[at + 1000] ^= 1);
    let mut expected = sample.state.clone();
    expected.remove(&key);
    assert!(found == expected);
    let verified = verify(&disk);
    for findings in [&report.findings, &verified.findings] {
        let one = findings.iter().find(|own| own.first_key.as_ref() == Some(&key)).unwrap();
        assert_eq!((one.last_key.as_ref(), one.records), (Some(&key), Some(1)));
        assert_eq!(one.path, path);
        assert!((at - 64..at).contains(&(one.offset as usize)), "{one:?}");
    }
}

#[test]
fn a_damaged_block_names_the_keys_beside_it_and_how_many_are_gone() {
    let disk = SimDisk::new();
    let db = disk.open_db(PATH, &options()).unwrap();
    for tag in 0..400 {
        db.put(&key_of(tag), &value_of(tag, 100)).unwrap();
    }
    db.flush().unwrap();
    db.close().unwrap();
    let mut paths = disk.files().into_iter().map(|(path, _)| path);
    let path = paths.find(|path| path.to_str().unwrap().ends_with(".table")).unwrap();
    let byte = disk.read_file(&path).unwrap()[8192 + 4000];
    disk.overwrite(&path, 8192 + 4000, &[byte ^ 1]).unwrap();
    let report = verify(&disk);
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!((&finding.path, finding.offset), (&path, 8192));
    let (first, last) = (finding.first_key.clone().unwrap(), finding.last_key.clone().unwrap());
    let records = finding.records.unwrap();
    assert_eq!(report.records + records, 400);
    let (saved, found) = salvage(&disk);
    let [named] = &saved.findings[..] else { panic!("{:?}", saved.findings) };
    assert_eq!((&named.path, named.offset), (&path, 8192));
    assert_eq!((named.first_key.as_ref(), named.last_key.as_ref()), (Some(&first), Some(&last)));
    let lost: Vec<_> = (0..400).map(key_of).filter(|key| !found.contains_key(key)).collect();
    assert_eq!(lost.len() as u64, records);
    assert!(lost.iter().all(|key| (&first..=&last).contains(&key)));
    // LOCAL: who reads the damaged database finds every other key, and hears of these.
    let db = disk.open_db(PATH, &options().read_only(true)).unwrap();
    for tag in 0..400 {
        match db.get(&key_of(tag)) {
            Ok(found) => assert_eq!(found.as_deref(), Some(&value_of(tag, 100)[..])),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption);
                assert!(lost.contains(&key_of(tag)), "{tag}: {error}");
            }
        }
    }
    drop(db);
    // The keys named are neighbours of those that are lost.
    let between = (0..400).map(key_of).filter(|key| (&first..=&last).contains(&key)).count();
    assert_eq!(between as u64, records + 2);
}

fn filled(disk: &SimDisk) -> Db {
    let db = disk.open_db(PATH, &options()).unwrap();
    // Nothing is left for the background to do that would replace files under the test.
    for tag in 0..60 {
        db.put(&key_of(tag), &value_of(tag, if tag % 2 == 0 { 2000 } else { 50 })).unwrap();
    }
    db.compact(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
    let sync = WriteOptions::new().durability(Durability::Sync);
    for tag in 100..120 {
        db.put_with(&key_of(tag), &value_of(tag, 700), &sync).unwrap();
    }
    db
}

/// Flips a bit in the middle of a value, wherever the disk has it.
fn damage_value(disk: &SimDisk, value: &[u8]) -> PathBuf {
    // Of a small value a segment may have an old copy; the newest file has the one that counts.
    for (path, bytes) in files(disk).into_iter().rev() {
        if let Some(at) = bytes.windows(value.len()).position(|window| window == value) {
            let at = at + value.len() / 2;
            disk.overwrite(&path, at as u64, &[bytes[at] ^ 8]).unwrap();
            return path;
        }
    }
    panic!("no file has this value");
}

#[test]
fn a_scrub_finds_damage_in_tables_values_and_log_of_an_open_database() {
    for value in [value_of(1, 50), value_of(2, 2000), value_of(110, 700)] {
        let disk = SimDisk::new();
        let db = filled(&disk);
        let clean = db.scrub(0, &mut go_on).unwrap();
        assert!(clean.is_clean(), "{:?}", clean.findings);
        assert!(clean.records >= 80 && clean.bytes > 0);
        let path = damage_value(&disk, &value);
        let report = db.scrub(0, &mut go_on).unwrap();
        assert!(report.findings.iter().any(|own| own.path == path), "{:?}", report.findings);
        // Others go on.
        db.put(b"later", b"1").unwrap();
        assert_eq!(db.get(b"later").unwrap().as_deref(), Some(&b"1"[..]));
    }
}

#[test]
fn a_scrub_of_a_reader_and_under_writes_finds_nothing_where_nothing_is() {
    let disk = SimDisk::new();
    let db = filled(&disk);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for tag in 0..600 {
                db.put(&key_of(tag), &value_of(tag + 7, 300)).unwrap();
            }
            db.compact(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
        });
        while !writer.is_finished() {
            let report = db.scrub(0, &mut go_on).unwrap();
            assert!(report.is_clean(), "{:?}", report.findings);
        }
    });
    db.close().unwrap();
    let reader = disk.open_db(PATH, &Options::new().read_only(true)).unwrap();
    let report = reader.scrub(0, &mut go_on).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
}

#[test]
fn searches_and_salvages_can_be_cancelled() {
    let disk = sample("tables").disk();
    let stop = &mut |_: Progress| ControlFlow::Break(());
    let errors = [
        disk.verify_db(PATH, stop).unwrap_err(),
        disk.salvage_db(PATH, TARGET, &options(), stop).unwrap_err(),
        disk.open_db(PATH, &options()).unwrap().scrub(1, stop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    }
}

#[test]
fn a_throttled_scrub_ends_when_the_database_is_closed_and_callbacks_may_not_close() {
    let disk = SimDisk::new();
    let db = filled(&disk);
    let (other, mut closing) = (db.clone(), None);
    // A byte a second: without the close it would take a day.
    let error = db
        .scrub(1, &mut |_| {
            assert_eq!(other.close().unwrap_err().kind(), ErrorKind::Misuse);
            let other = other.clone();
            closing.get_or_insert_with(|| std::thread::spawn(move || other.close()));
            ControlFlow::Continue(())
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    closing.unwrap().join().unwrap().unwrap();
}

#[test]
fn calls_that_make_no_sense_are_refused() {
    let disk = sample("tables").disk();
    let kind = |result: toykv::Result<DamageReport>| result.unwrap_err().kind();
    assert_eq!(kind(disk.verify_db("/nothing", &mut go_on)), ErrorKind::NotFound);
    let salvage = |from: &str, to: &str| disk.salvage_db(from, to, &options(), &mut go_on);
    assert_eq!(kind(salvage("/nothing", TARGET)), ErrorKind::NotFound);
    assert_eq!(kind(salvage(PATH, PATH)), ErrorKind::Exists);
    let db = disk.open_db(PATH, &options()).unwrap();
    assert_eq!(kind(disk.verify_db(PATH, &mut go_on)), ErrorKind::Locked);
    assert_eq!(kind(salvage(PATH, TARGET)), ErrorKind::Locked);
    db.close().unwrap();
    assert_eq!(kind(db.scrub(0, &mut go_on)), ErrorKind::Closed);
    // A target without a database in it stays as it is when there is nothing to salvage.
    let names: BTreeMap<_, _> = disk.files().into_iter().collect();
    assert!(names.keys().all(|path| !path.starts_with(TARGET)));
}
