//! The log on standard error, and traces over OTLP (O2): one place for every command that runs for long.
//!
//! Logging begins before there are threads. Spans are exported only where an endpoint is set, and only once
//! [`Telemetry::connect`] is called inside the runtime; a collector that is slow or absent costs spans, never time.

use std::{
    cell::Cell,
    io::IsTerminal,
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use hale_model::trace::{self, Carrier, TARGET};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchSpanProcessor, IdGenerator, RandomIdGenerator, SdkTracerProvider, Span as SdkSpan, SpanData,
        SpanProcessor,
    },
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{cli::LogFormat, failure::Failure};

/// How long the last spans may take at the end.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// How log lines and spans are told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TelemetryArgs {
    /// What is logged to standard error: a level, or directives as in `RUST_LOG` [default: info; of `hale up`, which
    /// prints a line about each change anyway, error].
    #[arg(long, env = "HALE_LOG", value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// How it is logged.
    #[arg(long, env = "HALE_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Where traces are sent, by OTLP over gRPC: http://localhost:4317 [default: nowhere].
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,
}

/// What was set up; spans are told until it is closed.
#[derive(Debug)]
pub(crate) struct Telemetry {
    traces: Option<(SdkTracerProvider, String)>,
}

/// The way to the collector, once there is one.
static EXPORT: OnceLock<BatchSpanProcessor> = OnceLock::new();

/// Begins to log, at this level where nothing else is asked for, and to make spans where an endpoint is set.
///
/// # Errors
/// The directives are not understood.
pub(crate) fn init(
    args: &TelemetryArgs,
    service: &'static str,
    level: &'static str,
) -> Result<Telemetry, Failure> {
    let endpoint = args.otlp_endpoint.clone().filter(|it| !it.is_empty());
    if let Some(Err(error)) = endpoint.clone().map(tonic::transport::Endpoint::from_shared) {
        let endpoint = endpoint.unwrap_or_default();
        return Err(Failure::failed(format!("--otlp-endpoint {endpoint}: {error}")));
    }
    let directives = args.log.as_deref().unwrap_or(level);
    let mut filter = EnvFilter::try_new(for_hale(directives))
        .map_err(|error| Failure::failed(format!("--log {directives}: {error}; try a level such as info")))?;
    if endpoint.is_some() {
        // So that lines inside a trace carry its ids.
        let spans = format!("{TARGET}=info").parse().map_err(Failure::failed)?;
        filter = filter.add_directive(spans);
    }
    let log = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log: Box<dyn Layer<Registry> + Send + Sync> = match args.log_format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
        LogFormat::Json => log
            .json()
            .flatten_event(true)
            .with_current_span(endpoint.is_some())
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    };
    let traces = endpoint.map(|endpoint| {
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_id_generator(Ids::default())
            .with_span_processor(Late);
        (provider.build(), endpoint)
    });
    let spans = traces.as_ref().map(|(provider, _)| {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("hale"));
        let only = Targets::new().with_target(TARGET, tracing::Level::INFO);
        layer.with_location(false).with_threads(false).with_tracked_inactivity(false).with_filter(only)
    });
    tracing_subscriber::registry().with(log).with(spans).init();
    if traces.is_some() {
        trace::install(Carrier { tell, follow, begin, mark, new });
    }
    Ok(Telemetry { traces })
}

/// A level alone is meant for what hale says: frames of HTTP/2 and statements of SQL are for who asks for them by name.
/// What a cluster refuses is said by hale, with the reason; its client's own word for it says less, a second time.
fn for_hale(directives: &str) -> String {
    if matches!(directives.to_ascii_lowercase().as_str(), "error" | "warn" | "info") {
        return format!("{directives},kube_client=off");
    }
    if matches!(directives.to_ascii_lowercase().as_str(), "debug" | "trace") {
        let others = ["h2", "hyper", "hyper_util", "tonic", "tower", "rustls", "sqlx", "axum", "kube_client"];
        let quiet: String = others.iter().map(|name| format!(",{name}=warn")).collect();
        return format!("{directives}{quiet}");
    }
    directives.to_owned()
}

impl Telemetry {
    /// Begins to export spans. To be called inside the runtime.
    ///
    /// # Errors
    /// The endpoint is not a URL.
    pub(crate) fn connect(&self) -> Result<(), Failure> {
        let Some((_, endpoint)) = &self.traces else { return Ok(()) };
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(Duration::from_secs(5))
            .build()
            .map_err(|error| Failure::failed(format!("--otlp-endpoint {endpoint}: {error}")))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        if let Some(resource) = RESOURCE.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            processor.set_resource(resource);
        }
        // A second one would be of a second telemetry, which a process does not have.
        let _second = EXPORT.set(processor);
        tracing::info!(endpoint, "traces are sent there");
        Ok(())
    }

    /// Tells the last spans, within a bound.
    pub(crate) async fn close(&self) {
        let Some((provider, _)) = self.traces.clone() else { return };
        let told = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_SPANS));
        match tokio::time::timeout(2 * LAST_SPANS, told).await {
            Ok(Ok(Ok(()))) => {}
            _ => tracing::debug!("the last spans could not be told"),
        }
    }
}

/// What spans are told about, kept for the exporter that comes later.
static RESOURCE: Mutex<Option<Resource>> = Mutex::new(None);

/// Passes spans on once there is an exporter: that has a thread, and is made inside the runtime.
#[derive(Debug, Default)]
struct Late;

impl SpanProcessor for Late {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        if let Some(export) = EXPORT.get() {
            export.on_start(span, context);
        }
    }

    fn on_end(&self, span: SpanData) {
        if let Some(export) = EXPORT.get() {
            export.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        EXPORT.get().map_or(Ok(()), SpanProcessor::force_flush)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        EXPORT.get().map_or(Ok(()), |export| export.shutdown_with_timeout(timeout))
    }

    fn set_resource(&mut self, resource: &Resource) {
        *RESOURCE.lock().unwrap_or_else(PoisonError::into_inner) = Some(resource.clone());
    }
}

/// The text of W3C Trace Context, version 00.
fn written(context: &SpanContext) -> Option<String> {
    let flags = context.trace_flags() & TraceFlags::SAMPLED;
    context
        .is_valid()
        .then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags.to_u8()))
}

fn read(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

fn tell(span: &Span) -> Option<String> {
    written(span.context().span().span_context())
}

fn follow(span: &Span, parent: &str) {
    if let Some(parent) = read(parent) {
        // It fails only for a span that nobody exports.
        let _unwatched = span.set_parent(Context::new().with_remote_span_context(parent));
    }
}

thread_local! {
    /// The ids of the span that is built next on this thread.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Random ids, but for the first span of a trace that was told of before it was built.
#[derive(Debug, Default)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

fn begin(span: &Span, own: &str) {
    let Some(own) = read(own) else { return };
    NEXT.set(Some((own.trace_id(), own.span_id())));
    // Asking for its context is what builds it, here and now.
    let _built = span.context();
    NEXT.set(None);
}

fn mark(span: &Span) {
    let context = span.context();
    let context = context.span().span_context().clone();
    if context.is_valid() {
        span.record("trace_id", tracing::field::display(context.trace_id()));
        span.record("span_id", tracing::field::display(context.span_id()));
    }
}

fn new() -> String {
    let ids = RandomIdGenerator::default();
    format!("00-{}-{}-01", ids.new_trace_id(), ids.new_span_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_it_is_written_and_nonsense_is_not() {
        let text = new();
        assert_eq!(written(&read(&text).unwrap()).unwrap(), text);
        for wrong in [
            "",
            "00",
            "00-00000000000000000000000000000000-0000000000000001-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-zzf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
