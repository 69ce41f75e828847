//! Options of a database, of a write and of a scan (layer L0), with one table of names, types,
//! defaults and documentation that the C ABI, Python and command-line programs share.

mod text;

use std::fmt::Display;

use self::text::{
    auto_text, bytes_text, compression_text, durability_text, io_text, parse_auto, parse_bool,
    parse_bytes, parse_compression, parse_durability, parse_io, parse_percent, percent_text,
};
use crate::compress::Codec;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Compression, MAX_LOG_SEGMENT_SIZE};
pub use crate::types::{Durability, IoMode};

/// How a database is opened. The defaults suit most; build with the chained setters or by name.
///
/// ```
/// use toykv::{Durability, Options};
/// let mut options = Options::new().durability(Durability::Sync);
/// options.set("value_threshold_bytes", "4KiB").unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(crate) create_if_missing: bool,
    pub(crate) error_if_exists: bool,
    pub(crate) read_only: bool,
    pub(crate) durability: Durability,
    pub(crate) sync_interval_ms: u64,
    /// `None` here, and in the next two: the engine's choice, see `budget`.
    pub(crate) memory_budget: Option<u64>,
    pub(crate) memtable_size_bytes: Option<u64>,
    pub(crate) backlog_limit_bytes: Option<u64>,
    pub(crate) stall_limit_ms: u64,
    pub(crate) value_threshold_bytes: u64,
    /// In hundredths.
    pub(crate) space_amplification_percent: u64,
    /// 0: never.
    pub(crate) snapshot_max_age_ms: u64,
    pub(crate) compression: Compression,
    pub(crate) compression_level: i32,
    /// `None`: a part of the memory budget.
    pub(crate) cache_size_bytes: Option<u64>,
    pub(crate) io: IoMode,
}

/// One option as the other languages see it.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    /// The name for [`Options::set`].
    pub name: &'static str,
    /// "bool", "durability", "milliseconds", "bytes", "ratio", "compression", "number" or "io".
    pub value_type: &'static str,
    /// The default as text.
    pub default_value: &'static str,
    /// What it does and what it accepts.
    pub doc: &'static str,
    /// Sets it from text; false for text that it cannot use.
    set: fn(&mut Options, &str) -> bool,
    /// Its value as text that `set` takes.
    get: fn(&Options) -> String,
}

const OPTIONS: &[OptionInfo] = &[
    OptionInfo {
        name: "create_if_missing",
        value_type: "bool",
        default_value: "true",
        doc: "create the database, and its directory in an existing parent, when there is none",
        set: |options, text| store(&mut options.create_if_missing, parse_bool(text)),
        get: |options| options.create_if_missing.to_string(),
    },
    OptionInfo {
        name: "error_if_exists",
        value_type: "bool",
        default_value: "false",
        doc: "refuse to open a database that is already there",
        set: |options, text| store(&mut options.error_if_exists, parse_bool(text)),
        get: |options| options.error_if_exists.to_string(),
    },
    OptionInfo {
        name: "read_only",
        value_type: "bool",
        default_value: "false",
        doc: "open for reading: nothing in the directory is changed",
        set: |options, text| store(&mut options.read_only, parse_bool(text)),
        get: |options| options.read_only.to_string(),
    },
    OptionInfo {
        name: "durability",
        value_type: "durability",
        default_value: "interval",
        doc: "what an acknowledged write survives unless the write says otherwise: process, \
              interval or sync",
        set: |options, text| store(&mut options.durability, parse_durability(text)),
        get: |options| durability_text(options.durability).into(),
    },
    OptionInfo {
        name: "sync_interval_ms",
        value_type: "milliseconds",
        default_value: "1000",
        doc: "how long an acknowledged interval write may be lost to power loss; 1 to 3600000",
        set: |options, text| store(&mut options.sync_interval_ms, text.parse().ok()),
        get: |options| options.sync_interval_ms.to_string(),
    },
    OptionInfo {
        name: "memory_budget",
        value_type: "bytes",
        default_value: "auto",
        doc: "heap that the database may take: memtables, cache, buffers of background work, what \
              is kept of open files and what readers hold; the cache gives way to these two, which \
              alone can exceed it, see pinned_bytes and file_heap_bytes in the statistics; pages \
              of mapped files are the system's. 4MiB to 1TiB; auto is a quarter of the machine's \
              memory, at most 1GiB",
        set: |options, text| store(&mut options.memory_budget, parse_auto(text)),
        get: |options| auto_text(options.memory_budget),
    },
    OptionInfo {
        name: "memtable_size_bytes",
        value_type: "bytes",
        default_value: "auto",
        doc: "size that segments, and with them memtables, grow to; 64KiB to 1GiB; auto is a \
              sixteenth of memory_budget, at most 64MiB and half of backlog_limit_bytes",
        set: |options, text| store(&mut options.memtable_size_bytes, parse_auto(text)),
        get: |options| auto_text(options.memtable_size_bytes),
    },
    OptionInfo {
        name: "backlog_limit_bytes",
        value_type: "bytes",
        default_value: "auto",
        doc: "log bytes that may wait for their flush before writers wait; writers are slowed \
              from half of it on; at least twice memtable_size_bytes; auto is memory_budget or \
              that",
        set: |options, text| store(&mut options.backlog_limit_bytes, parse_auto(text)),
        get: |options| auto_text(options.backlog_limit_bytes),
    },
    OptionInfo {
        name: "stall_limit_ms",
        value_type: "milliseconds",
        default_value: "60000",
        doc: "how long one write may be held back while background work lags; when the backlog \
              is full even then it answers WouldStall and has not happened; 1 to 3600000",
        set: |options, text| store(&mut options.stall_limit_ms, text.parse().ok()),
        get: |options| options.stall_limit_ms.to_string(),
    },
    OptionInfo {
        name: "value_threshold_bytes",
        value_type: "bytes",
        default_value: "1KiB",
        doc: "values of at least this size stay in the value log; 64B to 4GiB",
        set: |options, text| store(&mut options.value_threshold_bytes, parse_bytes(text)),
        get: |options| bytes_text(options.value_threshold_bytes),
    },
    OptionInfo {
        name: "space_amplification",
        value_type: "ratio",
        default_value: "1.5",
        doc: "how many times the live values the value log may take; dead ones beyond that are \
              collected in the background, and writers are slowed when that falls behind by half \
              of what is live and two memtables; 1.1 to 10, at most two decimals",
        set: |options, text| store(&mut options.space_amplification_percent, parse_percent(text)),
        get: |options| percent_text(options.space_amplification_percent),
    },
    OptionInfo {
        name: "snapshot_max_age_ms",
        value_type: "milliseconds",
        default_value: "0",
        doc: "how old a snapshot may become: reads of an older one are refused and what it kept \
              is freed; 0 for any age",
        set: |options, text| store(&mut options.snapshot_max_age_ms, text.parse().ok()),
        get: |options| options.snapshot_max_age_ms.to_string(),
    },
    OptionInfo {
        name: "compression",
        value_type: "compression",
        default_value: "none",
        doc: "how tables and separated values are compressed that are written from now on: none, \
              lz4 or zstd; what is there stays as it is",
        set: |options, text| store(&mut options.compression, parse_compression(text)),
        get: |options| compression_text(options.compression).into(),
    },
    OptionInfo {
        name: "compression_level",
        value_type: "number",
        default_value: "3",
        doc: "of zstd; 1 to 19, larger is slower and smaller",
        set: |options, text| store(&mut options.compression_level, text.parse().ok()),
        get: |options| options.compression_level.to_string(),
    },
    OptionInfo {
        name: "cache_size_bytes",
        value_type: "bytes",
        default_value: "auto",
        doc: "what is not read in place (compressed, or read directly) may take in memory; auto: a \
              quarter of memory_budget, less while readers hold much; 0 to 1TiB",
        set: |options, text| store(&mut options.cache_size_bytes, parse_auto(text)),
        get: |options| auto_text(options.cache_size_bytes),
    },
    OptionInfo {
        name: "io",
        value_type: "io",
        default_value: "mapped",
        doc: "how tables and flushed segments are read and written: mapped, through the page \
              cache, or direct, past it through the cache of this library, device errors being \
              errors and not signals; the log is mapped until it is flushed",
        set: |options, text| store(&mut options.io, parse_io(text)),
        get: |options| io_text(options.io).into(),
    },
];

impl Default for Options {
    fn default() -> Options {
        Options {
            create_if_missing: true,
            error_if_exists: false,
            read_only: false,
            durability: Durability::Interval,
            sync_interval_ms: 1000,
            memory_budget: None,
            memtable_size_bytes: None,
            backlog_limit_bytes: None,
            stall_limit_ms: 60_000,
            value_threshold_bytes: 1 << 10,
            space_amplification_percent: 150,
            snapshot_max_age_ms: 0,
            compression: Compression::None,
            compression_level: 3,
            cache_size_bytes: None,
            io: IoMode::Mapped,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Options {
        Options::default()
    }

    /// Create the database when there is none (default true).
    pub fn create_if_missing(mut self, yes: bool) -> Options {
        self.create_if_missing = yes;
        self
    }

    /// Refuse a database that is already there (default false).
    pub fn error_if_exists(mut self, yes: bool) -> Options {
        self.error_if_exists = yes;
        self
    }

    /// Open for reading (default false).
    pub fn read_only(mut self, yes: bool) -> Options {
        self.read_only = yes;
        self
    }

    /// What an acknowledged write survives unless the write says otherwise.
    pub fn durability(mut self, durability: Durability) -> Options {
        self.durability = durability;
        self
    }

    /// Milliseconds after which interval writes are synced (1 to 3 600 000, default 1 000).
    pub fn sync_interval_ms(mut self, ms: u64) -> Options {
        self.sync_interval_ms = ms;
        self
    }

    /// Bytes of heap that the database may take (4 MiB to 1 TiB; by default a quarter of the
    /// machine's memory, at most 1 GiB). Pages of mapped files are the system's and do not count.
    ///
    /// Memtables, buffers of background work and the cache keep within five eighths and a quarter.
    /// Two things are as large as what is asked for, and beyond an eighth the cache shrinks by
    /// what they take; beyond three eighths they exceed the budget:
    /// - What readers hold ([`Stats::pinned_bytes`](crate::Stats)): a value of 120 bytes or more
    ///   that was decompressed or read directly, as long as it is held, with its block; half a
    ///   MiB for each run of a scan that reads directly. A value in a mapped file takes nothing.
    ///   Who reads long values directly in parts (`get_range`) holds the parts.
    /// - What is kept of open files ([`Stats::file_heap_bytes`](crate::Stats)): about a KiB of
    ///   each, and where they are read directly a thousandth of the tables' size more, beside
    ///   locators, which are kept as far as there is room.
    pub fn memory_budget(mut self, bytes: u64) -> Options {
        self.memory_budget = Some(bytes);
        self
    }

    /// Bytes that segments and memtables grow to (64 KiB to 1 GiB; by default a sixteenth of the
    /// memory budget, at most 64 MiB).
    pub fn memtable_size_bytes(mut self, bytes: u64) -> Options {
        self.memtable_size_bytes = Some(bytes);
        self
    }

    /// Log bytes that may wait for their flush (at least two memtables, by default the memory
    /// budget).
    pub fn backlog_limit_bytes(mut self, bytes: u64) -> Options {
        self.backlog_limit_bytes = Some(bytes);
        self
    }

    /// Milliseconds for which one write may be held back while background work lags
    /// (1 to 3 600 000, default 60 000). When the backlog is full even then it answers WouldStall.
    pub fn stall_limit_ms(mut self, ms: u64) -> Options {
        self.stall_limit_ms = ms;
        self
    }

    /// Values of at least this size stay in the value log (64 B to 4 GiB, default 1 KiB).
    pub fn value_threshold_bytes(mut self, bytes: u64) -> Options {
        self.value_threshold_bytes = bytes;
        self
    }

    /// How many times the live values the value log may take, in hundredths (110 to 1000, default
    /// 150), beside the segments that are being written; see [`Db::explain_space`]. Where writers
    /// overwrite faster than collection frees, they are slowed when it is behind by half of what is
    /// live and two memtables, by up to 16 us per KiB at twice that.
    ///
    /// [`Db::explain_space`]: crate::Db::explain_space
    pub fn space_amplification_percent(mut self, percent: u64) -> Options {
        self.space_amplification_percent = percent;
        self
    }

    /// Milliseconds after which reads of a snapshot answer SnapshotExpired and what it kept is
    /// freed (default 0: never).
    pub fn snapshot_max_age_ms(mut self, ms: u64) -> Options {
        self.snapshot_max_age_ms = ms;
        self
    }

    /// How tables and separated values (of at most 16 MiB) are compressed that are written from now
    /// on (default none); what is there stays as it is.
    pub fn compression(mut self, compression: Compression) -> Options {
        self.compression = compression;
        self
    }

    /// Level of Zstandard (1 to 19, default 3).
    pub fn compression_level(mut self, level: i32) -> Options {
        self.compression_level = level;
        self
    }

    /// Bytes that what is not read in place may take in memory beside readers (up to 1 TiB; unless
    /// set a quarter of the memory budget, less while readers hold much, see `pinned_bytes` of
    /// [`Stats`](crate::Stats)).
    pub fn cache_size_bytes(mut self, bytes: u64) -> Options {
        self.cache_size_bytes = Some(bytes);
        self
    }

    /// How tables and flushed segments are read and written (default mapped).
    pub fn io(mut self, io: IoMode) -> Options {
        self.io = io;
        self
    }

    /// How new files are compressed.
    pub(crate) fn codec(&self) -> Codec {
        Codec { compression: self.compression, level: self.compression_level }
    }

    /// All options with type, default and documentation.
    pub fn describe() -> &'static [OptionInfo] {
        OPTIONS
    }

    /// Sets an option by name from text: `true`/`false`, a number, bytes such as `256MiB`, or a
    /// ratio such as `1.5`.
    /// InvalidArgument names the option and what it accepts.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let info = find(name)?;
        if (info.set)(self, value) {
            return Ok(());
        }
        Err(invalid(format!("option {name}: cannot use {value:?} ({})", info.doc)))
    }

    /// An option's value as text that [`Options::set`] takes; "auto" for what the engine chooses.
    /// InvalidArgument for an unknown name.
    ///
    /// ```
    /// let options = toykv::Options::new().memtable_size_bytes(8 << 20);
    /// assert_eq!(options.get("memtable_size_bytes").unwrap(), "8MiB");
    /// ```
    pub fn get(&self, name: &str) -> Result<String> {
        Ok((find(name)?.get)(self))
    }

    /// Refuses values outside their ranges, naming option and range.
    pub(crate) fn check(&self) -> Result<()> {
        check_range("sync_interval_ms", self.sync_interval_ms, 1, 3_600_000)?;
        check_range("stall_limit_ms", self.stall_limit_ms, 1, 3_600_000)?;
        if let Some(bytes) = self.memory_budget {
            check_range("memory_budget", bytes, 4 << 20, 1 << 40)?;
        }
        let memtable = self.memtable_size_bytes.unwrap_or(64 << 10);
        check_range("memtable_size_bytes", memtable, 64 << 10, MAX_LOG_SEGMENT_SIZE)?;
        let backlog = self.backlog_limit_bytes.unwrap_or(2 * memtable);
        check_range("backlog_limit_bytes", backlog, 2 * memtable, 1 << 50)?;
        check_range("value_threshold_bytes", self.value_threshold_bytes, 64, 1 << 32)?;
        let ratio = self.space_amplification_percent as f64 / 100.0;
        check_range("space_amplification", ratio, 1.1, 10.0)?;
        check_range("cache_size_bytes", self.cache_size_bytes.unwrap_or(0), 0, 1 << 40)?;
        check_range("compression_level", self.compression_level, 1, 19)?;
        if self.read_only && self.error_if_exists {
            return Err(invalid("error_if_exists and read_only exclude each other"));
        }
        Ok(())
    }
}

fn find(name: &str) -> Result<&'static OptionInfo> {
    let info = OPTIONS.iter().find(|info| info.name == name);
    info.ok_or_else(|| invalid(format!("no option is called {name:?}")))
}

/// Puts a value that could be read in its place.
fn store<T>(place: &mut T, value: Option<T>) -> bool {
    let fits = value.is_some();
    if let Some(value) = value {
        *place = value;
    }
    fits
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn check_range<T: PartialOrd + Display>(name: &str, value: T, least: T, most: T) -> Result<()> {
    if (&least..=&most).contains(&&value) {
        return Ok(());
    }
    Err(invalid(format!("option {name}: {value} is not in {least}..={most}")))
}

/// How one write is made. `Default` follows the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub(crate) durability: Option<Durability>,
    pub(crate) no_wait: bool,
}

impl WriteOptions {
    /// As the database's options say.
    pub fn new() -> WriteOptions {
        WriteOptions::default()
    }

    /// Another durability for this write.
    pub fn durability(mut self, durability: Durability) -> WriteOptions {
        self.durability = Some(durability);
        self
    }

    /// Answer WouldStall instead of waiting for background work.
    pub fn no_wait(mut self, yes: bool) -> WriteOptions {
        self.no_wait = yes;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_text_sets_the_default() {
        for info in Options::describe() {
            let mut options = Options::new();
            options.set(info.name, info.default_value).unwrap();
            assert_eq!(options, Options::default(), "{}", info.name);
            assert_eq!(options.get(info.name).unwrap(), info.default_value);
            assert!(options.set(info.name, "nonsense").is_err(), "{}", info.name);
        }
        Options::default().check().unwrap();
    }

    #[test]
    fn bad_options_are_named() {
        let error = Options::new().set("no_such", "1").unwrap_err();
        assert!(error.message().contains("no_such"));
        let error = Options::new().memtable_size_bytes(1).check().unwrap_err();
        assert!(error.message().contains("memtable_size_bytes"));
    }

    #[test]
    fn what_was_set_is_got() {
        let mut options = Options::new();
        let values = [
            ("read_only", "true"),
            ("durability", "sync"),
            ("sync_interval_ms", "17"),
            ("memory_budget", "96MiB"),
            ("memtable_size_bytes", "65537B"),
            ("backlog_limit_bytes", "3GiB"),
            ("value_threshold_bytes", "4KiB"),
            ("space_amplification", "1.25"),
            ("compression", "zstd"),
            ("compression_level", "19"),
            ("cache_size_bytes", "5MiB"),
            ("io", "direct"),
        ];
        for (name, value) in values {
            options.set(name, value).unwrap();
            assert_eq!(options.get(name).unwrap(), value);
        }
        assert_eq!(options.memtable_size_bytes, Some(65537));
        options.set("memtable_size_bytes", "auto").unwrap();
        assert_eq!(options.get("memtable_size_bytes").unwrap(), "auto");
        assert!(options.get("no_such").unwrap_err().message().contains("no_such"));
    }

    #[test]
    fn ratios() {
        let parsed = ["1.5", "2", "1.25", "10", "1.05"].map(parse_percent);
        assert_eq!(parsed, [Some(150), Some(200), Some(125), Some(1000), Some(105)]);
        for bad in ["", ".5", "1.", "1.234", "-1", "1,5", "+1", "99999999999999999999"] {
            assert_eq!(parse_percent(bad), None, "{bad}");
        }
        assert_eq!([150, 200, 125, 105].map(percent_text), ["1.5", "2.0", "1.25", "1.05"]);
        let error = Options::new().space_amplification_percent(100).check().unwrap_err();
        assert_eq!(error.message(), "option space_amplification: 1 is not in 1.1..=10");
        for percent in [110, 1000] {
            Options::new().space_amplification_percent(percent).check().unwrap();
        }
        let error = Options::new().compression_level(-1).check().unwrap_err();
        assert_eq!(error.message(), "option compression_level: -1 is not in 1..=19");
    }

    #[test]
    fn byte_sizes() {
        assert_eq!(parse_bytes("256MiB"), Some(256 << 20));
        assert_eq!(parse_bytes("64 B"), Some(64));
        assert_eq!(parse_bytes("99999999999TiB"), None);
        assert_eq!(parse_bytes("-1"), None);
        assert_eq!(parse_bytes("MiB"), None);
    }
}
