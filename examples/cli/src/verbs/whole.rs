//! Verbs on whole databases: dump, load, compact, gc.

use std::io::Read;
use std::ops::ControlFlow;

use super::Call;
use crate::args::{CompactArgs, DumpArgs, LoadArgs};
use crate::dump::{DumpReader, DumpWriter, Totals};
use crate::failure::{Failure, Result};
use crate::files::{self, Output};
use crate::progress::{self, Meter, Unit};
use crate::store::{Range, Store};

/// Writes everything as a dump.
pub(super) fn dump(args: &DumpArgs, store: &mut dyn Store) -> Result<()> {
    let out = Output::create(&args.file, args.force, true)?;
    if !store.scans_are_frozen() {
        eprintln!(
            "toykv: {} shows no frozen state: what others write meanwhile may be in the dump",
            store.name()
        );
    }
    let range = Range::default();
    let meter = Meter::new("dumping", Unit::Entries, super::expected_entries(store, &range)?);
    let mut writer = DumpWriter::new(out)?;
    let mut done = 0;
    store.scan(&range, &mut |key, value| {
        writer.push(key, value)?;
        done += 1;
        meter.at(done)?;
        Ok(ControlFlow::Continue(()))
    })?;
    let (_, out) = writer.finish()?;
    out.finish()
}

/// Stores what a dump holds: chunk by chunk, and a regular file only after all of it was verified.
pub(super) fn load(args: &LoadArgs, store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let input = files::open(&args.file)?;
    if input.size.is_some() {
        read_dump(args)?;
    }
    let meter = Meter::new("loading", Unit::Bytes, input.size);
    let mut stored = Totals::default();
    let ended = load_all(input.read, &meter, &mut stored, &mut |chunk| store.put_all(chunk));
    drop(meter);
    ended.map_err(|failure| {
        let entries = stored.entries;
        let what = format!("{} (the {entries} entries before it are stored)", failure.message);
        Failure::new(failure.exit, what).within(args.file.display())
    })?;
    call.tell(&[("entries", stored.entries), ("bytes", stored.bytes)])
}

/// Reads a dump to its end without storing anything; needs no store.
pub(crate) fn check_dump(args: &LoadArgs, call: &mut Call<'_>) -> Result<()> {
    let totals = read_dump(args)?;
    call.tell(&[("entries", totals.entries), ("bytes", totals.bytes)])
}

fn read_dump(args: &LoadArgs) -> Result<Totals> {
    let input = files::open(&args.file)?;
    let meter = Meter::new("checking", Unit::Bytes, input.size);
    let mut totals = Totals::default();
    load_all(input.read, &meter, &mut totals, &mut |_| Ok(()))
        .map_err(|failure| failure.within(args.file.display()))?;
    Ok(totals)
}

fn load_all(
    input: Box<dyn Read>,
    meter: &Meter,
    stored: &mut Totals,
    store: &mut dyn FnMut(&crate::store::Entries) -> Result<()>,
) -> Result<()> {
    let mut reader = DumpReader::new(input)?;
    while let Some(chunk) = reader.next_chunk()? {
        meter.at(reader.position())?;
        store(&chunk)?;
        *stored = reader.totals();
    }
    Ok(())
}

/// Merges what is stored.
pub(super) fn compact(args: &CompactArgs, store: &mut dyn Store, call: &Call<'_>) -> Result<()> {
    let key = |text: &Option<std::ffi::OsString>| {
        text.as_ref().map(|text| super::decode(call.style.input, text)).transpose()
    };
    let range = Range { start: key(&args.start)?, end: key(&args.end)?, ..Range::default() };
    let meter = Meter::new("compacting", Unit::Bytes, None);
    let done = store.compact(&range, &mut |done, total| {
        meter.of(total);
        match meter.at(done) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    // The engine says "cancelled", people "interrupted".
    progress::check().and(done)
}

/// Gives back space.
pub(super) fn collect(store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let meter = Meter::new("collecting", Unit::Bytes, None);
    let done = store.collect(&mut |done, total| {
        meter.of(total);
        match meter.at(done) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    drop(meter);
    progress::check().and(done)?;
    call.done()
}
