//! Samples, their medians, the table on stdout and the JSON lines.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;

/// The samples of one engine in one row.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The row's name.
    pub(crate) row: &'static str,
    /// The engine's name.
    pub(crate) engine: &'static str,
    /// Entries in the database.
    pub(crate) entries: u64,
    /// Unit of the samples; a unit that ends in "/s" is a rate: more is better.
    pub(crate) unit: &'static str,
    /// One number per round.
    pub(crate) samples: Vec<f64>,
}

impl Figure {
    /// The median.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => sorted[middle],
            _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
        }
    }

    /// Largest minus smallest sample, as a share of the median; 0 for a median of 0.
    pub(crate) fn spread(&self) -> f64 {
        let largest = self.samples.iter().copied().fold(f64::MIN, f64::max);
        let smallest = self.samples.iter().copied().fold(f64::MAX, f64::min);
        let median = self.median();
        if median == 0.0 { 0.0 } else { (largest - smallest) / median }
    }

    fn is_rate(&self) -> bool {
        self.unit.ends_with("/s")
    }
}

/// All figures of a run, in the order of the rows.
#[derive(Debug, Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds one engine's figure.
    pub(crate) fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// toykv's rate over that of the best peer in the same row and size; only for toykv's figures.
    fn ratio(&self, figure: &Figure) -> Option<f64> {
        if figure.engine != "toykv" || !figure.is_rate() {
            return None;
        }
        let peers = self.figures.iter().filter(|other| {
            other.engine != figure.engine
                && (other.row, other.entries) == (figure.row, figure.entries)
        });
        let best = peers.map(Figure::median).max_by(f64::total_cmp)?;
        Some(figure.median() / best)
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let mut entries = 0;
        for figure in &self.figures {
            if figure.entries != entries {
                entries = figure.entries;
                let _ = writeln!(out, "\n{} entries", thousands(entries as f64));
                let _ = writeln!(
                    out,
                    "{:<20} {:<8} {:>14} {:<10} {:>10} {:>8} {:>7}",
                    "row", "engine", "median", "unit", "ns each", "spread", "ratio"
                );
            }
            let _ = writeln!(out, "{}", self.line(figure).trim_end());
        }
        out
    }

    fn line(&self, figure: &Figure) -> String {
        let median = figure.median();
        let each = match figure.is_rate() {
            true => format!("{:.0}", 1e9 / median),
            false => String::new(),
        };
        let ratio = self.ratio(figure).map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let value = if median < 1000.0 { format!("{median:.2}") } else { thousands(median) };
        let spread = format!("{:.0} %", 100.0 * figure.spread());
        format!(
            "{:<20} {:<8} {value:>14} {:<10} {each:>10} {spread:>8} {ratio:>7}",
            figure.row, figure.engine, figure.unit
        )
    }

    /// One JSON object per figure and line.
    pub(crate) fn json_lines(&self) -> String {
        let mut out = String::new();
        for figure in &self.figures {
            let ratio = self.ratio(figure).map_or("null".into(), |ratio| format!("{ratio:.4}"));
            let _ = writeln!(
                out,
                "{{\"row\":\"{}\",\"engine\":\"{}\",\"n\":{},\"value\":{:.4},\"unit\":\"{}\",\
                 \"spread\":{:.4},\"ratio\":{ratio},\"rounds\":{}}}",
                figure.row,
                figure.engine,
                figure.entries,
                figure.median(),
                figure.unit,
                figure.spread(),
                figure.samples.len(),
            );
        }
        out
    }

    /// Writes the JSON lines to a file, replacing it.
    #[expect(clippy::disallowed_methods, reason = "a result for people, not a file of the engine")]
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(std::fs::write(path, self.json_lines())?)
    }
}

/// A whole number with its digits in groups of three.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(engine: &'static str, samples: &[f64]) -> Figure {
        let unit = "ops/s";
        Figure { row: "get", engine, entries: 1000, unit, samples: samples.to_vec() }
    }

    #[test]
    fn medians_and_spreads() {
        let odd = figure("toykv", &[5.0, 1.0, 4.0]);
        assert_eq!((odd.median(), odd.spread()), (4.0, 1.0));
        assert_eq!(figure("toykv", &[1.0, 2.0]).median(), 1.5);
        assert_eq!(figure("toykv", &[0.0, 0.0]).spread(), 0.0);
    }

    #[test]
    fn a_ratio_compares_toykv_with_the_best_peer_of_the_same_size() {
        let mut report = Report::default();
        report.add(figure("toykv", &[30.0]));
        report.add(figure("lmdb", &[10.0]));
        report.add(figure("other", &[20.0]));
        report.add(Figure { entries: 5, ..figure("lmdb", &[1.0]) });
        let lines = report.json_lines();
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines[0],
            "{\"row\":\"get\",\"engine\":\"toykv\",\"n\":1000,\"value\":30.0000,\
             \"unit\":\"ops/s\",\"spread\":0.0000,\"ratio\":1.5000,\"rounds\":1}"
        );
        assert!(lines[1].contains("\"ratio\":null"));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn digits_stand_in_groups() {
        assert_eq!(thousands(1_234_567.4), "1 234 567");
        assert_eq!(thousands(12.0), "12");
    }
}
