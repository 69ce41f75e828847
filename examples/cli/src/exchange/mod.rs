//! Entries as text files for other programs: CSV, TSV and JSON lines.
//!
//! Invariant BACK: what `write::Rows` writes, `read::Rows` reads back to the same entries,
//! given the same format and encoding.

mod read;
mod write;

use std::path::Path;

use clap::ValueEnum;

pub(crate) use read::{ReadOptions, Reader};
pub(crate) use write::Writer;

/// The kind of a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Comma-separated, quoted where needed, with a header
    Csv,
    /// Tab-separated, never quoted, with a header
    Tsv,
    /// One JSON object a line, as `scan --json` prints
    Jsonl,
}

impl Format {
    /// What a file's name says; CSV when it says nothing.
    pub(crate) fn of(path: &Path) -> Format {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("tsv" | "tab") => Format::Tsv,
            Some("jsonl" | "ndjson" | "json") => Format::Jsonl,
            _ => Format::Csv,
        }
    }
}

#[cfg(test)]
mod tests;
