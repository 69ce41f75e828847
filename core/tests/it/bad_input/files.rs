//! Files that are missing, cut, exchanged, or of a newer format.

use std::path::{Path, PathBuf};

use toykv::{Db, ErrorKind};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    check_sample, contents, read_file, refused, remove_file, sample, says, small, write_file,
};

/// The files of a sample whose names end, or begin, so, in order.
fn files(dir: &Path, what: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = contents(dir).into_keys().collect();
    found.retain(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.ends_with(what) || name.starts_with(what)
    });
    assert!(!found.is_empty(), "no {what} in {dir:?}");
    found
}

/// Refused the same way for writing and for reading, by an error that names the file.
#[track_caller]
fn refused_both_ways(dir: &Path, kind: ErrorKind, what: &str) {
    for options in [small(), small().read_only(true)] {
        says(&refused(dir, &options), kind, what);
    }
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn files_that_are_missing_cut_or_longer() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    for what in [".table", ".vlog", "MANIFEST-"] {
        for path in files(dir.path(), what) {
            let bytes = read_file(&path);
            remove_file(&path);
            refused_both_ways(dir.path(), ErrorKind::Corruption, name(&path));
            let len = bytes.len();
            for cut in [0, 1, 100, 4095, 4096, len / 2, len - 4096.min(len), len - 1] {
                write_file(&path, &bytes[..cut]);
                refused_both_ways(dir.path(), ErrorKind::Corruption, name(&path));
            }
            if what != "MANIFEST-" {
                write_file(&path, &[&bytes[..], &[0; 8]].concat());
                refused_both_ways(dir.path(), ErrorKind::Corruption, name(&path));
            }
            remove_file(&path);
            std::fs::create_dir(&path).unwrap();
            for options in [small(), small().read_only(true)] {
                let error = refused(dir.path(), &options);
                assert!(error.to_string().contains(name(&path)), "{error}");
            }
            std::fs::remove_dir(&path).unwrap();
            write_file(&path, &bytes);
        }
    }
    check_sample(&Db::open(dir.path(), &small()).unwrap());
}

#[test]
fn files_of_another_database_or_of_another_number() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    sample(&ours);
    sample(&theirs);
    for what in [".table", ".vlog", "MANIFEST-"] {
        // Both were made alike, so the names are the same.
        for (our, their) in files(&ours, what).into_iter().zip(files(&theirs, what)) {
            assert_eq!(name(&our), name(&their));
            let bytes = read_file(&our);
            write_file(&our, &read_file(&their));
            refused_both_ways(&ours, ErrorKind::Corruption, "");
            write_file(&our, &bytes);
        }
    }
    let logs = files(&ours, ".vlog");
    let [one, two] = [0, 1].map(|index| read_file(&logs[index]));
    write_file(&logs[0], &two);
    write_file(&logs[1], &one);
    refused_both_ways(&ours, ErrorKind::Corruption, ".vlog");
    write_file(&logs[0], &one);
    write_file(&logs[1], &two);
    check_sample(&Db::open(&ours, &small()).unwrap());
}

#[test]
fn a_current_that_is_missing_or_says_nonsense() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().join("CURRENT");
    let bytes = read_file(&path);
    remove_file(&path);
    refused_both_ways(dir.path(), ErrorKind::Corruption, "CURRENT");
    refused(dir.path(), &small().error_if_exists(true));
    let other = |manifest: &str| {
        let sum = xxh3_64_with_seed(manifest.as_bytes(), 0x0063_7572_7265_6e74);
        format!("{manifest} {sum:016x}\n").into_bytes()
    };
    let text = String::from_utf8(bytes.clone()).unwrap();
    let manifest = text.split(' ').next().unwrap();
    assert_eq!(other(manifest), bytes, "the format is as documented");
    let mut nonsense = vec![
        Vec::new(),
        b"\n".to_vec(),
        b"nonsense".to_vec(),
        vec![0; 33],
        vec![0xff; 64],
        vec![b'M'; 1 << 20],
        manifest.as_bytes().to_vec(),
        format!("{manifest} 0123456789abcdef\n").into_bytes(),
        text.to_uppercase().into_bytes(),
        bytes[..bytes.len() - 1].to_vec(),
        [&bytes[..], b"\n"].concat(),
        other("../MANIFEST-000001"),
        other("LOCK"),
        other("CURRENT"),
        other("MANIFEST-999999"),
        other(""),
    ];
    nonsense.extend(files(dir.path(), ".table").iter().map(|path| other(name(path))));
    for text in nonsense {
        write_file(&path, &text);
        for options in [small(), small().read_only(true)] {
            let error = refused(dir.path(), &options);
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            let error = error.to_string();
            assert!(error.contains("CURRENT") || error.contains("MANIFEST-999999"), "{error}");
        }
    }
    write_file(&path, &bytes);
    check_sample(&Db::open(dir.path(), &small()).unwrap());
}

fn mix64(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Sets the version in the header of a file and mends the checksum.
type Mend = fn(&mut [u8], u32);

fn manifest_of(bytes: &mut [u8], version: u32) {
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let sum = xxh3_64_with_seed(&bytes[..48], 0x6d61_6e69_6665_7374);
    bytes[48..56].copy_from_slice(&sum.to_le_bytes());
}

fn segment_of(bytes: &mut [u8], version: u32) {
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let sum = xxh3_64_with_seed(&bytes[..4088], 0);
    bytes[4088..4096].copy_from_slice(&sum.to_le_bytes());
}

fn table_of(bytes: &mut [u8], version: u32) {
    let at = version_of_table(bytes);
    bytes[at..at + 4].copy_from_slice(&version.to_le_bytes());
    let len = bytes.len();
    if bytes.ends_with(b"toykvTBL") {
        let seed = mix64(3, u64::from(version) << 32 | 160);
        let sum = xxh3_64_with_seed(&bytes[len - 160..len - 24], seed);
        bytes[len - 24..len - 16].copy_from_slice(&sum.to_le_bytes());
    } else {
        let sum = xxh3_64_with_seed(&bytes[len - 160..len - 8], 3);
        bytes[len - 8..].copy_from_slice(&sum.to_le_bytes());
    }
}

fn version_of_table(bytes: &[u8]) -> usize {
    bytes.len() - if bytes.ends_with(b"toykvTBL") { 16 } else { 152 }
}

#[test]
fn files_of_a_newer_format() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let kinds: [(&str, Mend); 3] =
        [("MANIFEST-", manifest_of), (".vlog", segment_of), (".table", table_of)];
    for (what, mend) in kinds {
        for path in files(dir.path(), what) {
            let bytes = read_file(&path);
            let mut same = bytes.clone();
            mend(&mut same, 1);
            assert!(same == bytes, "{what}: the format is as documented");
            for version in [2, 77] {
                let mut newer = bytes.clone();
                mend(&mut newer, version);
                write_file(&path, &newer);
                refused_both_ways(dir.path(), ErrorKind::UnsupportedFormat, name(&path));
                let error = refused(dir.path(), &small()).to_string();
                let (found, supported) = (format!(" {version}"), " 1");
                assert!(error.contains(&found) && error.contains(supported), "{error}");
            }
            // The number alone, without its checksum, is damage.
            let mut damaged = bytes.clone();
            let place = if what == ".table" { version_of_table(&bytes) } else { 8 };
            damaged[place] = 2;
            write_file(&path, &damaged);
            refused_both_ways(dir.path(), ErrorKind::Corruption, name(&path));
            write_file(&path, &bytes);
        }
    }
    check_sample(&Db::open(dir.path(), &small()).unwrap());
}
