//! The names of a database's files (layer L1): one place that makes them and one that reads them.
//!
//! Invariant: what [`FileName::parse`] accepts prints back as exactly the same text, so two names
//! never mean one file and a stranger's file is never taken for ours.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::types::{FileNumber, MAX_FILE_NUMBER};

/// A file that belongs to a database, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum FileName {
    /// Held by the one process that writes, and says which it is.
    Lock,
    /// Names the live manifest.
    Current,
    /// What will be `CURRENT` once it is renamed, by the number of the manifest that it names.
    CurrentTemp(FileNumber),
    /// Version edits: which tables and segments are live.
    Manifest(FileNumber),
    /// A segment of the value log.
    Segment(FileNumber),
    /// A sorted table.
    Table(FileNumber),
}

const TEMP_PREFIX: &str = "CURRENT-";
const TEMP_SUFFIX: &str = ".tmp";
const MANIFEST_PREFIX: &str = "MANIFEST-";
const SEGMENT_SUFFIX: &str = ".vlog";
const TABLE_SUFFIX: &str = ".table";

impl FileName {
    /// The file with this name, or `None` for a name that no database file has.
    pub(crate) fn parse(name: &str) -> Option<FileName> {
        match name {
            "LOCK" => return Some(FileName::Lock),
            "CURRENT" => return Some(FileName::Current),
            _ => {}
        }
        if let Some(rest) = name.strip_prefix(TEMP_PREFIX) {
            parse_number(rest.strip_suffix(TEMP_SUFFIX)?).map(FileName::CurrentTemp)
        } else if let Some(number) = name.strip_prefix(MANIFEST_PREFIX) {
            parse_number(number).map(FileName::Manifest)
        } else if let Some(number) = name.strip_suffix(SEGMENT_SUFFIX) {
            parse_number(number).map(FileName::Segment)
        } else if let Some(number) = name.strip_suffix(TABLE_SUFFIX) {
            parse_number(number).map(FileName::Table)
        } else {
            None
        }
    }

    /// Where the file lies when its database is in `dir`.
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }

    /// The number in the name, for the files that have one.
    pub(crate) fn number(&self) -> Option<FileNumber> {
        match *self {
            FileName::Lock | FileName::Current => None,
            FileName::CurrentTemp(n)
            | FileName::Manifest(n)
            | FileName::Segment(n)
            | FileName::Table(n) => Some(n),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Lock => f.write_str("LOCK"),
            FileName::Current => f.write_str("CURRENT"),
            FileName::CurrentTemp(n) => write!(f, "{TEMP_PREFIX}{n:06}{TEMP_SUFFIX}"),
            FileName::Manifest(n) => write!(f, "{MANIFEST_PREFIX}{n:06}"),
            FileName::Segment(n) => write!(f, "{n:06}{SEGMENT_SUFFIX}"),
            FileName::Table(n) => write!(f, "{n:06}{TABLE_SUFFIX}"),
        }
    }
}

/// At least six digits, and no zero in front of more than six. A file with a number from the upper
/// half is nobody's: numbers go on behind those in the directory, and must not run out.
fn parse_number(digits: &str) -> Option<FileNumber> {
    let canonical = digits.len() == 6 || digits.len() > 6 && !digits.starts_with('0');
    if !canonical || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|&number| number < MAX_FILE_NUMBER / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_format() {
        let expected = [
            (FileName::Lock, "LOCK"),
            (FileName::Current, "CURRENT"),
            (FileName::CurrentTemp(7), "CURRENT-000007.tmp"),
            (FileName::Manifest(7), "MANIFEST-000007"),
            (FileName::Segment(12), "000012.vlog"),
            (FileName::Table(32), "000032.table"),
            (FileName::Table(999_999), "999999.table"),
            (FileName::Table(1_000_000), "1000000.table"),
            (FileName::Segment((1 << 55) - 1), "36028797018963967.vlog"),
            (FileName::Manifest(0), "MANIFEST-000000"),
        ];
        for (file, name) in expected {
            assert_eq!(file.to_string(), name);
            assert_eq!(FileName::parse(name), Some(file));
            assert_eq!(file.path(Path::new("/a/b")), Path::new("/a/b").join(name));
        }
        assert_eq!(FileName::Manifest(7).number(), Some(7));
        assert_eq!(FileName::Segment(8).number(), Some(8));
        assert_eq!(FileName::Table(9).number(), Some(9));
        assert_eq!(FileName::Lock.number(), None);
    }

    #[test]
    fn other_names_are_nobodys() {
        let strangers = [
            "",
            "lock",
            "LOCK ",
            "LOCK.tmp",
            "CURRENT.TMP",
            "CURRENT.tmp",
            "CURRENT-000007.tmp2",
            "CURRENT-000007",
            "CURRENT-7.tmp",
            "CURRENT\n",
            "MANIFEST-",
            "MANIFEST-7",
            "MANIFEST-00007",
            "MANIFEST-0000007",
            "MANIFEST-+00007",
            "MANIFEST--00007",
            "MANIFEST-00000a",
            "manifest-000007",
            "MANIFEST-000007.tmp",
            "000007",
            ".table",
            ".vlog",
            "7.table",
            "36028797018963968.table",
            "18446744073709551600.table",
            "99999999999999999999.vlog",
            "00007.table",
            "0000007.table",
            "01000000.table",
            "+00007.table",
            "-00007.vlog",
            " 000007.vlog",
            "000007.vlog ",
            "000007.vlog.table",
            "000007.VLOG",
            "000007.sst",
            "0000 7.table",
            "00_007.table",
            "18446744073709551616.vlog",
            "99999999999999999999999999.table",
            "٠٠٠٠٠٧.table",
            "000007\u{fffd}.table",
        ];
        for name in strangers {
            assert_eq!(FileName::parse(name), None, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_prints_back(
            name in "(MANIFEST-|CURRENT-)?[0-9+ ]{0,8}(\\.vlog|\\.table|\\.tmp)?"
        ) {
            if let Some(file) = FileName::parse(&name) {
                prop_assert_eq!(file.to_string(), name);
            }
        }

        #[test]
        fn every_number_comes_back(n in 0..MAX_FILE_NUMBER / 2, small in 0..2_000_000u64) {
            for n in [n, small] {
                let kinds: [fn(FileNumber) -> FileName; 4] = [
                    FileName::CurrentTemp,
                    FileName::Manifest,
                    FileName::Segment,
                    FileName::Table,
                ];
                for file in kinds.map(|kind| kind(n)) {
                    prop_assert_eq!(FileName::parse(&file.to_string()), Some(file));
                }
            }
        }
    }
}
