//! The command line: verbs, their arguments, and what they share.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exchange::Format;
use crate::output::{Form, Style};
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

/// One line of the shell.
#[derive(Debug, Parser)]
#[command(name = "toykv>", no_binary_name = true, disable_help_subcommand = true)]
pub(crate) struct Line {
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
    /// A server: HOST:PORT for Redis' protocol, http://HOST:PORT for gRPC; with TLS
    /// rediss://HOST:PORT, https://HOST:PORT
    /// [environment: TOYKV_SERVER]
    #[arg(long, short, global = true, value_name = "ADDRESS", conflicts_with = "dir")]
    pub(crate) server: Option<String>,
    /// A file whose first line is the server's password
    /// [environment: TOYKV_PASSWORD has the password itself]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// A file with the certificate that vouches for a server with TLS, instead of the system's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
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

    /// `base` with what was asked for. Arguments that are `plain` are read as `plain` says.
    pub(crate) fn style(&self, base: Style, plain: Encoding) -> Style {
        let form = match self {
            Show { json: true, .. } => Form::Json,
            Show { table: true, .. } => Form::Table,
            _ => base.form,
        };
        let encoding = self.encoding().unwrap_or(base.encoding);
        let input = if encoding == Encoding::Plain { plain } else { encoding };
        Style { form, encoding, input }
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
    /// Talk to the database: a verb a line, from a terminal or a script
    Shell(ShellArgs),
    /// Store the entries of a CSV, TSV or JSON lines file
    Import(ImportArgs),
    /// Write entries to a CSV, TSV or JSON lines file
    Export(ExportArgs),
    /// Print counts, sizes and health
    Stats,
    /// Tell where the space goes
    Explain,
    /// Search a closed directory, or a server while it serves, for damage and list it
    Verify(VerifyArgs),
    /// Save what can be read of a damaged database in a new one, and list the damage
    Salvage(SalvageArgs),
    /// Merge what is stored, in all or in a range
    Compact(CompactArgs),
    /// Give back the space of values that were overwritten or removed
    Gc,
    /// Write everything as a stream with checksums, in a format that outlives this version
    Dump(DumpArgs),
    /// Store what a dump holds
    Load(LoadArgs),
    /// Delete a database and all that is in it
    Destroy(DestroyArgs),
    /// Print the completions of a command shell
    Completions {
        /// Whose
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in troff
    Man {
        /// Of one verb instead of the whole
        verb: Option<String>,
    },
}

impl Verb {
    /// What it does to a store.
    pub(crate) fn access(&self) -> Access {
        match self {
            Verb::Delete(_) | Verb::Compact(_) | Verb::Gc => Access::Change,
            Verb::Set(_) | Verb::Shell(_) | Verb::Import(_) | Verb::Load(_) => Access::Create,
            _ => Access::Read,
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

/// Arguments of `shell`.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// End a script at the first line that fails
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; - for the standard input
    pub(crate) file: PathBuf,
    /// Its format, unless its name says it
    #[arg(long, short)]
    pub(crate) format: Option<Format>,
    /// The first line is no header: the first column is the key, the second the value
    #[arg(long)]
    pub(crate) no_header: bool,
    /// The columns that the header names for key and value
    #[arg(long, value_name = "KEY,VALUE", value_delimiter = ',', num_args = 1,
          default_values = ["key", "value"], conflicts_with = "no_header",
          value_parser = clap::value_parser!(String))]
    pub(crate) columns: Vec<String>,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The file; - for the standard output
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// Its format, unless its name says it
    #[arg(long, short)]
    pub(crate) format: Option<Format>,
    /// Write no header
    #[arg(long)]
    pub(crate) no_header: bool,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `compact`.
#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    /// First key
    pub(crate) start: Option<OsString>,
    /// Key behind the last one
    pub(crate) end: Option<OsString>,
}

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The file; - for the standard output
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// Arguments of `load`.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The file; - for the standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Only read it to its end and say whether it is whole
    #[arg(long)]
    pub(crate) check: bool,
}

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The directory, as by --dir
    pub(crate) dir: Option<PathBuf>,
}

/// Arguments of `salvage`.
#[derive(Debug, Args)]
pub(crate) struct SalvageArgs {
    /// The directory of the damaged database, which is only read
    pub(crate) source: PathBuf,
    /// The directory of the new one; nothing of a database may be in it
    pub(crate) target: PathBuf,
}

/// Arguments of `destroy`.
#[derive(Debug, Args)]
pub(crate) struct DestroyArgs {
    /// Yes, all of it
    #[arg(long)]
    pub(crate) yes: bool,
}
