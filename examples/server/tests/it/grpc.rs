//! gRPC, with tonic's client.

use std::time::Duration;

use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use toykv_server::Secret;
use toykv_server::proto::Put;
use toykv_server::proto::toykv_client::ToykvClient;
use toykv_server::proto::write::Operation;
use toykv_server::proto::{BatchWriteRequest, DeleteRequest, Durability, GetRequest};
use toykv_server::proto::{CollectRequest, CompactRequest, ExplainRequest};
use toykv_server::proto::{PutRequest, ScanRequest, StatsRequest, Write as WriteMessage};
use toykv_server::proto::{VerifyRequest, verify_response::Part};

use crate::support::{Running, any_port, start};

pub(crate) type Client = ToykvClient<Channel>;

pub(crate) fn serve() -> Running {
    start(|config| config.grpc = Some(any_port()))
}

/// Runs a test's calls.
pub(crate) fn calls<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) async fn connect(server: &Running) -> Client {
    let address = format!("http://{}", server.grpc.unwrap());
    ToykvClient::new(Endpoint::new(address).unwrap().connect().await.unwrap())
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_string().into(),
        value: value.to_string().into(),
        ..PutRequest::default()
    }
}

pub(crate) fn get(key: &str) -> GetRequest {
    GetRequest { key: key.to_string().into() }
}

pub(crate) async fn keys(client: &mut Client, request: ScanRequest) -> Vec<String> {
    let mut stream = client.scan(request).await.unwrap().into_inner();
    let mut keys = Vec::new();
    while let Some(message) = stream.next().await {
        let entries = message.unwrap().entries;
        keys.extend(entries.iter().map(|e| String::from_utf8(e.key.to_vec()).unwrap()));
    }
    keys
}

#[test]
fn every_call() {
    let server = serve();
    calls(async {
        let mut client = connect(&server).await;
        let seqno = client.put(put("a", "1")).await.unwrap().into_inner().seqno;
        for durability in [Durability::Process, Durability::Interval, Durability::Sync] {
            let request = PutRequest { durability: durability.into(), ..put("b", "2") };
            assert!(client.put(request).await.unwrap().into_inner().seqno > seqno);
        }
        let wrong = PutRequest { durability: 9, ..put("b", "3") };
        assert_eq!(client.put(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        let value = client.get(get("a")).await.unwrap().into_inner().value;
        assert_eq!(value.as_deref(), Some(&b"1"[..]));
        assert_eq!(client.get(get("x")).await.unwrap().into_inner().value, None);
        let operations = [
            Operation::Put(Put { key: "c".into(), value: "3".into() }),
            Operation::Delete("a".into()),
        ];
        let writes = operations.map(|o| WriteMessage { operation: Some(o) }).to_vec();
        let batch = BatchWriteRequest { writes, durability: Durability::Sync.into() };
        client.batch_write(batch).await.unwrap();
        assert_eq!(keys(&mut client, ScanRequest::default()).await, ["b", "c"]);
        let nothing = BatchWriteRequest { writes: vec![WriteMessage::default()], durability: 0 };
        let error = client.batch_write(nothing).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let delete = DeleteRequest { key: "b".into(), durability: 0 };
        client.delete(delete).await.unwrap();
        let stats = client.stats(StatsRequest {}).await.unwrap().into_inner();
        assert_eq!((stats.keys, stats.poisoned.as_str()), (1, ""));
        let figure = |name: &str| stats.figures.iter().find(|own| own.name == name).unwrap().value;
        assert!(figure("segments") > 0 && figure("syncs") > 0);
        let space = client.explain(ExplainRequest {}).await.unwrap().into_inner();
        assert_eq!(space.figures[0].name, "total_bytes");
        assert!(space.figures[0].value > 0 && space.snapshots.is_empty());
        let long = GetRequest { key: vec![b'k'; 70_000].into() };
        assert_eq!(client.get(long).await.unwrap_err().code(), Code::InvalidArgument);
    });
}

#[test]
fn scans_in_both_directions_within_bounds() {
    let server = serve();
    calls(async {
        let mut client = connect(&server).await;
        for n in 0..20 {
            client.put(put(&format!("k{n:02}"), &"v".repeat(30_000))).await.unwrap();
        }
        let scan = ScanRequest::default();
        assert_eq!(keys(&mut client, scan.clone()).await.len(), 20);
        let range =
            ScanRequest { start: Some("k03".into()), end: Some("k05".into()), ..scan.clone() };
        assert_eq!(keys(&mut client, range.clone()).await, ["k03", "k04"]);
        let back = ScanRequest { reverse: true, ..range };
        assert_eq!(keys(&mut client, back).await, ["k04", "k03"]);
        let prefix = ScanRequest { prefix: "k1".into(), limit: 2, ..scan.clone() };
        assert_eq!(keys(&mut client, prefix).await, ["k10", "k11"]);
        let only = ScanRequest { keys_only: true, limit: 1, ..scan.clone() };
        let mut stream = client.scan(only).await.unwrap().into_inner();
        let entry = stream.next().await.unwrap().unwrap().entries.remove(0);
        assert_eq!((&entry.key[..], entry.value.len()), (&b"k00"[..], 0));
        let mut late = Request::new(scan);
        late.metadata_mut().insert("grpc-timeout", "1n".parse().unwrap());
        let outcome = match client.scan(late).await {
            Ok(stream) => stream.into_inner().next().await.unwrap().map(drop),
            Err(status) => Err(status),
        };
        let code = outcome.unwrap_err().code();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
    });
}

#[test]
fn a_cancelled_scan_lets_go_of_its_state() {
    let server = serve();
    calls(async {
        let mut client = connect(&server).await;
        for n in 0..200 {
            client.put(put(&format!("k{n:03}"), &"v".repeat(50_000))).await.unwrap();
        }
        // More streams than may be open at a time, each left after its first message. Not many
        // more: the client gives up a connection when too much arrives for streams that it left.
        for _ in 0..80 {
            let mut stream = client.scan(ScanRequest::default()).await.unwrap().into_inner();
            assert!(stream.next().await.unwrap().is_ok());
        }
        assert!(client.get(get("k000")).await.unwrap().into_inner().value.is_some());
    });
}

/// Puts so many entries of 100 bytes.
async fn fill(client: &mut Client, keys: std::ops::Range<u32>) {
    for first in keys.step_by(1000) {
        let write = |n: u32| {
            let key = format!("{:08x}", n.wrapping_mul(0x9e37_79b9)).into();
            let put = Put { key, value: vec![b'v'; 100].into() };
            WriteMessage { operation: Some(Operation::Put(put)) }
        };
        let writes = (first..first + 1000).map(write).collect();
        client.batch_write(BatchWriteRequest { writes, durability: 0 }).await.unwrap();
    }
}

/// How a stream ends.
pub(crate) async fn end<T>(mut stream: tonic::Streaming<T>) -> Result<(), tonic::Status> {
    while let Some(message) = stream.next().await {
        message?;
    }
    Ok(())
}

/// A server of small memtables, so that there is something to merge.
fn serve_busy() -> Running {
    start(|config| {
        config.grpc = Some(any_port());
        config.options.set("memtable_size_bytes", "1MiB").unwrap();
    })
}

#[test]
fn compactions_tell_how_far_they_are_and_end_with_their_call() {
    let server = serve_busy();
    calls(async {
        let mut client = connect(&server).await;
        // More data until the work is slow enough to be seen, and to be cancelled, in its middle.
        let (mut keys, mut seen, mut late) = (0, false, false);
        while !seen || !late {
            fill(&mut client, keys..keys + 20_000).await;
            keys += 20_000;
            assert!(keys <= 2_000_000, "{seen} {late}");
            let whole = CompactRequest { start: None, end: None };
            let mut reports = client.compact(whole.clone()).await.unwrap().into_inner();
            while let Some(report) = reports.next().await {
                let report = report.unwrap();
                seen |= 0 < report.done_bytes && report.done_bytes < report.total_bytes;
            }
            let mut soon = Request::new(whole);
            soon.metadata_mut().insert("grpc-timeout", "2m".parse().unwrap());
            let ended = match client.compact(soon).await {
                Ok(reports) => end(reports.into_inner()).await,
                Err(status) => Err(status),
            };
            if let Err(status) = ended {
                let code = status.code();
                assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
                late = true;
            }
            // One that is left, and one that waits until that has ended.
            drop(client.collect(CollectRequest {}).await);
            let reports = loop {
                match client.collect(CollectRequest {}).await {
                    Ok(reports) => break reports.into_inner(),
                    Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
                }
            };
            end(reports).await.unwrap();
        }
        let stats = client.stats(StatsRequest {}).await.unwrap().into_inner();
        assert_eq!(stats.keys, u64::from(keys));
    });
}

#[test]
fn verify_ends_with_its_totals() {
    let server = serve_busy();
    calls(async {
        let mut client = connect(&server).await;
        fill(&mut client, 0..5_000).await;
        let mut stream = client.verify(VerifyRequest {}).await.unwrap().into_inner();
        let mut parts = Vec::new();
        while let Some(message) = stream.next().await {
            parts.push(message.unwrap().part.unwrap());
        }
        let Some(Part::Totals(totals)) = parts.pop() else { panic!("{parts:?}") };
        assert!(totals.records >= 5_000 && totals.files > 0, "{totals:?}");
        assert_eq!(totals.findings, 0);
        assert!(!parts.is_empty() && parts.iter().all(|part| matches!(part, Part::Progress(_))));
    });
}

/// The server ends in the middle of a compaction, which ends with it.
#[test]
fn work_under_way_ends_with_the_server() {
    // More data until the end of the server comes before that of the work.
    for keys in (1..).map(|n| n * 40_000) {
        assert!(keys <= 2_000_000, "every compaction was faster");
        let mut server = serve_busy();
        let ended = calls(async move {
            let mut client = connect(&server).await;
            fill(&mut client, 0..keys).await;
            let whole = CompactRequest { start: None, end: None };
            let mut reports = client.compact(whole).await.unwrap().into_inner();
            assert!(reports.next().await.unwrap().is_ok());
            let ended = tokio::task::spawn_blocking(move || server.stop());
            let end = end(reports).await;
            ended.await.unwrap().unwrap();
            end
        });
        // Otherwise it had ended before, or the machine was too slow to tell its end.
        let kind = ended.map_err(|status| status.metadata().get("toykv-error-kind").cloned());
        if kind == Err(Some("Cancelled".parse().unwrap())) {
            return;
        }
    }
}

#[test]
fn health_reflection_and_the_token() {
    let server = start(|config| {
        config.grpc = Some(any_port());
        config.secret = Secret::new("hunter2");
    });
    calls(async {
        let address = format!("http://{}", server.grpc.unwrap());
        let channel = Endpoint::new(address).unwrap().connect().await.unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        let service = |name: &str| tonic_health::pb::HealthCheckRequest { service: name.into() };
        let serving = tonic_health::ServingStatus::Serving as i32;
        for name in ["", "toykv.v1.Toykv"] {
            // The first report comes a moment after the start.
            let status = loop {
                match health.check(service(name)).await {
                    Ok(answer) => break answer.into_inner().status,
                    Err(status) => assert_eq!(status.code(), Code::NotFound),
                }
            };
            assert_eq!(status, serving, "{name}");
        }
        let mut client = ToykvClient::new(channel);
        assert_eq!(client.get(get("a")).await.unwrap_err().code(), Code::Unauthenticated);
        let mut request = Request::new(get("a"));
        request.metadata_mut().insert("authorization", "Bearer hunter2".parse().unwrap());
        assert_eq!(client.get(request).await.unwrap().into_inner().value, None);
    });
}

#[test]
fn the_server_describes_its_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest as Ask;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as Answer;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
    let server = serve();
    calls(async {
        let address = format!("http://{}", server.grpc.unwrap());
        let channel = Endpoint::new(address).unwrap().connect().await.unwrap();
        let mut client = ServerReflectionClient::new(channel);
        let questions = [
            Ask::ListServices(String::new()),
            Ask::FileContainingSymbol("toykv.v1.Toykv".into()),
            Ask::FileContainingSymbol("toykv.v1.Nonsense".into()),
        ];
        let questions = questions
            .map(|ask| ServerReflectionRequest { host: String::new(), message_request: Some(ask) });
        let answers = client.server_reflection_info(tokio_stream::iter(questions)).await;
        let answers: Vec<Result<ServerReflectionResponse, _>> =
            answers.unwrap().into_inner().collect().await;
        let answer = |at: usize| answers.get(at).and_then(|answer| answer.as_ref().ok());
        let Some(Answer::ListServicesResponse(list)) = &answer(0).unwrap().message_response else {
            panic!("{answers:?}")
        };
        let names: Vec<&str> = list.service.iter().map(|service| &service.name[..]).collect();
        assert!(names.contains(&"toykv.v1.Toykv"), "{names:?}");
        assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
        let file = &answer(1).unwrap().message_response;
        let Some(Answer::FileDescriptorResponse(file)) = file else { panic!("{answers:?}") };
        let bytes = &file.file_descriptor_proto[0];
        assert!(bytes.windows(11).any(|part| part == b"BatchWriteR"));
        let nothing = answers.get(2).map(|answer| match answer {
            Ok(answer) => matches!(answer.message_response, Some(Answer::ErrorResponse(_))),
            Err(status) => status.code() == Code::NotFound,
        });
        assert_eq!(nothing, Some(true), "{answers:?}");
    });
}

#[test]
fn a_deadline_ends_a_scan_in_its_middle() {
    let server = serve();
    calls(async {
        let mut client = connect(&server).await;
        for n in 0..200 {
            client.put(put(&format!("k{n:03}"), &"v".repeat(50_000))).await.unwrap();
        }
        // Longer ones where the machine is too slow for the first message.
        for ms in [200, 2000, 20_000] {
            let mut request = Request::new(ScanRequest::default());
            request.metadata_mut().insert("grpc-timeout", format!("{ms}m").parse().unwrap());
            let Ok(stream) = client.scan(request).await else { continue };
            let mut stream = stream.into_inner();
            let Some(Ok(_)) = stream.next().await else { continue };
            tokio::time::sleep(Duration::from_millis(ms)).await;
            // What was on its way comes still; 10 MB are more than that.
            assert_eq!(end(stream).await.unwrap_err().code(), Code::DeadlineExceeded);
            return;
        }
        panic!("no first message within the deadline");
    });
}

/// What `make bench-server` prints beside the rates of redis-benchmark.
#[test]
#[ignore = "measures and checks nothing: make bench-server runs it"]
fn latency_of_a_get_beside_a_bare_echo() {
    let server = serve();
    calls(async {
        let mut client = connect(&server).await;
        let address = format!("http://{}", bare_server());
        let channel = Endpoint::new(address).unwrap().connect().await.unwrap();
        let mut echo = tonic_health::pb::health_client::HealthClient::new(channel);
        client.put(put("a", &"v".repeat(100))).await.unwrap();
        let (mut gets, mut echoes) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            let start = std::time::Instant::now();
            client.get(get("a")).await.unwrap();
            gets.push(start.elapsed());
            let start = std::time::Instant::now();
            let request = tonic_health::pb::HealthCheckRequest { service: String::new() };
            echo.check(request).await.unwrap();
            echoes.push(start.elapsed());
        }
        let quantiles = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            (times[times.len() / 2], times[times.len() * 99 / 100])
        };
        println!("toykv-server, Get of 100 bytes: p50 and p99 {:?}", quantiles(&mut gets));
        println!("bare tonic, health check: p50 and p99 {:?}", quantiles(&mut echoes));
    });
}

/// tonic with nothing around it and a service that answers a number; ends with the process.
fn bare_server() -> std::net::SocketAddr {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let incoming = tonic::transport::server::TcpIncoming::bind(any_port()).unwrap();
            send.send(incoming.local_addr().unwrap()).unwrap();
            let (_, health) = tonic_health::server::health_reporter();
            let server = tonic::transport::Server::builder().add_service(health);
            server.serve_with_incoming(incoming.with_nodelay(Some(true))).await.unwrap();
        });
    });
    receive.recv().unwrap()
}
