//! HTTPS to a certificate authority: one connection a request, which are few.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use kernel::Clock;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer.
const MAX_BODY_BYTES: usize = 1 << 20;

/// A client that believes certain authorities. Cheap to clone.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    clock: Clock,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Client {
    /// Believes what `ca` holds, else what browsers do.
    pub(super) fn new(ca: Option<RootCertStore>, clock: &Clock) -> Result<Self, String> {
        let roots = ca.unwrap_or_else(|| webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), clock: clock.clone() })
    }

    async fn send(&self, request: Request<BodyWrapper<Bytes>>) -> Result<Response<Full<Bytes>>, BoxError> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let host = parts.uri.host().ok_or("the URL has no host")?.to_owned();
        if parts.uri.scheme_str() != Some("https") {
            return Err("the authority names a URL that is not https".into());
        }
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), parts.uri.port_u16().unwrap_or(443))).await?;
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, tcp).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
        parts.headers.insert(header::HOST, authority.try_into()?);
        parts.uri = parts.uri.path_and_query().map_or(Uri::from_static("/"), |p| Uri::from(p.clone()));
        let exchange = async {
            let (parts, body) = sender.send_request(Request::from_parts(parts, Full::new(body))).await?.into_parts();
            let body = Limited::new(body, MAX_BODY_BYTES).collect().await?.to_bytes();
            Ok::<_, BoxError>(Response::from_parts(parts, Full::new(body)))
        };
        // The connection lives as long as the exchange.
        tokio::select! {
            answer = exchange => answer,
            Err(e) = connection => Err(e.into()),
        }
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let this = self.clone();
        Box::pin(async move {
            match this.clock.timeout(TIMEOUT, this.send(request)).await {
                Some(Ok(answer)) => Ok(BytesResponse::from(answer)),
                Some(Err(e)) => Err(Error::Other(e)),
                None => Err(Error::Str("the authority did not answer in 30 s")),
            }
        })
    }
}
