//! The closed sets of words: where a job is in its life, what it waits for, how urgent it is, what becomes of ticks, how a part
//! is, how grave a line of a log.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A word that names none of a closed set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not one of {1}")]
pub struct UnknownWord(String, String);

impl UnknownWord {
    pub(crate) fn new(text: &str, known: &[&str]) -> Self {
        Self(text.chars().take(40).collect(), known.join(", "))
    }
}

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$doc])* $variant),+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word that stands for it everywhere: in Redis, in JSON, on the command line.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    UnknownWord::new(text, &known)
                })
            }
        }
    };
}

words! {
    /// Where a job is in its life.
    State {
        /// Not before a time.
        Scheduled = "scheduled",
        /// Waits for other jobs.
        Blocked = "blocked",
        /// Can run as soon as a worker has a free slot.
        Waiting = "waiting",
        /// A worker holds its lease.
        Running = "running",
        /// Scheduled again after a failure.
        Retrying = "retrying",
        /// Waits for a cause to go away; released by `unpark`.
        Parked = "parked",
        /// Done; its result is kept for a while.
        Succeeded = "succeeded",
        /// Given up; kept as a dead letter, listed and replayable.
        Failed = "failed",
        /// Stopped by a caller.
        Cancelled = "cancelled",
    }
}

impl State {
    /// Whether the job is over. A caller may still replay it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

words! {
    /// How urgent a job is. A higher priority goes first most of the time, a lower one is never starved.
    #[derive(Default)]
    Priority {
        /// Someone waits in front of a screen.
        Urgent = "urgent",
        /// Before ordinary work.
        High = "high",
        /// Ordinary work.
        #[default]
        Normal = "normal",
        /// Whenever there is room.
        Low = "low",
    }
}

words! {
    /// What a parked job waits for.
    ParkReason {
        /// The operator has not set something up yet.
        NotConfigured = "not_configured",
        /// The other side cannot be reached from here.
        Offline = "offline",
        /// The other side is down.
        ProviderDown = "provider_down",
        /// Nobody knows whether it was done, and doing it twice would harm: a person decides.
        Uncertain = "uncertain",
    }
}

impl ParkReason {
    /// What releases a job that is parked for this, for a person.
    pub const fn released_by(self) -> &'static str {
        match self {
            Self::NotConfigured => "the operator sets up what is missing and unparks the jobs that wait for it",
            Self::Offline => "the other side can be reached again and the jobs that wait for it are unparked",
            Self::ProviderDown => "the other side is back and the jobs that wait for it are unparked",
            Self::Uncertain => "a person says whether it was done",
        }
    }
}

words! {
    /// What becomes of a job that waits for others when one of them fails or is cancelled.
    #[derive(Default)]
    ParentFailure {
        /// It is cancelled, with the error `parent_failed`.
        #[default]
        Cancel = "cancel",
        /// It runs all the same, once the others are over too.
        Run = "run",
        /// It waits until that job is replayed and succeeds.
        Wait = "wait",
    }
}

impl ParentFailure {
    /// Whether it is what holds if nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

words! {
    /// What a schedule does at a tick while the job of an earlier one is not over.
    #[derive(Default)]
    Overlap {
        /// Both run.
        #[default]
        Allow = "allow",
        /// The tick makes no job.
        Skip = "skip",
        /// One job waits until the one that runs is over; while one waits, a tick makes none.
        QueueOne = "queue_one",
        /// The earlier job is cancelled.
        CancelOld = "cancel_old",
    }
}

words! {
    /// What a schedule does about ticks for which nobody was there: they are more than a minute late.
    #[derive(Default)]
    Missed {
        /// Nothing.
        Skip = "skip",
        /// One job, for the newest of them.
        #[default]
        Once = "once",
        /// A job for each, of the newest ones up to a limit.
        All = "all",
    }
}

words! {
    /// What became of a tick.
    FireOutcome {
        /// It has made a job.
        Fired = "fired",
        /// It has made none, because the job of an earlier one was not over.
        Skipped = "skipped",
        /// It has made none, because nobody was there in time.
        Missed = "missed",
        /// It has made none, because the queue refused it; `error` says why.
        Refused = "refused",
    }
}

words! {
    /// The length of the points of a statistic.
    StatStep {
        /// A minute.
        Minute = "minute",
        /// An hour.
        Hour = "hour",
        /// A day of UTC.
        Day = "day",
    }
}

words! {
    /// What the jobs of a statistic are told apart by.
    StatDimension {
        /// The kind.
        Kind = "kind",
        /// The queue.
        Queue = "queue",
        /// The tenant.
        Tenant = "tenant",
    }
}

words! {
    /// What retention deletes.
    RetentionClass {
        /// Records of finished jobs.
        Jobs = "jobs",
        /// Events of the audit log.
        Events = "events",
        /// Stored files.
        Files = "files",
        /// Sessions of people that are over.
        Sessions = "sessions",
        /// Links of mails that have expired or were used.
        Tokens = "tokens",
        /// Uploads that nobody goes on with.
        Uploads = "uploads",
        /// Content without a description, and descriptions without content.
        Orphans = "orphans",
        /// Devices that were not seen for long: their tokens have expired.
        Devices = "devices",
        /// What is known of text messages: numbers, and what became of them.
        Messages = "messages",
    }
}

words! {
    /// What a device is.
    DevicePlatform {
        /// A telephone or tablet with Android.
        Android = "android",
        /// A telephone or tablet of Apple.
        Ios = "ios",
        /// A browser.
        Web = "web",
    }
}

words! {
    /// What sort of address the token of a device is.
    #[derive(Default)]
    TokenKind {
        /// A registration token of FCM.
        #[default]
        Registration = "registration",
        /// A Firebase installation id, which Google is moving to.
        Installation = "installation",
    }
}

words! {
    /// A way by which people are reached.
    Channel {
        /// Text messages, to telephone numbers in the form of E.164.
        Sms = "sms",
        /// Mails, to addresses.
        Mail = "mail",
        /// Push notifications, to owners of devices.
        Push = "push",
    }
}

words! {
    /// Why an address gets nothing any more.
    SuppressionReason {
        /// Whoever has it does not want to be written to.
        OptedOut = "opted_out",
        /// It does not exist, or takes nothing.
        Bounced = "bounced",
        /// Whoever has it has called what came unwanted.
        Complained = "complained",
        /// Somebody has said so by hand.
        Manual = "manual",
    }
}

words! {
    /// What became of a text message that was to be sent.
    SmsState {
        /// It was not sent, and may be.
        Unsent = "unsent",
        /// It is being sent, or was: nobody knows yet whether the provider has it.
        Sending = "sending",
        /// The provider has it.
        Accepted = "accepted",
        /// The provider, or we, would not have it. It was not sent.
        Refused = "refused",
        /// It has reached the telephone.
        Delivered = "delivered",
        /// It has not, and will not.
        Undelivered = "undelivered",
    }
}

words! {
    /// How a part of the platform is.
    HealthStatus {
        /// It is not there, and need not be.
        NotConfigured = "not_configured",
        /// It works.
        Ok = "ok",
        /// It works, but not as it should.
        Degraded = "degraded",
        /// It does not work.
        Down = "down",
    }
}

words! {
    /// How grave a line of a job's log is.
    LogLevel {
        /// What happens.
        Info = "info",
        /// What may matter.
        Warn = "warn",
        /// What went wrong.
        Error = "error",
    }
}
