//! Traces: what took how long, from a request to the stages of the runs that it led to.
//!
//! A span is told where it belongs by a [`TraceContext`], which travels as W3C Trace Context has it: in the header of a request, in
//! the envelope of a job, in the environment of a process. What has ended is sent by OTLP to a collector.
//!
//! It is written here, and small, for two reasons. The id of a run's span is derived from the job and the number of the run, so
//! that the next run links to it though nothing is kept of it; OpenTelemetry's own library does not let one choose ids. And its
//! exporter brings the code of gRPC, for whatever way it sends.

mod context;
mod otlp;

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use fourmi_settings::Traces;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

pub use self::context::{NoTraceContext, TraceContext};

/// Spans that wait to be sent at most; more are dropped.
const WAITING: usize = 8_192;

/// How long spans may take to be sent when the process ends.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// Makes spans and sends them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    ratio: f64,
    ended: mpsc::Sender<Word>,
}

/// What the sending task hears.
#[derive(Debug)]
enum Word {
    Ended(Box<Ended>),
    Flush(oneshot::Sender<()>),
}

/// What is done in a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// Something inside this process.
    Internal = 1,
    /// A request of another is answered.
    Server = 2,
    /// What another has sent is worked on.
    Consumer = 5,
}

/// What is known of a span; a number or a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A span that has ended, or will.
#[derive(Debug)]
struct Ended {
    context: TraceContext,
    parent: Option<u64>,
    links: Vec<TraceContext>,
    name: Cow<'static, str>,
    kind: SpanKind,
    started: SystemTime,
    ended: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    /// Why it failed, if it did.
    error: Option<String>,
}

/// A span that goes on until it is dropped.
#[derive(Debug)]
pub struct Span {
    context: TraceContext,
    /// `None` if nobody will see it.
    recorded: Option<(Box<Ended>, mpsc::Sender<Word>)>,
}

impl Tracer {
    /// Sends spans as the settings say, for a program of this name; `None` if they do not. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If no client for HTTP can be made.
    pub fn start(settings: &Traces, program: &str) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let (ended, words) = mpsc::channel(WAITING);
        let collector = otlp::Collector::new(endpoint, &settings.headers, program)?;
        tokio::spawn(collector.send_all(words));
        Ok(Some(Self { ratio: settings.ratio, ended }))
    }

    /// A span that starts now, inside the one of that context; without one it begins a trace of a new id.
    pub fn span(&self, name: impl Into<Cow<'static, str>>, kind: SpanKind, parent: Option<TraceContext>) -> Span {
        let context = parent.unwrap_or_else(|| self.root(rand::random()));
        self.open(name.into(), kind, context.with_span(rand::random()), parent)
    }

    /// The span of a run of a job, inside the one of the context that the job came with; without one it is in a trace whose id is
    /// the job's. It is linked with the span of the run before it.
    pub fn run(&self, kind: &str, job: Uuid, run: u64, parent: Option<TraceContext>) -> Span {
        let context = parent.unwrap_or_else(|| self.root(job.as_u128()));
        if !context.is_sampled() {
            // Nobody meets the id of a span that is not sent, so it need not look like any other.
            return Span { context: context.with_span(job.as_u128() as u64 ^ run), recorded: None };
        }
        let mut span = self.open("run".into(), SpanKind::Consumer, context.with_span(run_span(job, run)), parent);
        if let Some((recorded, _)) = &mut span.recorded {
            recorded.name = format!("run {kind}").into();
            if run > 1 {
                recorded.links.push(context.with_span(run_span(job, run - 1)));
            }
        }
        span
    }

    /// Waits until what has ended is sent, a moment at most.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        let flushed = async {
            // A task that has gone has nothing left to send.
            let _ = self.ended.send(Word::Flush(done)).await;
            let _ = sent.await;
        };
        let _late = timeout(LAST_MOMENT, flushed).await;
    }

    /// The context in which a trace begins. Whether it is sent depends on its id, so that all who begin the same one agree.
    fn root(&self, trace: u128) -> TraceContext {
        // The last 32 bits are random also where the id is a job's: before them are its variant and a counter (RFC 9562).
        let place = f64::from(trace as u32) / (f64::from(u32::MAX) + 1.0);
        TraceContext::root(trace, place < self.ratio)
    }

    fn open(
        &self,
        name: Cow<'static, str>,
        kind: SpanKind,
        context: TraceContext,
        parent: Option<TraceContext>,
    ) -> Span {
        if !context.is_sampled() {
            return Span { context, recorded: None };
        }
        let now = SystemTime::now();
        let recorded = Ended {
            context,
            parent: parent.map(TraceContext::span),
            links: Vec::new(),
            name,
            kind,
            started: now,
            ended: now,
            attributes: Vec::new(),
            error: None,
        };
        Span { context, recorded: Some((Box::new(recorded), self.ended.clone())) }
    }
}

/// The id of the span of a run: part of a hash, so that it looks like any other.
fn run_span(job: Uuid, run: u64) -> u64 {
    let hash = Sha256::new().chain_update(job.as_bytes()).chain_update(run.to_be_bytes()).finalize();
    // Zero is no id.
    hash[..8].iter().fold(0, |id, byte| (id << 8) | u64::from(*byte)).max(1)
}

impl Span {
    /// The context of what happens inside it.
    pub fn context(&self) -> TraceContext {
        self.context
    }

    /// Whether somebody will see it; otherwise there is no need to say anything of it.
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Notes something of it.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some((recorded, _)) = &mut self.recorded {
            recorded.attributes.push((name, value.into()));
        }
    }

    /// Notes that it has failed.
    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some((recorded, _)) = &mut self.recorded {
            recorded.error = Some(why.into());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some((mut recorded, sender)) = self.recorded.take() {
            recorded.ended = SystemTime::now();
            // Where too many wait, work is worth more than what is said of it.
            let _ = sender.try_send(Word::Ended(recorded));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(ratio: f64) -> (Tracer, mpsc::Receiver<Word>) {
        let (ended, words) = mpsc::channel(16);
        (Tracer { ratio, ended }, words)
    }

    #[test]
    fn runs_of_a_job_are_in_one_trace_and_linked() {
        let (tracer, mut words) = tracer(1.0);
        let job = Uuid::now_v7();
        let contexts = [1, 2].map(|run| tracer.run("a", job, run, None).context());
        assert!(contexts[0] != contexts[1] && contexts[0].with_span(1) == contexts[1].with_span(1));
        let links = [(); 2].map(|()| match words.try_recv().unwrap() {
            Word::Ended(ended) => ended.links,
            Word::Flush(_) => Vec::new(),
        });
        assert_eq!(links, [vec![], vec![contexts[0]]]);
    }

    #[test]
    fn a_share_of_the_traces_is_sent_and_whoever_was_before_decides() {
        let share = |ratio: f64| {
            let (tracer, _words) = tracer(ratio);
            let sampled = |_: &u32| tracer.span("a", SpanKind::Internal, None).context().is_sampled();
            (0..2_000).filter(sampled).count()
        };
        assert_eq!((share(0.0), share(1.0)), (0, 2_000));
        assert!((800..1_200).contains(&share(0.5)));
        // Of jobs too, whose ids are made one after the other and alike.
        let (some, _words) = tracer(0.1);
        let jobs: Vec<Uuid> = (0..20_000).map(|_| Uuid::now_v7()).collect();
        let is_sampled = |job: &&Uuid| some.run("a", **job, 1, None).context().is_sampled();
        let sampled = jobs.iter().filter(is_sampled).count();
        assert!((1_700..2_300).contains(&sampled), "{sampled}");

        let (never, mut words) = tracer(0.0);
        let asked: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
        assert!(never.span("a", SpanKind::Internal, Some(asked)).context().is_sampled());
        assert!(words.try_recv().is_ok());
        let unasked: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00".parse().unwrap();
        let (always, mut words) = tracer(1.0);
        assert!(!always.span("a", SpanKind::Internal, Some(unasked)).context().is_sampled());
        assert!(words.try_recv().is_err());
    }
}
