//! Import and export.

use crate::harness::{Place, fail, succeed};

fn filled() -> Place {
    let place = Place::new();
    place.ok(&["set", "a,b", "x\"y\nz"]);
    place.ok(&["set", r"\xff\x00", r"\t\\"]);
    place.ok(&["set", "é", ""]);
    place
}

#[test]
fn every_format_comes_back() {
    let place = filled();
    let all = place.ok(&["scan", "--hex"]);
    let forms: [&[&str]; 8] = [
        &["t.csv"],
        &["t.tsv"],
        &["t.jsonl"],
        &["t", "--format", "tsv", "--hex"],
        &["t.csv", "--base64"],
        &["t.csv", "--plain"],
        &["t.csv", "--no-header"],
        &["t.txt", "--json"],
    ];
    for form in forms {
        place.ok(&[&["export", "--force"], form].concat());
        let text = place.read(form[0]);
        let other = Place::new();
        other.write(form[0], &text);
        let answer = other.text(&[&["import"], form].concat());
        let json = form.contains(&"--json");
        assert_eq!(answer, if json { "{\"entries\":3}\n" } else { "entries\t3\n" });
        assert_eq!(other.ok(&["scan", "--hex"]), all, "{form:?}");
    }
}

#[test]
fn the_texts_are_as_documented() {
    let place = filled();
    let csv = "key,value\n\"a,b\",\"x\"\"y\\nz\"\né,\n\\xff\\x00,\\t\\\\\n";
    assert_eq!(place.text(&["export", "-"]), csv);
    let json = "{\"key\":\"a,b\",\"value\":\"x\\\"y\\nz\"}\n{\"key\":\"é\",\"value\":\"\"}\n\
                {\"key_base64\":\"/wA=\",\"value\":\"\\t\\\\\"}\n";
    assert_eq!(place.text(&["export", "-", "-f", "jsonl"]), json);
    assert_eq!(place.text(&["scan", "--json"]), json);
    let some = place.text(&["export", "-", "a", "b", "-f", "tsv", "--no-header", "--keys-only"]);
    assert_eq!(some, "a,b\n");
    assert_eq!(place.text(&["export", "-", "-n", "1", "-r", "--hex"]), "key,value\nff00,095c\n");
}

#[test]
fn columns_may_have_any_names() {
    let place = Place::new();
    let csv = b"name,age,id\r\nAda,36,1\r\n\"Al \"\"T\"\"\",41,2\r\n";
    let answer = succeed(&mut place.toykv(&["import", "-", "--columns", "id,name"]), csv);
    assert_eq!(answer, b"entries\t2\n");
    assert_eq!(place.text(&["scan"]), "1\tAda\n2\tAl \"T\"\n");
    let (code, message) = fail(&mut place.toykv(&["import", "-", "--columns", "id,x"]), csv);
    assert_eq!(code, 2);
    assert!(message.contains("\"x\" but name, age, id"), "{message}");
}

#[test]
fn a_wrong_line_is_named_and_what_was_before_it_is_stored() {
    let place = Place::new();
    let mut csv = String::from("key,value\n");
    for number in 0..2500 {
        csv.push_str(&format!("{number:04},v\n"));
    }
    csv.push_str("bad\nafter,v\n");
    place.write("t.csv", csv.as_bytes());
    let (code, message) = place.fails(&["import", "t.csv"]);
    assert_eq!(code, 2);
    let words = "toykv: t.csv: line 2502: a column is missing (the 2500 entries before it are \
                 stored)\n";
    assert_eq!(message, words);
    assert_eq!(place.text(&["len"]), "2500\n");
}
