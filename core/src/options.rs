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
}

/// One option as the other languages see it.
#[derive(Clone, Copy, Debug)]
pub struct OptionInfo {
    /// The name for [`Options::set`].
    pub name: &'static str,
    /// "bool", "durability", "milliseconds", "bytes" or "ratio".
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
              is kept of open files; pages of mapped files are the system's. 4MiB to 1TiB; auto is \
              a quarter of the machine's memory, at most 1GiB",
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
        doc: "how long one write may be held back while background work lags; then it answers \
              WouldStall and has not happened; 1 to 3600000",
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
              collected in the background; 1.1 to 10, at most two decimals",
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

    /// Milliseconds for which one write may be held back while background work lags, before it
    /// answers WouldStall (1 to 3 600 000, default 60 000).
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
    /// 150), beside the segments that are being written; see [`Db::explain_space`].
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
        check_range("memtable_size_bytes", memtable, 64 << 10, 1 << 30)?;
        let backlog = self.backlog_limit_bytes.unwrap_or(2 * memtable);
        check_range("backlog_limit_bytes", backlog, 2 * memtable, 1 << 50)?;
        check_range("value_threshold_bytes", self.value_threshold_bytes, 64, 1 << 32)?;
        check_range("space_amplification", self.space_amplification_percent, 110, 1000)?;
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

/// Bytes in the largest unit that divides them.
fn bytes_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fitting = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    fitting.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Bytes, or `Some(None)` for the engine's choice.
fn parse_auto(text: &str) -> Option<Option<u64>> {
    if text == "auto" { Some(None) } else { parse_bytes(text).map(Some) }
}

fn auto_text(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "auto".into(), bytes_text)
}

fn durability_text(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "process",
        Durability::Interval => "interval",
        Durability::Sync => "sync",
    }
}

/// Digits, and a point with one or two digits behind it: hundredths.
fn parse_percent(text: &str) -> Option<u64> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), "00"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let hundredths: u64 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(hundredths)
}

fn percent_text(percent: u64) -> String {
    match percent % 100 {
        0 => format!("{}.0", percent / 100),
        part if part.is_multiple_of(10) => format!("{}.{}", percent / 100, part / 10),
        part => format!("{}.{part:02}", percent / 100),
    }
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
        assert!(error.message().contains("space_amplification"));
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
