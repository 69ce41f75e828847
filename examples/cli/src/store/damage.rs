//! What a search for damage has found, wherever it ran.

use toykv::{DamageReport, Finding};

/// Totals, and the places of damage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Files that were looked at.
    pub(crate) files: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// Records that are intact, or keys that were saved.
    pub(crate) records: u64,
    /// Places of damage, also those that are not listed because there are too many.
    pub(crate) count: u64,
    /// Those that are listed.
    pub(crate) places: Vec<Spot>,
}

/// A place of damage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The file, where the database is.
    pub(crate) path: Vec<u8>,
    pub(crate) offset: u64,
    /// What is wrong.
    pub(crate) what: String,
    /// The keys concerned lie between these two, where that is known.
    pub(crate) first_key: Option<Vec<u8>>,
    pub(crate) last_key: Option<Vec<u8>>,
    /// How many records are concerned, where that is known.
    pub(crate) records: Option<u64>,
}

impl From<DamageReport> for Damage {
    fn from(report: DamageReport) -> Damage {
        Damage {
            files: report.files,
            bytes: report.bytes,
            records: report.records,
            count: report.findings.len() as u64 + report.omitted_findings,
            places: report.findings.into_iter().map(Spot::from).collect(),
        }
    }
}

impl From<Finding> for Spot {
    fn from(finding: Finding) -> Spot {
        Spot {
            path: finding.path.into_os_string().into_encoded_bytes(),
            offset: finding.offset,
            what: finding.what,
            first_key: finding.first_key,
            last_key: finding.last_key,
            records: finding.records,
        }
    }
}
