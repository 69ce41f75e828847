//! The table of scripts: every flow, alone and with what may be under way beside it.

use toykv::{Compression, Durability, IoMode};

use super::script::How::{Interval, Mixed, Process, Sync};
use super::script::Step::{
    Batch, Close, Compact, CompactRange, Delete, Destroy, Flush, Gc, Look, Open, Oversized,
    PopFirst, PopLast, Put, Release, Reopen, ReopenAs, Rounds, Snapshot,
};
use super::script::{Lens, Script, Setup, Step};

const BASE: Setup = Setup::BASE;
const AT_SYNC: Setup = Setup { durability: Durability::Sync, ..BASE };
const AT_INTERVAL: Setup = Setup { durability: Durability::Interval, ..BASE };
/// Nearly every value is separated.
const LOW: Setup = Setup { threshold_bytes: 64, ..BASE };
/// No value is separated.
const HIGH: Setup = Setup { threshold_bytes: 1 << 20, ..BASE };
/// Collection begins early.
const TIGHT: Setup = Setup { space_percent: 110, ..BASE };
/// Many tables a run, and runs that are joined by an edit.
const TABLES: Setup = Setup { limits: &[("table size", 6000), ("join size", 1000)], ..BASE };
/// A new manifest with nearly every edit.
const MANIFESTS: Setup = Setup { limits: &[("manifest size", 1)], ..BASE };
/// Collections that make small files.
const FILES: Setup = Setup { limits: &[("collected file size", 20_000)], ..TIGHT };
const LZ4: Setup = Setup { compression: Some(Compression::Lz4), ..BASE };
const ZSTD: Setup = Setup { compression: Some(Compression::Zstd), ..BASE };
const DIRECT: Setup = Setup { io: Some(IoMode::Direct), ..BASE };

const SHORT: Lens = &[20, 70, 45];
const MEDIUM: Lens = &[300, 700, 150, 900];
const LONG: Lens = &[1100, 2500, 40, 5000];
const AROUND: Lens = &[1023, 1024, 1025];

macro_rules! scripts {
    ($($name:ident: $setup:expr, [$($step:expr),* $(,)?];)*) => {
        pub(crate) const SCRIPTS: &[Script] = &[$(
            Script { name: stringify!($name), setup: $setup, steps: &[$($step),*] },
        )*];
    };
}

scripts! {
    // Writes and what they ask for.
    puts_at_process: BASE, [Put(0, 60, 41, SHORT, Process), Step::Sync,
        Put(60, 90, 41, SHORT, Process)];
    puts_at_interval: AT_INTERVAL, [Put(0, 150, 41, SHORT, Interval)];
    puts_at_sync: AT_SYNC, [Put(0, 40, 41, SHORT, Sync)];
    puts_of_mixed_durability: BASE, [Rounds(4, &[Put(0, 30, 31, MEDIUM, Mixed),
        Delete(3, 8, 31, Mixed)]), Step::Sync];
    sync_among_unsynced: BASE, [Rounds(8, &[Put(0, 9, 23, SHORT, Process),
        Put(9, 10, 23, SHORT, Sync)])];
    one_key_overwritten: BASE, [Put(0, 60, 1, MEDIUM, Mixed)];
    empty_values: BASE, [Put(0, 30, 17, &[0], Mixed), Delete(0, 9, 17, Process), Flush,
        Put(30, 40, 17, &[0, 1], Sync)];
    deletes_of_what_never_was: BASE, [Delete(0, 20, 31, Mixed), Put(0, 10, 31, SHORT, Process),
        Delete(0, 20, 31, Mixed), Flush, Delete(20, 30, 31, Sync)];
    batches: BASE, [Rounds(12, &[Batch(0, 1, MEDIUM, Mixed), Batch(1, 9, MEDIUM, Mixed),
        Batch(2, 4, MEDIUM, Mixed)])];
    batches_at_sync: AT_SYNC, [Rounds(10, &[Batch(0, 7, SHORT, Sync)])];
    batches_with_a_key_twice: BASE, [Rounds(4, &[Batch(0, 70, SHORT, Mixed), Step::Sync])];
    batches_of_many_pages: BASE, [Rounds(5, &[Batch(0, 40, MEDIUM, Mixed)])];
    pops_of_the_first: BASE, [Put(0, 40, 41, SHORT, Process), PopFirst(10), Flush, PopFirst(5),
        Step::Sync, PopFirst(9)];
    pops_of_the_last: BASE, [Put(0, 40, 41, LONG, Process), Flush, PopLast(10), Step::Sync,
        Put(40, 50, 41, LONG, Mixed), PopLast(12)];

    // From segment to segment.
    rotation: BASE, [Put(0, 300, 97, MEDIUM, Process)];
    rotation_with_mixed_durability: BASE, [Put(0, 300, 97, MEDIUM, Mixed)];
    rotation_at_sync: AT_SYNC, [Put(0, 200, 97, MEDIUM, Sync)];
    rotation_at_interval: AT_INTERVAL, [Put(0, 300, 97, MEDIUM, Interval)];
    rotation_with_one_sync_in_each: BASE, [Rounds(4, &[Put(0, 110, 97, &[900], Process),
        Put(110, 111, 97, &[900], Sync)])];
    rotation_by_batches: BASE, [Rounds(9, &[Batch(0, 50, MEDIUM, Mixed),
        Batch(1, 3, SHORT, Process)])];
    rotation_by_batches_of_a_segment: BASE, [Rounds(4, &[Batch(0, 45, &[1200], Process),
        Put(0, 3, 9, SHORT, Mixed)])];

    // Values apart.
    values_above_the_threshold: BASE, [Rounds(3, &[Put(0, 30, 23, LONG, Mixed), Flush,
        Delete(5, 9, 23, Process)]), Compact];
    values_around_the_threshold: BASE, [Rounds(3, &[Put(0, 20, 23, AROUND, Process), Flush]),
        Compact];
    values_above_a_low_threshold: LOW, [Rounds(3, &[Put(0, 40, 23, SHORT, Mixed), Flush]),
        Compact, Gc];
    values_never_apart: HIGH, [Rounds(3, &[Put(0, 20, 23, LONG, Mixed), Flush]), Compact];
    values_of_many_pages: BASE, [Rounds(3, &[Put(0, 5, 7, &[20_000, 9000], Mixed), Flush])];
    values_that_stay_in_their_segment: BASE, [Rounds(3, &[Put(0, 22, 29, &[2500], Process),
        Flush])];
    values_that_move_at_the_flush: BASE, [Rounds(3, &[Put(0, 6, 29, &[2500], Process),
        Put(6, 40, 29, MEDIUM, Process), Flush])];
    values_overwritten: BASE, [Rounds(4, &[Put(0, 20, 5, &[3000], Mixed), Flush])];

    // Flush.
    flushes: BASE, [Rounds(6, &[Put(0, 20, 41, SHORT, Mixed), Flush, Delete(0, 1, 41, Process)])];
    flushes_of_little: BASE, [Rounds(8, &[Put(0, 1, 41, SHORT, Process), Flush])];
    flushes_of_deletes_only: BASE, [Put(0, 30, 31, SHORT, Sync), Flush,
        Rounds(3, &[Delete(0, 8, 31, Process), Flush])];
    flushes_beside_unsynced: BASE, [Rounds(4, &[Put(0, 25, 41, MEDIUM, Process), Flush,
        Put(25, 30, 41, MEDIUM, Process)])];
    flushes_and_syncs: BASE, [Rounds(4, &[Put(0, 9, 41, LONG, Process), Step::Sync, Flush,
        Put(9, 14, 41, LONG, Process), Flush, Step::Sync])];
    flushes_of_nothing: BASE, [Flush, Put(0, 5, 9, SHORT, Process), Flush, Flush, Step::Sync,
        Delete(0, 5, 9, Process), Flush, Flush];

    // Compaction.
    compactions: BASE, [Rounds(4, &[Put(0, 30, 41, MEDIUM, Process), Delete(0, 6, 41, Process),
        Flush, Compact]), Put(30, 40, 41, SHORT, Sync), Compact];
    compactions_of_large_values: BASE, [Rounds(3, &[Put(0, 20, 23, LONG, Process), Flush]),
        Compact, Put(0, 5, 23, LONG, Mixed), Flush, Compact];
    compactions_of_ranges: BASE, [Rounds(4, &[Put(0, 30, 61, MEDIUM, Process), Flush]),
        CompactRange(0, 20), CompactRange(40, 61), Delete(0, 20, 61, Process), Flush,
        CompactRange(10, 50)];
    compactions_of_tombstones: BASE, [Put(0, 40, 41, MEDIUM, Process), Flush,
        Delete(0, 41, 41, Process), Flush, Compact, Put(0, 4, 41, SHORT, Process), Flush, Compact];
    compactions_of_many_tables: TABLES, [Rounds(4, &[Put(0, 60, 97, MEDIUM, Process), Flush]),
        Compact];
    compactions_in_the_background: BASE, [Rounds(10, &[Put(0, 8, 61, MEDIUM, Process), Flush]),
        Step::Sync];
    compactions_that_join: TABLES, [Put(0, 60, 61, MEDIUM, Process), Flush,
        Rounds(4, &[Batch(0, 20, MEDIUM, Process), Flush])];
    compactions_twice: BASE, [Put(0, 30, 31, MEDIUM, Process), Flush,
        Put(30, 50, 31, MEDIUM, Process), Flush, Compact, Compact];

    // Batches larger than a memtable.
    oversized: BASE, [Oversized(0, 40, &[2500])];
    oversized_after_unsynced: BASE, [Put(0, 30, 41, SHORT, Process), Oversized(7, 40, &[2500]),
        Put(30, 50, 41, SHORT, Process)];
    oversized_again_and_again: BASE, [Rounds(3, &[Put(0, 10, 41, SHORT, Process),
        Oversized(7, 40, &[2500]), Put(5, 15, 41, SHORT, Interval)]), Reopen,
        Delete(0, 3, 41, Sync)];
    oversized_of_many_tables: TABLES, [Put(0, 20, 41, MEDIUM, Mixed), Oversized(3, 100, &[900]),
        Compact];
    oversized_over_large_values: BASE, [Put(0, 20, 53, LONG, Process), Flush,
        Oversized(7, 50, &[2000]), Compact, Gc];
    oversized_beside_a_snapshot: BASE, [Put(0, 20, 53, SHORT, Process), Snapshot,
        Oversized(7, 40, &[2500]), Look, Put(20, 30, 53, SHORT, Process), Look];

    // Collection of segments.
    collections: BASE, [Rounds(4, &[Put(0, 24, 24, &[1100, 2500], Mixed), Flush,
        Delete(0, 3, 24, Process)]), Gc, Reopen, Gc];
    collections_again_and_again: BASE, [Rounds(4, &[Put(0, 20, 19, &[2500], Process), Flush,
        Compact, Gc])];
    collections_into_small_files: FILES, [Rounds(4, &[Put(0, 24, 29, &[1500], Process), Flush]),
        Compact, Gc, Delete(0, 9, 29, Process), Flush, Compact, Gc];
    collections_in_the_background: TIGHT, [Rounds(6, &[Put(0, 24, 29, &[2500], Process), Flush,
        Compact])];
    collections_of_everything: TIGHT, [Put(0, 24, 24, &[2500], Process), Flush,
        Delete(0, 24, 24, Process), Flush, Compact, Gc];
    collections_beside_unsynced: TIGHT, [Rounds(3, &[Put(0, 24, 19, &[2500], Process), Flush,
        Put(24, 30, 19, &[2500], Process), Compact, Gc])];

    // Compression and direct I/O.
    lz4: LZ4, [Rounds(3, &[Put(0, 40, 61, MEDIUM, Mixed), Flush]), Compact];
    lz4_of_many_tables: Setup { compression: Some(Compression::Lz4), ..TABLES },
        [Rounds(3, &[Put(0, 60, 97, MEDIUM, Process), Flush]), Compact];
    zstd: ZSTD, [Rounds(3, &[Put(0, 40, 61, MEDIUM, Mixed), Flush]), Compact];
    zstd_of_large_values: ZSTD, [Rounds(3, &[Put(0, 20, 23, LONG, Process), Flush]), Compact, Gc];
    compression_that_changes: LZ4, [Put(0, 40, 61, MEDIUM, Process), Flush, ReopenAs(ZSTD),
        Put(40, 70, 61, MEDIUM, Process), Flush, Compact, ReopenAs(BASE), Compact];
    direct: DIRECT, [Rounds(3, &[Put(0, 40, 61, MEDIUM, Mixed), Flush]), Compact];
    direct_with_large_values: DIRECT, [Rounds(3, &[Put(0, 20, 23, LONG, Process), Flush]), Compact,
        Gc];
    direct_and_zstd: Setup { compression: Some(Compression::Zstd), ..DIRECT },
        [Rounds(3, &[Put(0, 40, 61, MEDIUM, Process), Flush]), Compact, Oversized(3, 40, &[2000])];

    // New manifests.
    manifests_by_flushes: MANIFESTS, [Rounds(6, &[Put(0, 9, 31, MEDIUM, Mixed), Flush])];
    manifests_by_rotation: MANIFESTS, [Put(0, 300, 97, MEDIUM, Process)];
    manifests_by_collections: MANIFESTS, [Rounds(3, &[Put(0, 24, 24, &[2500], Process), Flush,
        Compact, Gc])];
    manifests_by_oversized: MANIFESTS, [Rounds(3, &[Put(0, 5, 41, SHORT, Process),
        Oversized(7, 40, &[2500])])];

    // Snapshots.
    snapshots_over_flush: BASE, [Put(0, 25, 41, SHORT, Process), Snapshot,
        Put(25, 50, 41, LONG, Process), Flush, Look, Put(50, 60, 41, SHORT, Process), Flush, Look,
        Release, Compact];
    snapshots_over_compaction: BASE, [Rounds(3, &[Put(0, 25, 41, MEDIUM, Process), Snapshot,
        Delete(0, 9, 41, Process), Flush, Compact, Look]), Release, Compact];
    snapshots_over_collection: TIGHT, [Put(0, 24, 24, &[2500], Process), Flush, Snapshot,
        Put(24, 44, 24, &[2500], Process), Flush, Compact, Gc, Look, Release, Compact, Gc];

    // Open, close, create, destroy.
    reopens: AT_INTERVAL, [Rounds(6, &[Put(0, 9, 41, MEDIUM, Mixed), Reopen])];
    reopens_after_nothing: BASE, [Put(0, 5, 9, SHORT, Process), Rounds(4, &[Reopen])];
    reopens_with_other_options: BASE, [Put(0, 30, 41, LONG, Process), ReopenAs(LOW),
        Put(30, 50, 41, SHORT, Mixed), Flush, ReopenAs(HIGH), Put(50, 60, 41, LONG, Process), Flush,
        ReopenAs(AT_SYNC), Put(60, 65, 41, SHORT, Sync), Compact];
    reopens_of_several_segments: BASE, [Rounds(2, &[Put(0, 110, 97, &[900], Process), Reopen])];
    creation: BASE, [Put(0, 1, 9, SHORT, Process), Close];
    creation_at_sync: AT_SYNC, [Put(0, 1, 9, SHORT, Sync)];
    destruction: BASE, [Put(0, 20, 41, LONG, Process), Flush, Put(20, 30, 41, SHORT, Process),
        Close, Destroy];
    destruction_and_a_new_beginning: BASE, [Put(0, 20, 41, LONG, Sync), Flush, Close, Destroy, Open,
        Put(20, 30, 41, SHORT, Mixed), Flush];

    // What must not come back.
    zombies: BASE, [Rounds(3, &[Put(0, 8, 8, &[40, 1500], Process), Delete(0, 5, 8, Process), Flush,
        Put(8, 12, 8, &[40, 1500], Process), Step::Sync, Delete(3, 9, 8, Process), Compact,
        Delete(9, 12, 8, Mixed), Reopen])];
    zombies_beside_a_snapshot: BASE, [Put(0, 20, 19, &[40, 1500], Process), Flush, Snapshot,
        Delete(0, 20, 19, Process), Flush, Compact, Look, Release, Compact, Gc,
        Put(20, 24, 19, SHORT, Mixed)];
    zombies_in_older_runs: TABLES, [Put(0, 60, 61, MEDIUM, Process), Flush,
        Delete(0, 30, 61, Process), Flush, Rounds(4, &[Put(60, 64, 61, SHORT, Process), Flush]),
        CompactRange(0, 30)];
}
