//! A worker binary: its queue and its handlers.

use std::process::ExitCode;

use fourmi_kinds::JobKind;
use fourmi_model::{Failure, QueueName};
use fourmi_queue::Queues;
use fourmi_settings::{Environment, Setting, SettingError};
use futures_util::future::BoxFuture;

use crate::{
    Context,
    handler::{Handler, Handlers},
    isolation, serve,
};

/// A worker binary: its queue and its handlers.
pub struct Worker {
    pub(crate) queue: &'static str,
    pub(crate) handlers: Handlers,
    pub(crate) prefetch: usize,
    pub(crate) slots: Option<usize>,
    pub(crate) settings: &'static [&'static Setting],
    pub(crate) check: fn(&Environment) -> Result<(), SettingError>,
    pub(crate) beside: Vec<Beside>,
}

/// What a process does beside its jobs, until it ends.
pub(crate) type Beside = Box<dyn FnOnce(Queues, QueueName) -> BoxFuture<'static, ()> + Send>;

impl Worker {
    /// A worker of `queue` without handlers.
    pub fn new(queue: &'static str) -> Self {
        Self {
            queue,
            handlers: Handlers::new(),
            prefetch: 0,
            slots: None,
            settings: &[],
            check: |_| Ok(()),
            beside: Vec::new(),
        }
    }

    /// Registers the handler of a kind.
    ///
    /// # Panics
    /// If the kind has a handler already or belongs to another queue: mistakes of the programmer that the first start
    /// shows.
    #[must_use]
    pub fn kind<K, F, Fut>(mut self, handler: F) -> Self
    where
        K: JobKind,
        F: Fn(K, Context) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<K::Output, Failure>> + Send + 'static,
    {
        assert_eq!(K::QUEUE, self.queue, "{} waits in another queue", K::NAME);
        let earlier = self.handlers.insert(K::NAME, Handler::new::<K, F, Fut>(handler));
        assert!(earlier.is_none(), "two handlers for {}", K::NAME);
        self
    }

    /// Hands these settings of the environment on to every run; `check` says at the start whether they are right.
    #[must_use]
    pub fn settings(
        mut self,
        settings: &'static [&'static Setting],
        check: fn(&Environment) -> Result<(), SettingError>,
    ) -> Self {
        (self.settings, self.check) = (settings, check);
        self
    }

    /// Does something beside the jobs of the queue, from the start of the process to its end.
    #[must_use]
    pub fn beside<F, Fut>(mut self, task: F) -> Self
    where
        F: FnOnce(Queues, QueueName) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.beside.push(Box::new(move |queues, queue| Box::pin(task(queues, queue))));
        self
    }

    /// Runs this many jobs at a time where the settings do not say how many, instead of one for each processor: for queues of
    /// jobs that wait for others more than they compute.
    #[must_use]
    pub fn slots(mut self, jobs: usize) -> Self {
        self.slots = Some(jobs);
        self
    }

    /// Fetches this many jobs ahead: for queues of short jobs only, because a job fetched ahead waits for this process.
    #[must_use]
    pub fn prefetch(mut self, jobs: usize) -> Self {
        self.prefetch = jobs;
        self
    }

    /// Serves the queue until the process is told to stop, or runs one job if it was started as the child of a worker.
    pub fn main(self) -> ExitCode {
        if std::env::args_os().nth(1).is_some_and(|argument| argument == isolation::ARGUMENT) {
            return isolation::child::main(&self.handlers);
        }
        match serve::main(self) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}
