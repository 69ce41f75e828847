//! How answers look: tables for people at a terminal, lines, or JSON.
//!
//! Invariant LINES: outside of tables an entry is one line, key and value with a tab between, in
//! every encoding but `plain`.

use std::io::Write;

use comfy_table::{ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use data_encoding::BASE64;
use serde_json::{Map, Value as Json};

use crate::failure::Result;
use crate::store::Figures;
use crate::text::Encoding;

/// Rows that are laid out together: a table is written while it is read.
const TABLE_ROWS: usize = 1000;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Table,
    Lines,
    Json,
}

/// Form and encodings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) form: Form,
    /// Of answers and of files.
    pub(crate) encoding: Encoding,
    /// Of arguments.
    pub(crate) input: Encoding,
}

/// Writes entries as they come; [`Listing::finish`] writes what is kept back.
pub(crate) struct Listing<'a> {
    out: &'a mut dyn Write,
    style: Style,
    keys_only: bool,
    rows: Vec<[String; 2]>,
    begun: bool,
}

impl<'a> Listing<'a> {
    /// An empty list.
    pub(crate) fn new(out: &'a mut dyn Write, style: Style, keys_only: bool) -> Listing<'a> {
        Listing { out, style, keys_only, rows: Vec::new(), begun: false }
    }

    /// One more entry.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match self.style.form {
            Form::Json => {
                let value = (!self.keys_only).then_some(value);
                writeln!(self.out, "{}", Json::Object(entry_json(key, value)))?;
            }
            Form::Lines => {
                self.out.write_all(&self.style.encoding.encode(key))?;
                if !self.keys_only {
                    self.out.write_all(b"\t")?;
                    self.out.write_all(&self.style.encoding.encode(value))?;
                }
                self.out.write_all(b"\n")?;
            }
            Form::Table => {
                self.rows.push([self.cell(key), self.cell(value)]);
                if self.rows.len() == TABLE_ROWS {
                    self.flush_rows()?;
                }
            }
        }
        Ok(())
    }

    /// The end of the list.
    pub(crate) fn finish(mut self) -> Result<()> {
        if self.style.form == Form::Table && !(self.begun && self.rows.is_empty()) {
            self.flush_rows()?;
        }
        Ok(())
    }

    fn cell(&self, bytes: &[u8]) -> String {
        let text = self.style.encoding.encode(bytes);
        String::from_utf8_lossy(&text).into_owned()
    }

    fn flush_rows(&mut self) -> Result<()> {
        let mut table = new_table();
        if !self.begun {
            table.set_header(if self.keys_only { vec!["key"] } else { vec!["key", "value"] });
        }
        for [key, value] in self.rows.drain(..) {
            table.add_row(if self.keys_only { vec![key] } else { vec![key, value] });
        }
        self.begun = true;
        writeln!(self.out, "{table}")?;
        Ok(())
    }
}

fn new_table() -> Table {
    let mut table = Table::new();
    let line = ContentLineStyle::none().junction('│');
    let header = LineStyle::none().fill('─').junction('┼');
    table.load_style(
        TableStyle::new().header_lines(line).header_separator(header).content_lines(line),
    );
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// An entry as a JSON object; no value when only keys were asked for.
pub(crate) fn entry_json(key: &[u8], value: Option<&[u8]>) -> Map<String, Json> {
    let mut object = Map::new();
    add_bytes(&mut object, "key", key);
    if let Some(value) = value {
        add_bytes(&mut object, "value", value);
    }
    object
}

/// Adds bytes to a JSON object, under a name that says so if they are no text.
pub(crate) fn add_bytes(object: &mut Map<String, Json>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), text.into()),
        Err(_) => object.insert(format!("{name}_base64"), BASE64.encode(bytes).into()),
    };
}

/// A table with a header.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Table {
    let mut table = new_table();
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// Writes named figures: one JSON object, a table, or `name<TAB>figure` lines.
pub(crate) fn figures(out: &mut dyn Write, form: Form, figures: &Figures) -> Result<()> {
    let text = |value: &Json| match value {
        Json::Null => "-".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    match form {
        Form::Json => writeln!(out, "{}", Json::Object(figures.clone()))?,
        Form::Lines => {
            for (name, value) in figures {
                writeln!(out, "{name}\t{}", text(value))?;
            }
        }
        Form::Table => {
            let mut table = new_table();
            for (name, value) in figures {
                table.add_row([name.clone(), text(value)]);
            }
            writeln!(out, "{table}")?;
        }
    }
    Ok(())
}
