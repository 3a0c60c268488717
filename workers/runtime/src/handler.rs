//! Handlers, with their types taken off.

use std::{any::Any, collections::HashMap, panic::AssertUnwindSafe, sync::Arc};

use fourmi_kinds::JobKind;
use fourmi_model::{ErrorClass, Failure, Policy};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::value::RawValue;

use crate::Context;

/// The handlers of a worker, by the name of their kind.
pub(crate) type Handlers = HashMap<&'static str, Handler>;

/// A handler and what is known about its kind.
pub(crate) struct Handler {
    pub(crate) policy: Policy,
    pub(crate) schema_version: u32,
    call: Call,
}

/// The result as JSON.
pub(crate) type Ended = Result<Box<RawValue>, Failure>;

type Call = Box<dyn Fn(&RawValue, Context) -> BoxFuture<'static, Ended> + Send + Sync>;

impl Handler {
    pub(crate) fn new<K, F, Fut>(handler: F) -> Self
    where
        K: JobKind,
        F: Fn(K, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<K::Output, Failure>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let call: Call = Box::new(move |payload, context| {
            let payload = serde_json::from_str::<K>(payload.get());
            let handler = handler.clone();
            Box::pin(async move {
                let payload = payload.map_err(|error| {
                    // It was checked when it was submitted: this build reads it differently.
                    Failure::permanent("invalid_payload", "the payload cannot be read").because(error)
                })?;
                let output = handler(payload, context).await?;
                serde_json::value::to_raw_value(&output).map_err(|error| {
                    let failure = Failure::permanent("unwritable_result", "the result cannot be written as JSON");
                    failure.class(ErrorClass::Internal).because(error)
                })
            })
        });
        Self { policy: K::policy(), schema_version: K::SCHEMA_VERSION, call }
    }

    /// Runs the handler here. A panic is a failure like others: it is tried again, because what was met once is
    /// often gone the next time.
    pub(crate) async fn run(&self, payload: &RawValue, context: Context) -> Ended {
        match AssertUnwindSafe(async { (self.call)(payload, context).await }).catch_unwind().await {
            Ok(ended) => ended,
            Err(panic) => {
                let failure = Failure::retry("panic", "the handler met a fault of its own and was stopped");
                Err(failure.class(ErrorClass::Internal).because(panic_text(&*panic)))
            }
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}
