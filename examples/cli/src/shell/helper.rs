//! Completion at the prompt: verbs, and keys by what has been typed of them.

use std::ops::ControlFlow;

use clap::CommandFactory;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::Shared;
use super::line::split;
use super::words::quote;
use crate::args::Line;
use crate::store::Range;

/// Keys that are offered at once.
const KEYS: u64 = 100;

/// What rustyline asks.
pub(super) struct ShellHelper {
    store: Shared,
    verbs: Vec<String>,
}

impl ShellHelper {
    /// Completes keys of a store.
    pub(super) fn new(store: Shared) -> ShellHelper {
        let mut verbs = vec!["help".to_owned(), "exit".to_owned(), "quit".to_owned()];
        for verb in Line::command().get_subcommands() {
            verbs.push(verb.get_name().to_owned());
            verbs.extend(verb.get_visible_aliases().map(str::to_owned));
        }
        verbs.sort();
        ShellHelper { store, verbs }
    }

    /// Keys that begin with `typed`; none when the store fails, since nobody asked it for keys.
    fn keys(&self, typed: &[u8]) -> Vec<Pair> {
        let mut pairs = Vec::new();
        let range = Range {
            prefix: typed.to_vec(),
            limit: Some(KEYS),
            keys_only: true,
            ..Range::default()
        };
        let found = self.store.borrow_mut().scan(&range, &mut |key, _| {
            let word = quote(key);
            pairs.push(Pair { display: word.clone(), replacement: word });
            Ok(ControlFlow::Continue(()))
        });
        if found.is_err() {
            pairs.clear();
        }
        pairs
    }
}

/// Where the last word of a line begins, and what it means as far as it has been typed.
fn last_word(line: &str) -> Option<(usize, Vec<u8>)> {
    let mut start = 0;
    let mut open = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match open {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(quote) => open = (c != quote).then_some(quote),
            None if c.is_ascii_whitespace() => start = at + 1,
            None if at == start && matches!(c, '"' | '\'') => open = Some(c),
            None => {}
        }
    }
    let word = match open {
        Some(quote) => format!("{}{quote}", &line[start..]),
        None => line[start..].to_owned(),
    };
    let word = split(word.as_bytes()).ok()?.pop();
    Some((start, word.map(|(bytes, _)| bytes).unwrap_or_default()))
}

impl Completer for ShellHelper {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let Some((start, typed)) = last_word(line.get(..pos).unwrap_or_default()) else {
            return Ok((pos, Vec::new()));
        };
        let before = line[..start].trim();
        if before.is_empty() {
            let typed = String::from_utf8_lossy(&typed).to_lowercase();
            let fitting = self.verbs.iter().filter(|verb| verb.starts_with(&typed));
            let pair =
                |verb: &String| Pair { display: verb.clone(), replacement: format!("{verb} ") };
            return Ok((start, fitting.map(pair).collect()));
        }
        let verb = before.split_whitespace().next().unwrap_or_default().to_lowercase();
        let of_keys = ["get", "set", "put", "delete", "remove", "rm", "del", "scan"];
        if !of_keys.contains(&&verb[..]) || typed.starts_with(b"-") {
            return Ok((start, Vec::new()));
        }
        Ok((start, self.keys(&typed)))
    }
}

impl Hinter for ShellHelper {
    type Hint = String;
}

impl Highlighter for ShellHelper {}

impl Validator for ShellHelper {}

impl Helper for ShellHelper {}

#[cfg(test)]
mod tests {
    use super::last_word;

    #[test]
    fn the_last_word_is_found_also_in_open_quotes() {
        let cases: &[(&str, usize, &[u8])] = &[
            ("", 0, b""),
            ("ge", 0, b"ge"),
            ("get ", 4, b""),
            ("get ab", 4, b"ab"),
            ("get \"a b", 4, b"a b"),
            (r#"get "a\x00"#, 4, b"a\0"),
            ("get 'x' 'a b", 8, b"a b"),
            (r#"get "a\" b"#, 4, b"a\" b"),
        ];
        for (line, start, typed) in cases {
            assert_eq!(last_word(line).unwrap(), (*start, typed.to_vec()), "{line}");
        }
        assert_eq!(last_word(r#"get "a\x0"#), None);
    }
}
