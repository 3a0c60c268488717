//! The middleware that takes a handler's outcome to the settling loop.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use apalis_core::{error::BoxDynError, task::Task};
use tower_layer::Layer;
use tower_service::Service;

use super::{Delivery, Shared};
use crate::{Outcome, Run};

/// Wraps the service of a worker; see [`QueueBackend`](super::QueueBackend).
#[derive(Debug, Clone)]
pub struct SettleLayer {
    shared: Arc<Shared>,
}

impl SettleLayer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl<S> Layer<S> for SettleLayer {
    type Service = SettleService<S>;

    fn layer(&self, service: S) -> SettleService<S> {
        SettleService { shared: self.shared.clone(), service }
    }
}

/// The service that [`SettleLayer`] makes.
#[derive(Debug, Clone)]
pub struct SettleService<S> {
    shared: Arc<Shared>,
    service: S,
}

impl<S> Service<Task<Delivery>> for SettleService<S>
where
    S: Service<Task<Delivery>, Response = Outcome>,
    S::Future: Send + 'static,
    S::Error: Into<BoxDynError>,
{
    type Response = ();
    type Error = BoxDynError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxDynError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxDynError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, task: Task<Delivery>) -> Self::Future {
        // Made before the handler, so that a handler whose future is dropped gives its run back too.
        let mut guard = Guard { run: task.args.key(), shared: self.shared.clone(), outcome: None };
        let run = self.service.call(task);
        Box::pin(async move {
            match run.await {
                Ok(outcome) => guard.outcome = Some(outcome),
                Err(error) => {
                    tracing::error!(job.uuid = %guard.run.job, error = %error.into(), "a layer of the worker failed")
                }
            }
            drop(guard);
            Ok(())
        })
    }
}

struct Guard {
    run: Run,
    shared: Arc<Shared>,
    outcome: Option<Outcome>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Outcome::Released { delay: Duration::from_secs(10) });
        self.shared.settle(self.run, outcome);
        self.shared.finish_one();
    }
}
