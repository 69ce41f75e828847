//! Calls of which one operation after another fails: reads with direct I/O, verify, salvage and
//! destroy answer with an error that fits and names a file, change nothing that they should not,
//! and can be tried again.

use toykv::{IoMode, ScanOptions};

use super::*;
use crate::damage::Sample;
use crate::golden::sample;
use crate::repair::{go_on, only};

pub(super) const TARGET: &str = "/saved";
const CALLS: [&str; 4] = ["read", "verify", "salvage", "destroy"];

/// What is told of files that could not be read; other errors are none of their bytes' matter.
fn check_report(report: &toykv::DamageReport, errno: i32) -> Verdict {
    let here = |finding: &toykv::Finding| finding.path.starts_with(PATH);
    require(report.is_clean() || errno == libc::EIO, || format!("{:?}", report.findings))?;
    require(report.findings.iter().all(here), || format!("{:?}", report.findings))
}

/// The right answer, or an error that fits.
fn check_answer<T: PartialEq>(errno: i32, answer: toykv::Result<T>, right: T) -> Verdict {
    match answer {
        Ok(found) => require(found == right, || "a wrong answer".into()),
        Err(error) => check_error(errno, &error),
    }
}

/// Everything that reads, by a handle that goes on after errors.
fn read(disk: &SimDisk, sample: &Sample, errno: i32) -> Verdict {
    let direct = options().read_only(true).io(IoMode::Direct);
    let db = match disk.open_db(PATH, &direct) {
        Ok(db) => db,
        Err(error) => {
            disk.clear_faults();
            check_error(errno, &error)?;
            disk.open_db(PATH, &direct).map_err(|error| format!("again: {error}"))?
        }
    };
    let all: Vec<_> = sample.state.clone().into_iter().collect();
    let keys: Vec<&Vec<u8>> = sample.state.keys().collect();
    for (key, value) in &sample.state {
        let found = db.get(key).map(|found| found.map(|value| value.to_vec()));
        check_answer(errno, found, Some(value.clone()))?;
        let part = db.get_range(key, 1, 7).map(|found| found.map(|part| part.to_vec()));
        let right = value.iter().skip(1).take(7).copied().collect();
        check_answer(errno, part, Some(right))?;
    }
    let many = db.multi_get(&keys).map(|many| {
        many.into_iter().map(|value| value.map(|value| value.to_vec())).collect::<Vec<_>>()
    });
    check_answer(errno, many, sample.state.values().cloned().map(Some).collect())?;
    for reverse in [false, true] {
        let scan = db.scan(&ScanOptions::new().reverse(reverse));
        let found = scan.and_then(|scan| scan.collect::<toykv::Result<Vec<_>>>());
        let mut right = all.clone();
        if reverse {
            right.reverse();
        }
        check_answer(errno, found, right)?;
    }
    check_answer(errno, db.len(), all.len() as u64)?;
    disk.clear_faults();
    let found = read_all(&db).map_err(|error| format!("again: {error}"))?;
    require(found == sample.state, || "again: a wrong answer".into())
}

fn verify(disk: &SimDisk, errno: i32) -> Verdict {
    let first = disk.verify_db(PATH, &mut go_on);
    disk.clear_faults();
    let again = disk.verify_db(PATH, &mut go_on).map_err(|error| format!("again: {error}"))?;
    require(again.is_clean(), || format!("again: {:?}", again.findings))?;
    match first {
        Ok(report) => {
            check_report(&report, errno)?;
            let all = [&report, &again].map(|report| (report.files, report.records));
            let whole = all[0] == all[1] || !report.is_clean();
            require(whole, || format!("clean, but not all was looked at: {all:?}"))
        }
        Err(error) => check_error(errno, &error),
    }
}

fn salvage(disk: &SimDisk, sample: &Sample, errno: i32) -> Verdict {
    let before = only(disk, PATH);
    let saved = disk.salvage_db(PATH, TARGET, &options(), &mut go_on);
    disk.clear_faults();
    require(only(disk, PATH) == before, || "the source is changed".into())?;
    match saved {
        Ok(report) => {
            check_report(&report, errno)?;
            let saved = disk.open_db(TARGET, &options());
            let saved = saved.map_err(|error| format!("what was saved: {error}"))?;
            let found = read_all(&saved)?;
            let right = |(key, value)| sample.state.get(key) == Some(value);
            require(found.iter().all(right), || "something else is saved".into())?;
            require(found == sample.state || !report.is_clean(), || "lost without a word".into())?;
        }
        Err(error) => check_error(errno, &error)?,
    }
    let report = disk.salvage_db(PATH, "/again", &options(), &mut go_on);
    let report = report.map_err(|error| format!("again: {error}"))?;
    let all = report.is_clean() && report.records == sample.state.len() as u64;
    require(all, || format!("again: {} records, {:?}", report.records, report.findings))
}

fn destroy(disk: &SimDisk, sample: &Sample, errno: i32) -> Verdict {
    let destroyed = disk.destroy_db(PATH);
    disk.clear_faults();
    if let Err(error) = &destroyed {
        check_error(errno, error)?;
        // Whole, or nothing that can be opened.
        let opened = disk.open_db(PATH, &options().create_if_missing(false));
        match opened {
            Ok(db) => {
                let found = read_all(&db)?;
                require(found == sample.state, || "a part is destroyed".into())?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error)
                if error.kind() == ErrorKind::Corruption
                    && error.to_string().contains("CURRENT at offset 0: missing") => {}
            Err(error) => return Err(format!("opened afterwards: {error}")),
        }
        match disk.destroy_db(PATH) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(format!("again: {error}"));
            }
            _ => {}
        }
    }
    // An open that found nothing leaves its lock.
    let left = only(disk, PATH).into_iter().all(|(path, _)| path.ends_with("LOCK"));
    require(left, || format!("left: {:?}", disk.files()))
}

fn check_call(call: &str, sample: &Sample, case: Case) -> Result<bool, String> {
    let disk = sample.disk();
    disk.fail(case.fault());
    match call {
        "read" => read(&disk, sample, case.errno)?,
        "verify" => verify(&disk, case.errno)?,
        "salvage" => salvage(&disk, sample, case.errno)?,
        _ => destroy(&disk, sample, case.errno)?,
    }
    Ok(disk.faults_struck() > 0)
}

/// Every place of every kind, once and for ever, with all effects; in the short form fewer places
/// and errors, and one effect after the other.
fn places_of(call: &str, sample: &Sample, errors: &mut Vec<String>) -> u64 {
    let short = most().is_some();
    let numbers = if short { &NUMBERS[..2] } else { &NUMBERS[..] };
    let ways = numbers.iter().flat_map(|errno| [Times::Once, Times::Forever].map(|t| (*errno, t)));
    let mut struck = 0;
    for (kind, (errno, times)) in
        KINDS.into_iter().flat_map(|kind| ways.clone().map(move |way| (kind, way)))
    {
        let effects = effects(kind);
        let mut nth = 0;
        for step in 0.. {
            let turns = if short { 1 } else { effects.len() };
            let hits = (0..turns).filter(|turn| {
                let effect = effects[(nth as usize + turn) % effects.len()];
                let case = Case { kind, nth, errno, times, effect };
                check_call(call, sample, case).unwrap_or_else(|what| {
                    errors.push(format!("{call}, {case:?}: {what}"));
                    true
                })
            });
            if hits.count() == 0 {
                break;
            }
            struck += 1;
            if errors.len() > 100 {
                break;
            }
            nth += if short { 1 + step / 8 } else { 1 };
        }
    }
    struck
}

#[test]
fn calls_fail_at_every_operation_and_can_be_tried_again() {
    let (kind, errno) = (OpKind::RemoveDir, libc::EIO);
    let last = Case { kind, nth: 0, errno, times: Times::Once, effect: Effect::Nothing };
    assert_eq!(check_call("destroy", &sample("log"), last), Ok(true));
    let mut errors = Vec::new();
    for name in ["log", "values", "rewritten"] {
        let sample = sample(name);
        for call in CALLS {
            let struck = places_of(call, &sample, &mut errors);
            println!("{call} of {name}: faults at {struck} places");
            assert!(struck > 20 || !errors.is_empty(), "{call} of {name}: {struck}");
        }
    }
    errors.iter().for_each(|error| println!("{error}"));
    assert!(errors.is_empty(), "{} of the cases above, the first: {}", errors.len(), errors[0]);
}
