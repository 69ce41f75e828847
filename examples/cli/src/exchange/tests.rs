//! What is written is read back; what is wrong is named with its line.

use super::*;
use crate::failure::Result;
use crate::text::Encoding;

type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn options(format: Format, encoding: Encoding, header: bool) -> ReadOptions {
    ReadOptions { format, encoding, header, columns: ["key".into(), "value".into()] }
}

fn read(text: &[u8], options: &ReadOptions) -> Result<Entries> {
    let mut reader = Reader::new(text, options)?;
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

fn write(entries: &Entries, format: Format, encoding: Encoding, header: bool) -> Result<Vec<u8>> {
    let mut writer = Writer::new(Vec::new(), format, encoding, header, false)?;
    for (key, value) in entries {
        writer.push(key, value)?;
    }
    writer.finish()
}

#[test]
fn every_format_and_encoding_comes_back() {
    let nasty: [&[u8]; 10] =
        [b"", b"\"", b",", b"\t\r\n", b"\\", b" a ", b"\xff\0", "é".as_bytes(), b"key", b"#"];
    let pair = |n: usize| (nasty[n].to_vec(), nasty[(n + 3) % 10].to_vec());
    let entries: Entries = (0..10).map(pair).collect();
    for format in [Format::Csv, Format::Tsv, Format::Jsonl] {
        for encoding in [Encoding::Escaped, Encoding::Hex, Encoding::Base64, Encoding::Plain] {
            for header in [true, false] {
                let text = write(&entries, format, encoding, header);
                if (format, encoding) == (Format::Tsv, Encoding::Plain) {
                    assert!(text.unwrap_err().message.contains("--plain"));
                    continue;
                }
                let text = text.unwrap();
                let back = read(&text, &options(format, encoding, header)).unwrap();
                assert_eq!(back, entries, "{format:?} {encoding:?} {header}");
            }
        }
    }
}

#[test]
fn the_text_is_what_other_programs_expect() {
    let entries = vec![(b"a,b".to_vec(), b"x\"y\n".to_vec()), (b"c".to_vec(), b"\xff".to_vec())];
    let text = |format, encoding| {
        String::from_utf8_lossy(&write(&entries, format, encoding, true).unwrap()).into_owned()
    };
    let csv = "key,value\n\"a,b\",\"x\"\"y\n\"\nc,\u{fffd}\n";
    assert_eq!(text(Format::Csv, Encoding::Plain), csv);
    assert_eq!(text(Format::Tsv, Encoding::Escaped), "key\tvalue\na,b\tx\"y\\n\nc\t\\xff\n");
    let json =
        "{\"key\":\"a,b\",\"value\":\"x\\\"y\\n\"}\n{\"key\":\"c\",\"value_base64\":\"/w==\"}\n";
    assert_eq!(text(Format::Jsonl, Encoding::Hex), json);
}

#[test]
fn columns_are_found_by_name() {
    let mut wanted = options(Format::Csv, Encoding::Plain, true);
    wanted.columns = ["id".into(), "name".into()];
    let entries = read(b"name,age,id\r\nAda,36,1\r\nAlan,41,2\r\n", &wanted).unwrap();
    let expected = [("1", "Ada"), ("2", "Alan")];
    assert_eq!(entries, expected.map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())));
}

#[test]
fn wrong_lines_are_named() {
    let cases: &[(Format, bool, &str, &str)] = &[
        (Format::Csv, true, "a,b\n", "\"key\""),
        (Format::Csv, true, "key,value\na,b\nc\n", "line 3: a column is missing"),
        (Format::Csv, true, "key,value\n\"a\nb\",c\nd,\\q\n", "line 4: no escape"),
        (Format::Tsv, false, "a\tb\nc\n", "line 2: a column is missing"),
        (Format::Jsonl, true, "\n{\"key\":\"a\"}\n", "line 2: neither \"value\""),
        (Format::Jsonl, true, "{\"key\":1,\"value\":\"\"}", "line 1: \"key\" is no string"),
        (Format::Jsonl, true, "{\"key\":\"\",\"key_base64\":\"\",\"value\":\"\"}", "both"),
        (Format::Jsonl, true, "{\"key_base64\":\"?\",\"value\":\"\"}", "base64"),
        (Format::Jsonl, true, "{\"key\":\"a\",\"value\":\"b\"}\n[]\n", "line 2: not a JSON"),
        (Format::Jsonl, true, "{\"key\":\"a\",\"value\":\"b\"", "line 1: not a JSON"),
    ];
    for (format, header, text, words) in cases {
        let failure = read(text.as_bytes(), &options(*format, Encoding::Escaped, *header));
        let failure = failure.unwrap_err();
        assert_eq!(failure.exit as u8, 2, "{text}");
        assert!(failure.message.contains(words), "{text}: {failure}");
    }
}

#[test]
fn a_name_says_the_format() {
    let cases = [("a.csv", Format::Csv), ("a.tsv", Format::Tsv), ("a.jsonl", Format::Jsonl)];
    for (name, format) in cases.into_iter().chain([("-", Format::Csv)]) {
        assert_eq!(Format::of(Path::new(name)), format);
    }
}
