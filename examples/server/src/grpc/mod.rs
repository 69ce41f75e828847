//! gRPC: the service of proto/toykv/v1/toykv.proto, health and reflection, on a port of its own.

mod counted;
mod fields;
mod scan;
mod service;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};
use tonic_health::ServingStatus;
use tower_layer::layer_fn;

use crate::auth::Secret;
use crate::listen::{Io, Moves, accept_http};
use crate::proto::DESCRIPTORS;
use crate::proto::toykv_server::ToykvServer;
use crate::server::Shared;
use counted::Counted;
use service::Service;

/// A connection that says nothing is asked, and closed when it does not answer.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(10);

/// How often the health service looks at the database.
const HEALTH_TICK: Duration = Duration::from_secs(1);

/// Lets only calls pass that bear the token.
#[derive(Clone)]
struct Gate(Secret);

impl Interceptor for Gate {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization");
        if self.0.admits_header(header.map(|value| value.as_bytes())) {
            return Ok(request);
        }
        Err(Status::unauthenticated("needs the metadata authorization: Bearer TOKEN"))
    }
}

/// Serves until the server ends; calls that have begun may finish.
pub(crate) async fn serve(shared: Arc<Shared>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    let (send, connections) = mpsc::channel::<std::io::Result<Io>>(1);
    let limits = shared.limits.clone();
    let message = limits.grpc_message_bytes as usize;
    let gate = Gate(shared.secret.clone());
    let service = ToykvServer::new(Service::new(Arc::clone(&shared)))
        .max_decoding_message_size(message)
        .max_encoding_message_size(message);
    let (reporter, health) = tonic_health::server::health_reporter();
    let watch = tokio::spawn(report_health(Arc::clone(&shared), reporter));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1();
    let Ok(reflection) = reflection else {
        tracing::error!("the compiled .proto file is not one");
        return;
    };
    let counted = Arc::clone(&shared);
    let server = Server::builder()
        .layer(layer_fn(move |inner| Counted::new(inner, Arc::clone(&counted))))
        .max_concurrent_streams(Some(limits.grpc_streams as u32))
        .http2_max_pending_accept_reset_streams(Some(limits.grpc_resets as usize))
        .max_connection_age(Duration::from_secs(limits.grpc_age_seconds))
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_PATIENCE))
        .http2_max_header_list_size(Some(16 << 10))
        .add_service(InterceptedService::new(service, gate.clone()))
        .add_service(InterceptedService::new(reflection, gate))
        .add_service(health);
    let hand_over = move |io| {
        let send = send.clone();
        async move {
            // Fails only when the server ends.
            let _ = send.send(Ok(io)).await;
        }
    };
    let accepting = accept_http(
        Arc::clone(&shared),
        listener,
        tls,
        limits.grpc_connections,
        Moves::Calls,
        hand_over,
    );
    let accepting = tokio::spawn(accepting);
    let ended = async move { shared.shutdown.wait().await };
    let served = server.serve_with_incoming_shutdown(ReceiverStream::new(connections), ended).await;
    if let Err(error) = served {
        tracing::error!(%error, "gRPC ended");
    }
    accepting.abort();
    watch.abort();
}

/// SERVING while writes are possible: the service, and the server as a whole, whose name is empty.
async fn report_health(shared: Arc<Shared>, reporter: tonic_health::server::HealthReporter) {
    loop {
        let fine = shared.store.health().poisoned.is_none() && !shared.shutdown.has_started();
        let status = if fine { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in ["", <ToykvServer<Service> as NamedService>::NAME] {
            reporter.set_service_status(name, status).await;
        }
        tokio::time::sleep(HEALTH_TICK).await;
    }
}
