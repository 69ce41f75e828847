//! Samples, their medians, the table on stdout and the JSON lines.

use std::fmt::Write as _;
use std::path::Path;

use crate::Result;

/// The engine that all others are compared with.
pub(crate) const OWN: &str = "toykv";

/// The samples of one engine in one row.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The suite that the row belongs to.
    pub(crate) suite: &'static str,
    /// The row's name.
    pub(crate) row: String,
    /// The engine's name.
    pub(crate) engine: String,
    /// What the engine's writes in this row survived.
    pub(crate) durability: String,
    /// Entries in the database.
    pub(crate) entries: u64,
    /// Unit of the samples; a unit that ends in "/s" is a rate: more is better.
    pub(crate) unit: String,
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

    /// Whether more is better.
    pub(crate) fn is_rate(&self) -> bool {
        self.unit.ends_with("/s")
    }

    /// Whether both are about the same row and size.
    pub(crate) fn same_row(&self, other: &Figure) -> bool {
        (self.suite, &self.row, self.entries) == (other.suite, &other.row, other.entries)
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

    /// All of them.
    pub(crate) fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// The best of the engines beside toykv in this figure's row and size; of durable rows, of
    /// those whose writes survive a power loss.
    pub(crate) fn best_peer(&self, figure: &Figure) -> Option<&Figure> {
        let equal = |peer: &Figure| figure.durability != "sync" || peer.durability == "sync";
        let peers = self.figures.iter().filter(|peer| peer.engine != OWN && peer.same_row(figure));
        let peers = peers.filter(|peer| equal(peer));
        let order = |a: &&Figure, b: &&Figure| a.median().total_cmp(&b.median());
        if figure.is_rate() { peers.max_by(order) } else { peers.min_by(order) }
    }

    /// How many times better toykv is than the best peer in the same row and size; only for toykv's
    /// figures.
    pub(crate) fn ratio(&self, figure: &Figure) -> Option<f64> {
        if figure.engine != OWN {
            return None;
        }
        let (own, best) = (figure.median(), self.best_peer(figure)?.median());
        let ratio = if figure.is_rate() { own / best } else { best / own };
        ratio.is_finite().then_some(ratio)
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
                 \"spread\":{:.4},\"ratio\":{ratio},\"rounds\":{},\"suite\":\"{}\",\
                 \"durability\":\"{}\"}}",
                figure.row,
                figure.engine,
                figure.entries,
                figure.median(),
                figure.unit,
                figure.spread(),
                figure.samples.len(),
                figure.suite,
                figure.durability,
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

    fn figure(engine: &str, samples: &[f64]) -> Figure {
        Figure {
            suite: "quick",
            row: "get".into(),
            engine: engine.into(),
            durability: "process".into(),
            entries: 1000,
            unit: "ops/s".into(),
            samples: samples.to_vec(),
        }
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
             \"unit\":\"ops/s\",\"spread\":0.0000,\"ratio\":1.5000,\"rounds\":1,\
             \"suite\":\"quick\",\"durability\":\"process\"}"
        );
        assert!(lines[1].contains("\"ratio\":null"));
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn where_less_is_better_the_ratio_says_so_too() {
        let mut report = Report::default();
        for (engine, bytes) in [("toykv", 50.0), ("lmdb", 100.0), ("other", 200.0)] {
            report.add(Figure { unit: "bytes".into(), ..figure(engine, &[bytes]) });
        }
        let own = &report.figures()[0];
        assert_eq!(report.ratio(own), Some(2.0));
        assert_eq!(report.best_peer(own).unwrap().engine, "lmdb");
        assert_eq!(report.ratio(&report.figures()[1]), None);
    }

    #[test]
    fn digits_stand_in_groups() {
        assert_eq!(thousands(1_234_567.4), "1 234 567");
        assert_eq!(thousands(12.0), "12");
    }
}
