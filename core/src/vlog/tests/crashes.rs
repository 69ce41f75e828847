//! Power loss: whatever of the unsynced bytes survives, replay answers whole frames from the start,
//! all that was synced among them.

use super::*;
use crate::fs::sim::CrashPolicy;

/// Appends batches over several segments and syncs them now and then; answers how many records are
/// durable then.
fn script(log: &mut TestLog, sync_every: usize) -> usize {
    let mut durable = (0, 0);
    let mut unsynced = vec![Arc::clone(log.writer.segment())];
    for n in 0..24usize {
        let batch = [put(&n.to_be_bytes(), &vec![n as u8; 37 * n]), delete(b"x")];
        let size = FrameSize::of(parts(&batch)).unwrap();
        log.store = if n % 3 == 0 { Store::Write } else { Store::Map };
        if !log.writer.has_room(size) {
            log.rotate(8 << 10);
            unsynced.push(Arc::clone(log.writer.segment()));
        }
        log.append(durable.1, &batch);
        if n % sync_every == sync_every - 1 {
            let claimed = (log.written.len(), log.writer.last_seqno());
            unsynced.iter().for_each(|segment| segment.sync().unwrap());
            unsynced.retain(|segment| !segment.is_settled());
            durable = claimed;
        }
    }
    durable.0
}

/// Every frame has two records.
fn is_whole(log: &TestLog, seen: &[Seen]) -> bool {
    log.written.starts_with(seen) && seen.len().is_multiple_of(2)
}

#[test]
fn what_was_synced_survives_and_what_survives_is_a_prefix() {
    let mut lengths = std::collections::BTreeSet::new();
    for sync_every in [1, 3, 7, 100] {
        let mut log = TestLog::new(8 << 10);
        let durable = script(&mut log, sync_every);
        for (name, policy) in CrashPolicy::standard() {
            for seed in 0..40 {
                let image = log.disk.crash_image(&policy, seed);
                let segments = open_all(&image, &log.ids);
                let (found, seen) = collect(&segments, 0)
                    .unwrap_or_else(|error| panic!("{sync_every} {name} {seed}: {error}"));
                assert!(is_whole(&log, &seen), "{sync_every} {name} {seed}");
                assert!(seen.len() >= durable, "{sync_every} {name} {seed}");
                assert_eq!(found.records as usize, seen.len());
                lengths.insert(seen.len());
            }
        }
    }
    // Some lost nothing, some everything, some a part.
    assert!(lengths.contains(&0) && lengths.contains(&48) && lengths.len() > 12, "{lengths:?}");
}

#[test]
fn the_death_of_the_process_loses_nothing() {
    let mut log = TestLog::new(8 << 10);
    script(&mut log, 5);
    let image = log.disk.crash_image(&CrashPolicy::KEEP_ALL, 0);
    assert_eq!(collect(&open_all(&image, &log.ids), 0).unwrap().1, log.written);
}

#[test]
fn pages_written_back_early_make_no_holes_visible() {
    for seed in 0..60 {
        let mut log = TestLog::new(8 << 10);
        log.disk.set_write_back(40, seed);
        let durable = script(&mut log, 6);
        let image = log.disk.crash_image(&CrashPolicy::random(seed), seed);
        let (_, seen) = collect(&open_all(&image, &log.ids), 0).unwrap();
        assert!(is_whole(&log, &seen) && seen.len() >= durable, "{seed}");
    }
}

#[test]
fn a_segment_is_registered_only_when_it_is_durable() {
    let disk = SimDisk::new();
    create(&disk, identity(1, 8 << 10)).unwrap();
    for (name, policy) in CrashPolicy::standard() {
        let image = disk.crash_image(&policy, 1);
        let (found, _) = collect(&open_all(&image, &[identity(1, 8 << 10)]), 0).unwrap();
        assert_eq!(found.frames, 0, "{name}");
    }
}
