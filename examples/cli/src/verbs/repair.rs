//! Verbs on damage: verify of a closed directory, and salvage.

use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Map, Value as Json};
use toykv::{DamageReport, Db, Finding, Options, Progress};

use super::Call;
use crate::args::SalvageArgs;
use crate::failure::{Exit, Failure, Result};
use crate::output::{self, Form};
use crate::progress::{self, Meter, Unit};

/// The columns of a place of damage.
const COLUMNS: [&str; 6] = ["file", "offset", "first key", "last key", "records", "what"];

/// Searches a closed directory.
pub(crate) fn verify_dir(dir: &Path, call: &mut Call<'_>) -> Result<()> {
    let report = watched("verifying", |tell| Db::verify(dir, tell))?;
    answer(&report, "records", call)?;
    refuse(&report, dir, "damaged")
}

/// Saves what can be read.
pub(crate) fn salvage(args: &SalvageArgs, options: &Options, call: &mut Call<'_>) -> Result<()> {
    let SalvageArgs { source, target } = args;
    let report = watched("salvaging", |tell| Db::salvage(source, target, options, tell))?;
    answer(&report, "saved_keys", call)?;
    refuse(&report, source, "damaged; what can be read of it is saved")
}

/// Runs a search under a meter that Ctrl-C ends.
fn watched(
    what: &'static str,
    search: impl FnOnce(&mut dyn FnMut(Progress) -> ControlFlow<()>) -> toykv::Result<DamageReport>,
) -> Result<DamageReport> {
    let meter = Meter::new(what, Unit::Bytes, Some(0));
    let done = search(&mut |now| {
        meter.of(now.total_bytes);
        match meter.at(now.done_bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    drop(meter);
    // The engine says "cancelled", people "interrupted".
    progress::check()?;
    Ok(done?)
}

/// Lists the places of damage, then what was read.
fn answer(report: &DamageReport, records: &str, call: &mut Call<'_>) -> Result<()> {
    match call.style.form {
        Form::Json => {
            for finding in &report.findings {
                writeln!(call.out, "{}", Json::Object(as_json(finding)))?;
            }
        }
        Form::Lines => {
            for finding in &report.findings {
                writeln!(call.out, "damage\t{}", as_cells(finding, call).join("\t"))?;
            }
        }
        Form::Table if report.findings.is_empty() => {}
        Form::Table => {
            let rows = report.findings.iter().map(|finding| as_cells(finding, call));
            let table = output::table(COLUMNS, rows);
            writeln!(call.out, "{table}\n")?;
        }
    }
    call.tell(&[
        ("files", report.files),
        ("bytes", report.bytes),
        (records, report.records),
        ("findings", places(report)),
    ])
}

fn places(report: &DamageReport) -> u64 {
    report.findings.len() as u64 + report.omitted_findings
}

fn as_json(finding: &Finding) -> Map<String, Json> {
    let mut object = Map::new();
    output::add_bytes(&mut object, "file", finding.path.as_os_str().as_encoded_bytes());
    object.insert("offset".into(), finding.offset.into());
    for (name, key) in [("first_key", &finding.first_key), ("last_key", &finding.last_key)] {
        match key {
            Some(key) => output::add_bytes(&mut object, name, key),
            None => drop(object.insert(name.into(), Json::Null)),
        }
    }
    object.insert("records".into(), finding.records.into());
    object.insert("what".into(), finding.what.clone().into());
    object
}

fn as_cells(finding: &Finding, call: &Call<'_>) -> [String; 6] {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let key = |key: &Option<Vec<u8>>| {
        key.as_ref().map_or("-".to_owned(), |key| text(call.style.encoding.encode(key)))
    };
    [
        crate::text::escape(finding.path.as_os_str().as_encoded_bytes()),
        finding.offset.to_string(),
        key(&finding.first_key),
        key(&finding.last_key),
        finding.records.map_or("-".to_owned(), |count| count.to_string()),
        finding.what.clone(),
    ]
}

fn refuse(report: &DamageReport, dir: &Path, what: &str) -> Result<()> {
    let Some(first) = report.findings.first() else { return Ok(()) };
    let message = format!(
        "{}: {what}: {} at offset {}: {}; places of damage: {}",
        dir.display(),
        first.path.display(),
        first.offset,
        first.what,
        places(report)
    );
    Err(Failure::new(Exit::Corruption, message))
}
