//! `sms.receipt`: whether a text message has arrived.

use std::time::Duration;

use fourmi_model::{JobId, Policy, Priority, SmsState};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::JobKind;

/// Asks the provider of a text message whether it has arrived, until that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmsReceipt {
    /// The job that has sent it.
    pub message: JobId,
}

const ATTEMPTS: u32 = 12;

/// How long the provider is given before it is asked again: about three days in all, after which telephone companies throw
/// away what they could not deliver.
pub const SMS_RECEIPT_DELAYS: [Duration; ATTEMPTS as usize - 1] = [
    Duration::from_secs(20),
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(3 * 3600),
    Duration::from_secs(6 * 3600),
    Duration::from_secs(12 * 3600),
    Duration::from_secs(16 * 3600),
    Duration::from_secs(16 * 3600),
    Duration::from_secs(18 * 3600),
];

impl JobKind for SmsReceipt {
    const NAME: &'static str = "sms.receipt";
    const QUEUE: &'static str = "messaging";
    const SUMMARY: &'static str = "Asks whether a text message has arrived, until that is known.";
    type Output = SmsReceived;

    fn policy() -> Policy {
        Policy {
            attempts: Some(ATTEMPTS),
            timeout: Duration::from_secs(60),
            priority: Priority::Low,
            ..Policy::default()
        }
    }
}

/// What `sms.receipt` gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SmsReceived {
    /// `delivered`; what was not delivered is a failure.
    pub state: SmsState,
    /// What the provider says, as a code of its own (`ptt` of OVHcloud).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When it arrived, if the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub delivered_at: Option<Timestamp>,
}
