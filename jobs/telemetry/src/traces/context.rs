//! Where a span belongs: W3C Trace Context, level 1 (<https://www.w3.org/TR/trace-context-1/#traceparent-header>).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A span, and the trace that it is in. Its text is a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TraceContext {
    trace: u128,
    span: u64,
    sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no traceparent of W3C Trace Context")]
pub struct NoTraceContext;

impl TraceContext {
    /// The context in which a trace begins: it has no span yet.
    pub(super) fn root(trace: u128, sampled: bool) -> Self {
        // Zero is no id.
        Self { trace: trace.max(1), span: 0, sampled }
    }

    /// The same trace at another span.
    pub(super) fn with_span(self, span: u64) -> Self {
        Self { span: span.max(1), ..self }
    }

    /// The id of the trace.
    pub(super) fn trace(self) -> u128 {
        self.trace
    }

    /// The id of the span.
    pub(super) fn span(self) -> u64 {
        self.span
    }

    /// Whether its spans are sent.
    pub fn is_sampled(self) -> bool {
        self.sampled
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl From<TraceContext> for String {
    fn from(context: TraceContext) -> Self {
        context.to_string()
    }
}

impl TryFrom<String> for TraceContext {
    type Error = NoTraceContext;

    fn try_from(text: String) -> Result<Self, NoTraceContext> {
        text.parse()
    }
}

impl FromStr for TraceContext {
    type Err = NoTraceContext;

    fn from_str(text: &str) -> Result<Self, NoTraceContext> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let mut parts = text.split('-');
        let mut part = |length: usize| {
            parts.next().filter(|part| part.len() == length && part.bytes().all(is_digit)).ok_or(NoTraceContext)
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let has_more = parts.next().is_some();
        // Later versions may add parts; the last of all numbers is none.
        if version == "ff" || (version == "00" && has_more) {
            return Err(NoTraceContext);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| NoTraceContext)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| NoTraceContext)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoTraceContext)?;
        if trace == 0 || span == 0 {
            return Err(NoTraceContext);
        }
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_reads_back_as_itself() {
        for text in [
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        ] {
            let context: TraceContext = text.parse().unwrap();
            assert_eq!(context.to_string(), text);
            assert_eq!(context.is_sampled(), text.ends_with("01"));
        }
        let newer = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03-what-comes-later";
        assert!(newer.parse::<TraceContext>().unwrap().is_sampled());
    }

    #[test]
    fn what_is_none_is_not_taken_for_one() {
        for text in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(NoTraceContext), "{text}");
        }
    }
}
