//! The calls, translated to the store.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use toykv::{Durability, Error, ErrorKind, SeqNo, WriteBatch};

use super::scan::{ENTRY_BYTES, too_long};
use super::upkeep::Reports;
use crate::metrics::add;
use crate::proto::toykv_server::Toykv;
use crate::proto::write::Operation;
use crate::proto::{self, BatchWriteRequest, BatchWriteResponse, DeleteRequest, DeleteResponse};
use crate::proto::{CollectRequest, CompactRequest, ExplainRequest, ExplainResponse, Figure};
use crate::proto::{GetRequest, GetResponse, PutRequest, PutResponse, ScanRequest};
use crate::proto::{Progress, SnapshotSpace, StatsRequest, StatsResponse};
use crate::proto::{VerifyRequest, VerifyResponse};
use crate::server::Shared;
use crate::store::{Patience, Stall, Stripes, Upkeep};
use crate::threads::blocking;

/// The service.
pub(crate) struct Service {
    shared: Arc<Shared>,
}

impl Service {
    /// Calls of this server.
    pub(super) fn new(shared: Arc<Shared>) -> Service {
        Service { shared }
    }

    /// Writes, and makes it as durable as the call asks before it is acknowledged.
    fn write(
        &self,
        durability: i32,
        run: impl Fn(Patience) -> toykv::Result<SeqNo>,
    ) -> Result<SeqNo, Status> {
        add(&self.shared.metrics.grpc_calls, 1);
        let store = &self.shared.store;
        let durability = durability_of(durability, store.durability())?;
        let seqno = match run(Patience::None) {
            Err(error) if error.would_stall() => blocking(|| store.patiently(run)),
            result => result,
        };
        let seqno = seqno.map_err(|error| status(&error))?;
        // What the server itself writes at `process` nobody would sync at an interval.
        let more = durability == Durability::Interval && store.durability() == Durability::Process;
        if more || durability == Durability::Sync {
            blocking(|| store.settle()).map_err(|error| status(&error))?;
        }
        Ok(seqno)
    }
}

/// What a call asks for.
fn durability_of(number: i32, default: Durability) -> Result<Durability, Status> {
    match proto::Durability::try_from(number) {
        Ok(proto::Durability::Unspecified) => Ok(default),
        Ok(proto::Durability::Process) => Ok(Durability::Process),
        Ok(proto::Durability::Interval) => Ok(Durability::Interval),
        Ok(proto::Durability::Sync) => Ok(Durability::Sync),
        Err(_) => Err(Status::invalid_argument(format!("no durability has the number {number}"))),
    }
}

/// Metadata of a failed call: the engine's kind of error, which is finer than gRPC's codes.
const ERROR_KIND: &str = "toykv-error-kind";

/// An engine's error as gRPC knows it: the code says what to do.
pub(super) fn status(error: &Error) -> Status {
    let mut status = coded(error);
    if let Ok(kind) = format!("{:?}", error.kind()).parse() {
        status.metadata_mut().insert(ERROR_KIND, kind);
    }
    status
}

fn coded(error: &Error) -> Status {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::TooLarge => Status::invalid_argument(text),
        ErrorKind::ReadOnly | ErrorKind::Poisoned => Status::failed_precondition(text),
        ErrorKind::DiskFull | ErrorKind::NoMemory => Status::resource_exhausted(text),
        ErrorKind::Closed | ErrorKind::WouldStall => Status::unavailable(text),
        ErrorKind::Corruption => Status::data_loss(text),
        ErrorKind::Cancelled => Status::cancelled(text),
        _ => Status::internal(text),
    }
}

#[tonic::async_trait]
impl Toykv for Service {
    type ScanStream = super::scan::Entries;
    type CompactStream = Reports<Progress>;
    type CollectStream = Reports<Progress>;
    type VerifyStream = Reports<VerifyResponse>;

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        add(&self.shared.metrics.grpc_calls, 1);
        let value = self.shared.store.get(&request.get_ref().key).map_err(|e| status(&e))?;
        let limit = self.shared.limits.grpc_message_bytes as usize;
        let long = value.as_ref().filter(|value| value.len() + ENTRY_BYTES > limit);
        if let Some(value) = long {
            return Err(too_long(value.len(), limit));
        }
        // The bytes stay where they are until they are sent.
        Ok(Response::new(GetResponse { value: value.map(Bytes::from_owner) }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let request = request.into_inner();
        let store = &self.shared.store;
        let put = |patience| store.put(&request.key, &request.value, patience);
        let seqno = self.write(request.durability, put)?;
        Ok(Response::new(PutResponse { seqno }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteResponse>, Status> {
        let request = request.into_inner();
        let store = &self.shared.store;
        let seqno =
            self.write(request.durability, |patience| store.delete(&request.key, patience))?;
        Ok(Response::new(DeleteResponse { seqno }))
    }

    async fn batch_write(
        &self,
        request: Request<BatchWriteRequest>,
    ) -> Result<Response<BatchWriteResponse>, Status> {
        let request = request.into_inner();
        let store = &self.shared.store;
        let (mut batch, mut stripes) = (WriteBatch::new(), Stripes::default());
        for write in &request.writes {
            let (key, added) = match &write.operation {
                Some(Operation::Put(put)) => (&put.key, batch.put(&put.key, &put.value)),
                Some(Operation::Delete(key)) => (key, batch.delete(key)),
                None => return Err(Status::invalid_argument("a write without an operation")),
            };
            added.map_err(|error| status(&error))?;
            stripes.add(store.stripe(key));
        }
        let seqno =
            self.write(request.durability, |patience| store.write(&batch, stripes, patience))?;
        Ok(Response::new(BatchWriteResponse { seqno }))
    }

    async fn scan(
        &self,
        request: Request<ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        add(&self.shared.metrics.grpc_calls, 1);
        super::scan::start(&self.shared, request).map(Response::new)
    }

    async fn stats(&self, _: Request<StatsRequest>) -> Result<Response<StatsResponse>, Status> {
        add(&self.shared.metrics.grpc_calls, 1);
        let store = &self.shared.store;
        let keys = blocking(|| store.len()).map_err(|error| status(&error))?;
        let health = store.health();
        let text = |error: Option<Error>| error.map_or_else(String::new, |e| e.to_string());
        let numbers = store.stats().numbers();
        Ok(Response::new(StatsResponse {
            keys,
            poisoned: text(health.poisoned),
            background_error: text(health.background_error),
            figures: figures(numbers.iter().map(|number| (number.name, number.value))),
        }))
    }

    async fn explain(
        &self,
        _: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        add(&self.shared.metrics.grpc_calls, 1);
        let space = blocking(|| self.shared.store.explain_space()).map_err(|e| status(&e))?;
        let snapshots = space.snapshots.iter().map(|own| SnapshotSpace {
            seqno: own.seqno,
            count: own.count as u64,
            age_ms: own.age_ms,
            held_bytes: own.held_bytes,
        });
        let snapshots = snapshots.collect();
        Ok(Response::new(ExplainResponse {
            figures: figures(space.numbers().into_iter()),
            snapshots,
        }))
    }

    async fn compact(
        &self,
        request: Request<CompactRequest>,
    ) -> Result<Response<Self::CompactStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let (start, end) = (request.start.map(Into::into), request.end.map(Into::into));
        super::upkeep::start(&self.shared, Upkeep::Compact { start, end }, &metadata)
    }

    async fn collect(
        &self,
        request: Request<CollectRequest>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        super::upkeep::start(&self.shared, Upkeep::Collect, request.metadata())
    }

    async fn verify(
        &self,
        request: Request<VerifyRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        super::upkeep::start(&self.shared, Upkeep::Verify, request.metadata())
    }
}

fn figures(numbers: impl Iterator<Item = (&'static str, u64)>) -> Vec<Figure> {
    numbers.map(|(name, value)| Figure { name: name.into(), value }).collect()
}
