//! Kinds whose only purpose is to be watched; served by `fourmi-test-worker`.

use std::{path::PathBuf, time::Duration};

use fourmi_kinds::JobKind;
use fourmi_model::{Backoff, Isolation, Policy};
use fourmi_runtime::Worker;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The queue of these kinds.
pub const QUEUE: &str = "test";

/// Gives its value back.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Echo {
    /// What to give back.
    pub value: serde_json::Value,
}

impl JobKind for Echo {
    const NAME: &'static str = "test.echo";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Gives its value back.";
    type Output = serde_json::Value;
}

/// Writes `<run> started` into a file, waits for a second file, then writes `<run> ended`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Hold {
    /// Where to write.
    pub journal: PathBuf,
    /// What to wait for.
    pub gate: PathBuf,
    /// Whether it stops when it is asked to.
    pub polite: bool,
}

impl JobKind for Hold {
    const NAME: &'static str = "test.hold";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Waits for a file.";
    type Output = ();
}

/// The same in a child process.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct HoldInChild(pub Hold);

impl JobKind for HoldInChild {
    const NAME: &'static str = "test.hold_in_child";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Waits for a file in a child process.";
    type Output = ();

    fn policy() -> Policy {
        Policy { isolation: Isolation::Process { memory_bytes: 64 << 20 }, ..quick() }
    }
}

/// Fails as often as it is told, then succeeds with the number of its attempt.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Fail {
    /// How often.
    pub times: u32,
    /// Whether trying again is worth it.
    pub permanent: bool,
    /// Panic instead of failing.
    #[serde(default)]
    pub panic: bool,
    /// When the other side asked to be tried again, in milliseconds.
    #[serde(default)]
    pub after_ms: Option<u64>,
}

impl JobKind for Fail {
    const NAME: &'static str = "test.fail";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Fails as often as it is told.";
    type Output = u32;

    fn policy() -> Policy {
        quick()
    }
}

/// Runs in a child process and does something bad there.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Misbehave {
    /// What.
    pub how: Misdeed,
    /// Where the process writes its id, and those of the processes that it starts.
    pub journal: PathBuf,
}

/// What a child process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Misdeed {
    /// Nothing bad: says what it sees of the world.
    Behave,
    /// Ends itself by a signal.
    Abort,
    /// Takes memory, a little at a time.
    EatSlowly,
    /// Takes memory in one piece.
    EatAtOnce,
    /// Starts a program that takes memory.
    EatByProgram,
    /// Ends without an answer.
    Exit,
    /// Writes nonsense where the conversation is expected.
    PrintNonsense,
    /// Panics.
    Panic,
    /// Starts a process of its own and never ends.
    Hang,
}

impl JobKind for Misbehave {
    const NAME: &'static str = "test.misbehave";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Does something bad in a child process.";
    type Output = serde_json::Value;

    fn policy() -> Policy {
        Policy {
            attempts: Some(1),
            isolation: Isolation::Process { memory_bytes: 64 << 20 },
            timeout: Duration::from_secs(60),
            ..quick()
        }
    }
}

/// Greets people; says which version of the worker it is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(from = "AnyGreet")]
pub struct Greet {
    /// Whom.
    pub names: Vec<String>,
}

/// Payloads of both versions.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum AnyGreet {
    Two { names: Vec<String> },
    One(GreetOne),
}

impl From<AnyGreet> for Greet {
    fn from(any: AnyGreet) -> Self {
        match any {
            AnyGreet::Two { names } => Self { names },
            AnyGreet::One(one) => Self { names: vec![one.name] },
        }
    }
}

impl JobKind for Greet {
    const NAME: &'static str = "test.greet";
    const QUEUE: &'static str = QUEUE;
    const SCHEMA_VERSION: u32 = 2;
    const SUMMARY: &'static str = "Greets people.";
    type Output = String;
}

/// The first version of [`Greet`], as older workers have it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct GreetOne {
    /// Whom.
    pub name: String,
}

impl JobKind for GreetOne {
    const NAME: &'static str = Greet::NAME;
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = Greet::SUMMARY;
    type Output = String;
}

/// Reports progress up to 100 %, waiting for the gate at half-way.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Steps {
    /// What to wait for at half-way.
    pub gate: Option<PathBuf>,
}

impl JobKind for Steps {
    const NAME: &'static str = "test.steps";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Reports progress.";
    type Output = ();

    fn policy() -> Policy {
        Policy { isolation: Isolation::Process { memory_bytes: 64 << 20 }, ..quick() }
    }
}

/// Writes lines to the job's log (`line 1`, `line 2` …), waits for the gate, writes `the last word`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Talk {
    /// How many lines.
    pub lines: u64,
    /// What to wait for.
    pub gate: Option<PathBuf>,
}

impl JobKind for Talk {
    const NAME: &'static str = "test.talk";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Writes to the job's log.";
    type Output = ();
}

/// The same in a child process.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TalkInChild(pub Talk);

impl JobKind for TalkInChild {
    const NAME: &'static str = "test.talk_in_child";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Writes to the job's log from a child process.";
    type Output = ();

    fn policy() -> Policy {
        Policy { isolation: Isolation::Process { memory_bytes: 64 << 20 }, ..quick() }
    }
}

/// Gives what it knows of the jobs that it has waited for, after it has made as many children as it is told.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Family {
    /// How many jobs to make, which wait for each other in a row.
    pub children: u32,
    /// Fail once they are made, as often as this.
    pub failures: u32,
}

impl JobKind for Family {
    const NAME: &'static str = "test.family";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Makes jobs, and says what it knows of those before it.";
    type Output = serde_json::Value;

    fn policy() -> Policy {
        quick()
    }
}

/// The same in a child process.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct FamilyInChild(pub Family);

impl JobKind for FamilyInChild {
    const NAME: &'static str = "test.family_in_child";
    const QUEUE: &'static str = QUEUE;
    const SUMMARY: &'static str = "Makes jobs from a child process.";
    type Output = serde_json::Value;

    fn policy() -> Policy {
        Policy { isolation: Isolation::Process { memory_bytes: 64 << 20 }, ..quick() }
    }
}

/// One of fifty kinds that do nothing, to see what many kinds cost.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Many<const N: usize> {}

macro_rules! many {
    ($($number:literal)+) => {
        $(impl JobKind for Many<$number> {
            const NAME: &'static str = concat!("test.many_", stringify!($number));
            const QUEUE: &'static str = QUEUE;
            const SUMMARY: &'static str = "Does nothing.";
            type Output = ();
        })+

        /// The names of those kinds.
        pub const MANY: &[&str] = &[$(Many::<$number>::NAME),+];

        /// The worker with handlers for them.
        pub fn with_many(worker: Worker) -> Worker {
            worker$(.kind::<Many<$number>, _, _>(async |_, _| Ok(())))+
        }
    };
}

many! {
    0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24
    25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49
}

fn quick() -> Policy {
    let backoff = Backoff { base: Duration::from_millis(20), cap: Duration::from_millis(50) };
    Policy { attempts: Some(3), backoff, ..Policy::default() }
}
