//! The house rules as a test: `cargo test -p toykv --test tidy`.
//!
//! Every rule is a function from sources to complaints, is applied to the whole repository, and is
//! shown to complain about a made-up bad source. To change a rule is to change its table here.

mod layers;
mod places;
mod planted;
mod shape;
mod source;
mod words;

use source::Source;

/// Fails with all complaints at once.
fn expect_none(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}

#[test]
fn imports_go_down_the_layers_and_make_no_circles() {
    expect_none("layers", &layers::check(&source::rust_files()));
}

#[test]
fn files_and_functions_are_small() {
    let files = source::rust_files();
    assert!(files.len() > 10, "the sources were not found");
    expect_none("file sizes", &shape::file_sizes(&files));
    expect_none("function sizes", &shape::function_sizes(&files));
    expect_none("document sizes", &shape::document_sizes(&source::all_files()));
}

#[test]
fn lines_fit_and_every_file_says_what_it_is() {
    let files = source::rust_files();
    expect_none("line widths", &shape::line_widths(&files));
    expect_none("file headers", &shape::file_headers(&files));
}

#[test]
fn planted_mistakes_have_tests() {
    expect_none("planted", &planted::check(&source::all_files()));
}

#[test]
fn no_words_of_unfinished_work() {
    expect_none("words", &words::check(&source::all_files()));
}

#[test]
fn unsafe_code_files_and_deletions_stay_in_their_places() {
    let files = source::rust_files();
    expect_none("unsafe", &places::unsafe_code(&files));
    expect_none("std::fs", &places::system_files(&files));
    expect_none("deletions", &places::deletions(&files));
}
