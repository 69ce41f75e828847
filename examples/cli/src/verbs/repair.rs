//! Verbs on damage: verify of a closed directory or of a store that is open, and salvage.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value as Json};
use toykv::{DamageReport, Db, Options, Progress};

use super::Call;
use crate::args::SalvageArgs;
use crate::failure::{Exit, Failure, Result};
use crate::output::{self, Form};
use crate::progress::{self, Meter, Unit};
use crate::store::{Damage, Spot, Store, Watch};
use crate::text::escape;

/// The columns of a place of damage.
const COLUMNS: [&str; 6] = ["file", "offset", "first key", "last key", "records", "what"];

/// Searches a closed directory.
pub(crate) fn verify_dir(dir: &Path, call: &mut Call<'_>) -> Result<()> {
    let damage = watched("verifying", |watch| engine(watch, |tell| Db::verify(dir, tell)))?;
    answer(&damage, "records", call)?;
    refuse(&damage, &dir.display().to_string(), "damaged")
}

/// Searches a store that is open, where it is.
pub(super) fn verify(store: &mut dyn Store, call: &mut Call<'_>) -> Result<()> {
    let damage = watched("verifying", |watch| store.verify(watch))?;
    answer(&damage, "records", call)?;
    refuse(&damage, &store.name(), "damaged")
}

/// Saves what can be read.
pub(crate) fn salvage(args: &SalvageArgs, options: &Options, call: &mut Call<'_>) -> Result<()> {
    let SalvageArgs { source, target } = args;
    let save = |tell: Tell<'_>| Db::salvage(source, target, options, tell);
    let damage = watched("salvaging", |watch| engine(watch, save))?;
    answer(&damage, "saved_keys", call)?;
    refuse(&damage, &source.display().to_string(), "damaged; what can be read of it is saved")
}

type Tell<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// A search of the engine.
fn engine(
    watch: &mut Watch<'_>,
    search: impl FnOnce(Tell<'_>) -> toykv::Result<DamageReport>,
) -> Result<Damage> {
    Ok(search(&mut |now| watch(now.done_bytes, now.total_bytes))?.into())
}

/// Runs a search under a meter that Ctrl-C ends.
fn watched(
    what: &'static str,
    search: impl FnOnce(&mut Watch<'_>) -> Result<Damage>,
) -> Result<Damage> {
    let meter = Meter::new(what, Unit::Bytes, Some(0));
    let done = search(&mut |done, total| {
        meter.of(total);
        match meter.at(done) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    drop(meter);
    // The engine says "cancelled", people "interrupted".
    progress::check()?;
    done
}

/// Lists the places of damage, then what was read.
fn answer(damage: &Damage, records: &str, call: &mut Call<'_>) -> Result<()> {
    match call.style.form {
        Form::Json => {
            for spot in &damage.places {
                writeln!(call.out, "{}", Json::Object(as_json(spot)))?;
            }
        }
        Form::Lines => {
            for spot in &damage.places {
                writeln!(call.out, "damage\t{}", as_cells(spot, call).join("\t"))?;
            }
        }
        Form::Table if damage.places.is_empty() => {}
        Form::Table => {
            let rows = damage.places.iter().map(|spot| as_cells(spot, call));
            let table = output::table(COLUMNS, rows);
            writeln!(call.out, "{table}\n")?;
        }
    }
    call.tell(&[
        ("files", damage.files),
        ("bytes", damage.bytes),
        (records, damage.records),
        ("findings", damage.count),
    ])
}

fn as_json(spot: &Spot) -> Map<String, Json> {
    let mut object = Map::new();
    output::add_bytes(&mut object, "file", &spot.path);
    object.insert("offset".into(), spot.offset.into());
    for (name, key) in [("first_key", &spot.first_key), ("last_key", &spot.last_key)] {
        match key {
            Some(key) => output::add_bytes(&mut object, name, key),
            None => drop(object.insert(name.into(), Json::Null)),
        }
    }
    object.insert("records".into(), spot.records.into());
    object.insert("what".into(), spot.what.clone().into());
    object
}

fn as_cells(spot: &Spot, call: &Call<'_>) -> [String; 6] {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let key = |key: &Option<Vec<u8>>| {
        key.as_ref().map_or("-".to_owned(), |key| text(call.style.encoding.encode(key)))
    };
    [
        escape(&spot.path),
        spot.offset.to_string(),
        key(&spot.first_key),
        key(&spot.last_key),
        spot.records.map_or("-".to_owned(), |count| count.to_string()),
        spot.what.clone(),
    ]
}

fn refuse(damage: &Damage, place: &str, what: &str) -> Result<()> {
    if damage.count == 0 {
        return Ok(());
    }
    let first = damage.places.first().map_or_else(String::new, |first| {
        format!(": {} at offset {}: {}", escape(&first.path), first.offset, first.what)
    });
    let count = damage.count;
    let message = format!("{place}: {what}{first}; places of damage: {count}");
    Err(Failure::new(Exit::Corruption, message))
}
