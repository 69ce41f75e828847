//! Every command of the RESP dialect.

use std::thread;

use toykv_server::{FlushPolicy, Secret};

use crate::support::{Client, Reply, encode, start};

fn integer(number: i64) -> Reply {
    Reply::Integer(number)
}

#[test]
fn values_are_stored_and_read() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert_eq!(client.say("SET a 1"), Reply::ok());
    assert_eq!(client.say("GET a"), Reply::bulk("1"));
    assert_eq!(client.say("get nothing"), Reply::Null);
    let every: Vec<u8> = (0..=255).collect();
    assert_eq!(client.run(&[b"SET", &every[..], &every]), Reply::ok());
    assert_eq!(client.run(&[b"GET", &every[..]]), Reply::bulk(&every));
    assert_eq!(client.run(&["SET", "", ""]), Reply::ok());
    assert_eq!(client.run(&["GET", ""]), Reply::bulk(""));
    assert_eq!(client.say("STRLEN a"), integer(1));
    assert_eq!(client.say("STRLEN nothing"), integer(0));
    assert_eq!(client.say("APPEND a 23"), integer(3));
    assert_eq!(client.say("APPEND b xy"), integer(2));
    assert_eq!(client.say("GETRANGE a 1 -1"), Reply::bulk("23"));
    assert_eq!(client.say("GETRANGE nothing 0 1"), Reply::bulk(""));
    assert_eq!(client.say("GETSET a 4"), Reply::bulk("123"));
    assert_eq!(client.say("GETSET c 5"), Reply::Null);
    assert_eq!(client.say("GETDEL c"), Reply::bulk("5"));
    assert_eq!(client.say("GETDEL c"), Reply::Null);
    assert_eq!(client.say("TYPE a"), Reply::Simple("string".into()));
    assert_eq!(client.say("TYPE c"), Reply::Simple("none".into()));
}

#[test]
fn sets_on_conditions() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert_eq!(client.say("SET a 1 XX"), Reply::Null);
    assert_eq!(client.say("SET a 1 NX"), Reply::ok());
    assert_eq!(client.say("SET a 2 NX"), Reply::Null);
    assert_eq!(client.say("SET a 2 nx get"), Reply::bulk("1"));
    assert_eq!(client.say("SET a 3 GET"), Reply::bulk("1"));
    assert_eq!(client.say("SET a 4 XX GET"), Reply::bulk("3"));
    assert_eq!(client.say("SET b 4 XX GET"), Reply::Null);
    assert_eq!(client.say("GET a"), Reply::bulk("4"));
    assert_eq!(client.say("SETNX a 5"), integer(0));
    assert_eq!(client.say("SETNX b 5"), integer(1));
    for expiry in ["EX 10", "PX 10", "KEEPTTL"] {
        let error = client.say(&format!("SET a 9 {expiry}")).error();
        assert!(error.contains("expire"), "{error}");
    }
    assert_eq!(client.say("SET a 9 NX XX").error(), "ERR syntax error");
    assert_eq!(client.say("GET a"), Reply::bulk("4"));
}

#[test]
fn several_keys_at_once() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert_eq!(client.say("MSET a 1 b 2 a 3"), Reply::ok());
    let values = vec![Reply::bulk("3"), Reply::Null, Reply::bulk("2")];
    assert_eq!(client.say("MGET a x b"), Reply::Array(values));
    assert_eq!(client.say("MSETNX c 1 a 9"), integer(0));
    assert_eq!(client.say("EXISTS a b c a"), integer(3));
    assert_eq!(client.say("MSETNX c 1 d 2"), integer(1));
    assert_eq!(client.say("DBSIZE"), integer(4));
    assert_eq!(client.say("DEL a a x"), integer(1));
    assert_eq!(client.say("UNLINK b c d"), integer(3));
    assert_eq!(client.say("DBSIZE"), integer(0));
    assert!(client.say("MSET a").error().contains("wrong number"));
    assert!(client.say("MSET a 1 b").error().contains("wrong number"));
}

#[test]
fn numbers() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert_eq!(client.say("INCR n"), integer(1));
    assert_eq!(client.say("INCRBY n 41"), integer(42));
    assert_eq!(client.say("DECR n"), integer(41));
    assert_eq!(client.say("DECRBY n 50"), integer(-9));
    assert_eq!(client.say("GET n"), Reply::bulk("-9"));
    client.say("SET n 9223372036854775807");
    assert!(client.say("INCR n").error().contains("overflow"));
    client.say("SET n 1x");
    assert!(client.say("INCR n").error().contains("not an integer"));
    assert!(client.say("INCRBY m 1.5").error().contains("not an integer"));
    assert_eq!(client.say("EXISTS m"), integer(0));
}

#[test]
fn keys_and_scans() {
    let server = start(|_| {});
    let mut client = server.connect();
    for n in 0..100 {
        client.say(&format!("SET user:{n:03} x"));
        client.say(&format!("SET item:{n:03} x"));
    }
    assert_eq!(client.say("KEYS user:*").items().len(), 100);
    let some = client.say("KEYS user:00[12]").items();
    assert_eq!(some, [Reply::bulk("user:001"), Reply::bulk("user:002")]);
    let (mut cursor, mut found, mut rounds) = ("0".to_string(), Vec::new(), 0);
    loop {
        let page = client.say(&format!("SCAN {cursor} MATCH user:*5 COUNT 7")).items();
        cursor = page[0].clone().text();
        found.extend(page[1].clone().items().into_iter().map(Reply::text));
        rounds += 1;
        if cursor == "0" {
            break;
        }
    }
    let expected: Vec<String> = (0..10).map(|n| format!("user:{:03}", n * 10 + 5)).collect();
    assert_eq!(found, expected);
    assert_eq!(rounds, 15);
    assert!(client.say("SCAN 12345").error().contains("invalid cursor"));
    assert!(client.say("SCAN x").error().contains("invalid cursor"));
    assert_eq!(client.say("SCAN 0 COUNT 0").error(), "ERR syntax error");
    let page = client.say("SCAN 0 TYPE list").items();
    assert_eq!(page[1], Reply::Array(vec![]));
}

#[test]
fn removing_everything_asks_for_confirmation() {
    let server = start(|_| {});
    let mut client = server.connect();
    let sets: Vec<u8> = (0..2500).flat_map(|n| encode(&["SET", &format!("k{n}"), "x"])).collect();
    client.send(&sets);
    (0..2500).for_each(|_| assert_eq!(client.reply(), Reply::ok()));
    assert!(client.say("FLUSHDB").error().contains("FLUSHDB CONFIRM"));
    assert_eq!(client.say("DBSIZE"), integer(2500));
    assert_eq!(client.say("FLUSHDB CONFIRM"), Reply::ok());
    assert_eq!(client.say("DBSIZE"), integer(0));
    let server = start(|config| config.flush_policy = FlushPolicy::Allow);
    assert_eq!(server.connect().say("FLUSHALL ASYNC"), Reply::ok());
    let server = start(|config| config.flush_policy = FlushPolicy::Refuse);
    assert!(server.connect().say("FLUSHDB CONFIRM").error().starts_with("NOPERM"));
}

#[test]
fn the_connection_and_the_server() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert_eq!(client.say("PING"), Reply::Simple("PONG".into()));
    assert_eq!(client.say("PING hello"), Reply::bulk("hello"));
    assert_eq!(client.say("ECHO hello"), Reply::bulk("hello"));
    assert_eq!(client.say("SELECT 0"), Reply::ok());
    assert!(client.say("SELECT 1").error().contains("out of range"));
    assert_eq!(client.say("CLIENT GETNAME"), Reply::Null);
    assert_eq!(client.say("CLIENT SETNAME me"), Reply::ok());
    assert_eq!(client.say("CLIENT GETNAME"), Reply::bulk("me"));
    assert!(client.run(&["CLIENT", "SETNAME", "a b"]).error().contains("spaces"));
    assert_eq!(client.say("CLIENT SETINFO LIB-NAME x"), Reply::ok());
    assert!(client.say("CLIENT LIST").text().contains("name=me"));
    let settings = client.say("CONFIG GET append* save").items();
    assert_eq!(settings.len(), 6);
    assert!(client.say("CONFIG SET save x").error().contains("not supported"));
    let info = client.say("INFO").text();
    for part in ["# Server\r\n", "redis_version:", "# Keyspace\r\n", "connected_clients:1\r\n"] {
        assert!(info.contains(part), "{part} in {info}");
    }
    assert!(!client.say("INFO clients").text().contains("# Server"));
    let count = client.say("COMMAND COUNT");
    assert_eq!(integer(client.say("COMMAND").items().len() as i64), count);
    assert_eq!(client.say("COMMAND DOCS"), Reply::Array(vec![]));
    let infos = client.say("COMMAND INFO get nonsense").items();
    let get = infos[0].clone().items();
    assert_eq!((get.len(), &get[0], &get[1]), (10, &Reply::bulk("get"), &integer(2)));
    let words = ["@read", "@fast"].map(|word| Reply::Simple(word.into()));
    assert_eq!(get[6], Reply::Array(words.to_vec()));
    assert_eq!(infos[1], Reply::Null);
    let error = client.say("LPUSH list a").error();
    assert_eq!(error, "ERR unknown command 'LPUSH', with args beginning with: 'list' 'a'");
    assert!(client.say("GET").error().contains("wrong number of arguments for 'get'"));
    let auth = client.say("AUTH secret").error();
    assert!(auth.starts_with("ERR AUTH <password> called without any password configured"));
    assert_eq!(client.say("QUIT"), Reply::ok());
    assert!(client.is_closed());
}

#[test]
fn version_three_has_maps_and_a_null() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert!(matches!(client.say("HELLO"), Reply::Array(_)));
    let Reply::Map(hello) = client.say("HELLO 3 SETNAME me") else { panic!("no map") };
    let at = hello.iter().position(|item| *item == Reply::bulk("proto")).unwrap();
    assert_eq!(hello[at + 1], integer(3));
    client.send(&encode(&["GET", "nothing"]));
    assert_eq!(client.line().as_deref(), Some("_"));
    assert!(matches!(client.say("CONFIG GET save"), Reply::Map(_)));
    assert_eq!(client.say("CLIENT GETNAME"), Reply::bulk("me"));
    assert!(client.say("HELLO 4").error().starts_with("NOPROTO"));
}

#[test]
fn a_password_is_asked_for() {
    let server = start(|config| config.secret = Secret::new("hunter2"));
    let mut client = server.connect();
    for command in ["GET a", "SET a 1", "INFO", "PING", "nonsense"] {
        assert!(client.say(command).error().starts_with("NOAUTH"), "{command}");
    }
    assert!(client.say("HELLO 3").error().starts_with("NOAUTH"));
    assert!(client.say("AUTH hunter3").error().starts_with("WRONGPASS"));
    assert!(client.say("AUTH someone hunter2").error().starts_with("WRONGPASS"));
    assert_eq!(client.say("AUTH default hunter2"), Reply::ok());
    assert_eq!(client.say("SET a 1"), Reply::ok());
    assert!(matches!(server.connect().say("HELLO 3 AUTH default hunter2"), Reply::Map(_)));
    let mut stranger = server.connect();
    stranger.send(b"*2\r\n$3\r\nGET\r\n$20000\r\n");
    assert!(stranger.reply().error().contains("Protocol error"));
    assert!(stranger.is_closed());
    assert!(start(|_| {}).connect().say("AUTH x").error().contains("without any password"));
}

#[test]
fn ten_wrong_passwords_end_the_connection() {
    let server = start(|config| config.secret = Secret::new("hunter2"));
    let mut client = server.connect();
    for n in 0..10 {
        let guess = if n % 2 == 0 { "AUTH guess" } else { "HELLO 3 AUTH default guess" };
        assert!(client.say(guess).error().starts_with("WRONGPASS"), "{n}");
    }
    assert!(client.is_closed());
    let mut person = server.connect();
    person.send("AUTH guess\n".repeat(20).as_bytes());
    (0..10).for_each(|_| assert!(person.line().unwrap().contains("wrong password")));
    assert!(person.is_closed());
}

#[test]
fn a_pipeline_is_answered_in_order() {
    let server = start(|_| {});
    let mut client = server.connect();
    let mut expected = Vec::new();
    let mut pipeline = Vec::new();
    for n in 0..500 {
        let key = format!("k{}", n % 7);
        pipeline.extend(encode(&["SET", &key, &n.to_string()]));
        expected.push(Reply::ok());
        if n % 3 == 0 {
            pipeline.extend(encode(&["GET", &key]));
            expected.push(Reply::bulk(n.to_string()));
        }
        if n % 50 == 0 {
            pipeline.extend(encode(&["SET", &key, &"v".repeat(100_000)]));
            pipeline.extend(encode(&["STRLEN", &key]));
            expected.extend([Reply::ok(), integer(100_000)]);
        }
    }
    // Ten commands at a time would deadlock a server that sends before it reads.
    client.send(&pipeline);
    for reply in expected {
        assert_eq!(client.reply(), reply);
    }
}

#[test]
fn inline_commands_work_within_a_conversation() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert_eq!(client.say("PING"), Reply::Simple("PONG".into()));
    client.send(b"SET \"a b\" 'c'\r\nGET \"a b\"\r\n");
    assert_eq!(client.reply(), Reply::ok());
    assert_eq!(client.reply(), Reply::bulk("c"));
}

#[test]
fn long_values_come_back_whole() {
    let server = start(|_| {});
    let mut client = server.connect();
    let value: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(client.run(&[&b"SET"[..], b"long", &value]), Reply::ok());
    assert!(client.run(&["GET", "long"]) == Reply::Bulk(value.clone()));
    client.send(&encode(&["MGET", "long", "x", "long"]));
    assert!(
        client.reply() == Reply::Array(vec![Reply::bulk(&value), Reply::Null, Reply::bulk(&value)])
    );
}

/// The number of threads that write at once, and what each does.
const THREADS: i64 = 8;
const EACH: i64 = 300;

#[test]
fn reading_and_writing_is_atomic_among_clients() {
    for durability in [toykv::Durability::Interval, toykv::Durability::Sync] {
        let server = start(|config| {
            config.durability = durability;
            config.workers = 4;
        });
        let each = if durability == toykv::Durability::Sync { 20 } else { EACH };
        let work = |client: &mut Client, thread: i64| {
            let mut won = 0;
            for n in 0..each {
                client.say("INCR counter");
                client.say(&format!("APPEND text {thread}"));
                won += i64::from(client.say(&format!("SETNX once:{n} {thread}")) == integer(1));
                // A plain SET between the read and the write of an INCR would be lost.
                client.say(&format!("SET own:{thread} {n}"));
                assert_eq!(client.say(&format!("INCR own:{thread}")), integer(n + 1));
                let pair = format!("MSETNX left:{n} {thread} right:{n} {thread}");
                won += i64::from(client.say(&pair) == integer(1));
            }
            won
        };
        let won: i64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let mut client = server.connect();
                    scope.spawn(move || work(&mut client, thread))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let mut client = server.connect();
        assert_eq!(won, 2 * each);
        assert_eq!(client.say("GET counter"), Reply::bulk((THREADS * each).to_string()));
        assert_eq!(client.say("STRLEN text"), integer(THREADS * each));
        for n in 0..each {
            let pair = client.say(&format!("MGET left:{n} right:{n}")).items();
            assert_eq!(pair[0], pair[1]);
        }
    }
}

/// So many keys of 100 bytes, in pipelines.
fn fill(client: &mut Client, keys: std::ops::Range<u32>) {
    for chunk in keys.step_by(1000).map(|first| first..first + 1000) {
        let sets: Vec<u8> = chunk
            .clone()
            .flat_map(|n| {
                let key = format!("{:08x}", n.wrapping_mul(0x9e37_79b9));
                encode(&["SET", &key, &"v".repeat(100)])
            })
            .collect();
        client.send(&sets);
        chunk.for_each(|_| assert_eq!(client.reply(), Reply::ok()));
    }
}

/// PROGRESS until the work has ended: how it ended, and how often it was amid.
fn follow(client: &mut Client) -> (Reply, u32) {
    let mut amid = 0;
    loop {
        match client.say("TOYKV PROGRESS") {
            Reply::Array(items) => {
                let [Reply::Integer(done), Reply::Integer(total), Reply::Simple(state)] =
                    &items[..]
                else {
                    panic!("{items:?}")
                };
                amid += u32::from(state == "running" && 0 < *done && done < total);
                if state == "done" {
                    return (Reply::ok(), amid);
                }
            }
            other => return (other, amid),
        }
    }
}

/// A server of small memtables, so that there is something to merge.
fn busy_server() -> crate::support::Running {
    start(|config| config.options.set("memtable_size_bytes", "1MiB").unwrap())
}

#[test]
fn compactions_and_collections_tell_how_far_they_are() {
    let server = busy_server();
    let mut client = server.connect();
    assert!(client.say("TOYKV PROGRESS").error().contains("nothing was begun"));
    // More data until one of them is slow enough to be seen at work.
    let (mut keys, mut seen) = (0, 0);
    while seen == 0 {
        fill(&mut client, keys..keys + 20_000);
        keys += 20_000;
        assert!(keys <= 2_000_000, "the work was never seen");
        assert_eq!(client.say("TOYKV COMPACT"), Reply::ok());
        let (end, amid) = follow(&mut client);
        assert_eq!(end, Reply::ok());
        seen += amid;
    }
    assert_eq!(client.say("TOYKV COMPACT FROM 2 TO 3"), Reply::ok());
    assert_eq!(follow(&mut client).0, Reply::ok());
    assert_eq!(client.say("TOYKV GC"), Reply::ok());
    assert_eq!(follow(&mut client).0, Reply::ok());
    assert_eq!(client.say("DBSIZE"), integer(keys.into()));
    for wrong in ["TOYKV COMPACT FROM", "TOYKV COMPACT AT 2", "TOYKV NONSENSE", "TOYKV GC 1"] {
        assert!(client.say(wrong).error().starts_with("ERR "), "{wrong}");
    }
}

#[test]
fn one_at_a_time_and_it_ends_with_who_began_it() {
    let server = busy_server();
    let (mut client, mut other) = (server.connect(), server.connect());
    // More data until the other one comes while the work is under way.
    let (mut keys, mut refused, mut cancelled) = (0, false, false);
    while !refused || !cancelled {
        fill(&mut client, keys..keys + 20_000);
        keys += 20_000;
        assert!(keys <= 2_000_000, "{refused} {cancelled}");
        client.send(&encode(&["TOYKV", "COMPACT"]));
        assert_eq!(client.reply(), Reply::ok());
        match other.say("TOYKV GC") {
            Reply::Error(text) => {
                assert!(text.starts_with("BUSY "), "{text}");
                refused = true;
            }
            // The first had ended already.
            reply => {
                assert_eq!(reply, Reply::ok());
                assert_eq!(follow(&mut other).0, Reply::ok());
            }
        }
        assert_eq!(client.say("TOYKV CANCEL"), Reply::ok());
        match follow(&mut client).0 {
            Reply::Error(text) => {
                assert!(text.starts_with("ERR Cancelled: "), "{text}");
                cancelled = true;
            }
            done => assert_eq!(done, Reply::ok()),
        }
    }
    // One that leaves in the middle of it holds nobody up.
    let mut leaving = server.connect();
    assert_eq!(leaving.say("TOYKV COMPACT"), Reply::ok());
    drop(leaving);
    while other.say("TOYKV GC") != Reply::ok() {
        thread::yield_now();
    }
    assert_eq!(follow(&mut other).0, Reply::ok());
    assert_eq!(client.say("DBSIZE"), integer(keys.into()));
}

#[test]
fn verify_tells_what_it_found() {
    let server = start(|_| {});
    let mut client = server.connect();
    assert!(client.say("TOYKV FINDINGS").error().contains("no VERIFY"));
    fill(&mut client, 0..2000);
    assert_eq!(client.say("TOYKV VERIFY"), Reply::ok());
    assert_eq!(follow(&mut client).0, Reply::ok());
    let parts = client.say("TOYKV FINDINGS").items();
    let totals = parts[0].clone().items();
    assert_eq!(
        totals[4..],
        [Reply::bulk("records"), integer(2000), Reply::bulk("findings"), integer(0)]
    );
    assert_eq!(parts[1], Reply::Array(vec![]));
}

#[test]
fn stats_and_explain_answer_names_and_figures() {
    let server = start(|_| {});
    let mut client = server.connect();
    client.say("SET a 1");
    let stats = client.say("TOYKV STATS").items();
    assert_eq!(stats[..2], [Reply::bulk("keys"), integer(1)]);
    assert_eq!(stats[stats.len() - 4..][..2], [Reply::bulk("poisoned"), Reply::Null]);
    let parts = client.say("TOYKV EXPLAIN").items();
    let lines = parts[0].clone().items();
    assert_eq!(lines[0], Reply::bulk("total_bytes"));
    assert!(matches!(lines[1], Reply::Integer(bytes) if bytes > 0), "{lines:?}");
    assert_eq!(parts[1], Reply::Array(vec![]));
}
