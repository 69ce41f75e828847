//! Reading entries that other programs wrote.

use std::io::{BufRead, BufReader, Read};

use csv::{ByteRecord, ReaderBuilder};
use data_encoding::BASE64;
use serde_json::{Map, Value as Json};

use super::Format;
use super::write::csv_failure;
use crate::failure::{Failure, Result};
use crate::text::Encoding;

/// How a file is read.
#[derive(Clone, Debug)]
pub(crate) struct ReadOptions {
    pub(crate) format: Format,
    pub(crate) encoding: Encoding,
    /// The first line of CSV and TSV names the columns.
    pub(crate) header: bool,
    /// The columns' names in the header; other columns are passed over.
    pub(crate) columns: [String; 2],
}

/// Reads entries.
pub(crate) struct Reader<R> {
    rows: Rows<R>,
    encoding: Encoding,
    /// Where key and value stand in a row.
    places: [usize; 2],
}

enum Rows<R> {
    Table { reader: Box<csv::Reader<R>>, record: ByteRecord },
    Json { lines: BufReader<R>, line: Vec<u8>, number: u64, bytes: u64 },
}

impl<R: Read> Reader<R> {
    /// Reads the header, if there is one.
    pub(crate) fn new(input: R, options: &ReadOptions) -> Result<Reader<R>> {
        let encoding = options.encoding;
        let mut builder = ReaderBuilder::new();
        builder.has_headers(false).flexible(true);
        match options.format {
            Format::Jsonl => {
                let lines = BufReader::new(input);
                let rows = Rows::Json { lines, line: Vec::new(), number: 0, bytes: 0 };
                return Ok(Reader { rows, encoding, places: [0, 1] });
            }
            Format::Csv => {}
            Format::Tsv => {
                builder.delimiter(b'\t').quoting(false);
            }
        }
        let mut reader = Box::new(builder.from_reader(input));
        let mut record = ByteRecord::new();
        let mut places = [0, 1];
        if options.header && reader.read_byte_record(&mut record).map_err(csv_failure)? {
            for (place, name) in places.iter_mut().zip(&options.columns) {
                let found = record.iter().position(|field| field == name.as_bytes());
                *place = found.ok_or_else(|| no_column(name, &record))?;
            }
        }
        Ok(Reader { rows: Rows::Table { reader, record }, encoding, places })
    }

    /// The next entry; a failure names its line.
    pub(crate) fn next_entry(&mut self) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let encoding = self.encoding;
        match &mut self.rows {
            Rows::Table { reader, record } => {
                let start = reader.position().line();
                if !reader.read_byte_record(record).map_err(csv_failure)? {
                    return Ok(None);
                }
                let line = record.position().map_or(start, csv::Position::line);
                let field = |place: usize| {
                    let field = record.get(place);
                    let field = field.ok_or_else(|| Failure::usage("a column is missing"))?;
                    encoding.decode(field)
                };
                let entry = field(self.places[0]).and_then(|key| Ok((key, field(self.places[1])?)));
                entry.map(Some).map_err(|failure| failure.within(format!("line {line}")))
            }
            Rows::Json { lines, line, number, bytes } => loop {
                line.clear();
                let read = lines.read_until(b'\n', line)?;
                if read == 0 {
                    return Ok(None);
                }
                *number += 1;
                *bytes += read as u64;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let entry = json_entry(line);
                return entry.map(Some).map_err(|failure| failure.within(format!("line {number}")));
            },
        }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        match &self.rows {
            Rows::Table { reader, .. } => reader.position().byte(),
            Rows::Json { bytes, .. } => *bytes,
        }
    }
}

fn no_column(name: &str, record: &ByteRecord) -> Failure {
    let found: Vec<_> = record.iter().map(String::from_utf8_lossy).collect();
    let found = found.join(", ");
    Failure::usage(format!(
        "line 1 names no column {name:?} but {found}; see --no-header and --columns"
    ))
}

fn json_entry(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>)> {
    let object: Map<String, Json> = serde_json::from_slice(line)
        .map_err(|error| Failure::usage(format!("not a JSON object: {error}")))?;
    Ok((json_field(&object, "key")?, json_field(&object, "value")?))
}

/// `name` as text or `name_base64` as bytes, and not both.
fn json_field(object: &Map<String, Json>, name: &str) -> Result<Vec<u8>> {
    let encoded = format!("{name}_base64");
    match (object.get(name), object.get(&encoded)) {
        (Some(Json::String(text)), None) => Ok(text.clone().into_bytes()),
        (None, Some(Json::String(text))) => BASE64
            .decode(text.as_bytes())
            .map_err(|error| Failure::usage(format!("{encoded} is not base64: {error}"))),
        (None, None) => Err(Failure::usage(format!("neither {name:?} nor {encoded:?}"))),
        (Some(_), Some(_)) => Err(Failure::usage(format!("both {name:?} and {encoded:?}"))),
        _ => Err(Failure::usage(format!("{name:?} is no string"))),
    }
}
