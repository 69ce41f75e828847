//! verify, scrub and salvage: what they find, what they save, and what they leave alone.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use toykv::sim::SimDisk;
use toykv::{DamageReport, Db, Durability, ErrorKind, Options, Progress, WriteOptions};

use crate::damage::{Answer, Sample, is_lock, options};
use crate::golden::{self, files, sample, samples};
use crate::oracle::{Dice, Map, PATH, key_of, read_all, value_of};

const TARGET: &str = "/saved";

fn go_on(_: Progress) -> ControlFlow<()> {
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

fn only(disk: &SimDisk, dir: &str) -> Vec<(PathBuf, Vec<u8>)> {
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

/// What verify and salvage have to say after a damage; an error says what is wrong with it.
fn judge(sample: &Sample, path: &Path, at: usize, bit: u64) -> Result<bool, String> {
    let disk = sample.disk();
    let flipped = bytes_of(sample, path)[at] ^ (1 << bit);
    disk.overwrite(path, at as u64, &[flipped]).unwrap();
    let report = verify(&disk);
    for finding in &report.findings {
        if finding.path.as_os_str().is_empty() || finding.what.is_empty() {
            return Err(format!("says nothing: {finding:?}"));
        }
    }
    let before = only(&disk, PATH);
    let (lost, found) = salvage(&disk);
    if only(&disk, PATH) != before {
        return Err("the source was changed".into());
    }
    for (key, value) in &sample.state {
        let named = |own: &toykv::Finding| match (&own.first_key, &own.last_key) {
            (Some(first), Some(last)) => first <= key && key <= last,
            _ => true,
        };
        if found.get(key) != Some(value) && !lost.findings.iter().any(named) {
            return Err(format!("{key:?} is lost and nothing says so: {:?}", lost.findings));
        }
    }
    let answer = sample.judge(&disk)?;
    if answer == Answer::Refused && report.is_clean() {
        return Err("something is refused and verify has not found it".into());
    }
    Ok(!report.is_clean())
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
            let bytes = bytes_of(&sample, &path);
            let number = |back: usize| {
                let at = bytes.len() - 160 + back;
                u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
            };
            // The index follows the locator, which follows the blocks.
            let index = number(112) + (number(40) + 7) * 64;
            let (report, found, _) = after(&sample, &path, |bytes| bytes[index] ^= 4);
            assert!(found == sample.state, "{}: {:?}", path.display(), report.findings);
        }
    }
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
    let (_, found) = salvage(&disk);
    let lost: Vec<_> = (0..400).map(key_of).filter(|key| !found.contains_key(key)).collect();
    assert_eq!(lost.len() as u64, records);
    assert!(lost.iter().all(|key| (&first..=&last).contains(&key)));
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
