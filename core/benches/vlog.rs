//! Cost of the log's append path: 17-byte encoded keys and 100-byte values, one frame each.
//!
//! `cargo bench --bench vlog -- [directory]`; the directory decides which file system is measured.
#![allow(dead_code, reason = "the bench includes whole modules and uses a part of them")]
#![allow(unused_imports, reason = "as above")]
#![allow(unreachable_pub, reason = "as above")]
#![allow(missing_docs, reason = "as above")]

#[path = "../src/checksum.rs"]
mod checksum;
#[path = "../src/coding.rs"]
mod coding;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/filename.rs"]
mod filename;
#[path = "../src/fs/mod.rs"]
mod fs;
#[path = "../src/key.rs"]
mod key;
#[path = "../src/types.rs"]
mod types;
#[path = "../src/vlog/mod.rs"]
mod vlog;

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use error::{Error, ErrorKind, Result};
use fs::OsFileSystem;
use types::{FileNumber, Kind, MAX_KEY_LEN, SegmentId, SeqNo};
use vlog::{
    FrameSize, LogWriter, OpenFor, Prefill, Segment, SegmentIdentity, Stamp, Store, replay,
};

const SEGMENT_SIZE: u64 = 64 << 20;
const SEGMENTS: u64 = 4;

fn main() {
    let dir = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let dir = match dir {
        Some(dir) => tempfile::tempdir_in(dir).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let identities: Vec<_> = (1..=SEGMENTS).map(identity).collect();
    let path = |id: u64| dir.path().join(format!("{id}.vlog"));
    let started = Instant::now();
    let create = |id: &SegmentIdentity| {
        Segment::create(&OsFileSystem, &path(id.id), *id, Prefill::Window).unwrap()
    };
    let mut segments: Vec<_> = identities.iter().map(create).map(Arc::new).collect();
    println!("create: {:?} a segment", started.elapsed() / SEGMENTS as u32);

    let mut segments_left = segments.drain(..);
    let mut writer = LogWriter::new(segments_left.next().unwrap(), 0, 0).unwrap();
    let value = [7u8; 100];
    let (mut appends, mut longest) = (0u64, 0);
    let started = Instant::now();
    loop {
        let mut key = [0u8; 17];
        key[1..9].copy_from_slice(&appends.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let entries = std::iter::once((Kind::Put, &key[..], &value[..]));
        let size = FrameSize::of(entries.clone()).unwrap();
        if !writer.has_room(size) {
            let Some(segment) = segments_left.next() else { break };
            writer.rotate(segment).unwrap();
        }
        let stamp = Stamp { first_seqno: appends + 1, synced_seqno: 0, store: Store::Map };
        writer.append(size, stamp, entries, |record| longest = record.offset.max(longest)).unwrap();
        appends += 1;
    }
    let elapsed = started.elapsed();
    black_box(longest);
    println!("append: {:.1} ns, {appends} times", elapsed.as_nanos() as f64 / appends as f64);
    drop(writer);

    let started = Instant::now();
    let open = |id: &SegmentIdentity| {
        Segment::open(&OsFileSystem, &path(id.id), *id, OpenFor::Replay).map(Arc::new).unwrap()
    };
    let segments: Vec<_> = identities.iter().map(open).collect();
    let mut bytes = 0;
    let found = replay(&segments, 0, |record| {
        bytes += record.key.len() + record.value.len();
        Ok(())
    });
    let elapsed = started.elapsed();
    assert_eq!((found.unwrap().records, bytes as u64), (appends, appends * 117));
    println!("replay: {:.1} ns a record", elapsed.as_nanos() as f64 / appends as f64);
}

fn identity(id: u64) -> SegmentIdentity {
    SegmentIdentity {
        id,
        salt: id.wrapping_mul(0xABCD_EF12_3456_789B),
        db_id: 1,
        size_bytes: SEGMENT_SIZE,
    }
}
