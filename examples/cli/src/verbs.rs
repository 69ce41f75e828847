//! What each verb does, on any store.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::args::{DeleteArgs, GetArgs, RangeArgs, SetArgs, Verb};
use crate::failure::{Exit, Failure, Result};
use crate::files;
use crate::output::{self, Form, Listing, Style};
use crate::store::{Range, Store};
use crate::text::{Encoding, escape};

/// Runs a verb; its answer goes to `out`.
pub(crate) fn run(
    verb: &Verb,
    store: &mut dyn Store,
    style: Style,
    out: &mut dyn Write,
) -> Result<()> {
    match verb {
        Verb::Get(args) => get(args, store, style, out),
        Verb::Set(args) => set(args, store, style),
        Verb::Delete(args) => delete(args, store, style),
        Verb::Scan(args) => scan(args, store, style, out),
        Verb::Len => {
            let keys = store.len()?;
            match style.form {
                Form::Json => writeln!(out, "{{\"keys\":{keys}}}")?,
                _ => writeln!(out, "{keys}")?,
            }
            Ok(())
        }
        Verb::Stats => output::figures(out, style.form, &store.stats()?),
    }
}

fn decode(encoding: Encoding, text: &OsStr) -> Result<Vec<u8>> {
    encoding.decode(text.as_bytes())
}

fn absent(key: &[u8]) -> Failure {
    Failure::new(Exit::Absent, format!("no value stored under {}", escape(key)))
}

fn get(args: &GetArgs, store: &mut dyn Store, style: Style, out: &mut dyn Write) -> Result<()> {
    if let ([key], false) = (&args.keys[..], style.form == Form::Json) {
        let key = decode(style.encoding, key)?;
        let value = store.get(&key)?.ok_or_else(|| absent(&key))?;
        if args.raw {
            out.write_all(&value)?;
        } else {
            out.write_all(&style.encoding.encode(&value))?;
            out.write_all(b"\n")?;
        }
        return Ok(());
    }
    if args.raw {
        return Err(Failure::usage("--raw takes one key: values have no ends of their own"));
    }
    let mut missing = None;
    let mut listing = Listing::new(out, style, false);
    for key in &args.keys {
        let key = decode(style.encoding, key)?;
        match store.get(&key)? {
            Some(value) => listing.push(&key, &value)?,
            None => missing = missing.or(Some(key)),
        }
    }
    listing.finish()?;
    missing.map_or(Ok(()), |key| Err(absent(&key)))
}

fn set(args: &SetArgs, store: &mut dyn Store, style: Style) -> Result<()> {
    let key = decode(style.encoding, &args.key)?;
    let value = match args.value.as_bytes() {
        b"-" => files::read_all(Path::new("-"))?,
        [b'@', path @ ..] => files::read_all(Path::new(OsStr::from_bytes(path)))?,
        text => style.encoding.decode(text)?,
    };
    store.put(&key, &value)
}

fn delete(args: &DeleteArgs, store: &mut dyn Store, style: Style) -> Result<()> {
    let mut missing = None;
    for key in &args.keys {
        let key = decode(style.encoding, key)?;
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

fn scan(args: &RangeArgs, store: &mut dyn Store, style: Style, out: &mut dyn Write) -> Result<()> {
    let mut listing = Listing::new(out, style, args.keys_only);
    store.scan(&range(args, style.encoding)?, &mut |key, value| {
        listing.push(key, value)?;
        Ok(ControlFlow::Continue(()))
    })?;
    listing.finish()
}
