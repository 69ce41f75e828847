//! A small server that speaks Redis' protocol as toykv-server does, and badly when told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Good,
    /// It wants the password "secret".
    Locked,
    /// SCAN answers keys in no order.
    Unordered,
    /// It closes the connection in the middle of the second page of a SCAN.
    CutsOff,
    /// It refuses writes, for this reason.
    ReadOnly,
    Poisoned,
    Full,
    /// It speaks something else.
    Foreign,
}

type Entries = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// A server on a free port; ends with the test's process.
pub(crate) fn start(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let entries = Entries::default();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let entries = Arc::clone(&entries);
            // A client that leaves ends its thread.
            std::thread::spawn(move || serve(stream.unwrap(), &entries, manner).is_some());
        }
    });
    address
}

/// Answers until the client leaves.
fn serve(stream: TcpStream, entries: &Entries, manner: Manner) -> Option<()> {
    let mut input = BufReader::new(stream.try_clone().ok()?);
    let mut out = stream;
    let mut admitted = manner != Manner::Locked;
    loop {
        let words = command(&mut input)?;
        let name = words[0].to_ascii_uppercase();
        if manner == Manner::Foreign {
            out.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok()?;
            return None;
        }
        if name == b"AUTH" && manner != Manner::Locked {
            out.write_all(b"-ERR AUTH: no password is configured\r\n").ok()?;
        } else if name == b"AUTH" {
            admitted = words.last()?[..] == b"secret"[..];
            let answer: &[u8] =
                if admitted { b"+OK\r\n" } else { b"-WRONGPASS no such password\r\n" };
            out.write_all(answer).ok()?;
        } else if !admitted {
            out.write_all(b"-NOAUTH Authentication required.\r\n").ok()?;
        } else {
            let answer = answer(&name, &words, &mut entries.lock().unwrap(), manner);
            let cut = manner == Manner::CutsOff && name == b"SCAN" && words[1] != b"0";
            out.write_all(&answer[..if cut { answer.len() / 2 } else { answer.len() }]).ok()?;
            if cut {
                return None;
            }
        }
    }
}

/// An array of bulk strings.
fn command(input: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let mut number = |kind: u8| {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        assert_eq!(line.bytes().next()?, kind, "{line}");
        let number: usize = line[1..].trim().parse().ok()?;
        if kind == b'*' {
            return Some((number, Vec::new()));
        }
        let mut bytes = vec![0; number + 2];
        input.read_exact(&mut bytes).ok()?;
        bytes.truncate(number);
        Some((number, bytes))
    };
    let (count, _) = number(b'*')?;
    (0..count).map(|_| number(b'$').map(|(_, bytes)| bytes)).collect()
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn answer(
    name: &[u8],
    words: &[Vec<u8>],
    entries: &mut BTreeMap<Vec<u8>, Vec<u8>>,
    manner: Manner,
) -> Vec<u8> {
    let writes = matches!(name, b"SET" | b"MSET" | b"DEL");
    match manner {
        Manner::ReadOnly if writes => {
            return b"-READONLY the database is opened for reading\r\n".to_vec();
        }
        Manner::Poisoned if writes => {
            return b"-MISCONF Poisoned: refused after a failed sync\r\n".to_vec();
        }
        Manner::Full if writes => return b"-MISCONF DiskFull: no space\r\n".to_vec(),
        _ => {}
    }
    match name {
        b"GET" => entries.get(&words[1]).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)),
        b"SET" | b"MSET" => {
            for pair in words[1..].chunks(2) {
                entries.insert(pair[0].clone(), pair[1].clone());
            }
            b"+OK\r\n".to_vec()
        }
        b"DEL" => format!(":{}\r\n", u8::from(entries.remove(&words[1]).is_some())).into_bytes(),
        b"DBSIZE" => format!(":{}\r\n", entries.len()).into_bytes(),
        b"TOYKV" if words[1] == b"STATS" => {
            let pairs = [bulk(b"keys"), format!(":{}\r\n", entries.len()).into_bytes()];
            let pairs = [&pairs.concat()[..], &bulk(b"segment_bytes"), b":7\r\n"].concat();
            [b"*6\r\n", &pairs[..], &bulk(b"poisoned"), b"$-1\r\n"].concat()
        }
        b"SCAN" => scan(words, entries, manner),
        _ => b"-ERR unknown command\r\n".to_vec(),
    }
}

/// `SCAN cursor MATCH prefix* COUNT count`; a cursor is a position.
fn scan(words: &[Vec<u8>], entries: &BTreeMap<Vec<u8>, Vec<u8>>, manner: Manner) -> Vec<u8> {
    let number = |word: &[u8]| std::str::from_utf8(word).unwrap().parse::<usize>().unwrap();
    let (from, count) = (number(&words[1]), number(&words[5]));
    let prefix: Vec<u8> = words[3].iter().copied().filter(|b| !b"\\*".contains(b)).collect();
    let fitting: Vec<&Vec<u8>> = entries.keys().filter(|key| key.starts_with(&prefix)).collect();
    let mut page: Vec<&Vec<u8>> = fitting.iter().skip(from).take(count).copied().collect();
    if manner == Manner::Unordered {
        page.reverse();
    }
    let next = if from + count < fitting.len() { from + count } else { 0 };
    let mut out = [&b"*2\r\n"[..], &bulk(next.to_string().as_bytes())].concat();
    out.extend(format!("*{}\r\n", page.len()).bytes());
    page.iter().for_each(|key| out.extend(bulk(key)));
    out
}
