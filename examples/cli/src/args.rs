//! The command line: verbs, their arguments, and what they share.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::store::Access;
use crate::text::Encoding;

/// Reads and writes toykv databases, in a directory or behind a server.
///
/// Keys and values are text with escapes (\x00, \n, \\) unless --plain, --hex or --base64 says
/// otherwise. Exit codes: 0 done, 1 key absent, 2 usage, 3 locked, 4 damaged, 5 no database,
/// 6 not writable, 7 I/O, 8 disk full, 9 poisoned, 10 unsupported, 11 busy, 12 exists,
/// 13 server unreachable, 14 refused, 70 internal, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "toykv", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) show: Show,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// Where the data is.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Where the data is")]
pub(crate) struct Target {
    /// The directory of a database [environment: TOYKV_DIR]
    #[arg(long, short, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// What an acknowledged write survives
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub(crate) durability: Option<Durability>,
    /// An option of the engine, such as value_threshold_bytes=4KiB; may be given again
    #[arg(long = "option", short, global = true, value_name = "NAME=VALUE",
          value_parser = name_and_value)]
    pub(crate) options: Vec<(String, String)>,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// The death of the process
    Process,
    /// That, and power loss after at most a second
    Interval,
    /// Power loss, before the call returns
    Sync,
}

impl From<Durability> for toykv::Durability {
    fn from(level: Durability) -> toykv::Durability {
        match level {
            Durability::Process => toykv::Durability::Process,
            Durability::Interval => toykv::Durability::Interval,
            Durability::Sync => toykv::Durability::Sync,
        }
    }
}

/// How keys and values are written, here and there.
#[derive(Clone, Copy, Debug, Default, Args)]
#[command(next_help_heading = "How it is written")]
pub(crate) struct Show {
    /// One JSON object a line; what is not UTF-8 stands in key_base64 and value_base64
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// A table also when the output is no terminal
    #[arg(long, global = true, conflicts_with = "json")]
    pub(crate) table: bool,
    /// Keys and values are written in this way
    #[arg(long, global = true, value_enum, value_name = "ENCODING",
          conflicts_with_all = ["plain", "hex", "base64"])]
    encoding: Option<Encoding>,
    /// Keys and values as they are, without escapes
    #[arg(long, global = true, conflicts_with_all = ["hex", "base64"])]
    plain: bool,
    /// Keys and values as hexadecimal digits
    #[arg(long, global = true, conflicts_with = "base64")]
    hex: bool,
    /// Keys and values as base64
    #[arg(long, global = true)]
    base64: bool,
}

impl Show {
    /// The encoding that was asked for.
    pub(crate) fn encoding(&self) -> Option<Encoding> {
        match self {
            Show { plain: true, .. } => Some(Encoding::Plain),
            Show { hex: true, .. } => Some(Encoding::Hex),
            Show { base64: true, .. } => Some(Encoding::Base64),
            show => show.encoding,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print the value of a key
    Get(GetArgs),
    /// Store a value under a key
    #[command(visible_alias = "put")]
    Set(SetArgs),
    /// Remove keys; an absent one is no error
    #[command(visible_aliases = ["remove", "rm", "del"])]
    Delete(DeleteArgs),
    /// List keys and values in order
    Scan(RangeArgs),
    /// Print the exact number of keys
    #[command(visible_alias = "count")]
    Len,
    /// Print counts, sizes and health
    Stats,
}

impl Verb {
    /// What it does to a store.
    pub(crate) fn access(&self) -> Access {
        match self {
            Verb::Get(_) | Verb::Scan(_) | Verb::Len | Verb::Stats => Access::Read,
            Verb::Delete(_) => Access::Change,
            Verb::Set(_) => Access::Create,
        }
    }
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The keys; with several of them each line has key and value
    #[arg(required = true)]
    pub(crate) keys: Vec<OsString>,
    /// The value's bytes and nothing else, without a line end
    #[arg(long, conflicts_with_all = ["json", "table"])]
    pub(crate) raw: bool,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The key
    pub(crate) key: OsString,
    /// The value; @FILE for a file's bytes, - for those of the standard input, \@ and \- for text
    /// that begins so
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: OsString,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The keys
    #[arg(required = true)]
    pub(crate) keys: Vec<OsString>,
    /// Look first, and end with 1 if a key was absent
    #[arg(long)]
    pub(crate) check: bool,
}

/// Which entries.
#[derive(Debug, Default, Args)]
pub(crate) struct RangeArgs {
    /// First key
    pub(crate) start: Option<OsString>,
    /// Key behind the last one
    pub(crate) end: Option<OsString>,
    /// Only keys that begin with this
    #[arg(long, short)]
    pub(crate) prefix: Option<OsString>,
    /// At most so many
    #[arg(long, short = 'n', value_name = "COUNT")]
    pub(crate) limit: Option<u64>,
    /// From large keys to small ones
    #[arg(long, short)]
    pub(crate) reverse: bool,
    /// Keys without their values
    #[arg(long, short)]
    pub(crate) keys_only: bool,
}
