//! A run of the suites: each suite of each engine in each round is a child process of its own, so
//! that memory and device bytes are the engine's, and one that fails takes nothing else with it.
//!
//! Every line that a child says is kept in a journal beside the result; a run that was interrupted
//! goes on from there.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use indicatif::{ProgressBar, ProgressStyle};

use crate::Result;
use crate::measure::Sample;
use crate::report::{Figure, Report};
use crate::rows::turns;
use crate::suites::Suite;

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Which suites, in this order.
    pub(crate) suites: Vec<Suite>,
    /// Which engines.
    pub(crate) engines: Vec<&'static str>,
    /// Share of the full sizes.
    pub(crate) scale: f64,
    /// How often each suite runs per engine.
    pub(crate) rounds: u64,
    /// Longest time of a row that counts operations.
    pub(crate) seconds: f64,
    /// Memory for what engines cache themselves.
    pub(crate) cache_bytes: u64,
    /// Options of toykv, each as name=value.
    pub(crate) options: Vec<String>,
    /// Where the databases lie.
    pub(crate) dir: PathBuf,
    /// Every line that the children said.
    pub(crate) journal: PathBuf,
}

/// One child's work.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Block {
    suite: &'static str,
    engine: String,
    round: u64,
}

/// A point of a curve.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    /// The curve: one per engine.
    pub(crate) engine: String,
    /// Where.
    pub(crate) at: (f64, f64),
}

/// What a journal says.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// How the run was made.
    pub(crate) head: String,
    /// The arguments of each command that took part in it.
    pub(crate) commands: Vec<String>,
    /// The figures of all rounds.
    pub(crate) report: Report,
    /// The points of the first round.
    pub(crate) points: Vec<Point>,
    /// Engine and message of what failed.
    pub(crate) failures: Vec<String>,
    /// What the suites had to say, each once.
    pub(crate) notes: Vec<String>,
    done: HashSet<Block>,
}

impl Run {
    /// What a run that goes on must have in common with the one that was interrupted.
    fn head(&self) -> String {
        let Run { scale, seconds, cache_bytes, options, .. } = self;
        let set = options.iter().map(|option| format!(", {option}")).collect::<String>();
        format!("scale {scale}, rows end after {seconds} s, caches {cache_bytes} bytes{set}")
    }

    /// The arguments that ask for this run.
    fn command(&self) -> String {
        let Run { engines, suites, scale, seconds, rounds, cache_bytes, options, .. } = self;
        let suites: Vec<&str> = suites.iter().map(|suite| suite.name()).collect();
        let mut command = format!(
            "--engines {} --suites {} --scale {scale} --seconds {seconds} --rounds {rounds} \
             --cache-bytes {cache_bytes}",
            engines.join(","),
            suites.join(","),
        );
        options.iter().for_each(|option| command.push_str(&format!(" --set {option}")));
        command
    }

    fn blocks(&self) -> Vec<(Suite, Block)> {
        let mut blocks = Vec::new();
        for suite in &self.suites {
            for round in 0..self.rounds {
                for turn in turns(self.engines.len(), round) {
                    let engine = self.engines[turn].to_string();
                    blocks.push((*suite, Block { suite: suite.name(), engine, round }));
                }
            }
        }
        blocks
    }
}

#[expect(clippy::disallowed_methods, reason = "a result for people, not a file of the engine")]
fn append(journal: &Path, text: &str) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().append(true).open(journal)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// Runs what the journal does not have yet.
#[expect(clippy::disallowed_methods, reason = "a result for people, not a file of the engine")]
pub(crate) fn run(run: &Run, resume: bool) -> Result<()> {
    if let Some(parent) = run.journal.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if !resume || !run.journal.exists() {
        std::fs::write(&run.journal, format!("H\t{}\n", run.head()))?;
    }
    let journal = read(&run.journal)?;
    if journal.head != run.head() {
        let text = "the interrupted run was made otherwise";
        return Err(format!("{text}: {}; this one: {}", journal.head, run.head()).into());
    }
    let mut blocks = run.blocks();
    blocks.retain(|(_, block)| !journal.done.contains(block));
    if !blocks.is_empty() && !journal.commands.contains(&run.command()) {
        append(&run.journal, &format!("C\t{}\n", run.command()))?;
    }
    // Hidden unless stderr is a terminal.
    let style = "{elapsed_precise} {bar:30} {pos}/{len} {msg} (about {eta} left)";
    let progress =
        ProgressBar::new(blocks.len() as u64).with_style(ProgressStyle::with_template(style)?);
    for (suite, block) in blocks {
        let Block { engine, round, .. } = &block;
        progress.set_message(format!("{} {engine}, round {}", suite.name(), round + 1));
        progress.tick();
        append(&run.journal, &measure(run, &block)?)?;
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok(())
}

/// One child from start to end, as the journal has it.
fn measure(run: &Run, block: &Block) -> Result<String> {
    let Block { suite, engine, round } = block;
    let dir = run.dir.join(engine);
    let mut text = format!("B\t{suite}\t{engine}\t{round}\n");
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["suite", "--suite", suite, "--engine", engine]);
    command.args(["--round", &round.to_string(), "--scale", &run.scale.to_string()]);
    command.args(["--seconds", &run.seconds.to_string()]);
    command.args(["--cache-bytes", &run.cache_bytes.to_string()]);
    command.args(run.options.iter().flat_map(|option| ["--set", option]));
    let mut child = command.arg("--dir").arg(&dir).stdout(Stdio::piped()).spawn()?;
    for line in BufReader::new(child.stdout.take().ok_or("no stdout")?).lines() {
        text.push_str(&line?);
        text.push('\n');
    }
    let status = child.wait()?;
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    text.push_str(&match status.success() {
        true => "E\n".to_string(),
        false => format!("F\t{suite} {engine}: {status}\n"),
    });
    Ok(text)
}

/// Reads a journal; its last block may be torn.
pub(crate) fn read(path: &Path) -> Result<Journal> {
    let text = std::fs::read_to_string(path);
    parse(&text.map_err(|error| format!("{}: {error}", path.display()))?)
}

fn parse(text: &str) -> Result<Journal> {
    let mut journal = Journal::default();
    let mut figures: Vec<Figure> = Vec::new();
    let mut samples: Vec<(Block, Vec<Sample>)> = Vec::new();
    let mut block: Option<Block> = None;
    let mut said = String::new();
    for line in text.lines() {
        let parts: Vec<&str> = line.split('\t').collect();
        match parts[..] {
            ["H", head] => journal.head = head.to_string(),
            ["C", command] => journal.commands.push(command.to_string()),
            ["B", suite, engine, round] => {
                let suite = known(suite)?;
                let new = Block { suite, engine: engine.into(), round: round.parse()? };
                // One that failed or was torn and is run again counts once.
                samples.retain(|(known, _)| *known != new);
                samples.push((new.clone(), Vec::new()));
                block = Some(new);
            }
            ["P", _, x, y] => {
                let Some(block) = block.as_ref().filter(|block| block.round == 0) else { continue };
                let at = (x.parse()?, y.parse()?);
                journal.points.push(Point { engine: block.engine.clone(), at });
            }
            ["E"] => journal.done.extend(block.take()),
            ["N", note] => {
                if !journal.notes.iter().any(|known| known == note) {
                    journal.notes.push(note.to_string());
                }
            }
            ["M", message] => said = message.to_string(),
            ["F", message] => {
                let text = format!("{message} {}", std::mem::take(&mut said));
                journal.failures.push(text.trim().to_string());
                block = None;
            }
            _ => {
                let current = block.as_ref().and_then(|_| samples.last_mut());
                if let (Some((_, own)), Some(sample)) = (current, Sample::parse(line)) {
                    own.push(sample);
                }
            }
        }
    }
    for (block, own) in samples {
        own.into_iter().for_each(|sample| add(&mut figures, &block, sample));
    }
    figures.into_iter().for_each(|figure| journal.report.add(figure));
    Ok(journal)
}

fn known(name: &str) -> Result<&'static str> {
    use clap::ValueEnum;
    let suite = Suite::value_variants().iter().find(|suite| suite.name() == name);
    Ok(suite.ok_or_else(|| format!("the journal has an unknown suite {name:?}"))?.name())
}

fn add(figures: &mut Vec<Figure>, block: &Block, sample: Sample) {
    let Sample { row, unit, durability, entries, value } = sample;
    let same = |figure: &&mut Figure| {
        (figure.suite, &figure.engine, &figure.row, figure.entries)
            == (block.suite, &block.engine, &row, entries)
    };
    // Rows whose size follows from what came before may differ by a few entries between rounds.
    if let Some(figure) = figures.iter_mut().find(same) {
        figure.samples.push(value);
        return;
    }
    let (suite, engine, samples) = (block.suite, block.engine.clone(), vec![value]);
    figures.push(Figure { suite, row, engine, durability, entries, unit, samples });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_gathers_rounds_and_forgets_what_is_torn() {
        let text = "H\tscale 1\nC\t--scale 1\n\
            B\tmixed\ttoykv\t0\nS\tget\tops/s\tprocess\t10\t4\nP\tload\t1\t2\nE\n\
            B\tmixed\tlmdb\t0\nS\tget\tops/s\tprocess\t10\t2\nM\tdisk full\nF\tmixed lmdb: 1\n\
            B\tmixed\ttoykv\t1\nN\tno cgroup\nN\tno cgroup\n\
            S\tget\tops/s\tprocess\t10\t8\nP\tload\t1\t3\n";
        let journal = parse(text).unwrap();
        assert_eq!(
            (&journal.head[..], &journal.commands[..]),
            ("scale 1", &["--scale 1".into()][..])
        );
        let figures = journal.report.figures();
        assert_eq!(figures.len(), 2);
        assert_eq!(figures[0].samples, [4.0, 8.0]);
        assert_eq!(journal.report.ratio(&figures[0]), Some(3.0));
        assert_eq!(journal.failures, ["mixed lmdb: 1 disk full"]);
        assert_eq!(journal.points.len(), 1);
        assert_eq!(journal.notes, ["no cgroup"]);
        let done: Vec<&Block> = journal.done.iter().collect();
        assert_eq!((done.len(), done[0].round), (1, 0));
    }

    fn run() -> Run {
        Run {
            suites: vec![Suite::Redb, Suite::Open],
            engines: vec!["toykv", "lmdb"],
            scale: 0.5,
            rounds: 2,
            seconds: 1.25,
            cache_bytes: 1 << 20,
            options: vec!["io=direct".into()],
            dir: PathBuf::new(),
            journal: PathBuf::new(),
        }
    }

    #[test]
    fn the_command_that_is_kept_asks_for_the_same_run() {
        use clap::Parser;
        let (run, command) = (run(), run().command());
        let words = ["toykv-bench", "peers"].into_iter().chain(command.split(' '));
        let parsed = crate::Arguments::try_parse_from(words).unwrap().command;
        let Some(crate::Command::Peers(asked)) = parsed else { panic!("{command}") };
        assert_eq!((asked.suites, asked.rounds, asked.options), (run.suites, 2, run.options));
        assert_eq!((asked.scale, asked.seconds, asked.cache_bytes), (0.5, 1.25, 1 << 20));
        assert_eq!(asked.engines, run.engines);
    }

    #[test]
    fn every_engine_takes_part_in_every_round_and_the_first_changes() {
        let run = run();
        let blocks = run.blocks();
        assert_eq!(blocks.len(), 8);
        let order: Vec<&str> = blocks[..4].iter().map(|(_, block)| &block.engine[..]).collect();
        assert_eq!(order, ["toykv", "lmdb", "lmdb", "toykv"]);
    }
}
