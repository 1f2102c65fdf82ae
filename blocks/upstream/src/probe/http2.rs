//! A GET and gRPC's health check over HTTP/2, on a connection that is driven beside its one question.

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, StatusCode, header};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use super::USER_AGENT;

/// The most of a body that is read.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// gRPC's code for what a server does not offer.
const UNIMPLEMENTED: &str = "12";
/// gRPC's code for what a server does not know.
const NOT_FOUND: &str = "5";

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: BytesMut,
    trailers: HeaderMap,
}

/// The status of the answer to a GET.
pub(super) async fn get<S>(stream: S, scheme: &str, host: &str, path: &str) -> Result<u16, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(Method::GET, scheme, host, path)?.body(()).map_err(|e| e.to_string())?;
    Ok(exchange(stream, request, None, false).await?.status.as_u16())
}

/// gRPC's health check of a service.
pub(super) async fn check<S>(stream: S, scheme: &str, host: &str, service: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = request(Method::POST, scheme, host, "/grpc.health.v1.Health/Check")?
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
        .map_err(|e| e.to_string())?;
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    // Not compressed, and how long it is ("PROTOCOL-HTTP2.md" of gRPC).
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(&message);
    let answer = exchange(stream, request, Some(body.into()), true).await?;
    judge(&answer)
}

fn judge(answer: &Answer) -> Result<(), String> {
    if answer.status != StatusCode::OK {
        return Err(format!("status {}", answer.status.as_u16()));
    }
    // An answer without a message has its status among the headers.
    let of = |name: &str| answer.trailers.get(name).or_else(|| answer.headers.get(name)).and_then(|v| v.to_str().ok());
    match of("grpc-status") {
        Some("0") => {}
        Some(UNIMPLEMENTED) => return Err("the server offers no gRPC health check".to_owned()),
        Some(NOT_FOUND) => return Err("the server does not know the service".to_owned()),
        Some(code) => return Err(format!("gRPC status {code}: {}", of("grpc-message").unwrap_or(""))),
        None => return Err("no gRPC status".to_owned()),
    }
    let message = match answer.body.split_first_chunk::<5>() {
        Some(([0, length @ ..], message)) if u32::from_be_bytes(*length) as usize == message.len() => message,
        _ => return Err("not one plain message of gRPC".to_owned()),
    };
    let status = HealthCheckResponse::decode(message).map_err(|e| e.to_string())?.status();
    if status == ServingStatus::Serving { Ok(()) } else { Err(format!("gRPC health {status:?}")) }
}

fn request(method: Method, scheme: &str, host: &str, path: &str) -> Result<http::request::Builder, String> {
    let uri = http::Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(path)
        .build()
        .map_err(|e| format!("host or path: {e}"))?;
    Ok(Request::builder().method(method).uri(uri).header(header::USER_AGENT, USER_AGENT))
}

async fn exchange<S>(stream: S, request: Request<()>, body: Option<Bytes>, reads_body: bool) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (send, mut connection) = h2::client::handshake(stream).await.map_err(|e| told(&e))?;
    let mut question = std::pin::pin!(ask(send, request, body, reads_body));
    tokio::select! {
        biased;
        answer = &mut question => answer,
        // What came before it ended is still there to be read.
        ended = &mut connection => match ended {
            Ok(()) => question.await,
            Err(e) => Err(told(&e)),
        },
    }
}

async fn ask(
    send: SendRequest<Bytes>,
    request: Request<()>,
    body: Option<Bytes>,
    reads_body: bool,
) -> Result<Answer, String> {
    let mut send = send.ready().await.map_err(|e| told(&e))?;
    let (response, mut stream) = send.send_request(request, body.is_none()).map_err(|e| told(&e))?;
    if let Some(body) = body {
        stream.send_data(body, true).map_err(|e| told(&e))?;
    }
    let (head, mut incoming) = response.await.map_err(|e| told(&e))?.into_parts();
    let mut answer =
        Answer { status: head.status, headers: head.headers, body: BytesMut::new(), trailers: HeaderMap::new() };
    if reads_body {
        while let Some(data) = incoming.data().await {
            let data = data.map_err(|e| told(&e))?;
            if answer.body.len() + data.len() > MAX_BODY_BYTES {
                return Err("the answer is larger than 4 KiB".to_owned());
            }
            // Less than the first window, so that nothing has to be given back.
            answer.body.extend_from_slice(&data);
        }
        answer.trailers = incoming.trailers().await.map_err(|e| told(&e))?.unwrap_or_default();
    }
    Ok(answer)
}

fn told(error: &h2::Error) -> String {
    match error.get_io() {
        Some(error) => super::told(error),
        None => format!("HTTP/2: {error}"),
    }
}
