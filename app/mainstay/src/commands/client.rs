//! The client side of the command line: JSON over HTTP to a running server.

use std::{fs::File, time::Duration};

use kernel::{Clock, Rng};
use resilience::Safe;
use serde_json::Value;

use super::again::Again;
use crate::cli::ClientArgs;

/// How long one request of a command may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a file may take on its way in or out.
const FILE_TIMEOUT: Duration = Duration::from_hours(1);
/// The header that makes a POST safe to send again.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest answer that a command reads.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// Talks to one server.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    base: String,
    key: Option<String>,
    project: Option<String>,
    again: Option<Again>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; `Null` when it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// One header as text; empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

impl Client {
    /// A client for the server that `args` name, which asks again what is safe to repeat.
    pub(crate) fn new(args: &ClientArgs) -> Self {
        let again = Some(Again::new(Clock::system(), Rng::system()));
        Self { again, ..Self::to(&args.url, args.key.clone(), args.project.clone()) }
    }

    /// A client for `base` that sends everything once.
    pub(crate) fn to(base: &str, key: Option<String>, project: Option<String>) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .build()
            .into();
        Self { agent, base: base.trim_end_matches('/').to_owned(), key, project, again: None }
    }

    /// Sends one request with extra headers.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let Some(again) = &self.again else {
            return self.once(method, path, headers, body).map_err(|e| self.explain(&e));
        };
        let mut headers = headers.to_vec();
        // Checks of limits count each time, whatever key they come with; and the answer with a new secret is not to be kept for a key.
        let takes_key = method == "POST" && !path.starts_with("/v1/limits/") && !path.starts_with("/v1/keys");
        let key = takes_key.then(|| again.idempotency_key());
        if let Some(key) = key.as_deref().filter(|_| !headers.iter().any(|(name, _)| *name == IDEMPOTENCY_KEY)) {
            headers.push((IDEMPOTENCY_KEY, key));
        }
        let has_key = headers.iter().any(|(name, _)| *name == IDEMPOTENCY_KEY);
        let outcome = again.run(Safe::of_request(method, has_key), |deadline| {
            let timeout = deadline.mainstay_timeout().unwrap_or_default();
            let headers = [headers.as_slice(), &[("mainstay-timeout", timeout.as_str())]].concat();
            self.once(method, path, &headers, body)
        });
        outcome.map_err(|e| self.explain(&e))
    }

    fn once(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = self.request(method, path, headers);
        let bytes = match body {
            Some(value) => {
                request = request.header("content-type", "application/json");
                value.to_string().into_bytes()
            }
            None => Vec::new(),
        };
        Self::read(self.agent.run(request.body(bytes)?)?)
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> http::request::Builder {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        if let Some(project) = &self.project {
            request = request.header("mainstay-project", project);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
    }

    fn read(response: http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
        let (parts, mut body) = response.into_parts();
        let body = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// Sends a file, which is never held in memory.
    pub(crate) fn upload(&self, path: &str, headers: &[(&str, &str)], file: File) -> Result<Answer, String> {
        let request = self.request("POST", path, headers).body(file).map_err(|e| e.to_string())?;
        let request = self.agent.configure_request(request).timeout_global(Some(FILE_TIMEOUT)).build();
        let response = self.agent.run(request).map_err(|e| self.explain(&e))?;
        Self::read(response).map_err(|e| self.explain(&e))
    }

    /// Writes an answer into `to` as it comes. An answer that breaks off is an error.
    pub(crate) fn download(&self, path: &str, to: &mut dyn std::io::Write) -> Result<(), String> {
        let request = self.request("GET", path, &[]).body(()).map_err(|e| e.to_string())?;
        let request = self.agent.configure_request(request).timeout_global(Some(FILE_TIMEOUT)).build();
        let response = self.agent.run(request).map_err(|e| self.explain(&e))?;
        if response.status() != http::StatusCode::OK {
            return Err(refusal(&Self::read(response).map_err(|e| self.explain(&e))?));
        }
        let mut body = response.into_body();
        std::io::copy(&mut body.as_reader(), to).map_err(|e| format!("{}: {e}", self.base))?;
        to.flush().map_err(|e| e.to_string())
    }

    fn explain(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => format!(
                "nothing answers at {}: start it with `mainstay serve`, or name the server with --url or MAINSTAY_URL",
                self.base
            ),
            other => format!("{}: {other}", self.base),
        }
    }

    /// Sends a request that should succeed; a refusal becomes a message with its code and what to do.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let answer = self.send(method, path, &[], body)?;
        if (200..300).contains(&answer.status) { Ok(answer.json()) } else { Err(refusal(&answer)) }
    }
}

/// A problem document as one readable message.
pub(crate) fn refusal(answer: &Answer) -> String {
    let problem = answer.json();
    let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    if problem["code"].is_null() {
        return format!("the server answered {}", answer.status);
    }
    let mut message = format!("{} ({}): {}", text("code"), answer.status, text("detail"));
    for error in problem["errors"].as_array().into_iter().flatten() {
        let pointer = error["pointer"].as_str().map(|p| p.trim_start_matches(['#', '/']));
        let detail = error["detail"].as_str().unwrap_or_default();
        message += &match pointer.or(error["parameter"].as_str()).filter(|name| !name.is_empty()) {
            Some(name) => format!("\n  {name}: {detail}"),
            None => format!("\n  {detail}"),
        };
    }
    if answer.status == 401 {
        message.push_str("\n  give a key with --key or MAINSTAY_KEY");
    }
    message
}

/// A path with the query that is built up on it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    path: String,
    parameters: String,
}

impl Query {
    /// On this path.
    pub(crate) fn of(path: String) -> Self {
        Self { path, parameters: String::new() }
    }

    /// Adds a parameter, if there is one.
    #[must_use]
    pub(crate) fn text(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            let mark = if self.parameters.is_empty() { '?' } else { '&' };
            self.parameters += &format!("{mark}{name}={}", segment(value));
        }
        self
    }

    /// Adds a number.
    #[must_use]
    pub(crate) fn number(self, name: &str, value: u32) -> Self {
        self.text(name, Some(&value.to_string()))
    }

    /// The path it was made on, with the query.
    pub(crate) fn on_it(&self) -> String {
        self.on(&self.path)
    }

    /// Another path with the query.
    pub(crate) fn on(&self, path: &str) -> String {
        format!("{path}{}", self.parameters)
    }
}

/// A path segment with everything escaped that could leave it.
pub(crate) fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
