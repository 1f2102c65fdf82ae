//! Log lines: for people or as JSON, with the trace they belong to.

use std::{
    fmt::{self, Write as _},
    io::Write as _,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use kernel::Clock;
use opentelemetry::trace::TraceContextExt as _;
use serde_json::Value;
use tracing::{
    Dispatch, Event, Level, Subscriber,
    dispatcher::WeakDispatch,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::{LogFormat, redact};

/// Where log lines go: called once a line, with its end. It must not log.
#[derive(Clone)]
pub struct Output {
    write: Arc<dyn Fn(&str) + Send + Sync>,
    colour: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// Standard error; in colour when it is a terminal and `NO_COLOR` is not set.
    pub fn stderr() -> Self {
        use std::io::IsTerminal as _;
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        // A closed standard error must not end the process: the line is lost, and there is nowhere to say so.
        let write = |line: &str| drop(std::io::stderr().lock().write_all(line.as_bytes()));
        Self { write: Arc::new(write), colour }
    }

    /// A function, without colour.
    pub fn to(write: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { write: Arc::new(write), colour: false }
    }
}

/// Lines written so far by level, from `error` to `trace`.
#[derive(Debug, Default)]
pub(crate) struct LineCounts([AtomicU64; 5]);

pub(crate) const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

impl LineCounts {
    fn add(&self, level: Level) {
        self.0[place(level)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> [u64; 5] {
        std::array::from_fn(|n| self.0[n].load(Ordering::Relaxed))
    }
}

fn place(level: Level) -> usize {
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG].iter().position(|l| *l == level).unwrap_or(4)
}

pub(crate) struct LogLayer {
    pub(crate) format: LogFormat,
    pub(crate) output: Output,
    pub(crate) clock: Clock,
    pub(crate) counts: Arc<LineCounts>,
    dispatch: OnceLock<WeakDispatch>,
}

impl LogLayer {
    pub(crate) fn new(format: LogFormat, output: Output, clock: Clock, counts: Arc<LineCounts>) -> Self {
        Self { format, output, clock, counts, dispatch: OnceLock::new() }
    }
}

/// The fields of one span or event, in order; a name appears once, the latest value wins.
#[derive(Default, Clone)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        let value = match value {
            _ if redact::is_secret_name(name) => Value::from(redact::MASK),
            Value::String(s) => Value::from(redact::text(&s)),
            other => other,
        };
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some(slot) => slot.1 = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(n, _)| *n == name)?;
        Some(self.0.remove(at).1)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::from(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::from(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::from(value));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field.name(), Value::from(value.to_string()));
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_register_dispatch(&self, subscriber: &Dispatch) {
        // Set once: a layer belongs to one subscriber.
        drop(self.dispatch.set(subscriber.downgrade()));
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        let (mut span_name, mut span_id) = (None, None);
        if let Some(scope) = ctx.event_scope(event) {
            for span in scope.from_root() {
                if let Some(of_span) = span.extensions().get::<Fields>() {
                    // What steers tracing-opentelemetry is no news to a reader.
                    for (name, value) in of_span.0.iter().filter(|(name, _)| !name.starts_with("otel.")) {
                        fields.put(name, value.clone());
                    }
                }
                span_name = Some(span.name());
                span_id = Some(span.id());
            }
        }
        event.record(&mut fields);
        let mut text = |name| fields.take(name).and_then(|v| v.as_str().map(str::to_owned));
        // Ids that a span carries as fields stand in for those of the exporter.
        let own = (text("trace_id"), text("span_id"));
        let (trace_id, span_id) = match span_id.and_then(|id| self.exported_ids(&id)) {
            Some((trace, span)) => (Some(trace), Some(span)),
            None => own,
        };
        let message = fields.take("message");
        let line = Line {
            at: format!("{:.3}", self.clock.now()),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            message: message.as_ref().and_then(Value::as_str).unwrap_or_default(),
            span: span_name,
            trace_id,
            span_id,
            fields,
        };
        self.counts.add(line.level);
        (self.output.write)(&match self.format {
            LogFormat::Human => line.human(self.output.colour),
            LogFormat::Json => line.json(),
        });
    }
}

impl LogLayer {
    /// The ids under which the span is exported.
    fn exported_ids(&self, id: &span::Id) -> Option<(String, String)> {
        let dispatch = self.dispatch.get()?.upgrade()?;
        let context = tracing_opentelemetry::get_otel_context(id, &dispatch)?;
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    }
}

struct Line<'a> {
    at: String,
    level: Level,
    target: &'a str,
    message: &'a str,
    span: Option<&'a str>,
    trace_id: Option<String>,
    span_id: Option<String>,
    fields: Fields,
}

impl Line<'_> {
    fn json(self) -> String {
        let mut out = serde_json::Map::new();
        out.insert("timestamp".to_owned(), self.at.into());
        out.insert("level".to_owned(), LEVELS[place(self.level)].into());
        out.insert("target".to_owned(), self.target.into());
        out.insert("message".to_owned(), self.message.into());
        for (name, value) in
            [("span", self.span.map(str::to_owned)), ("trace_id", self.trace_id), ("span_id", self.span_id)]
        {
            if let Some(value) = value {
                out.insert(name.to_owned(), value.into());
            }
        }
        if !self.fields.0.is_empty() {
            let fields = self.fields.0.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
            out.insert("fields".to_owned(), Value::Object(fields));
        }
        let mut line = Value::Object(out).to_string();
        line.push('\n');
        line
    }

    fn human(self, colour: bool) -> String {
        let (dim, bold, reset) = if colour { ("\x1b[2m", "\x1b[1m", "\x1b[0m") } else { ("", "", "") };
        let (level, tint) = match self.level {
            Level::ERROR => ("ERROR", "\x1b[31m"),
            Level::WARN => (" WARN", "\x1b[33m"),
            Level::INFO => (" INFO", "\x1b[32m"),
            Level::DEBUG => ("DEBUG", "\x1b[34m"),
            Level::TRACE => ("TRACE", "\x1b[35m"),
        };
        let tint = if colour { tint } else { "" };
        let mut out = format!(
            "{dim}{}{reset} {tint}{level}{reset} {dim}{}{reset} {bold}{}{reset}",
            self.at,
            self.target,
            plain(self.message)
        );
        let ids = [("trace_id", self.trace_id.map(Value::from))];
        for (name, value) in self.fields.0.into_iter().chain(ids.into_iter().filter_map(|(n, v)| Some((n, v?)))) {
            let text = match &value {
                Value::String(s) if is_bare(s) => s.clone(),
                Value::String(s) => format!("{s:?}"),
                other => other.to_string(),
            };
            // Writing to a String cannot fail.
            write!(out, " {dim}{name}={reset}{text}").ok();
        }
        out.push('\n');
        out
    }
}

/// A message on one line: whoever controls a part of it can neither forge a line nor steer the terminal.
fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

fn is_bare(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"' || c == '=')
}
