//! Compactions, collections and searches for damage as streams that tell how far they have come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use toykv::DamageReport;

use super::service::status;
use crate::metrics::add;
use crate::proto::verify_response::Part;
use crate::proto::{Finding, Progress, VerifyResponse, VerifyTotals};
use crate::server::Shared;
use crate::store::{Job, Upkeep};

/// Messages about one work, and why it failed.
pub(crate) type Reports<T> = ReceiverStream<Result<T, Status>>;

/// How far it has come, as a message of a kind.
pub(super) trait Told: From<Progress> + Send + 'static {
    /// What is sent of the end of a search.
    fn of(_: &DamageReport) -> Vec<Self> {
        Vec::new()
    }
}

impl Told for Progress {}

impl From<Progress> for VerifyResponse {
    fn from(progress: Progress) -> VerifyResponse {
        VerifyResponse { part: Some(Part::Progress(progress)) }
    }
}

impl Told for VerifyResponse {
    fn of(report: &DamageReport) -> Vec<VerifyResponse> {
        let finding = |own: &toykv::Finding| {
            Part::Finding(Finding {
                path: own.path.to_string_lossy().into_owned(),
                offset: own.offset,
                what: own.what.clone(),
                first_key: own.first_key.clone().map(Into::into),
                last_key: own.last_key.clone().map(Into::into),
                records: own.records,
            })
        };
        let totals = Part::Totals(VerifyTotals {
            files: report.files,
            bytes: report.bytes,
            records: report.records,
            findings: report.findings.len() as u64 + report.omitted_findings,
        });
        let parts = report.findings.iter().map(finding).chain([totals]);
        parts.map(|part| VerifyResponse { part: Some(part) }).collect()
    }
}

/// A call is told so often even when nothing has changed.
const EVERY: Duration = Duration::from_secs(1);

/// In place of no deadline.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Begins the work, and follows it until it ends, the deadline passes or the call is cancelled.
pub(super) fn start<T: Told>(
    shared: &Arc<Shared>,
    what: Upkeep,
    metadata: &MetadataMap,
) -> Result<Response<Reports<T>>, Status> {
    add(&shared.metrics.grpc_calls, 1);
    let deadline = Instant::now() + super::scan::timeout(metadata).unwrap_or(FOR_EVER);
    let job = shared.store.begin(what, &shared.shutdown).map_err(|error| status(&error))?;
    let Some(job) = job else {
        let text = "another compaction, collection or search is under way";
        return Err(Status::aborted(text));
    };
    let (send, reports) = mpsc::channel(1);
    tokio::spawn(async move {
        if timeout_at(deadline, follow(job, &send)).await.is_err() {
            let late = Status::deadline_exceeded("the work took longer than its deadline");
            // A client that does not read learns it from its own clock.
            let _ = send.try_send(Err(late));
        }
    });
    Ok(Response::new(ReceiverStream::new(reports)))
}

/// Ends early, and so gives the work up, when nobody hears it any more.
async fn follow<T: Told>(mut job: Job, send: &mpsc::Sender<Result<T, Status>>) {
    loop {
        let report = job.report();
        let progress = Progress { done_bytes: report.done_bytes, total_bytes: report.total_bytes };
        if send.send(Ok(progress.into())).await.is_err() {
            return;
        }
        match report.outcome {
            Some(Ok(found)) => {
                for part in found.iter().flat_map(|report| T::of(report)) {
                    if send.send(Ok(part)).await.is_err() {
                        return;
                    }
                }
                return;
            }
            Some(Err(error)) => {
                let _ = send.send(Err(status(&error))).await;
                return;
            }
            None => {}
        }
        tokio::select! {
            () = job.changed() => {}
            () = tokio::time::sleep(EVERY) => {}
            () = send.closed() => return,
        }
    }
}
