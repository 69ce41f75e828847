//! TLS on every port, with the certificate beside this file.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{PATIENCE, any_port, encode, start};

fn client(protocols: &[&[u8]]) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    let pem = include_bytes!("tls/cert.pem");
    roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap()
}

#[test]
fn every_port_speaks_tls_and_nothing_else() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls");
    let server = start(|config| {
        config.tls = Some((files.join("cert.pem"), files.join("key.pem")));
        config.grpc = Some(any_port());
        config.http = Some(any_port());
        config.limits.header_seconds = 2;
    });
    let connect = |address, protocols: &[&[u8]]| {
        let tcp = std::net::TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(client(protocols), tcp)
    };
    let mut resp = connect(server.address, &[]);
    let value = "v".repeat(300_000);
    resp.write_all(&encode(&["SET", "a", &value])).unwrap();
    resp.write_all(&encode(&["GET", "a"])).unwrap();
    let expected = format!("+OK\r\n${}\r\n{value}\r\n", value.len());
    let mut answer = vec![0; expected.len()];
    resp.read_exact(&mut answer).unwrap();
    assert!(answer == expected.as_bytes());
    let mut http = connect(server.http.unwrap(), &[b"http/1.1"]);
    http.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = http.read_to_end(&mut answer);
    assert!(answer.ends_with(b"ok"), "{}", String::from_utf8_lossy(&answer));
    let mut grpc = connect(server.grpc.unwrap(), &[b"h2"]);
    grpc.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut settings = [0; 9];
    grpc.read_exact(&mut settings).unwrap();
    assert_eq!(settings[3], 4, "{settings:?}");
    let mut plain = server.connect();
    plain.send(&encode(&["PING"]));
    let mut answer = Vec::new();
    let _ = plain.stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"+PONG"));
}
