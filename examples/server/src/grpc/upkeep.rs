//! Compactions and collections as streams that tell how far they have come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use super::service::status;
use crate::metrics::add;
use crate::proto::Progress;
use crate::server::Shared;
use crate::store::{Job, Upkeep};

/// How far it has come, again and again, and why it failed.
pub(crate) type Reports = ReceiverStream<Result<Progress, Status>>;

/// A call is told so often even when nothing has changed.
const EVERY: Duration = Duration::from_secs(1);

/// In place of no deadline.
const FOR_EVER: Duration = Duration::from_secs(30 * 365 * 86_400);

/// Begins the work, and follows it until it ends, the deadline passes or the call is cancelled.
pub(super) fn start(
    shared: &Arc<Shared>,
    what: Upkeep,
    metadata: &MetadataMap,
) -> Result<Response<Reports>, Status> {
    add(&shared.metrics.grpc_calls, 1);
    let deadline = Instant::now() + super::scan::timeout(metadata).unwrap_or(FOR_EVER);
    let job = shared.store.begin(what, &shared.shutdown).map_err(|error| status(&error))?;
    let Some(job) = job else {
        return Err(Status::aborted("another compaction or collection is under way"));
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
async fn follow(mut job: Job, send: &mpsc::Sender<Result<Progress, Status>>) {
    loop {
        let report = job.report();
        let progress = Progress { done_bytes: report.done_bytes, total_bytes: report.total_bytes };
        if send.send(Ok(progress)).await.is_err() {
            return;
        }
        match report.outcome {
            Some(Ok(())) => return,
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
