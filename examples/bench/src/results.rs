//! RESULTS.md: machine, versions, commands, tables and plots of runs, from their journals.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::Result;
use crate::matrix::{self, Line};
use crate::peers::{self, Journal};
use crate::plot;

/// The crates whose versions matter, and what is in them.
const CRATES: [(&str, &str); 8] = [
    ("toykv", "toykv"),
    ("heed", "LMDB"),
    ("librocksdb-sys", "RocksDB"),
    ("redb", "redb"),
    ("fjall", "fjall"),
    ("libsqlite3-sys", "SQLite"),
    ("sled", "sled"),
    ("leveldb-sys", "LevelDB 1.22"),
];

const LOCK: &str = include_str!("../../../Cargo.lock");

/// Writes RESULTS.md into `to` from the journals of one or more runs, and plots of the first.
#[expect(clippy::disallowed_methods, reason = "a result for people, not a file of the engine")]
pub(crate) fn write(journals: &[PathBuf], to: &Path) -> Result<()> {
    let journals: Vec<Journal> =
        journals.iter().map(|path| peers::read(path)).collect::<Result<_>>()?;
    let journal = journals.first().ok_or("no run to report")?;
    let plots = to.join("plots");
    std::fs::create_dir_all(&plots)?;
    let columns = matrix::columns(&journal.report);
    let lines = matrix::lines(&journal.report, &columns);
    let mut suites: Vec<&str> = Vec::new();
    for line in &lines {
        if !suites.contains(&line.row.suite) {
            suites.push(line.row.suite);
        }
    }
    let mut names = Vec::new();
    for suite in suites {
        let rates: Vec<&Line<'_>> =
            lines.iter().filter(|line| line.row.suite == suite && line.row.is_rate()).collect();
        if !rates.is_empty() {
            plot::rates(&plots.join(format!("{suite}.svg")), suite, &columns, &rates)?;
            names.push(suite.to_string());
        }
    }
    if !journal.points.is_empty() {
        let title = "latency while loading entries in random order";
        plot::latencies(&plots.join("load.svg"), title, &columns, &journal.points)?;
        names.push("load".into());
    }
    let path = to.join("RESULTS.md");
    std::fs::write(&path, text(&journals, &names)?)?;
    println!("{}", path.display());
    Ok(())
}

fn text(journals: &[Journal], plots: &[String]) -> Result<String> {
    let mut out = String::from("# Results of toykv-bench\n\n");
    let _ = writeln!(
        out,
        "Written by `make bench-report` after `make bench-peers`; README.md says what the rows are \
         and how each engine is set.\n\n- machine: {}\n- versions: {}",
        machine()?,
        versions()
    );
    out.push_str(
        "\nMedians of the rounds; the engines of a command took turns, suite by suite, in their \
         own processes. A run's commands came one after another, each but the first with \
         `--resume`; each run but the first has an `--out` of its own. \
         Bold is the best of a row. The ratio says how many times better toykv is than the best \
         peer, the spread is the largest of a row's engines (largest minus smallest over the \
         median). A star marks writes that survive nothing, not even the death of the process, \
         where toykv's survive it.\n",
    );
    let rocksdb = system_rocksdb().map_or("", |_| "ROCKSDB=system ");
    for (index, journal) in journals.iter().enumerate() {
        let _ = writeln!(out, "\n## Run {}: {}\n", index + 1, journal.head);
        for command in &journal.commands {
            let _ = writeln!(out, "- `make bench-peers {rocksdb}BENCH_ARGS=\"{command}\"`");
        }
        for note in &journal.notes {
            let _ = writeln!(out, "\nNote: {note}");
        }
        for failure in &journal.failures {
            let _ = writeln!(out, "\nFailed: {failure}");
        }
        for name in plots.iter().filter(|_| index == 0) {
            let _ = writeln!(out, "\n![{name}](plots/{name}.svg)");
        }
        out.push_str(&matrix::markdown(&journal.report));
    }
    Ok(out)
}

fn machine() -> Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let memory = std::fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: u64 = total.unwrap_or("0").trim().trim_end_matches("kB").trim().parse()?;
    Ok(format!(
        "{} x {}, {} GiB, Linux {}",
        std::thread::available_parallelism()?,
        model.map_or("unknown", |(_, name)| name),
        kib >> 20,
        kernel.trim()
    ))
}

fn versions() -> String {
    let versions = CRATES.iter().filter_map(|(name, holds)| {
        let version = version(name)?;
        let system = (*holds == "RocksDB").then(system_rocksdb).flatten();
        if let Some(file) = system {
            return Some(format!("RocksDB (the system's {file})"));
        }
        Some(if name == holds {
            format!("{name} {version}")
        } else {
            format!("{holds} ({name} {version})")
        })
    });
    versions.collect::<Vec<_>>().join(", ")
}

/// The file of the system's RocksDB, if that is what this program is linked with.
fn system_rocksdb() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().find_map(|line| {
        let path = Path::new(line.split_whitespace().nth(5)?);
        path.file_name()?.to_str()?.starts_with("librocksdb.so").then_some(path)
    })?;
    let file = path.canonicalize().ok()?;
    Some(file.file_name()?.to_str()?.to_string())
}

fn version(name: &str) -> Option<&'static str> {
    let rest = LOCK.split(&format!("name = \"{name}\"\nversion = \"")).nth(1)?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Figure, Report};

    #[test]
    fn every_peer_has_a_version() {
        for (name, _) in CRATES {
            assert!(version(name).is_some_and(|version| version.contains('.')), "{name}");
        }
    }

    #[test]
    fn a_report_says_how_it_was_made_and_what_failed() {
        let mut report = Report::default();
        report.add(Figure {
            suite: "mixed",
            row: "get_present".into(),
            engine: "toykv".into(),
            durability: "process".into(),
            entries: 10,
            unit: "ops/s".into(),
            samples: vec![1.0],
        });
        let failures = vec!["mixed sled: killed".to_string()];
        let mut journal = Journal::default();
        (journal.head, journal.report, journal.failures) = ("scale 1".into(), report, failures);
        journal.commands.push("--scale 1 --rounds 2".into());
        let mut second = Journal::default();
        second.head = "scale 2".into();
        let text = text(&[journal, second], &["mixed".into()]).unwrap();
        for expected in
            ["## Run 1: scale 1", "BENCH_ARGS=\"--scale 1 --rounds 2\"", "## Run 2: scale 2"]
        {
            assert!(text.contains(expected), "{expected}");
        }
        assert!(text.contains("Failed: mixed sled: killed"));
        assert_eq!(text.matches("plots/mixed.svg").count(), 1);
        assert!(text.contains("| get_present | ops/s | **1.00** |"));
    }
}
