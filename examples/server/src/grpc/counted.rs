//! What calls take of the memory of all clients, and whether their connection moves.
//!
//! Every piece of a request counts, twice, as long as its call lasts: it is decoded and, when it
//! writes, copied into a batch; and so does every field, for what it becomes in memory. Of an
//! answer the message counts that waits for the client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;

use super::fields::Fields;
use crate::budget::Share;
use crate::listen::Activity;
use crate::server::Shared;

/// What a field becomes at most, in a list that doubles when it grows.
const FIELD_BYTES: usize = 2 * size_of::<crate::proto::Write>();

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
        let token = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        // What strangers ask keeps no connection.
        let admitted = self.shared.secret.admits_header(token);
        let activity = request.extensions().get::<Arc<Activity>>().filter(|_| admitted).cloned();
        let share = || Arc::new(Mutex::new(Share::exact(&self.shared.budget)));
        let (asked, answered) = (share(), share());
        let held = Arc::clone(&asked);
        let (shared, begun) = (Arc::clone(&self.shared), Instant::now());
        let path = request.uri().path().to_owned();
        let moved = activity.clone();
        let request = request.map(|body| {
            let fields = Some(Fields::new());
            Body::new(Pieces { body, share: asked, activity, fields, bytes: 0 })
        });
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let took = begun.elapsed();
            // Of strangers the log knows nothing.
            if took >= shared.slow && admitted {
                shared.note_slow(&path, 1, took);
            }
            // The request is done with, or goes on in a stream that needs none of its bytes.
            drop(held);
            Ok(answer.map(|body| {
                let (share, activity) = (answered, moved);
                Body::new(Pieces { body, share, activity, fields: None, bytes: 0 })
            }))
        })
    }
}

/// A body whose pieces are counted.
struct Pieces {
    body: Body,
    share: Arc<Mutex<Share>>,
    activity: Option<Arc<Activity>>,
    /// Of a request, of which all pieces count, not only the newest.
    fields: Option<Fields>,
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
        let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
        let needed = match &mut this.fields {
            None => data.len(),
            Some(fields) => {
                fields.read(data);
                this.bytes += data.len();
                2 * this.bytes + fields.count() * FIELD_BYTES
            }
        };
        let mut share = this.share.lock().unwrap_or_else(PoisonError::into_inner);
        if !share.resize(needed) {
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
