//! Text messages: what one would cost, and what a person knows of one.

use fourmi_kinds::SmsEncoding;
use fourmi_model::{Job, JobId};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, ClientError};

/// How large a text message would be, and what it would cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SmsEstimate {
    /// Its alphabet.
    pub encoding: SmsEncoding,
    /// What its characters take of the room of that alphabet.
    pub characters: u32,
    /// The parts in which it would be sent and paid.
    pub segments: u32,
    /// What it is taken to cost, in credits of the provider, if the API knows its account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<f64>,
    /// What would be sent.
    pub text: String,
}

#[derive(Deserialize)]
struct Address {
    path: String,
}

impl Client {
    /// Counts the parts of a text message, and what it would cost with an account; with `transliterate`, of what reads alike
    /// and is cheaper.
    ///
    /// # Errors
    /// If the API cannot be reached, or refuses.
    pub async fn estimate_sms(
        &self,
        text: &str,
        transliterate: bool,
        account: &str,
    ) -> Result<SmsEstimate, ClientError> {
        let draft = json!({"text": text, "transliterate": transliterate, "account": account});
        self.json(self.request(Method::POST, ["sms", "estimate"]).json(&draft)).await
    }

    /// Says whether the text message of a job was sent, which is parked as uncertain; if not, it is sent now.
    ///
    /// # Errors
    /// `not_uncertain` if there is nothing to decide.
    pub async fn decide_sms(&self, job: &JobId, sent: bool) -> Result<Job, ClientError> {
        let request = self.request(Method::POST, ["sms", &job.to_string(), "decision"]);
        self.json(request.json(&json!({"sent": sent}))).await
    }

    /// Where the provider of an account says that messages have arrived: an address on the API, without scheme and host.
    ///
    /// # Errors
    /// `scope_missing` if the caller steers no queues.
    pub async fn sms_receipt_address(&self, account: &str) -> Result<String, ClientError> {
        let request = self.request(Method::GET, ["sms", "receipt-address"]).query(&[("account", account)]);
        Ok(self.json::<Address>(request).await?.path)
    }
}
