//! What calls take of the memory of all clients, and whether their connection moves.
//!
//! Every piece of a request counts, twice, as long as its call lasts: it is decoded and, when it
//! writes, copied into a batch. Of an answer the message counts that waits for the client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::budget::Share;
use crate::listen::Activity;
use crate::server::Shared;

/// A service whose calls are counted.
#[derive(Clone)]
pub(super) struct Counted<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Counted<S> {
    /// Counts the calls of `inner`.
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Counted<S> {
        Counted { inner, shared }
    }
}

impl<S> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let activity = request.extensions().get::<Arc<Activity>>().cloned();
        let share = || Arc::new(Mutex::new(Share::exact(&self.shared.budget)));
        let (asked, answered) = (share(), share());
        let held = Arc::clone(&asked);
        let moved = activity.clone();
        let request = request.map(|body| {
            Body::new(Pieces { body, share: asked, activity, copies: 2, sum: true, bytes: 0 })
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // The request is done with, or goes on in a stream that needs none of its bytes.
            drop(held);
            Ok(answer.map(|body| {
                let (share, activity) = (answered, moved);
                Body::new(Pieces { body, share, activity, copies: 1, sum: false, bytes: 0 })
            }))
        })
    }
}

/// A body whose pieces are counted.
struct Pieces {
    body: Body,
    share: Arc<Mutex<Share>>,
    activity: Option<Arc<Activity>>,
    copies: usize,
    /// All pieces together count, not only the newest.
    sum: bool,
    bytes: usize,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = std::task::ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(activity) = &this.activity {
            activity.touch();
        }
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        let size = frame.data_ref().map_or(0, Bytes::len);
        this.bytes = if this.sum { this.bytes + size } else { size };
        let mut share = this.share.lock().unwrap_or_else(PoisonError::into_inner);
        if !share.resize(this.bytes * this.copies) {
            let text = "too much memory is used by clients' calls";
            return Poll::Ready(Some(Err(Status::resource_exhausted(text))));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
