//! The configuration: flags, then environment, then file, then defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use toykv::{Durability, Options};

use crate::auth::Secret;
use crate::limits::Limits;

/// What the lines port listens on unless told otherwise; also the port of `SERVER_PORT`.
const DEFAULT_LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 7878);

/// What FLUSHDB needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FlushPolicy {
    /// It is refused.
    Refuse,
    /// The word CONFIRM.
    #[default]
    Confirm,
    /// Nothing, as in Redis.
    Allow,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Serves a toykv database over lines, Redis' protocol and gRPC.
///
/// Every flag may stand in the environment or in the file; flags win over the environment, which
/// wins over the file.
#[derive(Clone, Debug, Default, Parser, Deserialize)]
#[command(version, name = "toykv-server")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Flags {
    /// A TOML file with these settings, `[limits]` and `[engine]`
    #[arg(long, env = "TOYKV_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The database's directory
    #[arg(long, env = "DB_DIR")]
    pub dir: Option<PathBuf>,
    /// Address of lines and RESP [default: 127.0.0.1:7878]
    #[arg(long, env = "TOYKV_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Only the port of it; an address beside it wins
    #[arg(long, env = "SERVER_PORT")]
    pub port: Option<u16>,
    /// Address of gRPC [default: none]
    #[arg(long, env = "TOYKV_GRPC")]
    pub grpc: Option<SocketAddr>,
    /// Address of the status page and the metrics [default: none]
    #[arg(long, env = "TOYKV_HTTP")]
    pub http: Option<SocketAddr>,
    /// Threads that serve clients [default: as many as cores]
    #[arg(long, env = "TOYKV_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// What an acknowledged write survives: process, interval, sync [default: interval]
    #[arg(long, env = "TOYKV_DURABILITY")]
    pub durability: Option<String>,
    /// A file whose first line is the password (or set TOYKV_PASSWORD)
    #[arg(long, env = "TOYKV_PASSWORD_FILE")]
    pub password_file: Option<PathBuf>,
    /// The password: not a flag, which every user of the machine could read
    #[arg(skip)]
    pub password: Option<String>,
    /// A PEM file with the certificate chain: TLS on every port
    #[arg(long, env = "TOYKV_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with its private key
    #[arg(long, env = "TOYKV_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Listen beyond this machine without a password
    #[arg(long, env = "TOYKV_INSECURE", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub insecure: Option<bool>,
    /// What FLUSHDB needs [default: confirm]
    #[arg(long, env = "TOYKV_FLUSHDB")]
    pub flushdb: Option<FlushPolicy>,
    /// Log commands that take at least so many milliseconds [default: 100]
    #[arg(long, env = "TOYKV_SLOW_MS")]
    pub slow_ms: Option<u64>,
    /// What is logged: error, warn, info, debug, or target=level,... [default: info]
    #[arg(long, env = "TOYKV_LOG")]
    pub log: Option<String>,
    /// How logs look [default: text]
    #[arg(long, env = "TOYKV_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// A limit: --limit idle_seconds=60; README.md has all of them
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = pair)]
    #[serde(skip)]
    pub limit: Vec<(String, String)>,
    /// An option of the engine: --option memtable_size_bytes=16MiB
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    #[serde(skip)]
    pub option: Vec<(String, String)>,
    /// The file's limits
    #[arg(skip)]
    pub limits: BTreeMap<String, u64>,
    /// The file's options of the engine
    #[arg(skip)]
    pub engine: BTreeMap<String, String>,
    /// Print the configuration and exit
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
}

/// A complete configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database's directory.
    pub dir: PathBuf,
    /// Lines and RESP.
    pub listen: SocketAddr,
    /// gRPC.
    pub grpc: Option<SocketAddr>,
    /// Status page and metrics.
    pub http: Option<SocketAddr>,
    /// Threads that serve clients.
    pub workers: usize,
    /// What acknowledged writes survive.
    pub durability: Durability,
    /// The engine's other options.
    pub options: Options,
    /// Those of them that were set, by name, as they were given.
    pub engine: BTreeMap<String, String>,
    /// Whether open addresses are served without a password.
    pub insecure: bool,
    /// The password and token.
    pub secret: Secret,
    /// Certificate chain and private key, in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// What FLUSHDB needs.
    pub flush_policy: FlushPolicy,
    /// Commands that take as long are logged.
    pub slow_ms: u64,
    /// What is logged.
    pub log: String,
    /// How.
    pub log_format: LogFormat,
    /// What clients may ask for.
    pub limits: Limits,
}

/// Why there is no configuration, in words.
pub type ConfigError = String;

impl Flags {
    /// Arguments, the program's name first, and environment. Ends the process where they are wrong
    /// or ask for help, as clap does.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Flags {
        let matches = Flags::command().get_matches_from(arguments);
        let mut flags = Flags::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let said = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        // What the command line says wins over the environment.
        if said("port") && !said("listen") {
            flags.listen = None;
        }
        flags
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("not NAME=VALUE")?;
    Ok((name.trim().into(), value.trim().into()))
}

#[expect(clippy::disallowed_methods, reason = "the server's own files are not the engine's")]
fn read_text(path: &Path) -> Result<String, ConfigError> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| format!("{}: not UTF-8", path.display()))
}

impl Config {
    /// The defaults for a database's directory, on any free port of this machine: for tests.
    pub fn for_dir(dir: &Path) -> Config {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let flags = Flags { dir: Some(dir.into()), listen: Some(any), ..Flags::default() };
        // Cannot fail: nothing is read and the address is loopback.
        Config::merge(flags, Flags::default(), None).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Flags and environment as clap has merged them, over the file that they name, over the
    /// defaults. `password` is the environment's.
    pub fn load(flags: Flags, password: Option<String>) -> Result<Config, ConfigError> {
        let file = match &flags.config {
            None => Flags::default(),
            Some(path) => toml::from_str(&read_text(path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?,
        };
        Config::merge(flags, file, password)
    }

    fn merge(flags: Flags, file: Flags, password: Option<String>) -> Result<Config, ConfigError> {
        let mut limits = Limits::default();
        for (name, value) in &file.limits {
            limits.set(name, *value)?;
        }
        for (name, value) in &flags.limit {
            let number =
                value.parse().map_err(|_| format!("limit {name}: {value:?} is not a number"))?;
            limits.set(name, number)?;
        }
        let mut options = Options::new();
        let mut engine = file.engine.clone();
        engine.extend(flags.option.iter().cloned());
        for (name, value) in &engine {
            if matches!(name.as_str(), "read_only" | "durability") {
                return Err(format!("engine option {name} cannot be set here"));
            }
            options.set(name, value).map_err(|error| error.to_string())?;
        }
        let secret = secret(&flags, &file, password)?;
        let durability = flags.durability.or(file.durability);
        let config = Config {
            dir: flags.dir.or(file.dir).ok_or("--dir is missing: the database's directory")?,
            listen: listen(flags.listen, flags.port)
                .or(listen(file.listen, file.port))
                .unwrap_or(DEFAULT_LISTEN.into()),
            grpc: flags.grpc.or(file.grpc),
            http: flags.http.or(file.http),
            workers: flags.workers.or(file.workers).map_or_else(cores, usize::from),
            durability: parse_durability(durability.as_deref().unwrap_or("interval"))?,
            options,
            engine,
            insecure: flags.insecure.or(file.insecure).unwrap_or(false),
            secret,
            tls: tls(flags.tls_cert.or(file.tls_cert), flags.tls_key.or(file.tls_key))?,
            flush_policy: flags.flushdb.or(file.flushdb).unwrap_or_default(),
            slow_ms: flags.slow_ms.or(file.slow_ms).unwrap_or(100),
            log: flags.log.or(file.log).unwrap_or_else(|| "info".into()),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            limits,
        };
        config.check_addresses()?;
        Ok(config)
    }

    /// Whoever can reach an open port can read and remove everything.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        let addresses = [Some(self.listen), self.grpc, self.http];
        let open = addresses.into_iter().flatten().find(|address| !address.ip().is_loopback());
        match open {
            Some(address) if !self.secret.is_set() && !self.insecure => Err(format!(
                "{address} can be reached from other machines and there is no password: set \
                 --password-file or TOYKV_PASSWORD, or say --insecure"
            )),
            _ => Ok(()),
        }
    }

    /// The configuration as a file that would give it, but for the password.
    pub fn to_toml(&self) -> String {
        let mut table = toml::Table::new();
        let mut put = |name: &str, value: toml::Value| table.insert(name.into(), value);
        put("dir", self.dir.display().to_string().into());
        put("listen", self.listen.to_string().into());
        for (name, address) in [("grpc", self.grpc), ("http", self.http)] {
            if let Some(address) = address {
                put(name, address.to_string().into());
            }
        }
        put("workers", (self.workers as i64).into());
        put("durability", format!("{:?}", self.durability).to_lowercase().into());
        if let Some((cert, key)) = &self.tls {
            put("tls-cert", cert.display().to_string().into());
            put("tls-key", key.display().to_string().into());
        }
        put("flushdb", format!("{:?}", self.flush_policy).to_lowercase().into());
        put("slow-ms", (self.slow_ms as i64).into());
        put("log", self.log.clone().into());
        put("log-format", format!("{:?}", self.log_format).to_lowercase().into());
        if self.insecure {
            put("insecure", true.into());
        }
        if let Ok(limits) = toml::Value::try_from(&self.limits) {
            put("limits", limits);
        }
        if let (false, Ok(engine)) = (self.engine.is_empty(), toml::Value::try_from(&self.engine)) {
            put("engine", engine);
        }
        let password = if self.secret.is_set() { "# password: set\n" } else { "" };
        format!("{password}{table}")
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn listen(address: Option<SocketAddr>, port: Option<u16>) -> Option<SocketAddr> {
    address.or(port.map(|port| (DEFAULT_LISTEN.0, port).into()))
}

fn parse_durability(text: &str) -> Result<Durability, ConfigError> {
    match text {
        "process" => Ok(Durability::Process),
        "interval" => Ok(Durability::Interval),
        "sync" => Ok(Durability::Sync),
        _ => Err(format!("durability {text:?}: not process, interval or sync")),
    }
}

/// Password file of a flag, environment, then the file's.
fn secret(flags: &Flags, file: &Flags, password: Option<String>) -> Result<Secret, ConfigError> {
    let from_file = |path: &PathBuf| -> Result<Secret, ConfigError> {
        let text = read_text(path)?;
        let secret = Secret::new(text.lines().next().unwrap_or_default());
        match secret.is_set() {
            true => Ok(secret),
            false => Err(format!("{}: the first line is empty", path.display())),
        }
    };
    match (&flags.password_file, password, &file.password_file, &file.password) {
        (Some(path), ..) => from_file(path),
        (_, Some(text), ..) => Ok(Secret::new(&text)),
        (_, _, Some(path), _) => from_file(path),
        (_, _, _, text) => Ok(Secret::new(text.as_deref().unwrap_or_default())),
    }
}

fn tls(
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        _ => Err("--tls-cert and --tls-key belong together".into()),
    }
}
