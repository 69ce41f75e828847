//! Verbs on whole databases: dump, load, verify, compact, destroy.

use std::io::Read;
use std::ops::ControlFlow;

use super::Call;
use crate::args::{CompactArgs, DumpArgs, LoadArgs};
use crate::dump::{DumpReader, DumpWriter, Totals};
use crate::failure::{Exit, Failure, Result};
use crate::files::{self, Output};
use crate::progress::{self, Meter, Unit};
use crate::store::{Range, Store};
use crate::text::escape;

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

/// Reads everything of a store that is open, which compares checksums on the way, and looks at
/// order and count.
pub(super) fn verify(store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let expected = store.len()?;
    let (seen, failure) = read_range(store, &Range::default(), expected);
    let Some(first) = failure else {
        if seen.entries != expected && store.scans_are_frozen() {
            let what = format!("{} keys are counted, {} are there", expected, seen.entries);
            return Err(Failure::new(Exit::Corruption, format!("{}: {what}", store.name())));
        }
        return call.tell(&[("entries", seen.entries), ("bytes", seen.bytes)]);
    };
    if first.exit != Exit::Corruption {
        return Err(first);
    }
    // From the other end, so that a second place of damage is found too.
    let reverse = Range { reverse: true, ..Range::default() };
    let (beyond, last) = read_range(store, &reverse, expected);
    let place = seen.last_key.map_or("at the start".to_owned(), |key| format!("after {key}"));
    let mut message = format!("{first}\n  found {place}, {} entries read", seen.entries);
    if let Some(last) = last {
        let place = beyond.last_key.map_or("at the end".to_owned(), |key| format!("before {key}"));
        let other = if last.message == first.message { "the same" } else { &last.message };
        let entries = beyond.entries;
        message.push_str(&format!(
            "\n  from the end: {other}\n  found {place}, {entries} entries read"
        ));
    }
    Err(Failure::new(Exit::Corruption, message))
}

/// What a scan saw before it ended.
struct Seen {
    entries: u64,
    bytes: u64,
    last_key: Option<String>,
}

fn read_range(store: &mut dyn Store, range: &Range, expected: u64) -> (Seen, Option<Failure>) {
    let meter = Meter::new("verifying", Unit::Entries, Some(expected));
    let mut entries = 0;
    let mut bytes = 0;
    let mut last: Option<Vec<u8>> = None;
    let done = store.scan(range, &mut |key, value| {
        let wrong = |last: &Vec<u8>| (key <= &last[..]) != range.reverse || key == &last[..];
        if last.as_ref().is_some_and(wrong) {
            let message = format!("the key {} is out of order", escape(key));
            return Err(Failure::new(Exit::Corruption, message));
        }
        entries += 1;
        bytes += (key.len() + value.len()) as u64;
        let last = last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
        meter.at(entries)?;
        Ok(ControlFlow::Continue(()))
    });
    (Seen { entries, bytes, last_key: last.as_deref().map(escape) }, done.err())
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
