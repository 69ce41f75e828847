//! A run as a table with a column for each engine: as text, and as Markdown.

use std::fmt::Write as _;

use crate::report::{Figure, OWN, Report};

/// Figures of all engines in one row.
pub(crate) struct Line<'a> {
    /// Any of them: the row's name, size and unit.
    pub(crate) row: &'a Figure,
    /// In the order of the columns.
    pub(crate) cells: Vec<Option<&'a Figure>>,
    /// How many times better toykv is than the best peer.
    pub(crate) ratio: Option<f64>,
    /// The best peer.
    pub(crate) best: Option<&'a str>,
}

/// The engines of a report in the order in which they first appear, toykv first.
pub(crate) fn columns(report: &Report) -> Vec<&str> {
    let mut names: Vec<&str> = vec![OWN];
    for figure in report.figures() {
        if !names.contains(&figure.engine.as_str()) {
            names.push(&figure.engine);
        }
    }
    names
}

/// All rows; those of the harness itself stand only in the JSON lines.
pub(crate) fn lines<'a>(report: &'a Report, columns: &[&str]) -> Vec<Line<'a>> {
    let mut lines: Vec<Line<'a>> = Vec::new();
    for figure in report.figures().iter().filter(|figure| !figure.row.ends_with("_harness")) {
        let Some(column) = columns.iter().position(|name| *name == figure.engine) else { continue };
        let index = match lines.iter().position(|line| line.row.same_row(figure)) {
            Some(index) => index,
            None => {
                let cells = vec![None; columns.len()];
                lines.push(Line { row: figure, cells, ratio: None, best: None });
                lines.len() - 1
            }
        };
        lines[index].cells[column] = Some(figure);
        if let Some(ratio) = report.ratio(figure) {
            lines[index].ratio = Some(ratio);
            lines[index].best = report.best_peer(figure).map(|best| best.engine.as_str());
        }
    }
    lines
}

/// Three digits and a suffix.
pub(crate) fn short(number: f64) -> String {
    let (scaled, suffix) = match number.abs() {
        n if n >= 1e9 => (number / 1e9, "G"),
        n if n >= 1e6 => (number / 1e6, "M"),
        n if n >= 1e3 => (number / 1e3, "k"),
        _ => (number, ""),
    };
    let digits = match scaled.abs() {
        n if n >= 100.0 => 0,
        n if n >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{suffix}")
}

/// The median; a star where the engine's writes survive less than toykv's in the same row.
fn cell(figure: Option<&Figure>) -> String {
    let Some(figure) = figure else { return "-".into() };
    let star = if figure.durability == "none" { "*" } else { "" };
    format!("{}{star}", short(figure.median()))
}

/// The rows of one suite at one size, with the engines that have any of them.
struct Table<'a> {
    suite: &'static str,
    entries: u64,
    columns: Vec<&'a str>,
    lines: Vec<Line<'a>>,
}

fn tables(report: &Report) -> Vec<Table<'_>> {
    let columns = columns(report);
    let mut tables: Vec<Table<'_>> = Vec::new();
    for line in lines(report, &columns) {
        let (suite, entries) = (line.row.suite, line.row.entries);
        let known =
            tables.iter_mut().find(|table| (table.suite, table.entries) == (suite, entries));
        match known {
            Some(table) => table.lines.push(line),
            None => tables.push(Table { suite, entries, columns: Vec::new(), lines: vec![line] }),
        }
    }
    for Table { columns: shown, lines, .. } in &mut tables {
        let takes_part: Vec<bool> = (0..columns.len())
            .map(|at| lines.iter().any(|line| line.cells[at].is_some()))
            .collect();
        shown.extend(
            columns.iter().zip(&takes_part).filter(|(_, takes)| **takes).map(|(name, _)| name),
        );
        for line in lines {
            let mut takes = takes_part.iter();
            line.cells.retain(|_| takes.next() == Some(&true));
        }
    }
    tables
}

/// The table for a terminal.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    for Table { suite, entries, columns, lines } in tables(report) {
        let _ = write!(out, "\n{suite}, {entries} entries\n{:<24}{:<14}", "row", "unit");
        for name in &columns {
            let _ = write!(out, "{name:>13}");
        }
        let _ = writeln!(out, "{:>8}  best peer", "ratio");
        for line in &lines {
            let _ = write!(out, "{:<24}{:<14}", line.row.row, line.row.unit);
            for figure in &line.cells {
                let _ = write!(out, "{:>13}", cell(*figure));
            }
            let ratio = line.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
            let _ = writeln!(out, "{ratio:>8}  {}", line.best.unwrap_or_default());
        }
    }
    out
}

/// The tables for RESULTS.md: the best of each row in bold, the widest spread beside them.
pub(crate) fn markdown(report: &Report) -> String {
    let mut out = String::new();
    for Table { suite, entries, columns, lines } in tables(report) {
        let _ = writeln!(out, "\n### {suite}, {entries} entries\n");
        let _ = writeln!(
            out,
            "| row | unit | {} | toykv / best peer | largest spread |\n|---|---|{}---:|---:|",
            columns.join(" | "),
            "---:|".repeat(columns.len())
        );
        for line in &lines {
            let _ = writeln!(out, "{}", markdown_line(line));
        }
    }
    out
}

fn markdown_line(line: &Line<'_>) -> String {
    let medians = line.cells.iter().flatten().map(|figure| figure.median());
    let best = match line.row.is_rate() {
        true => medians.max_by(f64::total_cmp),
        false => medians.min_by(f64::total_cmp),
    };
    let mut out = format!("| {} | {} |", line.row.row, line.row.unit);
    for figure in &line.cells {
        let bold = figure.is_some_and(|figure| Some(figure.median()) == best);
        let mark = if bold { "**" } else { "" };
        let _ = write!(out, " {mark}{}{mark} |", cell(*figure));
    }
    let spread = line.cells.iter().flatten().map(|figure| figure.spread()).fold(0.0, f64::max);
    let ratio = line.ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
    let _ = write!(out, " {ratio} {} | {:.0} % |", line.best.unwrap_or_default(), 100.0 * spread);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        for (engine, durability, value) in
            [("lmdb", "process", 2e6), ("toykv", "process", 4e6), ("redb", "none", 1e6)]
        {
            report.add(Figure {
                suite: "mixed",
                row: "get".into(),
                engine: engine.into(),
                durability: durability.into(),
                entries: 10,
                unit: "ops/s".into(),
                samples: vec![value, value, value * 1.5],
            });
        }
        report
    }

    #[test]
    fn toykv_stands_first_and_is_compared_with_the_best_peer() {
        let report = report();
        assert_eq!(columns(&report), ["toykv", "lmdb", "redb"]);
        let table = markdown(&report);
        let line = table.lines().last().unwrap();
        assert_eq!(line, "| get | ops/s | **4.00M** | 2.00M | 1.00M* | 2.00 lmdb | 50 % |");
        assert!(text(&report).contains("2.00  lmdb"));
    }

    #[test]
    fn a_table_has_only_the_engines_with_rows_in_it() {
        let mut report = report();
        let mut figure = report.figures()[1].clone();
        (figure.suite, figure.row) = ("space", "size".into());
        report.add(figure);
        let table = markdown(&report);
        assert!(table.contains("### space, 10 entries\n\n| row | unit | toykv | toykv / best"));
        assert!(table.ends_with("| size | ops/s | **4.00M** |   | 50 % |\n"));
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(short(123_456.0), "123k");
        assert_eq!(short(1_234.0), "1.23k");
        assert_eq!(short(12.34), "12.3");
        assert_eq!(short(0.5), "0.50");
        assert_eq!(short(2.5e9), "2.50G");
    }
}
