//! An OTLP collector on a loopback port.

use std::{net::SocketAddr, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    trace::v1::Span,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, metadata::MetadataMap};

/// One export as it arrived.
pub(crate) struct Export {
    pub(crate) metadata: MetadataMap,
    pub(crate) request: ExportTraceServiceRequest,
}

impl Export {
    pub(crate) fn spans(&self) -> Vec<&Span> {
        self.request.resource_spans.iter().flat_map(|r| r.scope_spans.iter().flat_map(|s| s.spans.iter())).collect()
    }

    pub(crate) fn resource(&self, name: &str) -> Option<String> {
        let resource = self.request.resource_spans.first()?.resource.as_ref()?;
        resource.attributes.iter().find(|kv| kv.key == name).and_then(|kv| text(kv.value.as_ref()?.value.as_ref()?))
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::StringValue(s) => Some(s.clone()),
        Value::IntValue(n) => Some(n.to_string()),
        _ => None,
    }
}

pub(crate) fn attribute(span: &Span, name: &str) -> Option<String> {
    span.attributes.iter().find(|kv| kv.key == name).and_then(|kv| text(kv.value.as_ref()?.value.as_ref()?))
}

struct Service(mpsc::Sender<Export>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        self.0.send(Export { metadata, request }).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    exports: mpsc::Receiver<Export>,
    server: tokio::task::JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    #[allow(clippy::disallowed_methods, reason = "the collector is not part of what is supervised")]
    pub(crate) async fn start_at(address: SocketAddr) -> Self {
        let (tx, exports) = mpsc::channel(64);
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = tokio::spawn(async move {
            let service = TraceServiceServer::new(Service(tx));
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, exports, server }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `count` spans in the order in which they arrive, however the worker cut them into batches.
    pub(crate) async fn spans(&mut self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            spans.extend(self.next().await.spans().into_iter().cloned());
        }
        spans
    }

    /// The next export; fails the test when none comes.
    pub(crate) async fn next(&mut self) -> Export {
        tokio::time::timeout(Duration::from_secs(20), self.exports.recv()).await.expect("an export").expect("a server")
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}
