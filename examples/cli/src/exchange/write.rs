//! Writing entries for other programs.

use std::io::Write;

use csv::{QuoteStyle, WriterBuilder};
use serde_json::Value as Json;

use super::Format;
use crate::failure::{Exit, Failure, Result};
use crate::output::entry_json;
use crate::text::Encoding;

/// Writes entries as text.
pub(crate) struct Writer<W: Write> {
    rows: Rows<W>,
    encoding: Encoding,
    keys_only: bool,
}

enum Rows<W: Write> {
    Csv(Box<csv::Writer<W>>),
    /// With the check that `--plain` needs.
    Tsv(W),
    Json(W),
}

impl<W: Write> Writer<W> {
    /// Begins a file, with a header where the format has one and it is wanted.
    pub(crate) fn new(
        out: W,
        format: Format,
        encoding: Encoding,
        header: bool,
        keys_only: bool,
    ) -> Result<Writer<W>> {
        let rows = match format {
            Format::Csv => {
                let mut builder = WriterBuilder::new();
                Rows::Csv(Box::new(builder.quote_style(QuoteStyle::Necessary).from_writer(out)))
            }
            Format::Tsv => Rows::Tsv(out),
            Format::Jsonl => Rows::Json(out),
        };
        let mut writer = Writer { rows, encoding, keys_only };
        if header && format != Format::Jsonl {
            let names: &[&[u8]] = &[b"key", b"value"];
            writer.row(if keys_only { &names[..1] } else { names })?;
        }
        Ok(writer)
    }

    /// One more entry.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Rows::Json(out) = &mut self.rows {
            let value = (!self.keys_only).then_some(value);
            writeln!(out, "{}", Json::Object(entry_json(key, value)))?;
            return Ok(());
        }
        let key = self.encoding.encode(key);
        if self.keys_only {
            return self.row(&[&key]);
        }
        let value = self.encoding.encode(value);
        self.row(&[&key, &value])
    }

    fn row(&mut self, fields: &[&[u8]]) -> Result<()> {
        match &mut self.rows {
            Rows::Csv(out) => out.write_record(fields).map_err(csv_failure),
            Rows::Tsv(out) => {
                if fields.iter().any(|field| field.iter().any(|byte| b"\t\r\n".contains(byte))) {
                    let message =
                        "a tab or line end cannot stand in TSV as it is: leave out --plain";
                    return Err(Failure::usage(message));
                }
                out.write_all(&fields.join(&b'\t'))?;
                Ok(out.write_all(b"\n")?)
            }
            Rows::Json(_) => Ok(()),
        }
    }

    /// The end of the file; answers where it went.
    pub(crate) fn finish(self) -> Result<W> {
        match self.rows {
            Rows::Csv(out) => out.into_inner().map_err(|error| error.into_error().into()),
            Rows::Tsv(out) | Rows::Json(out) => Ok(out),
        }
    }
}

/// A failure of the CSV library.
pub(super) fn csv_failure(error: csv::Error) -> Failure {
    let message = error.to_string();
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        _ => Failure::new(Exit::Usage, message),
    }
}
