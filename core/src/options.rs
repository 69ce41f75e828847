//! Options of a database, of a write and of a scan (layer L0), with one table of names, types,
//! defaults and documentation that the C ABI, Python and command-line programs share.

use crate::error::{Error, ErrorKind, Result};

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// The death of the process at any moment. Costs a copy.
    Process,
    /// That, and power loss after at most the interval (`sync_interval_ms`); what is there
    /// afterwards is always a prefix of the commit order.
    #[default]
    Interval,
    /// Power loss, before the call returns. Concurrent writers share one device flush.
    Sync,
}

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
    pub(crate) memtable_size_bytes: u64,
    pub(crate) backlog_limit_bytes: u64,
    pub(crate) value_threshold_bytes: u64,
}

/// One option as the other languages see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionInfo {
    /// The name for [`Options::set`].
    pub name: &'static str,
    /// "bool", "durability", "milliseconds" or "bytes".
    pub value_type: &'static str,
    /// The default as text.
    pub default_value: &'static str,
    /// What it does and what it accepts.
    pub doc: &'static str,
}

const OPTIONS: &[OptionInfo] = &[
    OptionInfo {
        name: "create_if_missing",
        value_type: "bool",
        default_value: "true",
        doc: "create the database, and its directory in an existing parent, when there is none",
    },
    OptionInfo {
        name: "error_if_exists",
        value_type: "bool",
        default_value: "false",
        doc: "refuse to open a database that is already there",
    },
    OptionInfo {
        name: "read_only",
        value_type: "bool",
        default_value: "false",
        doc: "open for reading: nothing in the directory is changed",
    },
    OptionInfo {
        name: "durability",
        value_type: "durability",
        default_value: "interval",
        doc: "what an acknowledged write survives unless the write says otherwise: process, \
              interval or sync",
    },
    OptionInfo {
        name: "sync_interval_ms",
        value_type: "milliseconds",
        default_value: "1000",
        doc: "how long an acknowledged interval write may be lost to power loss; 1 to 3600000",
    },
    OptionInfo {
        name: "memtable_size_bytes",
        value_type: "bytes",
        default_value: "64MiB",
        doc: "size that segments, and with them memtables, grow to; 64KiB to 1GiB",
    },
    OptionInfo {
        name: "backlog_limit_bytes",
        value_type: "bytes",
        default_value: "1GiB",
        doc: "log bytes that may wait for their flush before writers wait; writers are slowed \
              from half of it on; at least twice memtable_size_bytes",
    },
    OptionInfo {
        name: "value_threshold_bytes",
        value_type: "bytes",
        default_value: "1KiB",
        doc: "values of at least this size stay in the value log; 64B to 4GiB",
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
            memtable_size_bytes: 64 << 20,
            backlog_limit_bytes: 1 << 30,
            value_threshold_bytes: 1 << 10,
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

    /// Bytes that segments and memtables grow to (64 KiB to 1 GiB, default 64 MiB).
    pub fn memtable_size_bytes(mut self, bytes: u64) -> Options {
        self.memtable_size_bytes = bytes;
        self
    }

    /// Log bytes that may wait for their flush (at least two memtables, default 1 GiB).
    pub fn backlog_limit_bytes(mut self, bytes: u64) -> Options {
        self.backlog_limit_bytes = bytes;
        self
    }

    /// Values of at least this size stay in the value log (64 B to 4 GiB, default 1 KiB).
    pub fn value_threshold_bytes(mut self, bytes: u64) -> Options {
        self.value_threshold_bytes = bytes;
        self
    }

    /// All options with type, default and documentation.
    pub fn describe() -> &'static [OptionInfo] {
        OPTIONS
    }

    /// Sets an option by name from text: `true`/`false`, a number, or bytes such as `256MiB`.
    /// InvalidArgument names the option and what it accepts.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let info = OPTIONS.iter().find(|info| info.name == name);
        let info = info.ok_or_else(|| invalid(format!("no option is called {name:?}")))?;
        let bad = || {
            let text = format!("option {name}: cannot use {value:?} ({})", info.doc);
            invalid(text)
        };
        match name {
            "create_if_missing" => self.create_if_missing = parse_bool(value).ok_or_else(bad)?,
            "error_if_exists" => self.error_if_exists = parse_bool(value).ok_or_else(bad)?,
            "read_only" => self.read_only = parse_bool(value).ok_or_else(bad)?,
            "durability" => self.durability = parse_durability(value).ok_or_else(bad)?,
            "sync_interval_ms" => self.sync_interval_ms = value.parse().map_err(|_| bad())?,
            "memtable_size_bytes" => {
                self.memtable_size_bytes = parse_bytes(value).ok_or_else(bad)?;
            }
            "backlog_limit_bytes" => {
                self.backlog_limit_bytes = parse_bytes(value).ok_or_else(bad)?;
            }
            _ => self.value_threshold_bytes = parse_bytes(value).ok_or_else(bad)?,
        }
        Ok(())
    }

    /// Refuses values outside their ranges, naming option and range.
    pub(crate) fn check(&self) -> Result<()> {
        check_range("sync_interval_ms", self.sync_interval_ms, 1, 3_600_000)?;
        check_range("memtable_size_bytes", self.memtable_size_bytes, 64 << 10, 1 << 30)?;
        let least = 2 * self.memtable_size_bytes;
        check_range("backlog_limit_bytes", self.backlog_limit_bytes, least, 1 << 50)?;
        check_range("value_threshold_bytes", self.value_threshold_bytes, 64, 1 << 32)?;
        if self.read_only && self.error_if_exists {
            return Err(invalid("error_if_exists and read_only exclude each other"));
        }
        Ok(())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

fn check_range(name: &str, value: u64, least: u64, most: u64) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(invalid(format!("option {name}: {value} is not in {least}..={most}")))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn parse_durability(text: &str) -> Option<Durability> {
    match text {
        "process" => Some(Durability::Process),
        "interval" => Some(Durability::Interval),
        "sync" => Some(Durability::Sync),
        _ => None,
    }
}

/// Digits and a unit: nothing or B, then KiB, MiB, GiB, TiB (powers of 1024).
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
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
    fn byte_sizes() {
        assert_eq!(parse_bytes("256MiB"), Some(256 << 20));
        assert_eq!(parse_bytes("64 B"), Some(64));
        assert_eq!(parse_bytes("99999999999TiB"), None);
        assert_eq!(parse_bytes("-1"), None);
        assert_eq!(parse_bytes("MiB"), None);
    }
}
