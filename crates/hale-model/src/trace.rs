//! Traces: what happened because of what, over tasks and machines (O2).
//!
//! A trace begins with the outcome that tips a threshold and goes on through restart, beat, registry and gateway. Spans
//! are those of `tracing`, under the target [`TARGET`]; what carries them across a queue or a wire is a string, the
//! `traceparent` of W3C Trace Context. Who exports spans installs how such strings are made and read; until somebody
//! does, nothing is traced and nothing is carried.

use std::sync::OnceLock;

use tracing::Span;

/// The target of spans that belong to traces.
pub const TARGET: &str = "hale_trace";

/// How spans are told over queues and wires.
#[derive(Debug, Clone, Copy)]
pub struct Carrier {
    /// The `traceparent` of a span, if it belongs to a trace.
    pub tell: fn(&Span) -> Option<String>,
    /// Makes a span the child of the one that a `traceparent` names; another text changes nothing.
    pub follow: fn(&Span, &str),
    /// Makes a span the first one of a trace, with the ids that a `traceparent` of [`Carrier::new`] has.
    pub begin: fn(&Span, &str),
    /// Writes the ids of its trace into a span's fields, so that lines inside carry them.
    pub mark: fn(&Span),
    /// A new trace and a span in it, which was not made here: for a probe's request.
    pub new: fn() -> String,
}

static CARRIER: OnceLock<Carrier> = OnceLock::new();

/// Begins to trace. The first call counts.
pub fn install(carrier: Carrier) {
    // A process exports its spans to one place.
    let _second = CARRIER.set(carrier);
}

/// Whether anything is traced.
#[must_use]
pub fn is_on() -> bool {
    CARRIER.get().is_some()
}

/// A new `traceparent`, to be sent with a request; `None` while nothing is traced.
#[must_use]
pub fn new() -> Option<String> {
    CARRIER.get().map(|it| (it.new)())
}

/// The `traceparent` of a span; `None` while nothing is traced.
#[must_use]
pub fn of(span: &Span) -> Option<String> {
    CARRIER.get().and_then(|it| (it.tell)(span))
}

/// Makes a span the first one of the trace that a [`new`] `traceparent` names; of another one while `own` is `None`.
/// As [`next`] otherwise.
#[must_use]
pub fn first(own: Option<&str>, make: impl FnOnce() -> Span) -> Span {
    let Some(carrier) = CARRIER.get() else { return Span::none() };
    let span = make();
    match own {
        Some(own) => (carrier.begin)(&span, own),
        None => (carrier.begin)(&span, &(carrier.new)()),
    }
    (carrier.mark)(&span);
    span
}

/// Makes a span the next one of a trace, and lets its lines carry the ids of it. `make` is called only while something
/// is traced and where there is a parent; the span is to have empty fields `trace_id` and `span_id`.
#[must_use]
pub fn next(parent: Option<&str>, make: impl FnOnce() -> Span) -> Span {
    match (CARRIER.get(), parent) {
        (Some(carrier), Some(parent)) if !parent.is_empty() => {
            let span = make();
            (carrier.follow)(&span, parent);
            (carrier.mark)(&span);
            span
        }
        _ => Span::none(),
    }
}

/// A span of a trace, under [`TARGET`], with these fields: `trace_span!(next parent, "restart", replica = name)` is the
/// next one after a parent, and no span at all where there is none or nothing is traced; `trace_span!(first own,
/// "outcome")` the first of its trace. See [`crate::trace`].
#[macro_export]
macro_rules! trace_span {
    ($how:ident $parent:expr, $name:literal $(, $($fields:tt)*)?) => {
        $crate::trace::$how($parent, || {
            $crate::trace::tracing::info_span!(
                target: $crate::trace::TARGET,
                parent: None,
                $name,
                trace_id = $crate::trace::tracing::field::Empty,
                span_id = $crate::trace::tracing::field::Empty,
                $($($fields)*)?
            )
        })
    };
}

pub use tracing;
