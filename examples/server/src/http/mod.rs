//! The status port: a page for people, `/metrics` for Prometheus, `/status.json` for the page and
//! `/health` for whoever starts and stops servers.

mod prometheus;
mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::listen::{Moves, accept_http};
use crate::server::Shared;
use crate::threads::blocking;

/// The page: everything in one file, nothing is fetched from elsewhere.
const PAGE: &str = include_str!("page.html");

/// What the page may do.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Largest request head.
const HEAD_BYTES: usize = 16 << 10;

type Answer = Response<Full<Bytes>>;

/// Serves until the server ends.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let limit = shared.limits.http_connections;
    let patience = Duration::from_secs(shared.limits.header_seconds);
    let own = Arc::clone(&shared);
    let serve = move |io| {
        let shared = Arc::clone(&own);
        async move {
            let service = service_fn(|request| {
                let answer = answer(&shared, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A broken connection is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(patience)
                .max_buf_size(HEAD_BYTES)
                .serve_connection(TokioIo::new(io), service)
                .await;
        }
    };
    accept_http(shared, listener, tls, limit, Moves::Bytes, serve).await;
}

fn answer(shared: &Arc<Shared>, request: &Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    let path = request.uri().path();
    if path == "/health" {
        return match shared.store.health().poisoned {
            None => text(StatusCode::OK, "ok"),
            Some(error) => text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        };
    }
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    if !admits(shared, header) {
        let mut refusal = text(StatusCode::UNAUTHORIZED, "needs the password");
        let how = HeaderValue::from_static("Basic realm=\"toykv\"");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, how);
        return refusal;
    }
    match path {
        "/" => {
            let mut page = body(StatusCode::OK, "text/html; charset=utf-8", PAGE);
            let policy = HeaderValue::from_static(POLICY);
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            page
        }
        "/status.json" => match blocking(|| status::json(shared)) {
            Ok(json) => body(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        "/metrics" => match blocking(|| prometheus::text(shared)) {
            Ok(metrics) => body(StatusCode::OK, "text/plain; version=0.0.4", metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        _ => text(StatusCode::NOT_FOUND, "/ /metrics /status.json /health"),
    }
}

/// The token, or the password with any user name, as browsers ask for it.
fn admits(shared: &Shared, header: Option<&[u8]>) -> bool {
    let basic = header.and_then(|header| header.strip_prefix(b"Basic "));
    let basic = basic.and_then(decode_base64);
    let password = basic.as_deref().and_then(|pair| pair.splitn(2, |byte| *byte == b':').nth(1));
    shared.secret.admits_header(header)
        || password.is_some_and(|password| shared.secret.admits(password))
}

/// Base64 with or without padding; `None` for anything else.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.iter().filter(|byte| **byte != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    body(status, "text/plain; charset=utf-8", text)
}

fn body(status: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(bytes.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::decode_base64;

    #[test]
    fn base64_is_decoded() {
        assert_eq!(decode_base64(b"YTpodW50ZXIy").as_deref(), Some(&b"a:hunter2"[..]));
        assert_eq!(decode_base64(b"YTpi/w==").as_deref(), Some(&b"a:b\xff"[..]));
        assert_eq!(decode_base64(b"a*b"), None);
    }
}
