//! HTTP/1.1 to back ends by this crate's own codec (RFC 9112).

pub(crate) mod chunked;
mod encode;
mod exchange;
mod incoming;
mod parse;
pub(crate) mod upload;

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Response, request::Parts};

use self::exchange::exchange;
pub(crate) use self::{exchange::has_blank_line, incoming::Incoming, parse::number};
use crate::{Body, BoxError, Error, SendOptions, conn::Peer};

/// Sends a request on an idle connection or a new one; once again when the idle one turns out to be closed and that is safe.
pub(crate) async fn send<B>(
    peer: &Rc<Peer>,
    parts: &Parts,
    body: Option<B>,
    options: &SendOptions<'_>,
) -> Result<Response<Body>, Error>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let shared = &peer.shared;
    let is_idempotent = is_idempotent(&parts.method);
    let client = peer.target.proxy_header.and(options.client);
    let now = shared.watch.now();
    let Some(connection) = peer.take(now, client, !is_idempotent) else {
        let connection = Box::pin(peer.connect(client)).await?;
        return exchange(peer, connection, parts, body, options, shared.watch.now()).await.map_err(|l| l.kind.into());
    };
    shared.reused_count.update(|count| count + 1);
    let is_replayed = is_idempotent && body.is_none();
    match exchange(peer, connection, parts, body, options, now).await {
        Ok(answer) => Ok(answer),
        Err(lost) if lost.is_silent && is_replayed => {
            shared.replayed_count.update(|count| count + 1);
            let connection = Box::pin(peer.connect(client)).await?;
            let again = exchange(peer, connection, parts, None::<B>, options, shared.watch.now());
            Box::pin(again).await.map_err(|l| l.kind.into())
        }
        Err(lost) => Err(lost.kind.into()),
    }
}

/// RFC 9110, 9.2.2.
fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE)
}
