//! The shell: one verb a line, from a person at a terminal or from a script on standard input.
//!
//! Invariants. GOES-ON: a line that fails is told and the next one is read. FIRST: a script ends
//! with the exit code of its first failure.

mod helper;
/// The dialect of the server's lines.
#[path = "../../../server/src/words.rs"]
mod line;
mod pager;
mod words;

use std::cell::RefCell;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::rc::Rc;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{CompletionType, Config, Editor};

use crate::args::{Line, ShellArgs, Verb};
use crate::failure::{Exit, Failure, Result};
use crate::output::{Form, Style};
use crate::progress;
use crate::store::Store;
use crate::text::Encoding;
use crate::verbs::{self, Call};

use helper::ShellHelper;

/// A store that the shell and the completion of keys share.
type Shared = Rc<RefCell<Box<dyn Store>>>;

/// What comes after a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Line,
    End,
}

/// Reads lines until they end; answers the store to close.
pub(crate) fn run(store: Box<dyn Store>, args: &ShellArgs, style: Style) -> Result<()> {
    let store = Rc::new(RefCell::new(store));
    let person = io::stdin().is_terminal() && io::stdout().is_terminal();
    let done = if person { talk(&store, style) } else { script(&store, style, args.strict) };
    done.and(store.borrow_mut().close())
}

/// Lines of a person.
fn talk(store: &Shared, style: Style) -> Result<()> {
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true);
    let mut editor: Editor<ShellHelper, DefaultHistory> =
        Editor::with_config(config.build()).map_err(terminal)?;
    editor.set_helper(Some(ShellHelper::new(Rc::clone(store))));
    let history = history_file();
    if let Some(history) = &history {
        // There is none at first.
        drop(editor.load_history(history));
    }
    println!("toykv on {}; help lists the verbs, Ctrl-D ends", store.borrow().name());
    loop {
        match editor.readline("toykv> ") {
            Ok(line) => {
                let next = one_line(store, line.as_bytes(), style, None);
                match next.or_else(|failure| complain(&failure, style))? {
                    Next::Line => {}
                    Next::End => break,
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(terminal(error)),
        }
        progress::forget_interrupt();
    }
    if let Some(history) = history
        && let Err(error) = save_history(&mut editor, &history)
    {
        eprintln!("toykv: the history was not kept: {}: {error}", history.display());
    }
    Ok(())
}

fn save_history(
    editor: &mut Editor<ShellHelper, DefaultHistory>,
    path: &PathBuf,
) -> rustyline::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    editor.save_history(path)
}

/// `$TOYKV_HISTORY`, or a file where programs keep what is not worth a backup.
fn history_file() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("TOYKV_HISTORY") {
        return (!path.is_empty()).then(|| path.into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.filter(|path| path.is_absolute()).or_else(home).map(|path| path.join("toykv/history"))
}

fn terminal(error: ReadlineError) -> Failure {
    Failure::new(Exit::Io, format!("the terminal: {error}"))
}

/// Tells a person what went wrong, and goes on.
fn complain(failure: &Failure, style: Style) -> Result<Next> {
    match failure.exit {
        Exit::Unread => {}
        Exit::Absent => println!("{}", absence(failure, style)),
        _ => eprintln!("{failure}"),
    }
    Ok(Next::Line)
}

/// In a talk an absent key is an answer and no failure.
fn absence(failure: &Failure, style: Style) -> String {
    match style.form {
        Form::Json => "{\"value\":null}".to_owned(),
        _ => failure.message.clone(),
    }
}

/// Lines of a script.
fn script(store: &Shared, style: Style, strict: bool) -> Result<()> {
    let mut input = io::stdin().lock();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut first = None;
    let mut line = Vec::new();
    for number in 1u64.. {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let mut done = one_line(store, &line, style, Some(&mut out));
        // Somebody may wait for the answer before writing the next line.
        out.flush()?;
        if let Err(failure) = &done
            && failure.exit == Exit::Absent
        {
            writeln!(out, "{}", absence(failure, style))?;
            out.flush()?;
            done = Ok(Next::Line);
        }
        match done {
            Ok(Next::Line) => {}
            Ok(Next::End) => break,
            Err(failure) if matches!(failure.exit, Exit::Cancelled | Exit::Unread) => {
                return Err(failure);
            }
            Err(failure) => {
                let failure = failure.within(format!("line {number}"));
                if strict {
                    return Err(failure);
                }
                eprintln!("toykv: {failure}");
                first = first.or(Some(failure.exit));
            }
        }
    }
    let summary = "lines of the script failed";
    first.map_or(Ok(()), |exit| Err(Failure::new(exit, summary)))
}

/// Runs a line. Answers go to `out`, or to the terminal by way of a pager.
fn one_line(
    store: &Shared,
    line: &[u8],
    style: Style,
    out: Option<&mut dyn Write>,
) -> Result<Next> {
    if line.trim_ascii_start().starts_with(b"#") {
        return Ok(Next::Line);
    }
    let mut words = line::split(line).map_err(Failure::usage)?;
    let Some((verb, _)) = words.first_mut() else { return Ok(Next::Line) };
    verb.make_ascii_lowercase();
    let verb = verb.clone();
    if matches!(&verb[..], b"exit" | b"quit") {
        return Ok(Next::End);
    }
    let paged = out.is_none() && matches!(&verb[..], b"scan" | b"help" | b"explain" | b"stats");
    let mut terminal;
    let out = match out {
        Some(out) => out,
        None => {
            terminal = pager::Pager::new(paged);
            &mut terminal
        }
    };
    if verb == b"help" {
        write!(out, "{}", help())?;
        return Ok(Next::Line);
    }
    let arguments = words.iter().map(words::argument);
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) if error.kind() == ErrorKind::DisplayHelp => {
            write!(out, "{}", error.render())?;
            return Ok(Next::Line);
        }
        Err(error) => return Err(wrong_line(&error)),
    };
    if let Verb::Shell(_) = line.verb {
        return Err(Failure::usage("this is the shell"));
    }
    let style = line.show.style(style, Encoding::Escaped);
    let mut call = Call { style, chatty: true, out };
    verbs::run(&line.verb, &mut **store.borrow_mut(), &mut call)?;
    call.out.flush()?;
    Ok(Next::Line)
}

/// The parser's complaint in one line.
fn wrong_line(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let text = text.split("\n\nUsage").next().unwrap_or(&text);
    let text = text.split("\n\nFor more").next().unwrap_or(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    Failure::usage(words.strip_prefix("error: ").unwrap_or(&words))
}

fn help() -> String {
    let mut text = String::new();
    for verb in Line::command().get_subcommands() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("{:12} {about}\n", verb.get_name()));
    }
    text.push_str("exit         End (also quit, Ctrl-D)\n\n");
    text.push_str(
        "VERB --help tells more. Words with blanks or bytes that cannot be typed go in\n",
    );
    text.push_str("quotes: \"a b\", \"\\x00\\n\". What is in quotes is no option and no file.\n");
    text
}
