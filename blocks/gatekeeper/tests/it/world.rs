//! A gatekeeper on a clock that the test moves, and the servers that it asks, in process.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use access::Access;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use bytes::Bytes;
use database::{Db, Durability, SqliteOptions};
use futures_util::future::BoxFuture;
use gatekeeper::{
    Ask, Chain, ClientCertificate, Deps, Fetch, FetchError, Gatekeeper, Identity, Limits, PolicySpec, Verdict,
};
use http::{HeaderMap, Request, Response, StatusCode, request::Parts};
use kernel::{Clock, Lifecycle, Rng, SimClock, Stage, Timestamp};
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use telemetry::Metrics;

/// 2026-11-24T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_478_400_000);
pub(crate) const ISSUER: &str = "https://login.example.com";

type Serve = Arc<dyn Fn(&Request<Bytes>) -> Option<Response<Bytes>> + Send + Sync>;

/// Other servers: what they answer by the URL's beginning; `None` is no answer at all.
#[derive(Clone, Default)]
pub(crate) struct Outside {
    servers: Arc<Mutex<HashMap<String, Serve>>>,
    asked: Arc<Mutex<Vec<Request<Bytes>>>>,
}

impl Outside {
    pub(crate) fn serve(
        &self,
        url: &str,
        serve: impl Fn(&Request<Bytes>) -> Option<Response<Bytes>> + Send + Sync + 'static,
    ) {
        self.servers.lock().unwrap().insert(url.to_owned(), Arc::new(serve));
    }

    pub(crate) fn serve_json(&self, url: &str, body: Value) {
        self.serve(url, move |_| Some(Response::new(Bytes::from(body.to_string()))));
    }

    pub(crate) fn is_away(&self, url: &str) {
        self.serve(url, |_| None);
    }

    pub(crate) fn asked(&self, url: &str) -> Vec<Request<Bytes>> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|request| request.uri().to_string().starts_with(url)).map(copy).collect()
    }
}

fn copy(request: &Request<Bytes>) -> Request<Bytes> {
    let mut out = Request::new(request.body().clone());
    *out.method_mut() = request.method().clone();
    *out.uri_mut() = request.uri().clone();
    *out.headers_mut() = request.headers().clone();
    out
}

impl Fetch for Outside {
    fn fetch(&self, request: Request<Bytes>, _: Limits) -> BoxFuture<'_, Result<Response<Bytes>, FetchError>> {
        Box::pin(async move {
            let url = request.uri().to_string();
            self.asked.lock().unwrap().push(copy(&request));
            let servers = self.servers.lock().unwrap().clone();
            let serve = servers
                .iter()
                .filter(|(known, _)| url.starts_with(known.as_str()))
                .max_by_key(|(known, _)| known.len());
            // Others get their turn while this one is on its way.
            tokio::task::yield_now().await;
            serve.and_then(|(_, serve)| serve(&request)).ok_or_else(|| FetchError(format!("{url} is away")))
        })
    }
}

pub(crate) struct World {
    pub(crate) gatekeeper: Gatekeeper,
    pub(crate) outside: Outside,
    pub(crate) sim: SimClock,
    pub(crate) clock: Clock,
    pub(crate) access: Access,
    pub(crate) folder: tempfile::TempDir,
    _lifecycle: Lifecycle,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, sim) = Clock::simulated(START);
        let lifecycle = Lifecycle::new(Clock::system(), Rng::seeded(1));
        let options = SqliteOptions { durability: Durability::Normal, ..SqliteOptions::default() };
        let planes = lifecycle.tasks(Stage::Planes);
        let db = Db::open_sqlite(&folder.path().join("test.db"), options, Clock::system(), &planes).unwrap();
        let tasks = lifecycle.tasks(Stage::Blocks);
        let options = access::Options::default();
        let (access, _) = Access::start(db, options, clock.clone(), Rng::system(), &tasks).await.unwrap();
        let outside = Outside::default();
        let gatekeeper = Gatekeeper::new(Deps {
            clock: clock.clone(),
            rng: Rng::system(),
            access: access.clone(),
            fetch: Arc::new(outside.clone()),
            metrics: Metrics::new(),
            tasks,
        });
        Self { gatekeeper, outside, sim, clock, access, folder, _lifecycle: lifecycle }
    }

    /// The chain of all these policies.
    pub(crate) fn chain(&self, policies: Value) -> Arc<Chain> {
        let specs: Vec<PolicySpec> = serde_json::from_value(policies).unwrap();
        let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        self.gatekeeper.compile(&specs).unwrap().chain(&names).unwrap()
    }

    /// The chain of the named ones.
    pub(crate) fn chain_of(&self, policies: Value, names: &[&str]) -> Arc<Chain> {
        let specs: Vec<PolicySpec> = serde_json::from_value(policies).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.gatekeeper.compile(&specs).unwrap().chain(&names).unwrap()
    }

    pub(crate) fn wrong(&self, policies: Value) -> Vec<String> {
        let specs: Vec<PolicySpec> = serde_json::from_value(policies).unwrap();
        let errors = self.gatekeeper.compile(&specs).expect_err("a mistake");
        errors.into_iter().map(|error| error.field).collect()
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.clock.now().as_millis() / 1000
    }

    pub(crate) fn later(&self, seconds: u64) {
        self.sim.advance(Duration::from_secs(seconds));
    }

    /// An issuer with these keys, and the policy that trusts it.
    pub(crate) fn issuer(&self, keys: &[&Signer]) -> Value {
        self.keys(keys);
        json!({
            "name": "token",
            "jwt": { "issuer": ISSUER, "audience": ["api"], "jwks": { "url": "https://login.example.com/keys" },
                     "forward_claims": { "x-user": "sub", "x-roles": "/realm/roles" } },
        })
    }

    pub(crate) fn keys(&self, keys: &[&Signer]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.outside.serve_json("https://login.example.com/keys", json!({ "keys": keys }));
    }

    /// Claims that hold.
    pub(crate) fn claims(&self) -> Value {
        let now = self.now_s();
        json!({ "iss": ISSUER, "aud": "api", "sub": "ann", "iat": now, "exp": now + 300, "realm": { "roles": ["a", "b"] } })
    }
}

/// Signs tokens.
pub(crate) struct Signer {
    id: String,
    key: SignerKey,
}

enum SignerKey {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn ed25519(id: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        Self { id: id.to_owned(), key: SignerKey::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()) }
    }

    pub(crate) fn es256(id: &str) -> Self {
        let random = ring::rand::SystemRandom::new();
        let how = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        Self {
            id: id.to_owned(),
            key: SignerKey::Es256(EcdsaKeyPair::from_pkcs8(how, pkcs8.as_ref(), &random).unwrap()),
        }
    }

    pub(crate) fn public(&self) -> &[u8] {
        match &self.key {
            SignerKey::Es256(key) => key.public_key().as_ref(),
            SignerKey::Ed25519(key) => key.public_key().as_ref(),
        }
    }

    pub(crate) fn jwk(&self) -> Value {
        let public = self.public();
        match &self.key {
            SignerKey::Es256(_) => json!({
                "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig",
                "x": BASE64URL.encode(&public[1..33]), "y": BASE64URL.encode(&public[33..]),
            }),
            SignerKey::Ed25519(_) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "x": BASE64URL.encode(public) })
            }
        }
    }

    pub(crate) fn header(&self) -> Value {
        let alg = match &self.key {
            SignerKey::Es256(_) => "ES256",
            SignerKey::Ed25519(_) => "EdDSA",
        };
        json!({ "alg": alg, "kid": self.id, "typ": "JWT" })
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&self.header().to_string(), &claims.to_string())
    }

    /// Of any texts.
    pub(crate) fn sign(&self, header: &str, payload: &str) -> String {
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(payload));
        let signature = match &self.key {
            SignerKey::Es256(key) => {
                key.sign(&ring::rand::SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
            }
            SignerKey::Ed25519(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64URL.encode(signature))
    }
}

/// A request at the door.
pub(crate) struct Knock {
    pub(crate) parts: Parts,
    pub(crate) peer: IpAddr,
    pub(crate) scheme: &'static str,
    pub(crate) certificate: Option<ClientCertificate>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What goes on; `None` when it was answered here.
    pub(crate) parts: Option<Parts>,
    pub(crate) identity: Option<Identity>,
    pub(crate) response: HeaderMap,
    /// 200 when it passed.
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    pub(crate) steps: Vec<String>,
}

pub(crate) fn get(path: &str) -> Knock {
    request("GET", path)
}

pub(crate) fn request(method: &str, path: &str) -> Knock {
    let (parts, ()) = Request::builder().method(method).uri(path).body(()).unwrap().into_parts();
    Knock { parts, peer: "192.0.2.7".parse().unwrap(), scheme: "https", certificate: None }
}

impl Knock {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = name.parse::<http::HeaderName>().unwrap();
        self.parts.headers.append(name, value.parse().unwrap());
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn from(mut self, peer: &str) -> Self {
        self.peer = peer.parse().unwrap();
        self
    }

    pub(crate) async fn at(mut self, chain: &Chain) -> Seen {
        let ask = Ask {
            parts: &mut self.parts,
            peer: self.peer,
            client_certificate: self.certificate.as_ref(),
            scheme: self.scheme,
            host: "app.example.com",
            request_id: "r-1",
        };
        let told = |steps: &gatekeeper::Steps| {
            steps.iter().map(|step| format!("{} {}: {}", step.policy, step.outcome.as_str(), step.detail)).collect()
        };
        match chain.admit(ask).await {
            Verdict::Pass(passed) => Seen {
                steps: told(&passed.steps),
                parts: Some(self.parts),
                identity: passed.identity,
                response: passed.set_on_response,
                status: StatusCode::OK,
                body: Bytes::new(),
            },
            Verdict::Answer(response, steps) => Seen {
                steps: told(&steps),
                parts: None,
                identity: None,
                status: response.status(),
                response: response.headers().clone(),
                body: response.into_body(),
            },
        }
    }
}

impl Seen {
    /// A header that the back end gets.
    pub(crate) fn sent(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.parts.as_ref()?.headers.get_all(name).iter().collect();
        assert!(values.len() < 2, "{name} twice");
        values.first().map(|value| value.to_str().unwrap())
    }

    /// The code of a refusal, and its detail.
    pub(crate) fn problem(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        format!("{} {}", body["code"].as_str().unwrap_or_default(), body["detail"].as_str().unwrap_or_default())
    }

    pub(crate) fn got(&self, name: &str) -> Option<&str> {
        self.response.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) async fn admin_key(world: &World, scopes: &str) -> (String, String) {
    let new =
        access::NewKey { name: "test".to_owned(), scopes: identity::Scopes::parse(scopes).unwrap(), expires_at: None };
    let issued = world.access.create_key(&identity::Principal::system(), &new, None).await.unwrap();
    (issued.key.id.to_string(), issued.text.expose().clone())
}
