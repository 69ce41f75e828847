//! What each verb does, on any store.

mod exchange;
mod repair;
mod whole;

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value as Json;

use crate::args::{DeleteArgs, GetArgs, RangeArgs, SetArgs, Verb, VerifyArgs};
use crate::failure::{Exit, Failure, Result};
use crate::files;
use crate::output::{self, Form, Listing, Style};
use crate::progress;
use crate::store::{Figures, Range, Store};
use crate::text::{Encoding, escape};

pub(crate) use repair::{salvage, verify_dir};
pub(crate) use whole::check_dump;

/// How a verb is run.
pub(crate) struct Call<'a> {
    pub(crate) style: Style,
    /// What writes says so, as for a person who waits.
    pub(crate) chatty: bool,
    /// Where answers go.
    pub(crate) out: &'a mut dyn Write,
}

impl Call<'_> {
    /// Answers figures that have names.
    pub(crate) fn tell(&mut self, named: &[(&str, u64)]) -> Result<()> {
        let figures = named.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
        output::figures(self.out, self.style.form, &figures.collect())
    }

    /// Answers a write.
    fn done(&mut self) -> Result<()> {
        if self.chatty {
            match self.style.form {
                Form::Json => writeln!(self.out, "{{\"success\":true}}")?,
                _ => writeln!(self.out, "success")?,
            }
        }
        Ok(())
    }
}

/// Runs a verb on a store.
pub(crate) fn run(verb: &Verb, store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    match verb {
        Verb::Get(args) => get(args, store, call),
        Verb::Set(args) => set(args, store, call.style).and_then(|()| call.done()),
        Verb::Delete(args) => delete(args, store, call.style).and_then(|()| call.done()),
        Verb::Scan(args) => scan(args, store, call),
        Verb::Len => len(store, call),
        Verb::Stats => output::figures(call.out, call.style.form, &store.stats()?),
        Verb::Explain => explain(store, call),
        Verb::Export(args) => exchange::export(args, store, call),
        Verb::Import(args) => exchange::import(args, store, call),
        Verb::Dump(args) => whole::dump(args, store),
        Verb::Load(args) if args.check => check_dump(args, call),
        Verb::Load(args) => whole::load(args, store, call),
        Verb::Verify(VerifyArgs { dir: Some(dir) }) => verify_dir(dir, call),
        Verb::Verify(_) => repair::verify(store, call),
        Verb::Compact(args) => {
            whole::compact(args, store, call)?;
            call.done()
        }
        Verb::Gc => whole::collect(store, call),
        Verb::Shell(_)
        | Verb::Destroy(_)
        | Verb::Salvage(_)
        | Verb::Completions { .. }
        | Verb::Man { .. } => Err(Failure::usage("this verb stands on the command line only")),
    }
}

/// The bytes that a word of the command line means.
fn decode(encoding: Encoding, text: &OsStr) -> Result<Vec<u8>> {
    encoding.decode(text.as_bytes())
}

fn absent(key: &[u8]) -> Failure {
    Failure::new(Exit::Absent, format!("no value stored under {}", escape(key)))
}

fn get(args: &GetArgs, store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let style = call.style;
    if let ([key], false) = (&args.keys[..], style.form == Form::Json) {
        let key = decode(style.input, key)?;
        let value = store.get(&key)?.ok_or_else(|| absent(&key))?;
        if args.raw {
            call.out.write_all(&value)?;
        } else {
            call.out.write_all(&style.encoding.encode(&value))?;
            call.out.write_all(b"\n")?;
        }
        return Ok(());
    }
    if args.raw {
        return Err(Failure::usage("--raw takes one key: values have no ends of their own"));
    }
    let mut missing = None;
    let mut listing = Listing::new(call.out, style, false);
    for key in &args.keys {
        let key = decode(style.input, key)?;
        match store.get(&key)? {
            Some(value) => listing.push(&key, &value)?,
            None => missing = missing.or(Some(key)),
        }
    }
    listing.finish()?;
    missing.map_or(Ok(()), |key| Err(absent(&key)))
}

fn set(args: &SetArgs, store: &mut dyn Store, style: Style) -> Result<()> {
    let key = decode(style.input, &args.key)?;
    let value = match args.value.as_bytes() {
        b"-" => files::read_all(Path::new("-"))?,
        [b'@', path @ ..] => files::read_all(Path::new(OsStr::from_bytes(path)))?,
        text => style.input.decode(text)?,
    };
    store.put(&key, &value)
}

fn delete(args: &DeleteArgs, store: &mut dyn Store, style: Style) -> Result<()> {
    let mut missing = None;
    for key in &args.keys {
        let key = decode(style.input, key)?;
        if args.check && store.get(&key)?.is_none() {
            missing = missing.or(Some(key));
        } else {
            store.delete(&key)?;
        }
    }
    missing.map_or(Ok(()), |key| Err(absent(&key)))
}

/// The range that the arguments describe.
fn range(args: &RangeArgs, encoding: Encoding) -> Result<Range> {
    let key = |text: &Option<OsString>| text.as_ref().map(|t| decode(encoding, t)).transpose();
    Ok(Range {
        start: key(&args.start)?,
        end: key(&args.end)?,
        prefix: key(&args.prefix)?.unwrap_or_default(),
        reverse: args.reverse,
        limit: args.limit,
        keys_only: args.keys_only,
    })
}

fn scan(args: &RangeArgs, store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let mut listing = Listing::new(call.out, call.style, args.keys_only);
    store.scan(&range(args, call.style.input)?, &mut |key, value| {
        listing.push(key, value)?;
        progress::check()?;
        Ok(ControlFlow::Continue(()))
    })?;
    listing.finish()
}

fn len(store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let keys = store.len()?;
    match call.style.form {
        Form::Json => writeln!(call.out, "{{\"keys\":{keys}}}")?,
        _ => writeln!(call.out, "{keys}")?,
    }
    Ok(())
}

/// How many entries a scan will show at most, where that is cheap to know.
fn expected_entries(store: &mut dyn Store, range: &Range) -> Result<Option<u64>> {
    let whole = range.start.is_none() && range.end.is_none() && range.prefix.is_empty();
    Ok(if whole { Some(store.len()?.min(range.limit.unwrap_or(u64::MAX))) } else { range.limit })
}

/// Where the space goes, as far as the figures tell.
fn explain(store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let figures: Figures = store.explain()?;
    if call.style.form == Form::Json {
        return output::figures(call.out, Form::Json, &figures);
    }
    for (name, value) in &figures {
        match value {
            Json::String(text) => writeln!(call.out, "{name}: {text}")?,
            other => writeln!(call.out, "{name}: {other}")?,
        }
    }
    Ok(())
}
