//! Where keys and values are: one trait, and one file for each kind of place.
//!
//! Invariant SAME: a verb means the same wherever the store is. What a place cannot do it refuses
//! with [`unsupported`], which names the verb and the reason.

mod damage;
mod grpc;
mod local;
mod proto;
mod resp;

use std::ops::ControlFlow;

use serde_json::{Map, Value as Json};

use crate::args::Target;
use crate::failure::{Exit, Failure, Result};

pub(crate) use damage::{Damage, Spot};

/// Keys and values of a batch, in the order of writing.
pub(crate) type Entries = [(Vec<u8>, Vec<u8>)];

/// Named figures in the order in which people want to read them.
pub(crate) type Figures = Map<String, Json>;

/// What is told about each entry of a scan; `Break` ends it.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// What is told how far a long call has come, in bytes done and to do; `Break` cancels it.
pub(crate) type Watch<'a> = dyn FnMut(u64, u64) -> ControlFlow<()> + 'a;

/// What a scan covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    /// The first key, inclusive.
    pub(crate) start: Option<Vec<u8>>,
    /// The key behind the last one.
    pub(crate) end: Option<Vec<u8>>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) reverse: bool,
    pub(crate) limit: Option<u64>,
    pub(crate) keys_only: bool,
}

/// What a verb does to a store; decides how a directory is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Nothing is changed, so a directory that cannot be written will do.
    Read,
    /// Something that is there is changed.
    Change,
    /// As [`Access::Change`], and the database is made when there is none.
    Create,
}

/// A store of ordered keys.
pub(crate) trait Store {
    /// What it is, for people: a directory or an address.
    fn name(&self) -> String;
    /// The value of a key.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Stores a value.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    /// Removes a key; an absent one is no error.
    fn delete(&mut self, key: &[u8]) -> Result<()>;
    /// Stores many values: at once where they fit into one message of a server, otherwise some at
    /// a time, in order.
    fn put_all(&mut self, entries: &Entries) -> Result<()>;
    /// Tells `visit` every entry of a range, in order; values are empty when only keys are wanted.
    fn scan(&mut self, range: &Range, visit: &mut Visit<'_>) -> Result<()>;
    /// The exact number of keys.
    fn len(&mut self) -> Result<u64>;
    /// Whether a scan shows one frozen state, whatever others write meanwhile.
    fn scans_are_frozen(&self) -> bool;
    /// Counts, sizes and health.
    fn stats(&mut self) -> Result<Figures>;
    /// Merges what is stored in a range.
    fn compact(&mut self, range: &Range, watch: &mut Watch<'_>) -> Result<()>;
    /// Where the space goes.
    fn explain(&mut self) -> Result<Figures>;
    /// Gives back the space of values that are no longer needed.
    fn collect(&mut self, watch: &mut Watch<'_>) -> Result<()>;
    /// Searches for damage while others read and write.
    fn verify(&mut self, watch: &mut Watch<'_>) -> Result<Damage>;
    /// Makes everything written durable and lets go of the store.
    fn close(&mut self) -> Result<()>;
}

pub(crate) use local::options;

/// Opens what the command line names.
pub(crate) fn open(target: &Target, access: Access) -> Result<Box<dyn Store>> {
    if target.dir.is_some() && target.server.is_some() {
        return Err(Failure::usage("--dir and --server: the data is in one place only"));
    }
    if let Some(dir) = &target.dir {
        return Ok(Box::new(local::Local::open(dir, target, access)?));
    }
    let Some(server) = &target.server else {
        return Err(Failure::usage("say where the data is: --dir DIR or --server ADDRESS"));
    };
    if !target.options.is_empty() {
        return Err(Failure::usage("--option is for a directory: a server has its own options"));
    }
    let password = password(target)?;
    let encrypted = server.starts_with("https://") || server.starts_with("rediss://");
    if target.ca.is_some() && !encrypted {
        let message = "--ca is for https:// and rediss://: others are spoken in clear";
        return Err(Failure::usage(message));
    }
    if server.starts_with("http://") || server.starts_with("https://") {
        return Ok(Box::new(grpc::Grpc::open(server, target, password.as_deref())?));
    }
    if target.durability.is_some() {
        let message = "--durability is for a directory or http://: Redis' protocol cannot say it";
        return Err(Failure::usage(message));
    }
    Ok(Box::new(resp::Resp::open(server, target, password.as_deref())?))
}

/// The password: from a file, or from the environment; never an argument, which every user of the
/// machine could read.
fn password(target: &Target) -> Result<Option<String>> {
    if let Some(path) = &target.password_file {
        let bytes = crate::files::read_all(path)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii_end();
        let text = std::str::from_utf8(line);
        let text = text.map_err(|_| Failure::usage(format!("{}: not text", path.display())))?;
        return Ok(Some(text.to_owned()));
    }
    Ok(std::env::var("TOYKV_PASSWORD").ok().filter(|password| !password.is_empty()))
}

/// A snapshot of [`Store::explain`]: its name and what is told of it.
fn snapshot_figure(index: usize, held_bytes: u64, age_ms: u64) -> (String, Json) {
    (format!("snapshot_{index}"), format!("{held_bytes} bytes for {age_ms} ms").into())
}

/// The refusal of a verb.
pub(crate) fn unsupported(verb: &str, place: &str, why: &str) -> Failure {
    Failure::new(Exit::Unsupported, format!("{verb} cannot be done on {place}: {why}"))
}
