//! Tests of loading damaged, foreign and forged manifests (layer L4).

use super::super::layout::{encode_current, record_len};
use super::super::manifest::Manifest;
use super::super::samples::{self, table};
use super::super::wreck::load_wreck;
use super::*;
use crate::error::ErrorKind;
use crate::fs::OsFileSystem;
use crate::fs::sim::SimDisk;

const NUMBER: FileNumber = 100;

/// A manifest's bytes, the state after each of its edits, and where each edit begins and ends.
struct Sample {
    bytes: Vec<u8>,
    states: Vec<VersionState>,
    ends: Vec<usize>,
}

/// Edits with keys of these lengths after the sample state.
fn sample(key_lens: &[usize]) -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let (fs, dir) = (OsFileSystem, dir.path());
    let mut state = samples::state();
    state.next_file = NUMBER + 1;
    let mut manifest = Manifest::create(&fs, dir, NUMBER, &state).unwrap();
    let mut ends = vec![manifest.size_bytes() as usize];
    let mut states = vec![state.clone()];
    for len in key_lens {
        let mut edit = VersionEdit::new();
        let seqno = state.last_seqno + 1;
        let last = "x".repeat(*len);
        edit.add_table(state.next_run, table(state.next_file, "a", &last, seqno, seqno));
        state = state.with(&edit).unwrap();
        manifest.append(&edit).unwrap();
        states.push(state.clone());
        ends.push(manifest.size_bytes() as usize);
    }
    Sample { bytes: read_file(&fs, &FileName::Manifest(NUMBER).path(dir)), states, ends }
}

fn read_file(fs: &dyn FileSystem, path: &Path) -> Vec<u8> {
    let file = fs.open(path).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

fn write_file(fs: &dyn FileSystem, path: &Path, bytes: &[u8]) {
    if fs.kind(path).unwrap() == PathKind::File {
        fs.remove_file(path).unwrap();
    }
    fs.create(path).unwrap().write_at(bytes, 0).unwrap();
}

fn replay(bytes: &[u8]) -> Result<VersionState> {
    Replay::new(Path::new("MANIFEST-000100"), bytes, NUMBER)?.run().map(|(state, _)| state)
}

/// The error, which must be Corruption in the manifest at an offset within what was written.
fn corruption(bytes: &[u8], what: &dyn std::fmt::Debug) -> Error {
    let error = replay(bytes).expect_err(&format!("{what:?}"));
    assert_eq!(error.kind(), ErrorKind::Corruption, "{what:?}: {error}");
    assert_eq!(error.path(), Some(Path::new("MANIFEST-000100")));
    assert!(error.offset().unwrap() <= bytes.len() as u64);
    error
}

/// The same file as a crash leaves it before anything behind the last edit was written.
fn unconfirmed(sample: &Sample) -> Vec<u8> {
    let mut bytes = sample.bytes.clone();
    bytes[*sample.ends.last().unwrap()..].fill(0);
    bytes
}

/// Puts the right checksum over the record at `offset`, the salt being that of the header.
fn mend(bytes: &mut [u8], offset: usize) {
    let (_, salt) = Header::decode(Path::new("x"), bytes).unwrap();
    let record = Record::claimed(bytes, offset, salt).unwrap();
    let (previous, len) = (record.previous, record.payload.len());
    let kind = record_kind(record.kind).expect("a known kind");
    let payload = record.payload.to_vec();
    let mut out = Vec::new();
    Record::put(&mut out, salt, offset as u64, previous, (kind, &payload)).unwrap();
    assert_eq!(out.len(), record_len(len));
    bytes[offset..offset + out.len()].copy_from_slice(&out);
}

#[test]
fn every_flipped_bit_is_corruption_or_has_no_effect() {
    let sample = sample(&[10, 3, 40]);
    assert_eq!(sample.bytes.len(), 16 << 10);
    let end = *sample.ends.last().unwrap();
    let state = sample.states.last().unwrap();
    let mut bytes = sample.bytes.clone();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if bit / 8 < end {
            corruption(&bytes, &bit);
        } else {
            assert_eq!(&replay(&bytes).unwrap(), state, "{bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert_eq!(&replay(&bytes).unwrap(), state);
}

#[test]
fn every_flipped_bit_in_an_unconfirmed_last_edit_leaves_the_state_before_it() {
    let sample = sample(&[10, 3, 40]);
    let mut bytes = unconfirmed(&sample);
    let [.., before, end] = sample.ends[..] else { panic!() };
    let [.., shorter, whole] = &sample.states[..] else { panic!() };
    assert_eq!(&replay(&bytes).unwrap(), whole);
    for bit in 0..end * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if bit / 8 < before {
            corruption(&bytes, &bit);
        } else {
            assert_eq!(&replay(&bytes).unwrap(), shorter, "{bit}");
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn every_shorter_length_is_corruption_and_a_longer_one_has_no_effect() {
    let sample = sample(&[4_000, 9_000, 6_000, 5]);
    assert_eq!(sample.bytes.len(), 32 << 10);
    for len in 0..sample.bytes.len() {
        let error = corruption(&sample.bytes[..len], &len);
        assert_eq!(error.offset(), Some(len as u64), "{len}: {error}");
    }
    for more in [vec![0; 5], vec![0xff; 5_000], sample.bytes.clone()] {
        let longer = [sample.bytes.clone(), more].concat();
        assert_eq!(&replay(&longer).unwrap(), sample.states.last().unwrap());
    }
}

#[test]
fn a_last_edit_torn_anywhere_leaves_the_state_before_it() {
    let sample = sample(&[10, 900, 700]);
    let whole = unconfirmed(&sample);
    let [.., before, end] = sample.ends[..] else { panic!() };
    let [.., shorter, longer] = &sample.states[..] else { panic!() };
    for place in before..end {
        for filler in [0, 0xff, 0xa5] {
            let mut bytes = whole.clone();
            bytes[place..end].fill(filler);
            let state = replay(&bytes).unwrap();
            let same = bytes == whole;
            assert_eq!(&state, if same { longer } else { shorter }, "{place} {filler}");
        }
    }
}

#[test]
fn a_lost_edit_in_the_middle_is_corruption_at_its_place() {
    let sample = sample(&[10, 3, 40, 5]);
    for pair in sample.ends.windows(2) {
        let [start, end] = pair else { panic!() };
        for filler in [0, 0xff] {
            let mut bytes = sample.bytes.clone();
            bytes[*start..*end].fill(filler);
            assert_eq!(corruption(&bytes, &pair).offset(), Some(*start as u64));
        }
    }
}

#[test]
fn an_edit_moved_or_repeated_or_of_another_manifest_is_not_an_edit() {
    let (sample, other) = (sample(&[10, 10, 10]), sample(&[10, 10, 11]));
    let [_, first, second, third] = sample.ends[..] else { panic!() };
    assert_eq!(second - first, third - second);
    let mut bytes = sample.bytes.clone();
    bytes.copy_within(first..second, second);
    corruption(&bytes, &"repeated");
    let mut bytes = sample.bytes.clone();
    let place = sample.ends[3];
    bytes.copy_within(second..third, place);
    assert_eq!(&replay(&bytes).unwrap(), sample.states.last().unwrap());
    let mut bytes = sample.bytes.clone();
    bytes[second..].copy_from_slice(&other.bytes[second..]);
    assert_eq!(replay(&bytes).unwrap(), *other.states.last().unwrap(), "the same history so far");
    let mut bytes = sample.bytes.clone();
    bytes[..HEADER_LEN].copy_from_slice(&header(|header| header.db_id ^= 1));
    assert_eq!(corruption(&bytes, &"of another database").offset(), Some(HEADER_LEN as u64));
}

/// The sample's header after a change, its checksum right.
fn header(change: impl FnOnce(&mut Header)) -> Vec<u8> {
    let state = samples::state();
    let mut header = Header {
        db_id: state.db_id,
        hash_seed: state.hash_seed,
        number: NUMBER,
        size_bytes: 16 << 10,
    };
    change(&mut header);
    header.encode()
}

#[test]
fn another_format_version_is_named_beside_the_supported_one() {
    let sample = sample(&[10]);
    for version in [0, 2, u32::MAX] {
        let mut bytes = sample.bytes.clone();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        corruption(&bytes, &"its checksum is not right");
        let checksum = crate::checksum::checksum64(&bytes[..48], 0x6d61_6e69_6665_7374);
        bytes[48..56].copy_from_slice(&checksum.to_le_bytes());
        let error = replay(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
        assert_eq!(error.offset(), Some(8));
        assert_eq!(error.path(), Some(Path::new("MANIFEST-000100")));
        let expected = format!("manifest of format version {version}; this program supports 1");
        assert_eq!(error.message(), expected);
    }
}

#[test]
fn a_newer_manifest_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, dir) = (OsFileSystem, dir.path());
    let mut bytes = sample(&[10]).bytes;
    bytes[8] = 9;
    let checksum = crate::checksum::checksum64(&bytes[..48], 0x6d61_6e69_6665_7374);
    bytes[48..56].copy_from_slice(&checksum.to_le_bytes());
    let path = FileName::Manifest(NUMBER).path(dir);
    write_file(&fs, &path, &bytes);
    write_file(&fs, &FileName::Current.path(dir), encode_current(NUMBER).as_bytes());
    let error = load(&fs, dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    assert_eq!(error.path(), Some(path.as_path()));
    assert_eq!(read_file(&fs, &path), bytes);
    assert_eq!(fs.list_dir(dir).unwrap().len(), 2);
}

#[test]
fn an_edit_with_a_right_checksum_is_still_not_trusted() {
    let sample = sample(&[10, 3]);
    let start = sample.ends[1];
    let payload = start + RECORD_HEADER_LEN;
    let mut bytes = unconfirmed(&sample);
    // The tag of the first field, the next file number.
    assert_eq!(bytes[payload], 1);
    bytes[payload] = 77;
    mend(&mut bytes, start);
    let error = replay(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    assert_eq!(error.offset(), Some(payload as u64));
    assert!(error.message().contains("unknown field 77"), "{error}");
    bytes[payload] = 9;
    mend(&mut bytes, start);
    let error = corruption(&bytes, &"a count of one number");
    assert_eq!(error.offset(), Some(payload as u64));
    assert_eq!(error.message(), "version edit with a bad count");
}

#[test]
fn a_header_that_says_another_length_is_refused() {
    let mut bytes = sample(&[10]).bytes;
    bytes[12..16].copy_from_slice(&64u32.to_le_bytes());
    let checksum = crate::checksum::checksum64(&bytes[..48], 0x6d61_6e69_6665_7374);
    bytes[48..56].copy_from_slice(&checksum.to_le_bytes());
    let error = corruption(&bytes, &"a header of 64 bytes");
    assert_eq!(error.offset(), Some(12));
    assert_eq!(error.message(), "the manifest's header has a wrong length");
}

#[test]
fn a_file_can_only_be_said_to_grow() {
    let sample = sample(&[10, 3]);
    let (start, end) = (sample.ends[1], sample.ends[2]);
    let (header, salt) = Header::decode(Path::new("x"), &sample.bytes).unwrap();
    let chain = u64::from_le_bytes(*sample.bytes[start..].first_chunk().unwrap());
    let grown = |payload: &[u8]| {
        let mut record = Vec::new();
        let grow = (RecordKind::Grow, payload);
        Record::put(&mut record, salt, end as u64, chain, grow).unwrap();
        let mut bytes = unconfirmed(&sample);
        bytes[end..end + record.len()].copy_from_slice(&record);
        bytes
    };
    let size = header.size_bytes;
    let mut longer = grown(&(size + 4096).to_le_bytes());
    longer.resize(size as usize + 4096, 0);
    assert_eq!(replay(&longer).unwrap(), *sample.states.last().unwrap());
    for payload in [&size.to_le_bytes()[..], &(size - 1).to_le_bytes(), &[1, 2, 3], &[0xff; 9]] {
        let error = corruption(&grown(payload), &payload);
        assert_eq!(error.offset(), Some((end + RECORD_HEADER_LEN) as u64));
        assert_eq!(error.message(), "an impossible size");
    }
}

#[test]
fn what_is_saved_of_a_manifest_leaves_out_an_edit_that_is_none() {
    let sample = sample(&[10, 3]);
    let (start, dir) = (sample.ends[1], Path::new("/db"));
    let mut bytes = unconfirmed(&sample);
    bytes[start + RECORD_HEADER_LEN] = 9;
    mend(&mut bytes, start);
    let disk = SimDisk::new();
    disk.create_dir(dir).unwrap();
    disk.write_file(FileName::Manifest(NUMBER).path(dir), &bytes).unwrap();
    let wreck = load_wreck(&disk, dir).unwrap();
    let lost: Vec<_> = wreck.lost.iter().map(|error| (error.offset(), error.message())).collect();
    assert!(lost.contains(&(Some(start as u64), "no edit")), "{lost:?}");
}

#[test]
fn every_flipped_bit_with_a_mended_checksum_is_survived() {
    let sample = sample(&[10, 3]);
    let (start, end) = (sample.ends[1], sample.ends[2]);
    let mut kinds = std::collections::BTreeMap::new();
    for bit in (start + RECORD_HEADER_LEN) * 8..end * 8 {
        let mut bytes = unconfirmed(&sample);
        bytes[bit / 8] ^= 1 << (bit % 8);
        mend(&mut bytes, start);
        let outcome = match replay(&bytes) {
            Ok(_) => "accepted".to_string(),
            Err(error) => {
                assert!(error.offset().unwrap() >= start as u64, "{error}");
                format!("{:?}", error.kind())
            }
        };
        *kinds.entry(outcome).or_insert(0) += 1;
    }
    let kinds: Vec<&str> = kinds.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["Corruption", "UnsupportedFormat", "accepted"]);
}

#[test]
fn a_tail_forged_to_look_like_records_without_end_is_refused() {
    let sample = sample(&[10]);
    let (_, salt) = Header::decode(Path::new("x"), &sample.bytes).unwrap();
    let mut bytes = unconfirmed(&sample);
    bytes.resize(1 << 20, 0);
    let end = *sample.ends.last().unwrap();
    for offset in (end..bytes.len() - 24).step_by(24) {
        let len = (bytes.len() - offset - 32) as u32;
        bytes[offset + 16..offset + 20].copy_from_slice(&len.to_le_bytes());
        bytes[offset + 20..offset + 24].copy_from_slice(&(1 ^ salt as u32).to_le_bytes());
    }
    let error = corruption(&bytes, &"forged");
    assert_eq!(error.message(), "bytes made to look like many records");
}

#[test]
fn current_names_one_manifest_or_is_corrupt() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, dir) = (OsFileSystem, dir.path());
    let state = VersionState { next_file: NUMBER + 1, ..samples::state() };
    Manifest::create(&fs, dir, NUMBER, &state).unwrap();
    let path = FileName::Current.path(dir);
    let right = read_file(&fs, &path);
    assert_eq!(right.len(), 33);
    assert!(right.starts_with(b"MANIFEST-000100 "));
    assert!(right.ends_with(b"\n"));
    let refused = |bytes: &[u8]| {
        write_file(&fs, &path, bytes);
        let error = load(&fs, dir).expect_err(&format!("{bytes:?}"));
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
        assert_eq!((error.path(), error.offset()), (Some(path.as_path()), Some(0)));
    };
    for bit in 0..right.len() * 8 {
        let mut bytes = right.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused(&bytes);
    }
    for len in 0..right.len() {
        refused(&right[..len]);
    }
    refused(&[right.clone(), right.clone()].concat());
    refused(&[right.clone(), vec![0]].concat());
    refused(&right.repeat(1000));
    write_file(&fs, &path, &right);
    assert_eq!(load(&fs, dir).unwrap(), Some(Loaded { state, number: NUMBER, is_fresh: true }));
}

#[test]
fn missing_and_swapped_files_are_corruption() {
    let dir = tempfile::tempdir().unwrap();
    let (fs, dir) = (OsFileSystem, dir.path());
    let state = VersionState { next_file: NUMBER + 3, ..samples::state() };
    Manifest::create(&fs, dir, NUMBER, &state).unwrap();
    let current = FileName::Current.path(dir);
    let manifest = FileName::Manifest(NUMBER).path(dir);
    let bytes = read_file(&fs, &manifest);

    write_file(&fs, &current, encode_current(NUMBER + 1).as_bytes());
    let error = load(&fs, dir).unwrap_err();
    let missing = FileName::Manifest(NUMBER + 1).path(dir);
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.path(), Some(missing.as_path()));

    write_file(&fs, &missing, &bytes);
    let error = load(&fs, dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.message(), "this is manifest 100, not 101");

    fs.remove_file(&current).unwrap();
    assert_eq!(load(&fs, dir).unwrap(), None, "nothing was ever stored");
    for name in ["000001.vlog", "000002.table"] {
        write_file(&fs, &dir.join(name), b"");
        let error = load(&fs, dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert_eq!(error.path(), Some(current.as_path()));
        assert_eq!(error.message(), format!("missing, though {name} is there"));
        fs.remove_file(&dir.join(name)).unwrap();
    }
    fs.create_dir(&current).unwrap();
    assert_eq!(load(&fs, dir).unwrap_err().kind(), ErrorKind::Corruption);
}
