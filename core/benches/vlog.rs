//! Cost of the log's append path: 17-byte encoded keys and 100-byte values, one frame each.
//!
//! `cargo bench --bench vlog -- [directory]`; the directory decides which file system is measured.
#![expect(dead_code, reason = "the bench includes whole modules and uses a part of them")]
#![expect(unused_imports, reason = "as above")]
#![expect(unreachable_pub, reason = "as above")]

#[path = "../src/buffer.rs"]
mod buffer;
#[path = "../src/cache.rs"]
mod cache;
#[path = "../src/checksum.rs"]
mod checksum;
#[path = "../src/coding.rs"]
mod coding;
#[path = "../src/compress.rs"]
mod compress;
#[path = "../src/error.rs"]
mod error;
#[path = "../src/filename.rs"]
mod filename;
#[path = "../src/fs/mod.rs"]
mod fs;
#[path = "../src/key.rs"]
mod key;
#[path = "../src/planted.rs"]
mod planted;
#[path = "../src/prefetch.rs"]
mod prefetch;
#[path = "../src/types.rs"]
mod types;
#[path = "../src/vlog/mod.rs"]
mod vlog;

use std::collections::VecDeque;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use cache::FileAccess;
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
    let dir = dir.map_or_else(std::env::temp_dir, PathBuf::from);
    for (name, prefill, helper) in [
        ("windows made by the writer", Prefill::Window, false),
        ("windows made by another thread", Prefill::Window, true),
        ("segments filled with zeros", Prefill::All, false),
    ] {
        let dir = tempfile::tempdir_in(&dir).unwrap();
        println!("{name}");
        let appends = append(dir.path(), prefill, helper);
        replay_all(dir.path(), appends);
    }
}

fn append(dir: &Path, prefill: Prefill, helper: bool) -> u64 {
    let clock = Clock::start();
    let access = FileAccess::new(0, false);
    let create = |id| {
        let (path, identity) = (path(dir, id), identity(id));
        Arc::new(Segment::create(&OsFileSystem, &path, identity, prefill, &access).unwrap())
    };
    let mut segments: VecDeque<_> = (1..=SEGMENTS).map(create).collect();
    clock.print("create", SEGMENTS * SEGMENT_SIZE / 4096, "page");

    let (wake, woken) = mpsc::channel::<Arc<Segment>>();
    let thread = std::thread::spawn(move || {
        woken.iter().for_each(|segment| segment.prepare_window().unwrap());
    });
    let mut writer = LogWriter::new(segments.pop_front().unwrap(), 0, 0).unwrap();
    let value = [7u8; 100];
    let (mut appends, mut longest) = (0u64, 0);
    let clock = Clock::start();
    loop {
        let mut key = [0u8; 17];
        key[1..9].copy_from_slice(&appends.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        let entries = std::iter::once((Kind::Put, &key[..], &value[..]));
        let size = FrameSize::of(entries.clone()).unwrap();
        if !writer.has_room(size) {
            let Some(segment) = segments.pop_front() else { break };
            writer.rotate(segment).unwrap();
        }
        let stamp = Stamp { first_seqno: appends + 1, synced_seqno: 0, store: Store::Map };
        writer.append(size, stamp, entries, |record| longest = record.offset.max(longest)).unwrap();
        if writer.wants_window() && helper {
            wake.send(Arc::clone(writer.segment())).unwrap();
        }
        appends += 1;
    }
    clock.print("append", appends, "record");
    black_box(longest);
    drop(wake);
    thread.join().unwrap();
    appends
}

fn replay_all(dir: &Path, appends: u64) {
    let clock = Clock::start();
    let access = FileAccess::new(0, false);
    let open = |id| {
        let (path, identity) = (path(dir, id), identity(id));
        let segment = Segment::open(&OsFileSystem, &path, identity, OpenFor::Replay, &access);
        Arc::new(segment.unwrap())
    };
    let segments: Vec<_> = (1..=SEGMENTS).map(open).collect();
    let mut bytes = 0;
    let found = replay(&segments, 0, |record| {
        bytes += record.key.len() + record.value.len();
        Ok(())
    });
    clock.print("replay", appends, "record");
    assert_eq!((found.unwrap().records, bytes as u64), (appends, appends * 117));
}

fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id}.vlog"))
}

fn identity(id: u64) -> SegmentIdentity {
    let salt = id.wrapping_mul(0xABCD_EF12_3456_789B);
    SegmentIdentity { id, salt, db_id: 1, size_bytes: SEGMENT_SIZE }
}

/// Wall time, and time of this thread: the second is comparable on a busy machine.
struct Clock {
    wall: Instant,
    cpu: Duration,
}

impl Clock {
    fn start() -> Clock {
        Clock { wall: Instant::now(), cpu: thread_time() }
    }

    fn print(&self, what: &str, count: u64, unit: &str) {
        let each = |time: Duration| time.as_nanos() as f64 / count as f64;
        let (wall, cpu) = (each(self.wall.elapsed()), each(thread_time() - self.cpu));
        println!("  {what}: {cpu:.1} ns a {unit} in the thread, {wall:.1} ns by the clock");
    }
}

fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live `timespec` that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
