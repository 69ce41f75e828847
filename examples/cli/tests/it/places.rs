//! Every verb wherever the data is: in a directory, and behind the real server by Redis' protocol
//! and by gRPC, in clear and with TLS.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::harness::{Place, bytes_of, fail, overwrite, program, run, succeed};
use crate::served::{Served, WAYS, Way, pem};

/// A script that ends with an empty database; every answer is given, none is taken from a place.
fn check_every_verb(toykv: &dyn Fn(&[&str]) -> Command) {
    let ok = |args: &[&str]| String::from_utf8(succeed(&mut toykv(args), b"")).unwrap();
    assert_eq!(ok(&["set", "1", "Hello, World!"]), "");
    assert_eq!(ok(&["put", "2", "two"]), "");
    assert_eq!(ok(&["get", "1"]), "Hello, World!\n");
    assert_eq!(
        ok(&["get", "1", "2", "--json"]),
        concat!(
            "{\"key\":\"1\",\"value\":\"Hello, World!\"}\n",
            "{\"key\":\"2\",\"value\":\"two\"}\n"
        )
    );
    let (code, message) = fail(&mut toykv(&["get", "none"]), b"");
    assert_eq!((code, &message[..]), (1, "toykv: no value stored under none\n"));
    let all: Vec<u8> = (0..=255).collect();
    succeed(&mut toykv(&["set", r"\x00\xff", "-"]), &all);
    assert_eq!(succeed(&mut toykv(&["get", r"\0\xff", "--raw"]), b""), all);
    assert_eq!(ok(&["len"]), "3\n");
    for name in ["delete", "remove", "rm"] {
        assert_eq!(ok(&[name, r"\0\xff"]), "");
    }
    let (code, message) = fail(&mut toykv(&["delete", "none", "1", "--check"]), b"");
    assert_eq!(code, 1, "{message}");
    assert_eq!(ok(&["scan"]), "2\ttwo\n");
    let csv: String = (0..2500).map(|n| format!("key{n:04},v{n}\n")).collect();
    let imported = succeed(&mut toykv(&["import", "-", "--no-header"]), csv.as_bytes());
    assert_eq!(String::from_utf8(imported).unwrap(), "entries\t2500\n");
    assert_eq!(ok(&["count"]), "2501\n");
    assert_eq!(ok(&["scan", "key0999", "key1001"]), "key0999\tv999\nkey1000\tv1000\n");
    assert_eq!(ok(&["scan", "--prefix", "key1", "-n", "2", "-k"]), "key1000\nkey1001\n");
    assert_eq!(ok(&["scan", "--reverse", "-n", "2", "-k"]), "key2499\nkey2498\n");
    assert_eq!(ok(&["scan", "key0000", "key1500", "-r", "-n", "1"]), "key1499\tv1499\n");
    assert_eq!(ok(&["scan", "-n", "0"]), "");
    let exported = ok(&["export", "-", "--no-header", "--prefix", "key", "--format", "csv"]);
    assert_eq!(exported, csv);
    for verb in [&["compact"][..], &["compact", "key1", "key2"], &["gc"]] {
        assert_eq!(ok(verb), "", "{verb:?}");
    }
    let verified: Json = serde_json::from_str(&ok(&["verify", "--json"])).unwrap();
    assert_eq!((&verified["records"], &verified["findings"]), (&2501.into(), &0.into()));
    let shell = "SET key \"a value\"\nGET key\nDELETE key\nGET key\nLEN\nCOMPACT\nGC\n";
    let answers = succeed(&mut toykv(&["shell"]), shell.as_bytes());
    let expected = "success\na value\nsuccess\nno value stored under key\n2501\nsuccess\nsuccess\n";
    assert_eq!(String::from_utf8(answers).unwrap(), expected);
    let shell: String = (0..2500).map(|n| format!("delete key{n:04}\n")).collect();
    let answers = succeed(&mut toykv(&["shell"]), format!("{shell}rm 2\nlen\n").as_bytes());
    assert!(answers.ends_with(b"success\n0\n"));
}

#[test]
fn every_verb_in_a_directory() {
    let place = Place::new();
    check_every_verb(&|args| place.toykv(args));
}

#[test]
fn every_verb_on_a_server() {
    let served = Served::start(&[]);
    for way in WAYS {
        check_every_verb(&|args| served.toykv(way, args));
    }
}

#[test]
fn every_verb_on_a_server_with_tls() {
    let served = Served::start_tls();
    for way in WAYS {
        check_every_verb(&|args| served.toykv(way, args));
        // Without its certificate nobody vouches for the server.
        let mut command = program();
        command.arg("--server").arg(served.address(way)).arg("len");
        let (code, message) = fail(&mut command, b"");
        assert_eq!(code, 13, "{way:?}: {message}");
    }
    let mut plain = program();
    plain.args(["--server", "127.0.0.1:1", "len", "--ca"]).arg(pem("cert.pem"));
    let (code, message) = fail(&mut plain, b"");
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("--ca"), "{message}");
}

/// The places that a search lists, its records, and what it complains about.
fn damage(command: &mut Command, input: &[u8]) -> (Vec<Json>, u64, String) {
    let output = run(command, input);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (listed, complaint) = (text(output.stdout), text(output.stderr));
    assert_eq!(output.status.code(), Some(4), "{listed}{complaint}");
    let mut lines: Vec<Json> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let totals = lines.pop().unwrap();
    assert_eq!(totals["findings"], lines.len(), "{listed}");
    (lines, totals["records"].as_u64().unwrap(), complaint)
}

#[test]
fn verify_lists_the_same_damage_wherever_it_is_asked_for() {
    let place = Place::new();
    // Keys that are no text: these come through JSON in another form.
    let csv: String = (0..3000u32).map(|n| format!("ff{n:08x},{n:064x}\n")).collect();
    let import = ["import", "-", "--no-header", "--hex"];
    succeed(&mut place.toykv(&import), csv.as_bytes());
    place.ok(&["compact"]);
    let folder = place.path("db");
    let files = crate::harness::names(&folder);
    let tables = files.iter().filter(|name| name.ends_with(".table"));
    let mut tables: Vec<_> = tables.map(|name| folder.join(name)).collect();
    tables.sort_by_key(|path| bytes_of(path).len());
    let table = tables.pop().unwrap();
    let mut bytes = bytes_of(&table);
    // Two places in different blocks.
    for at in [bytes.len() / 3, bytes.len() / 2] {
        bytes[at] ^= 1;
    }
    overwrite(&table, &bytes);
    let (listed, records, complaint) = damage(&mut place.toykv(&["verify", "--json"]), b"");
    assert_eq!(listed.len(), 2, "{complaint}");
    let first = &listed[0];
    assert_eq!(first["file"], table.display().to_string());
    assert!(first["first_key_base64"].is_string() && first["last_key_base64"].is_string());
    let lost: u64 = listed.iter().map(|place| place["records"].as_u64().unwrap()).sum();
    assert!(lost > 0 && records == 3000 - lost, "{lost} {records}");
    let told = format!("damaged: {} at offset {}: ", table.display(), first["offset"]);
    assert!(complaint.contains(&told) && complaint.contains("damage: 2\n"), "{complaint}");

    let (open, seen, _) = damage(&mut place.toykv(&["shell", "--json"]), b"verify\n");
    assert_eq!((&open, seen), (&listed, records), "in the shell");
    let served = Served::start_in(place, &[]);
    for way in WAYS {
        let (found, seen, complaint) = damage(&mut served.toykv(way, &["verify", "--json"]), b"");
        assert_eq!((&found, seen), (&listed, records), "{way:?}");
        assert!(complaint.contains(&served.address(way)), "{complaint}");
        assert!(complaint.contains(&told), "{complaint}");
    }
}

/// The names of a verb's figures, in their order.
fn names(text: &str) -> Vec<String> {
    let json: Json = serde_json::from_str(text).unwrap();
    json.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn figures_have_the_same_names_everywhere() {
    let place = Place::new();
    place.ok(&["set", "a", "b"]);
    let stats = names(&place.text(&["stats", "--json"]));
    let explained = names(&place.text(&["explain", "--json"]));
    assert!(stats.contains(&"segment_bytes".into()) && stats.contains(&"poisoned".into()));
    assert!(explained.contains(&"total_bytes".into()));
    let served = Served::start_in(place, &[]);
    for way in WAYS {
        let text = served.text(way, &["stats", "--json"]);
        assert_eq!(names(&text), stats, "{way:?}");
        let json: Json = serde_json::from_str(&text).unwrap();
        assert_eq!((&json["keys"], &json["poisoned"]), (&1.into(), &Json::Null), "{way:?}");
        assert!(json["segment_bytes"].as_u64().unwrap() > 0, "{way:?}");
        let text = served.text(way, &["explain", "--json"]);
        assert_eq!(names(&text), explained, "{way:?}");
        let json: Json = serde_json::from_str(&text).unwrap();
        assert!(json["total_bytes"].as_u64().unwrap() > 0, "{way:?}");
        // Lines for people.
        assert!(served.text(way, &["explain"]).contains("total_bytes: "), "{way:?}");
        assert!(served.text(way, &["stats"]).starts_with("keys\t1\n"), "{way:?}");
    }
}

#[test]
fn a_dump_goes_from_place_to_place() {
    let place = Place::new();
    let csv: String = (0..3000u32).map(|n| format!("{:08x},{n:x}\n", n * 77_777)).collect();
    succeed(&mut place.toykv(&["import", "-", "--no-header"]), csv.as_bytes());
    // A chunk of these two is larger than a message of gRPC may be.
    overwrite(&place.path("large"), &vec![b'x'; 4_000_000]);
    place.ok(&["set", "000large", "@large"]);
    overwrite(&place.path("middle"), &vec![b'y'; 250_000]);
    place.ok(&["set", "000", "@middle"]);
    place.ok(&["set", r"\xff\x00", r"\n\x00"]);
    let dump = place.ok(&["dump"]);
    for way in WAYS {
        let served = Served::start(&[]);
        succeed(&mut served.toykv(way, &["load"]), &dump);
        for way in WAYS {
            let output = run(&mut served.toykv(way, &["dump"]), b"");
            assert!(output.status.success(), "{way:?}");
            assert!(output.stdout == dump, "{way:?}");
            let warned = String::from_utf8_lossy(&output.stderr).contains("no frozen state");
            assert_eq!(warned, way == Way::Resp);
        }
        let place = served.stop();
        assert!(place.ok(&["dump"]) == dump, "{way:?}");
    }
    // The same by import, whose batches are larger still.
    let served = Served::start(&[]);
    let large = format!("{}\n", "v".repeat(900_000));
    let tsv: String = (0..9).map(|n| format!("k{n}\t{large}")).collect();
    for way in WAYS {
        let verb = ["import", "-", "--no-header", "--format", "tsv"];
        succeed(&mut served.toykv(way, &verb), tsv.as_bytes());
        assert_eq!(served.text(way, &["len"]), "9\n");
    }
}

#[test]
fn a_value_that_no_message_takes_is_named_with_the_limit() {
    let served = Served::start(&["--limit", "frame_bytes=8000000"]);
    let (code, message) =
        fail(&mut served.toykv(Way::Grpc, &["set", "a", "-"]), &vec![b'v'; 5 << 20]);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("4194304"), "{message}");
    succeed(&mut served.toykv(Way::Resp, &["set", "a", "-"]), &vec![b'v'; 5 << 20]);
    let (code, message) =
        fail(&mut served.toykv(Way::Resp, &["set", "a", "-"]), &vec![b'v'; 9 << 20]);
    assert!(code == 2 || code == 13, "{code}: {message}");
}

#[test]
fn load_check_stores_nothing_in_a_shell_either() {
    let place = Place::new();
    place.ok(&["set", "a", "b"]);
    place.ok(&["dump", "d"]);
    place.ok(&["delete", "a"]);
    let answers = succeed(&mut place.toykv(&["shell"]), b"load --check d\nlen\n");
    assert_eq!(String::from_utf8(answers).unwrap(), "entries\t1\nbytes\t2\n0\n");
}

#[test]
fn passwords_by_every_way() {
    let place = Place::new();
    let file = place.write("password", b"secret\nanother line");
    let served = Served::start(&["--password-file", file.to_str().unwrap()]);
    for way in WAYS {
        for wrong in [None, Some("wrong")] {
            let mut command = served.toykv(way, &["len"]);
            wrong.map(|text| command.env("TOYKV_PASSWORD", text));
            let (code, message) = fail(&mut command, b"");
            assert_eq!(code, 14, "{way:?}: {message}");
        }
        let said = succeed(served.toykv(way, &["len"]).env("TOYKV_PASSWORD", "secret"), b"");
        assert_eq!(said, b"0\n");
        succeed(served.toykv(way, &["len", "--password-file"]).arg(&file), b"");
    }
}

#[test]
fn a_server_with_no_place_left_is_busy_with_11() {
    let served = Served::start(&["--limit", "connections=1", "--limit", "buffer_bytes=65536"]);
    let mut shell = served.toykv(Way::Resp, &["shell"]);
    let pipes = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"set a b\n").unwrap();
    let mut answer = [0; 8];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut answer).unwrap();
    let (code, message) = fail(&mut served.toykv(Way::Resp, &["len"]), b"");
    assert_eq!(code, 11, "{message}");
    assert!(message.contains("max number of clients"), "{message}");
    drop(stdin);
    assert!(child.wait().unwrap().success());
    // Memory for calls.
    let (code, message) = fail(&mut served.toykv(Way::Grpc, &["set", "a", "-"]), &[b'v'; 100_000]);
    assert_eq!(code, 11, "{message}");
}

/// Speaking in clear to a server with TLS, and with TLS to one without.
#[test]
fn a_server_that_speaks_otherwise_is_told_by_its_address() {
    let (plain, tls) = (Served::start(&[]), Served::start_tls());
    for way in WAYS {
        for (address, other) in [(plain.address(way), &tls), (tls.address(way), &plain)] {
            // The scheme of the one, the place of the other.
            let scheme = address.rsplit_once("//").map_or("", |(scheme, _)| scheme);
            let place = other.address(way);
            let place = place.rsplit_once("//").map_or(&place[..], |(_, place)| place);
            let mixed = match scheme {
                "" => place.to_owned(),
                scheme => format!("{scheme}//{place}"),
            };
            let (code, message) = fail(program().args(["--server", &mixed, "len"]), b"");
            assert_eq!(code, 13, "{mixed}: {message}");
            assert!(message.contains(place), "{mixed}: {message}");
            assert_eq!(message.lines().count(), 1, "{mixed}: {message}");
        }
    }
    // The ports of one server, the one for the other.
    let (resp, grpc) = (plain.address(Way::Resp), plain.address(Way::Grpc));
    let swapped = [format!("http://{resp}"), grpc.replace("http://", "")];
    for (address, words) in swapped.iter().zip(["does gRPC answer there", "another protocol"]) {
        let (code, message) = fail(program().args(["--server", address, "len"]), b"");
        assert_eq!(code, 13, "{address}: {message}");
        assert!(message.contains(words), "{address}: {message}");
        assert_eq!(message.lines().count(), 1, "{address}: {message}");
    }
}

#[test]
fn what_a_place_cannot_do_it_says_in_the_same_words() {
    let served = Served::start(&[]);
    for way in WAYS {
        for (args, expected, words) in [
            (&["destroy", "--yes"][..], 10, "destroy cannot be done on"),
            (&["len", "-o", "read_only=true"], 2, "--option"),
            (&["set", &"k".repeat(70_000), "v"], 2, "key"),
        ] {
            let (code, message) = fail(&mut served.toykv(way, args), b"");
            assert_eq!(code, expected, "{way:?} {args:?}: {message}");
            assert!(message.contains(words), "{way:?} {args:?}: {message}");
        }
    }
    let durable = ["set", "a", "b", "--durability", "sync"];
    assert_eq!(fail(&mut served.toykv(Way::Resp, &durable), b"").0, 2);
    assert_eq!(served.text(Way::Grpc, &durable), "");
}

#[test]
fn a_server_that_goes_away_ends_with_13() {
    for way in WAYS {
        let served = Served::start(&[]);
        let mut command = served.toykv(way, &["shell"]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"set a b\n").unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut answer = [0; 8];
        std::io::Read::read_exact(&mut stdout, &mut answer).unwrap();
        assert_eq!(&answer, b"success\n");
        let place = served.stop();
        stdin.write_all(b"get a\n").unwrap();
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), Some(13), "{way:?}");
        assert_eq!(place.text(&["get", "a"]), "b\n");
    }
}

/// Ctrl-C in the middle of an import: what was stored stays, the exit code says why it ended.
#[test]
fn an_interrupted_import_ends_with_130() {
    for way in WAYS {
        let served = Served::start(&[]);
        let mut command = served.toykv(way, &["import", "-", "--no-header", "--format", "csv"]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = (0..).map(|n| format!("key{n:09},v\n"));
        // As soon as a batch is stored, the program listens to signals.
        while served.text(Way::Resp, &["len"]) == "0\n" {
            let some: String = lines.by_ref().take(1000).collect();
            stdin.write_all(some.as_bytes()).unwrap();
        }
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        // Until it has gone.
        while stdin.write_all(lines.next().unwrap().as_bytes()).is_ok() {}
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{way:?}: {message}");
        assert!(message.contains("entries before it are stored"), "{message}");
    }
}
