//! A server by gRPC: toykv-server's service, as examples/server/proto describes it.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::runtime::Runtime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::proto::toykv_client::ToykvClient;
use super::proto::write::Operation;
use super::proto::{
    BatchWriteRequest, DeleteRequest, GetRequest, Put, PutRequest, ScanRequest, StatsRequest,
    StatsResponse, Write,
};
use super::{Entries, Figures, Range, Store, Visit, Watch, unsupported};
use crate::args::{Durability, Target};
use crate::failure::{Exit, Failure, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Of calls with one answer. A scan may take as long as it moves.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection, and the runtime that moves it while a call waits.
pub(crate) struct Grpc {
    address: String,
    runtime: Runtime,
    client: ToykvClient<Channel>,
    token: Option<MetadataValue<Ascii>>,
    durability: i32,
}

impl Grpc {
    /// Connects to `http://host:port` or `https://host:port`.
    pub(crate) fn open(address: &str, target: &Target, password: Option<&str>) -> Result<Grpc> {
        let token = password.map(|password| MetadataValue::try_from(format!("Bearer {password}")));
        let token = token
            .transpose()
            .map_err(|_| Failure::usage("the password has characters that a token cannot have"))?;
        let durability = match target.durability {
            None => super::proto::Durability::Unspecified,
            Some(Durability::Process) => super::proto::Durability::Process,
            Some(Durability::Interval) => super::proto::Durability::Interval,
            Some(Durability::Sync) => super::proto::Durability::Sync,
        };
        let wrong = |error: tonic::transport::Error| {
            Failure::usage(format!("{address:?} is no address: {}", causes(&error)))
        };
        let mut endpoint = Endpoint::from_shared(address.to_owned()).map_err(wrong)?;
        endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT);
        if address.starts_with("https://") {
            let mut tls = ClientTlsConfig::new().with_native_roots();
            if let Some(path) = &target.ca {
                tls = ClientTlsConfig::new()
                    .ca_certificate(Certificate::from_pem(crate::files::read_all(path)?));
            }
            endpoint = endpoint.tls_config(tls).map_err(wrong)?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let channel = runtime.block_on(endpoint.connect()).map_err(|error| {
            Failure::new(Exit::Unreachable, format!("{address}: {}", causes(&error)))
        })?;
        // The server says how large a message may be.
        let client = ToykvClient::new(channel).max_decoding_message_size(usize::MAX);
        let durability = durability as i32;
        Ok(Grpc { address: address.to_owned(), runtime, client, token, durability })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    /// A request that has to be answered in time.
    fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        request.set_timeout(ANSWER_TIMEOUT);
        request
    }

    fn figures(&mut self) -> Result<StatsResponse> {
        let request = self.timed(StatsRequest {});
        let answer = self.runtime.block_on(self.client.stats(request));
        Ok(answer.map_err(|status| failure(&self.address, &status))?.into_inner())
    }
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// What a failed call means.
fn failure(address: &str, status: &Status) -> Failure {
    let exit = match status.code() {
        Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
        Code::FailedPrecondition => Exit::ReadOnly,
        Code::ResourceExhausted => Exit::DiskFull,
        Code::DataLoss => Exit::Corruption,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Refused,
        Code::Unimplemented => Exit::Unsupported,
        Code::Aborted | Code::Cancelled | Code::DeadlineExceeded => Exit::Busy,
        Code::Unavailable | Code::Unknown => Exit::Unreachable,
        _ => Exit::Io,
    };
    Failure::new(exit, format!("{address}: {}", status.message()))
}

impl Store for Grpc {
    fn name(&self) -> String {
        self.address.clone()
    }

    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let request = self.timed(GetRequest { key: key.to_vec() });
        let answer = self.runtime.block_on(self.client.get(request));
        Ok(answer.map_err(|status| failure(&self.address, &status))?.into_inner().value)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let (key, value) = (key.to_vec(), value.to_vec());
        let request = self.timed(PutRequest { key, value, durability: self.durability });
        let answer = self.runtime.block_on(self.client.put(request));
        answer.map(drop).map_err(|status| failure(&self.address, &status))
    }

    fn delete(&mut self, key: &[u8]) -> Result<()> {
        let key = key.to_vec();
        let request = self.timed(DeleteRequest { key, durability: self.durability });
        let answer = self.runtime.block_on(self.client.delete(request));
        answer.map(drop).map_err(|status| failure(&self.address, &status))
    }

    fn put_all(&mut self, entries: &Entries) -> Result<()> {
        let put = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let put = Put { key: key.clone(), value: value.clone() };
            Write { operation: Some(Operation::Put(put)) }
        };
        let writes = entries.iter().map(put).collect();
        let request = self.timed(BatchWriteRequest { writes, durability: self.durability });
        let answer = self.runtime.block_on(self.client.batch_write(request));
        answer.map(drop).map_err(|status| failure(&self.address, &status))
    }

    fn scan(&mut self, range: &Range, visit: &mut Visit<'_>) -> Result<()> {
        if range.limit == Some(0) {
            return Ok(());
        }
        let request = self.request(ScanRequest {
            start: range.start.clone(),
            end: range.end.clone(),
            prefix: range.prefix.clone(),
            reverse: range.reverse,
            limit: range.limit.unwrap_or(0),
            keys_only: range.keys_only,
        });
        let failed = |status: Status| failure(&self.address, &status);
        let answer = self.runtime.block_on(self.client.scan(request)).map_err(failed)?;
        let mut stream = answer.into_inner();
        while let Some(message) = self.runtime.block_on(stream.message()).map_err(failed)? {
            for entry in message.entries {
                if visit(&entry.key, &entry.value)? == ControlFlow::Break(()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn len(&mut self) -> Result<u64> {
        Ok(self.figures()?.keys)
    }

    fn scans_are_frozen(&self) -> bool {
        true
    }

    fn stats(&mut self) -> Result<Figures> {
        let stats = self.figures()?;
        let text = |text: String| if text.is_empty() { None } else { Some(text) };
        let mut figures = Figures::new();
        for (name, value) in [
            ("keys", stats.keys),
            ("seqno", stats.seqno),
            ("memtables", stats.memtables),
            ("memtable_bytes", stats.memtable_bytes),
            ("runs", stats.runs),
            ("tables", stats.tables),
            ("table_bytes", stats.table_bytes),
            ("segments", stats.segments),
            ("segment_bytes", stats.segment_bytes),
            ("snapshots", stats.snapshots),
            ("flushes", stats.flushes),
            ("compactions", stats.compactions),
            ("compaction_bytes_read", stats.compaction_bytes_read),
            ("compaction_bytes_written", stats.compaction_bytes_written),
            ("flush_bytes_written", stats.flush_bytes_written),
            ("log_bytes_written", stats.log_bytes_written),
            ("syncs", stats.syncs),
            ("stalled_us", stats.stalled_us),
        ] {
            figures.insert(name.into(), value.into());
        }
        figures.insert("poisoned".into(), text(stats.poisoned).into());
        figures.insert("background_error".into(), text(stats.background_error).into());
        Ok(figures)
    }

    fn compact(&mut self, _range: &Range, _watch: &mut Watch<'_>) -> Result<()> {
        Err(unsupported("compact", &self.address, super::ON_THE_DIRECTORY))
    }

    fn explain(&mut self) -> Result<Figures> {
        Err(unsupported("explain", &self.address, super::ON_THE_DIRECTORY))
    }

    fn collect(&mut self, _watch: &mut Watch<'_>) -> Result<()> {
        Err(unsupported("gc", &self.address, super::ON_THE_DIRECTORY))
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
