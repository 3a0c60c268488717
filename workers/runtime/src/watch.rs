//! What is seen of runs from outside: figures and traces.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fourmi_queue::{Delivery, Outcome};
use fourmi_telemetry::traces::{Span, SpanKind, TraceContext, Tracer};

use crate::metrics::{Metrics, RunMetrics};

/// What looks at the runs of a process.
pub(crate) struct Observers {
    /// `None` if nobody can read them.
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// `None` if traces are off.
    pub(crate) tracer: Option<Tracer>,
}

impl Observers {
    /// A run starts; `None` if nobody looks.
    pub(crate) fn watch(&self, delivery: &Delivery) -> Option<Arc<Watch>> {
        let starts = |metrics: &Arc<Metrics>| metrics.starts(delivery.envelope.kind.as_str(), delivery.waited);
        let metrics = self.metrics.as_ref().map(starts);
        let trace = self.tracer.as_ref().map(|tracer| RunTrace::start(tracer, delivery));
        (metrics.is_some() || trace.is_some()).then(|| Arc::new(Watch { metrics, trace }))
    }
}

/// What is seen of one run.
pub(crate) struct Watch {
    metrics: Option<RunMetrics>,
    trace: Option<RunTrace>,
}

impl Watch {
    /// The run says in which stage it is.
    pub(crate) fn is_in(&self, stage: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.is_in(stage);
        }
        if let Some(RunTrace { context, spans: Some(spans) }) = &self.trace {
            spans.is_in(stage, *context);
        }
    }

    /// The run has ended.
    pub(crate) fn ended(&self, outcome: &Outcome) {
        if let Some(metrics) = &self.metrics {
            metrics.ended(outcome);
        }
        if let Some(RunTrace { spans: Some(spans), .. }) = &self.trace {
            spans.ended(outcome);
        }
    }

    /// The context of what the run does, for other processes.
    pub(crate) fn trace_context(&self) -> Option<TraceContext> {
        Some(self.trace.as_ref()?.context)
    }
}

/// Where a run is in a trace.
struct RunTrace {
    context: TraceContext,
    /// `None` if nobody will see them.
    spans: Option<Spans>,
}

/// The spans of a run.
struct Spans {
    tracer: Tracer,
    open: Mutex<Open>,
}

struct Open {
    /// `None` after the end of the run.
    run: Option<Span>,
    stage: Option<(String, Span)>,
}

impl RunTrace {
    fn start(tracer: &Tracer, delivery: &Delivery) -> Self {
        let Delivery { id, envelope, .. } = delivery;
        let parent = envelope.traceparent.as_deref().and_then(|text| text.parse().ok());
        let mut run = tracer.run(envelope.kind.as_str(), id.uuid(), delivery.run, parent);
        let context = run.context();
        if !run.is_recorded() {
            return Self { context, spans: None };
        }
        run.set("job.id", id.to_string());
        run.set("job.kind", envelope.kind.as_str());
        run.set("job.queue", id.queue().as_str());
        run.set("job.run", delivery.run);
        run.set("job.attempt", u64::from(delivery.attempts));
        run.set("job.waited_ms", u64::try_from(delivery.waited.as_millis()).unwrap_or(u64::MAX));
        if let Some(id) = &envelope.correlation_id {
            run.set("correlation.id", id.as_str());
        }
        let open = Mutex::new(Open { run: Some(run), stage: None });
        Self { context, spans: Some(Spans { tracer: tracer.clone(), open }) }
    }
}

impl Spans {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run, which has this context, says in which stage it is.
    fn is_in(&self, stage: &str, context: TraceContext) {
        let mut open = self.open();
        if open.run.is_none() || open.stage.as_ref().is_some_and(|(name, _)| name == stage) {
            return;
        }
        // The one before ends first.
        open.stage = None;
        let span = self.tracer.span(stage.to_owned(), SpanKind::Internal, Some(context));
        open.stage = Some((stage.to_owned(), span));
    }

    fn ended(&self, outcome: &Outcome) {
        let mut open = self.open();
        open.stage = None;
        let Some(mut run) = open.run.take() else { return };
        run.set("job.outcome", outcome.as_str());
        if let Some(error) = outcome.error() {
            run.set("error.type", error.code.as_str());
            if !matches!(outcome, Outcome::Cancelled { .. } | Outcome::Parked { .. }) {
                run.fail(error.message.as_str());
            }
        }
    }
}
