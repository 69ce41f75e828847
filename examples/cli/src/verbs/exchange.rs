//! `import` and `export`: entries as text files for other programs.

use std::ops::ControlFlow;

use super::Call;
use crate::args::{ExportArgs, ImportArgs};
use crate::exchange::{Format, ReadOptions, Reader, Writer};
use crate::failure::{Failure, Result};
use crate::files::{self, Output};
use crate::output::Form;
use crate::progress::{Meter, Unit};
use crate::store::Store;

/// What is written at once: so many entries, or so many bytes.
const BATCH_ENTRIES: usize = 1000;
const BATCH_BYTES: usize = 1 << 20;

/// Writes a range to a file.
pub(super) fn export(args: &ExportArgs, store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let range = super::range(&args.range, call.style.input)?;
    let asked = (call.style.form == Form::Json).then_some(Format::Jsonl);
    let format = args.format.or(asked).unwrap_or_else(|| Format::of(&args.file));
    let out = Output::create(&args.file, args.force, false)?;
    let header = !args.no_header;
    let mut writer = Writer::new(out, format, call.style.encoding, header, range.keys_only)?;
    let meter = Meter::new("exporting", Unit::Entries, super::expected_entries(store, &range)?);
    let mut done = 0;
    store.scan(&range, &mut |key, value| {
        writer.push(key, value)?;
        done += 1;
        meter.at(done)?;
        Ok(ControlFlow::Continue(()))
    })?;
    writer.finish()?.finish()
}

/// Stores the entries of a file, some at a time.
pub(super) fn import(args: &ImportArgs, store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let asked = (call.style.form == Form::Json).then_some(Format::Jsonl);
    let options = ReadOptions {
        format: args.format.or(asked).unwrap_or_else(|| Format::of(&args.file)),
        encoding: call.style.encoding,
        header: !args.no_header,
        columns: [args.columns[0].clone(), args.columns[1].clone()],
    };
    let named = |failure: Failure| failure.within(args.file.display());
    let input = files::open(&args.file)?;
    let meter = Meter::new("importing", Unit::Bytes, input.size);
    let mut reader = Reader::new(input.read, &options).map_err(named)?;
    let mut stored = 0;
    let ended = import_all(&mut reader, store, &meter, &mut stored);
    drop(meter);
    ended.map_err(|failure| {
        let what = format!("{} (the {stored} entries before it are stored)", failure.message);
        named(Failure::new(failure.exit, what))
    })?;
    call.tell(&[("entries", stored)])
}

fn import_all<R: std::io::Read>(
    reader: &mut Reader<R>,
    store: &mut dyn Store,
    meter: &Meter,
    stored: &mut u64,
) -> Result<()> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    loop {
        let next = meter.at(reader.position()).and_then(|()| reader.next_entry());
        if let Ok(Some((key, value))) = next {
            bytes += key.len() + value.len();
            batch.push((key, value));
            if batch.len() < BATCH_ENTRIES && bytes < BATCH_BYTES {
                continue;
            }
        } else {
            // What came before a wrong line is stored.
            store.put_all(&batch)?;
            *stored += batch.len() as u64;
            return next.map(drop);
        }
        store.put_all(&batch)?;
        *stored += batch.len() as u64;
        batch.clear();
        bytes = 0;
    }
}
