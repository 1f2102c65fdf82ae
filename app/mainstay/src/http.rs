//! The router of the API listener: every room's routes, health, metrics, documents and the console under one stack.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue, header};
use kernel::Code;
use limiter::http::middleware::Guard;
use telemetry::{Golden, Reply};
use web::docs::ErrorPage;

use crate::{house::House, listen::checks};

mod texts {
    include!(concat!(env!("OUT_DIR"), "/error_texts.rs"));
}

/// Every code that this binary can answer with. A new room adds its line here.
fn codes() -> impl Iterator<Item = &'static Code> {
    [
        kernel::error::CODES,
        web::error::CODES,
        database::error::CODES,
        memory::CODES,
        access::error::CODES,
        limiter::CODES,
        gatekeeper::CODES,
        shortener::error::CODES,
        discovery::CODES,
        gateway::CODES,
        gateway::PROXY_CODES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

fn error_pages() -> Vec<ErrorPage> {
    codes()
        .map(|code| {
            let text = texts::TEXTS.iter().find(|(name, _)| *name == code.name).map_or("", |(_, text)| text);
            ErrorPage { code, text: text.to_owned() }
        })
        .collect()
}

/// Puts everything together.
pub(crate) fn router(house: &House) -> Result<Router, String> {
    let info = web::openapi::Info {
        title: "Mainstay".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "Every backend system that a product stands on, in one binary.".to_owned(),
    };
    let documents = house.rooms().iter().map(|room| (room.openapi)()).collect();
    let document = web::openapi::document(&info, documents).map_err(|e| e.to_string())?;

    // Idempotency inside of authentication: whose key it is decides what it is the same as.
    let rooms = house.rooms().iter().fold(Router::new(), |all, room| all.merge(room.api.clone()));
    let authenticated = axum::middleware::from_fn_with_state(house.access().clone(), access::auth_layer);
    let files = house.rooms().iter().fold(Router::new(), |all, room| all.merge(room.files.clone()));
    // Inside of authentication too: whose key it is decides which limit it uses up.
    let guard = Guard::new(house.limiter().clone(), limiter::OWN_DOMAIN).exempt(crate::limits::is_exempt);
    let api = guard.around(house.idempotency().layer(rooms).merge(files)).layer(authenticated.clone());

    // Outside of authentication: it reads the key where Consul's clients show it.
    let api = api.layer(axum::middleware::from_fn(discovery::http::consul::token_layer));

    let own = Router::new()
        .route("/", get(|| async { Redirect::temporary(console::paths::HOME) }))
        .route("/health/live", get(|State(house): State<House>| async move { Document(house.health().live()) }))
        .route("/health/ready", get(|State(house): State<House>| async move { Document(house.health().ready()) }))
        .with_state(house.clone());
    let metrics = Router::new().route("/metrics", get(metrics)).with_state(house.clone());
    let all = own
        .merge(metrics.layer(authenticated))
        .merge(web::docs::routes(&document, &error_pages()))
        .merge(crate::console::router(house))
        .merge(api);

    let mut options = web::StackOptions::new(house.config().http.clone(), house.clock().clone(), house.rng().clone())
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    options.admission = house.shedder().map(|shedder| Arc::new(shedder.clone()) as Arc<dyn web::Admission>);
    options.quiet_paths = vec![checks::PATH.to_owned(), limiter::grpc::PATH.to_owned()];
    options.patience = Some(Arc::new(discovery::http::patience));
    options.on_request = Some(Arc::new(observer(house.golden().clone())));
    options.on_span = Some(Arc::new(|span: &tracing::Span, trace: &web::trace::TraceContext| {
        telemetry::propagation::join(
            span,
            &telemetry::propagation::RequestIds {
                trace_id: trace.trace_id,
                span_id: trace.span_id,
                parent_id: trace.parent_id,
                is_sampled: trace.sampled(),
                state: &trace.state,
            },
        );
    }));
    Ok(web::stack(all, options))
}

fn observer(golden: Golden) -> impl Fn(&web::Finished<'_>) + Send + Sync + 'static {
    move |f: &web::Finished<'_>| golden.record(f.method, f.route, f.project, f.status, f.duration)
}

/// Numbers of every project at once: for operators.
async fn metrics(caller: access::Caller, State(house): State<House>) -> web::Result<Document> {
    caller.require("metrics", "read")?;
    Ok(Document(house.metrics().render()))
}

struct Document(Reply);

impl IntoResponse for Document {
    fn into_response(self) -> Response {
        let status = http::StatusCode::from_u16(self.0.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let headers: [(HeaderName, HeaderValue); 2] = [
            (header::CONTENT_TYPE, HeaderValue::from_static(self.0.content_type)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (status, headers, self.0.body).into_response()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_code_is_declared_once_and_has_a_page() {
        let mut seen = std::collections::BTreeSet::new();
        for page in super::error_pages() {
            assert!(seen.insert(page.code.name), "{} is declared twice", page.code.name);
            assert!(!page.text.is_empty(), "docs/errors/{}.md is missing", page.code.name);
        }
    }
}
