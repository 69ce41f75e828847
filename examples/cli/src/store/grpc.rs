//! A server by gRPC: toykv-server's service, as examples/server/proto describes it.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::runtime::Runtime;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use super::proto::toykv_client::ToykvClient;
use super::proto::verify_response::Part;
use super::proto::write::Operation;
use super::proto::{
    BatchWriteRequest, CollectRequest, CompactRequest, DeleteRequest, ExplainRequest, GetRequest,
    Progress, Put, PutRequest, ScanRequest, StatsRequest, StatsResponse, VerifyRequest,
    VerifyResponse, Write,
};
use super::{Damage, Entries, Figures, Range, Spot, Store, Visit, Watch};
use crate::args::{Durability, Target};
use crate::failure::{Exit, Failure, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// When a server that says nothing is asked whether it is there, and how long it may take.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// What it may mean when something answers and no call can be made.
const FOREIGN: &str = "; does gRPC answer there, and in clear for http://?";

/// How often a call that waits looks whether Ctrl-C was pressed.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A request stays so far below the 4 MiB that a server takes unless told otherwise.
const MESSAGE_BYTES: usize = 3 << 20;

/// What an entry takes in a message beside its key and its value, at most.
const ENTRY_BYTES: usize = 32;

/// Metadata of a failed call: the engine's kind of error.
const ERROR_KIND: &str = "toykv-error-kind";

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
        endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
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
            let hint = if std::error::Error::source(&error).is_some() { "" } else { FOREIGN };
            let message = format!("{address}: {}{hint}", causes(&error));
            Failure::new(Exit::Unreachable, message)
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

    /// Tells `watch` how far long work has come until it ends; leaving it cancels it. `read` takes
    /// what messages say beside that.
    fn follow<T>(
        &self,
        answer: std::result::Result<Response<Streaming<T>>, Status>,
        read: &mut dyn FnMut(T) -> Option<Progress>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let failed = |status: Status| failure(&self.address, &status);
        let mut stream = answer.map_err(failed)?.into_inner();
        let (mut done, mut total) = (0, 0);
        loop {
            let next = self
                .runtime
                .block_on(async { tokio::time::timeout(LOOK_UP, stream.message()).await });
            match next {
                // Nothing new, but the person may have pressed Ctrl-C.
                Err(_) => {}
                Ok(message) => match message.map_err(failed)? {
                    Some(message) => {
                        if let Some(progress) = read(message) {
                            (done, total) = (progress.done_bytes, progress.total_bytes);
                        }
                    }
                    None => return Ok(()),
                },
            }
            if watch(done, total).is_break() {
                return Err(Failure::new(Exit::Cancelled, "interrupted"));
            }
        }
    }

    /// Stores values in one message.
    fn write(&mut self, entries: &Entries) -> Result<()> {
        let put = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let put = Put { key: key.clone(), value: value.clone() };
            Write { operation: Some(Operation::Put(put)) }
        };
        let writes = entries.iter().map(put).collect();
        let request = self.timed(BatchWriteRequest { writes, durability: self.durability });
        let answer = self.runtime.block_on(self.client.batch_write(request));
        answer.map(drop).map_err(|status| failure(&self.address, &status))
    }

    fn figures(&mut self) -> Result<StatsResponse> {
        let request = self.timed(StatsRequest {});
        let answer = self.runtime.block_on(self.client.stats(request));
        Ok(answer.map_err(|status| failure(&self.address, &status))?.into_inner())
    }
}

/// How many of some entries go into one message: as many as fit, but at least one.
fn fitting(entries: &Entries) -> usize {
    let mut bytes = 0;
    let fit = |(key, value): &&(Vec<u8>, Vec<u8>)| {
        bytes += key.len() + value.len() + ENTRY_BYTES;
        bytes <= MESSAGE_BYTES
    };
    entries.iter().take_while(fit).count().max(1)
}

/// An error and what caused it, in one line; nothing twice.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        source = cause.source();
    }
    text
}

/// What a failed call means.
fn failure(address: &str, status: &Status) -> Failure {
    // What a server answers has no cause here.
    if let Some(cause) = std::error::Error::source(status) {
        let (message, cause) = (status.message(), causes(cause));
        let cause = if cause.contains(message) { cause } else { format!("{message}: {cause}") };
        let hint = matches!(status.code(), Code::Internal | Code::Unknown).then_some(FOREIGN);
        let message = format!("{address}: {cause}{}", hint.unwrap_or_default());
        return Failure::new(Exit::Unreachable, message);
    }
    let kind = status.metadata().get(ERROR_KIND).and_then(|kind| kind.to_str().ok());
    let exit = kind.and_then(Exit::of_kind_named).unwrap_or_else(|| exit(status.code()));
    Failure::new(exit, format!("{address}: {}", status.message()))
}

/// What a failure without an engine's kind means.
fn exit(code: Code) -> Exit {
    match code {
        Code::InvalidArgument | Code::OutOfRange => Exit::Usage,
        Code::FailedPrecondition => Exit::ReadOnly,
        // There is no memory for it just now: a full disk is told by its kind.
        Code::ResourceExhausted => Exit::Busy,
        Code::DataLoss => Exit::Corruption,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Refused,
        Code::Unimplemented => Exit::Unsupported,
        Code::Aborted => Exit::Busy,
        // The connection ended, or nothing came in time.
        Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
            Exit::Unreachable
        }
        _ => Exit::Io,
    }
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
        let mut rest = entries;
        while !rest.is_empty() {
            let (now, behind) = rest.split_at(fitting(rest));
            self.write(now)?;
            rest = behind;
        }
        Ok(())
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
        figures.insert("keys".into(), stats.keys.into());
        figures.extend(stats.figures.into_iter().map(|own| (own.name, own.value.into())));
        figures.insert("poisoned".into(), text(stats.poisoned).into());
        figures.insert("background_error".into(), text(stats.background_error).into());
        Ok(figures)
    }

    fn compact(&mut self, range: &Range, watch: &mut Watch<'_>) -> Result<()> {
        let (start, end) = (range.start.clone(), range.end.clone());
        let request = self.request(CompactRequest { start, end });
        let answer = self.runtime.block_on(self.client.compact(request));
        self.follow(answer, &mut Some, watch)
    }

    fn explain(&mut self) -> Result<Figures> {
        let request = self.timed(ExplainRequest {});
        let answer = self.runtime.block_on(self.client.explain(request));
        let space = answer.map_err(|status| failure(&self.address, &status))?.into_inner();
        let mut figures: Figures =
            space.figures.into_iter().map(|own| (own.name, own.value.into())).collect();
        for (index, own) in space.snapshots.iter().enumerate() {
            figures.extend([super::snapshot_figure(index, own.held_bytes, own.age_ms)]);
        }
        Ok(figures)
    }

    fn collect(&mut self, watch: &mut Watch<'_>) -> Result<()> {
        let request = self.request(CollectRequest {});
        let answer = self.runtime.block_on(self.client.collect(request));
        self.follow(answer, &mut Some, watch)
    }

    fn verify(&mut self, watch: &mut Watch<'_>) -> Result<Damage> {
        let request = self.request(VerifyRequest {});
        let answer = self.runtime.block_on(self.client.verify(request));
        let (mut damage, mut ended) = (Damage::default(), false);
        let mut read = |message: VerifyResponse| match message.part? {
            Part::Progress(progress) => Some(progress),
            Part::Finding(finding) => {
                damage.places.push(Spot {
                    path: finding.path.into_bytes(),
                    offset: finding.offset,
                    what: finding.what,
                    first_key: finding.first_key,
                    last_key: finding.last_key,
                    records: finding.records,
                });
                None
            }
            Part::Totals(totals) => {
                (damage.files, damage.bytes) = (totals.files, totals.bytes);
                (damage.records, damage.count) = (totals.records, totals.findings);
                ended = true;
                None
            }
        };
        self.follow(answer, &mut read, watch)?;
        if !ended {
            let message = format!("{}: the search ended without its totals", self.address);
            return Err(Failure::new(Exit::Unreachable, message));
        }
        Ok(damage)
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
