//! Scans as streams. A message is read when the client has room for it, so that a client that does
//! not read costs a pinned state and no thread.

use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use toykv::{Scan, ScanOptions};

use super::service::status;
use crate::proto::{Entry, ScanRequest, ScanResponse};
use crate::server::Shared;
use crate::threads::blocking;

/// Bytes of a message, about; one entry may be larger.
const MESSAGE_BYTES: usize = 64 << 10;

/// What an entry takes in a message beside its key and its value, at most.
pub(super) const ENTRY_BYTES: usize = 32;

/// Entries as a stream of messages.
pub(crate) struct Entries {
    scan: Option<Scan>,
    deadline: Option<Instant>,
    limit: usize,
    shared: Arc<Shared>,
}

/// Pins the state. Dropping the stream, as a cancelled call does, ends the scan.
pub(super) fn start(
    shared: &Arc<Shared>,
    request: Request<ScanRequest>,
) -> Result<Entries, Status> {
    let deadline = timeout(request.metadata()).map(|timeout| Instant::now() + timeout);
    let scan = shared.store.scan(&options(request.get_ref())).map_err(|error| status(&error))?;
    let limit = shared.limits.grpc_message_bytes as usize;
    Ok(Entries { scan: Some(scan), deadline, limit, shared: Arc::clone(shared) })
}

impl Stream for Entries {
    type Item = Result<ScanResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(scan) = &mut this.scan else { return Poll::Ready(None) };
        let late = this.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let message = if late {
            Err(Status::deadline_exceeded("the scan took longer than its deadline"))
        } else if this.shared.shutdown.has_started() {
            Err(Status::unavailable("the server ends"))
        } else {
            blocking(|| next_message(scan, this.limit))
        };
        if !matches!(message, Ok(Some(_))) {
            this.scan = None;
        }
        Poll::Ready(message.transpose())
    }
}

fn options(request: &ScanRequest) -> ScanOptions {
    let mut options = ScanOptions::new().reverse(request.reverse).keys_only(request.keys_only);
    if let Some(start) = &request.start {
        options = options.lower(Bound::Included(start));
    }
    if let Some(end) = &request.end {
        options = options.upper(Bound::Excluded(end));
    }
    if !request.prefix.is_empty() {
        options = options.prefix(&request.prefix);
    }
    if request.limit > 0 {
        options = options.limit(request.limit);
    }
    options
}

fn next_message(scan: &mut Scan, limit: usize) -> Result<Option<ScanResponse>, Status> {
    let (mut message, mut bytes) = (ScanResponse::default(), 0);
    while bytes < MESSAGE_BYTES.min(limit / 2) {
        let Some(entry) = scan.next_entry().map_err(|error| status(&error))? else { break };
        let size = entry.key.len() + entry.value.len() + ENTRY_BYTES;
        if size > limit {
            // Not even copied.
            return Err(too_long(entry.value.len(), limit));
        }
        if bytes > 0 && bytes + size > limit {
            // Back over it: it opens the next message.
            scan.prev_entry().map_err(|error| status(&error))?;
            break;
        }
        bytes += size;
        message
            .entries
            .push(Entry { key: entry.key.to_vec().into(), value: entry.value.to_vec().into() });
    }
    Ok((!message.entries.is_empty()).then_some(message))
}

/// A value that no message takes.
#[cold]
pub(super) fn too_long(value_bytes: usize, limit: usize) -> Status {
    let what = "message length too large: this value goes by Redis' protocol";
    Status::out_of_range(format!("{what}; {value_bytes} bytes, the limit is {limit}"))
}

/// The header `grpc-timeout`: up to eight digits and a unit.
pub(super) fn timeout(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read() {
        let of = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            timeout(&metadata)
        };
        assert_eq!(of("5S"), Some(Duration::from_secs(5)));
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "S", "5", "5x", "999999999S", "-1S"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
