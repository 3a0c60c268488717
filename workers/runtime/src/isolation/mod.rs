//! Runs in a child process of their own: native code on foreign input may crash, hang or eat memory, and must take
//! nothing with it but its own run.
//!
//! The child is this same binary, started with [`ARGUMENT`]. It speaks lines of JSON: orders arrive on its standard
//! input, words go out on what was its standard output. It gets no environment, no credentials, and no descriptors but
//! these. Its log goes to standard error, marked, for that of the worker; what else it
//! writes there is logged, and the last lines explain a crash.

pub(crate) mod child;
pub(crate) mod parent;

use std::path::PathBuf;

use fourmi_model::{Artifact, BlobId, ErrorClass, Failure, JobId, KindName, LogLevel, Parent, Progress, TenantName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    context::{About, GrowingFile, InputFile, NewFile, NewGrowing, Shared},
    enqueue::NewJob,
};

/// The first argument of a child.
pub(crate) const ARGUMENT: &str = "run-one-job";

/// The work of a child: the first line that it reads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) about: About,
    pub(crate) kind: KindName,
    pub(crate) payload: Box<RawValue>,
    pub(crate) scratch: PathBuf,
}

/// What a child reads after its order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ToChild {
    /// Stop, cleanly; `cancelled` if for good, otherwise another run follows.
    Stop { cancelled: bool },
    /// The answer to the question of that number.
    Input { number: u64, answer: Result<InputFile, Failure> },
    /// The answer to the request of that number.
    Shared { number: u64, answer: Result<Shared, Failure> },
    /// The answer to the request of that number.
    Stored { number: u64, answer: Result<Artifact, Failure> },
    /// The answer to the request of that number.
    Grown { number: u64, answer: Result<GrowingFile, Failure> },
    /// The answer to the request of that number.
    Discarded { number: u64, answer: Result<(), Failure> },
    /// The answer to the question of that number.
    Secret { number: u64, answer: Result<String, Failure> },
    /// The answer to the question of that number.
    Tenant { number: u64, answer: Result<Option<TenantName>, Failure> },
    /// The answer to the question of that number.
    Parents { number: u64, answer: Result<Vec<Parent>, Failure> },
    /// The answer to the request of that number.
    Enqueued { number: u64, answer: Result<JobId, Failure> },
}

/// What a child says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromChild {
    Progress(Progress),
    /// Lines for the job's log, and how many more there were.
    Log {
        lines: Vec<(LogLevel, String)>,
        left_out: u64,
    },
    /// Where can this file be read?
    Input {
        number: u64,
        file: BlobId,
    },
    /// Whoever submitted the job is to have this file.
    Share {
        number: u64,
        file: BlobId,
        name: Option<String>,
    },
    /// Take this file over.
    Store {
        number: u64,
        file: NewFile,
    },
    /// Make this file, which grows.
    Grow {
        number: u64,
        file: NewGrowing,
    },
    /// Remove this file, which grew.
    Discard {
        number: u64,
        file: BlobId,
    },
    /// What does the operator keep under this name?
    Secret {
        number: u64,
        name: String,
    },
    /// Whose is the job?
    Tenant {
        number: u64,
    },
    /// What became of the jobs that this one has waited for?
    Parents {
        number: u64,
    },
    /// Make this job.
    Enqueue {
        number: u64,
        job: NewJob,
    },
    /// The last word.
    Ended(Result<Box<RawValue>, Failure>),
}

/// How the process of a handler died.
#[derive(Debug, Clone)]
pub(crate) struct Crash {
    /// `out_of_memory`, or what the system said.
    pub(crate) code: &'static str,
    pub(crate) message: String,
    /// The last lines that it wrote to standard error.
    pub(crate) last_words: String,
}

impl Crash {
    /// What the record of the run says.
    pub(crate) fn failure(&self) -> Failure {
        let message = format!("the process of the run died: {}", self.message);
        let failure = Failure::retry(self.code, message).class(ErrorClass::Internal);
        if self.last_words.is_empty() { failure } else { failure.because(&self.last_words) }
    }
}
