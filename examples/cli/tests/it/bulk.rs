//! Verbs on whole databases: dump, load, verify, compact, destroy.

use std::process::Command;

use serde_json::Value as Json;

use crate::harness::{Place, bytes_of, fail, names, overwrite, program, run, succeed};

/// A database of entries with every kind of byte, some of them large, in tables and log.
fn filled() -> Place {
    let place = Place::new();
    let mut csv = String::from("key,value\n");
    for number in 0..3000u32 {
        let key = number.wrapping_mul(0x9e37_79b9);
        csv.push_str(&format!("{key:08x},{}\n", "ab".repeat((number % 90) as usize)));
    }
    succeed(&mut place.toykv(&["import", "-", "--hex"]), csv.as_bytes());
    let large: Vec<u8> = (0..700_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    place.write("large", &large);
    place.ok(&["set", "large", "@large"]);
    place.ok(&["set", "", "of the empty key"]);
    place
}

fn everything(place: &Place) -> Vec<u8> {
    place.ok(&["scan", "--hex"])
}

#[test]
fn a_dump_is_loaded_as_it_was() {
    let place = filled();
    assert_eq!(place.text(&["dump", "d"]), "");
    let dump = place.read("d");
    assert_eq!(place.ok(&["dump"]), dump, "to the standard output");
    assert_eq!(place.ok(&["dump", "-"]), dump);
    let lines = place.text(&["load", "--check", "d"]);
    assert!(lines.starts_with("entries\t3002\nbytes\t"), "{lines}");
    let other = Place::new();
    overwrite(&other.path("d"), &dump);
    assert_eq!(other.text(&["load", "d"]), lines);
    assert_eq!(everything(&other), everything(&place));
    assert_eq!(other.ok(&["dump"]), dump, "equal contents make equal dumps");
    let piped = Place::new();
    succeed(&mut piped.toykv(&["load", "--durability", "sync"]), &dump);
    assert_eq!(everything(&piped), everything(&place));
    // Once more changes nothing; what else is there stays.
    piped.ok(&["set", "zzz", "kept"]);
    succeed(&mut piped.toykv(&["load", "-"]), &dump);
    assert_eq!(piped.text(&["len"]), "3003\n");
}

#[test]
fn an_empty_database_has_a_dump() {
    let place = Place::new();
    place.ok(&["set", "a", ""]);
    place.ok(&["delete", "a"]);
    let dump = place.ok(&["dump"]);
    assert_eq!(dump.len(), 16 + 16 + 24 + 8);
    let other = Place::new();
    assert_eq!(
        succeed(&mut other.toykv(&["load", "--json"]), &dump),
        b"{\"entries\":0,\"bytes\":0}\n"
    );
    assert_eq!(other.text(&["len"]), "0\n");
}

#[test]
fn a_file_that_is_there_is_not_replaced_unless_told() {
    let place = filled();
    let path = place.write("d", b"mine");
    for verb in ["dump", "export"] {
        let (code, message) = place.fails(&[verb, "d"]);
        assert_eq!(code, 12, "{message}");
        assert_eq!(bytes_of(&path), b"mine");
        place.ok(&[verb, "d", "--force"]);
        assert!(bytes_of(&path).len() > 1000);
        overwrite(&path, b"mine");
    }
    // A dump that fails leaves nothing.
    let (code, _) = fail(
        program().arg("--dir").arg(place.path("none")).args(["dump"]).arg(place.path("x")),
        b"",
    );
    assert_eq!(code, 5);
    assert_eq!(names(&place.path("db").join("..")), ["d", "db", "large"]);
    let (code, message) = place.fails(&["dump", "no/such/folder/d"]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("no/such/folder/d"), "{message}");
}

#[test]
fn damaged_and_foreign_dumps_are_refused_with_the_place() {
    let place = filled();
    let dump = place.ok(&["dump"]);
    let other = Place::new();
    other.ok(&["set", "kept", ""]);
    let check = |bytes: &[u8], code: i32, words: &str| {
        other.write("d", bytes);
        for args in [&["load", "d"][..], &["load", "--check", "d"]] {
            let (found, message) = other.fails(args);
            assert_eq!(found, code, "{message}");
            assert!(message.starts_with("toykv: d: ") && message.contains(words), "{message}");
            assert_eq!(other.text(&["scan"]), "kept\t\n", "nothing of a damaged file is stored");
        }
    };
    let mut damaged = dump.clone();
    let middle = dump.len() / 2;
    damaged[middle] ^= 1;
    check(&damaged, 4, "damaged at byte ");
    check(&dump[..middle], 4, "cut off");
    check(&[&dump[..], b"x"].concat(), 4, &format!("damaged at byte {}", dump.len()));
    check(b"PK and more of an archive", 10, "no dump of toykv");
    check(b"toykvdmp\x09\x00\0\0\0\0\0\0", 10, "version 9");
    check(b"", 4, "damaged at byte 0 ");
    // From a pipe: whole chunks before the damage are stored, and the message says how much.
    let (code, message) = fail(&mut other.toykv(&["load"]), &damaged);
    assert_eq!(code, 4);
    let stored: u64 = other.text(&["len"]).trim().parse().unwrap();
    let words = format!("(the {} entries before it are stored)", stored - 1);
    assert!(message.contains(&words), "{stored}: {message}");
}

#[test]
fn verify_reads_everything_and_names_the_damage() {
    let place = filled();
    place.ok(&["compact"]);
    let lines = place.text(&["verify"]);
    assert!(lines.starts_with("files\t") && lines.contains("\nrecords\t3002\n"), "{lines}");
    assert!(lines.ends_with("\nfindings\t0\n"), "{lines}");
    let by_name = succeed(program().arg("verify").arg(place.path("db")), b"");
    assert_eq!(String::from_utf8(by_name).unwrap(), lines);
    assert_eq!(place.text(&["compact", "a", "b"]), "");
    // A byte in the middle of every file that holds entries.
    let db = place.path("db");
    let mut damaged = 0;
    for name in names(&db) {
        let path = db.join(&name);
        let whole = bytes_of(&path);
        if whole.len() < 10_000 || whole.iter().all(|byte| *byte == 0) {
            continue;
        }
        let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
        let mut bytes = whole.clone();
        bytes[used / 3] ^= 0x10;
        overwrite(&path, &bytes);
        let (code, message) = place.fails(&["verify"]);
        assert_eq!(code, 4, "{name}: {message}");
        assert!(message.contains(&name) && message.contains("at offset "), "{name}: {message}");
        overwrite(&path, &whole);
        damaged += 1;
    }
    assert!(damaged >= 2, "a table and a segment");
    place.ok(&["verify"]);
    // Also from within a shell, of another database.
    let shell = format!("verify {}\nlen\n", db.display());
    let other = place.path("other");
    let answers = succeed(program().arg("--dir").arg(other).arg("shell"), shell.as_bytes());
    assert_eq!(String::from_utf8(answers).unwrap(), format!("{lines}0\n"));
}

/// Runs a verb that finds damage; answers what it lists and what it complains about.
fn damaged(command: &mut Command) -> (String, String) {
    let output = run(command, b"");
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (out, side) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(4), "{out}{side}");
    (out, side)
}

#[test]
fn salvage_saves_what_is_outside_the_damage_and_lists_the_rest() {
    let place = filled();
    place.ok(&["compact"]);
    let (db, saved) = (place.path("db"), place.path("saved"));
    let rows = place.text(&["scan", "--hex"]);
    let tables = names(&db).into_iter().filter(|name| name.ends_with(".table"));
    let table = tables.max_by_key(|name| bytes_of(&db.join(name)).len()).unwrap();
    let mut bytes = bytes_of(&db.join(&table));
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    overwrite(&db.join(&table), &bytes);
    let before: Vec<_> = names(&db).iter().map(|name| bytes_of(&db.join(name))).collect();

    let (listed, message) = damaged(program().args(["verify", "--json"]).arg(&db));
    assert!(message.contains(&table) && message.contains("places of damage: 1\n"), "{message}");
    let lines: Vec<Json> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [finding, sums] = &lines[..] else { panic!("{listed}") };
    assert_eq!(finding["file"], db.join(&table).display().to_string());
    let lost = finding["records"].as_u64().unwrap();
    let offset = finding["offset"].as_u64().unwrap();
    assert!((1..1000).contains(&lost) && offset <= at as u64, "{finding}");
    assert!(at as u64 - offset < 64 << 10, "{finding}");
    assert_eq!((&sums["findings"], sums["records"].as_u64()), (&1.into(), Some(3002 - lost)));
    let (lines, _) = damaged(program().args(["verify", "--hex"]).arg(&db));
    let finding = lines.lines().next().unwrap().split('\t').collect::<Vec<_>>();
    assert_eq!(finding[..2], ["damage", &db.join(&table).display().to_string()]);
    assert_eq!((finding[2], finding[5]), (&offset.to_string()[..], &lost.to_string()[..]));
    let (first, last) = (finding[3], finding[4]);
    let (shown, _) = damaged(program().args(["verify", "--table", "--hex"]).arg(&db));
    assert!(shown.contains("first key") && shown.contains(first), "{shown}");

    let mut salvage = program();
    salvage.arg("salvage").arg(&db).arg(&saved).args(["-o", "compression=lz4", "--json"]);
    let (listed, message) = damaged(&mut salvage);
    assert!(message.contains("what can be read of it is saved"), "{message}");
    let sums: Json = serde_json::from_str(listed.lines().last().unwrap()).unwrap();
    assert_eq!(sums["saved_keys"].as_u64(), Some(3002 - lost));
    let after: Vec<_> = names(&db).iter().map(|name| bytes_of(&db.join(name))).collect();
    assert!(before == after, "the source is only read");
    let kept = succeed(program().arg("--dir").arg(&saved).args(["scan", "--hex"]), b"");
    let kept = String::from_utf8(kept).unwrap();
    let kept: Vec<&str> = kept.lines().collect();
    let gone: Vec<&str> = rows.lines().filter(|row| !kept.contains(row)).collect();
    assert_eq!((gone.len() as u64, kept.len() as u64), (lost, 3002 - lost));
    for row in gone {
        let (key, _) = row.split_once('\t').unwrap();
        assert!(first <= key && key <= last, "{row}");
    }
    succeed(program().arg("verify").arg(&saved), b"");

    let mut again = program();
    let (code, message) = fail(again.arg("salvage").arg(&db).arg(&saved), b"");
    assert_eq!(code, 12, "{message}");
    let mut nothing = program();
    nothing.arg("salvage").arg(place.path("none")).arg(place.path("target"));
    let (code, message) = fail(&mut nothing, b"");
    assert_eq!(code, 5, "{message}");
    let (code, message) = fail(program().arg("verify").arg(place.path("none")), b"");
    assert_eq!(code, 5, "{message}");
    let (code, message) = fail(program().arg("verify"), b"");
    assert_eq!(code, 2, "{message}");
}

#[test]
fn gc_gives_back_the_space_of_dead_values() {
    let place = Place::new();
    place.write("large", &[b'v'; 4_000_000]);
    for _ in 0..4 {
        place.ok(&["set", "key", "@large"]);
    }
    let size = || -> usize {
        let db = place.path("db");
        names(&db).iter().map(|name| bytes_of(&db.join(name)).len()).sum()
    };
    place.ok(&["compact"]);
    assert_eq!(place.text(&["gc"]), "");
    assert!(size() < 8_000_000, "{} bytes", size());
    assert_eq!(place.ok(&["get", "key", "--raw"]), [b'v'; 4_000_000]);
    let lines = place.text(&["verify"]);
    assert!(lines.ends_with("\nrecords\t1\nfindings\t0\n"), "{lines}");
}

#[test]
fn explain_says_what_the_space_is_needed_for() {
    let place = filled();
    let text = place.text(&["explain"]);
    let bytes = |line: &str| -> (String, u64) {
        let (name, bytes) = line.split_once(": ").unwrap();
        (name.to_string(), bytes.parse().unwrap())
    };
    let lines: std::collections::BTreeMap<_, _> = text.lines().map(bytes).collect();
    let parts = lines
        .iter()
        .filter(|(name, _)| !["total_bytes", "hidden_value_bytes"].contains(&name.as_str()));
    assert_eq!(parts.map(|(_, bytes)| bytes).sum::<u64>(), lines["total_bytes"], "{text}");
    assert!(lines["total_bytes"] > 0 && lines["table_bytes"] + lines["log_bytes"] > 0, "{text}");
}

#[test]
fn destroy_wants_a_yes() {
    let place = filled();
    let (code, message) = place.fails(&["destroy"]);
    assert_eq!(code, 2);
    assert!(message.contains("--yes"), "{message}");
    assert_eq!(place.text(&["len"]), "3002\n");
    place.ok(&["destroy", "--yes"]);
    assert!(!place.path("db").exists());
    assert_eq!(place.fails(&["destroy", "--yes"]).0, 5);
}

#[test]
fn completions_and_the_manual_need_no_database() {
    let text = |args: &[&str]| String::from_utf8(succeed(program().args(args), b"")).unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&["completions", shell]);
        assert!(script.contains("toykv") && script.contains("import"), "{shell}");
    }
    let page = text(&["man"]);
    assert!(page.contains(".TH toykv 1") && page.contains("Exit codes"), "{page}");
    assert!(text(&["man", "dump"]).contains("force"));
    assert_eq!(fail(program().args(["man", "nonsense"]), b"").0, 2);
    for help in [&["--help"][..], &["-h"], &["load", "--help"], &["--version"]] {
        assert!(text(help).contains("toykv"), "{help:?}");
    }
    let output = run(program().args(["completions", "bash"]), b"");
    let syntax = run(std::process::Command::new("bash").arg("-n"), &output.stdout);
    assert!(syntax.status.success(), "{}", String::from_utf8_lossy(&syntax.stderr));
}
