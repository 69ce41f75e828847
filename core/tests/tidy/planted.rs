//! The tests that `core/planted.sh` counts on are there: one that was renamed would notice nothing.

use crate::source::Source;

/// Rows of its table that name no test, or no script of the power loss test.
pub(crate) fn check(files: &[Source]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| &file.text[..]);
    let table = text("core/planted.sh").unwrap_or_default();
    let table = table.split_once("<<'END'\n").and_then(|(_, rest)| rest.split_once("\nEND\n"));
    let Some((table, _)) = table else { return vec!["core/planted.sh: no table".into()] };
    let scripts = text("core/tests/it/crash/scripts.rs").unwrap_or_default();
    let tests = ["core/src/", "core/tests/it/"];
    let of_tests = |file: &&Source| tests.iter().any(|start| file.path.starts_with(start));
    let says = |what: &str| files.iter().filter(of_tests).any(|file| file.text.contains(what));
    let mut complaints = Vec::new();
    for row in table.lines().filter(|row| !row.is_empty()) {
        let [_, _, test, script] = row.split('|').collect::<Vec<_>>()[..] else {
            complaints.push(format!("core/planted.sh: not four fields: {row}"));
            continue;
        };
        let there = match test.rsplit_once("::") {
            Some((modules, "")) => says(&format!("mod {};", modules.rsplit("::").next().unwrap())),
            Some((_, name)) => says(&format!("fn {name}")),
            None => false,
        };
        if !there || !scripts.contains(&format!("\n    {script}")) {
            complaints.push(format!("core/planted.sh: no such test or script: {row}"));
        }
    }
    complaints
}

#[test]
fn complains() {
    let check = |row: &str| {
        check(&[
            Source::new("core/planted.sh", &format!("table <<'END'\n{row}\nEND\n")),
            Source::new("core/tests/it/crash/scripts.rs", "{\n    flushes_of_little: BASE\n}"),
            Source::new("core/src/lib.rs", "mod vlog;\nfn every_bit_counts() {}\nmod crash;"),
        ])
    };
    assert_eq!(check("a|lib|vlog::|\nb|it|crash::every_bit|flushes"), [""; 0]);
    for wrong in ["a|lib|vlogs::|", "a|lib|x::each_bit|", "a|it|crash::|opens", "a|lib|vlog", "a"] {
        assert_eq!(check(wrong).len(), 1, "{wrong}");
    }
    assert_eq!(super::planted::check(&[]).len(), 1);
}
