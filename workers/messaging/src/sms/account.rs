//! An account with a provider of text messages.

use std::{collections::HashMap, time::Duration};

use fourmi_kinds::SMS_CREDITS_PER_SEGMENT;
use fourmi_model::TenantName;
use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::account::Account;

/// What the operator keeps of an account with a provider of text messages (`docs/kinds/sms.send.md`).
#[derive(Deserialize)]
pub(crate) struct SmsAccount {
    /// Who sends.
    #[serde(flatten)]
    pub(super) provider: ProviderAccount,
    /// The sender of messages that name none.
    #[serde(default)]
    pub(super) sender: Option<String>,
    /// Where people sleep at night, for advertising.
    #[serde(default = "paris", deserialize_with = "time_zone")]
    pub(super) time_zone: TimeZone,
    /// Credits that a part of a message is taken to cost before the provider says so.
    #[serde(default = "usual_price")]
    pub(super) credits_per_segment: f64,
    /// Credits that a tenant may spend in a month.
    #[serde(default)]
    monthly_limit: Option<f64>,
    /// The same, for tenants that differ.
    #[serde(default)]
    monthly_limits: HashMap<String, f64>,
    /// Messages that a number gets of a tenant in an hour at most.
    #[serde(default)]
    pub(super) hourly_per_number: Option<u64>,
    /// And in a day.
    #[serde(default)]
    pub(super) daily_per_number: Option<u64>,
    /// The operator is warned when fewer credits are left.
    #[serde(default)]
    pub(super) low_credits: Option<f64>,
    /// How long the provider is asked for a message that it may have, in seconds.
    #[serde(default = "ten_minutes")]
    lookup_window_s: f64,
    /// Whether it is found out that messages have arrived.
    #[serde(default = "yes")]
    pub(super) receipts: bool,
}

/// Who sends.
#[derive(Deserialize)]
#[serde(tag = "provider", rename_all = "lowercase")]
pub(super) enum ProviderAccount {
    /// OVHcloud.
    Ovh(OvhAccount),
    /// Whoever speaks the documented JSON.
    Http(HttpAccount),
}

/// An account with OVHcloud.
#[derive(Deserialize)]
pub(super) struct OvhAccount {
    /// `ovh-eu`, `ovh-ca`, or the address of the API.
    #[serde(default = "europe")]
    endpoint: String,
    pub(super) application_key: String,
    pub(super) application_secret: String,
    pub(super) consumer_key: String,
    /// The service that sends: `sms-xx12345-1`.
    pub(super) service: String,
}

/// An account with whoever speaks the documented JSON.
#[derive(Deserialize)]
pub(super) struct HttpAccount {
    /// Where messages are posted and asked for.
    pub(super) url: String,
    /// What is shown as a bearer token.
    pub(super) token: String,
}

impl Account for SmsAccount {
    const WHAT: &'static str = "the account with a provider of text messages, in JSON,";
    const DOCUMENT: &'static str = "docs/kinds/sms.send.md";
}

impl SmsAccount {
    /// What a tenant may spend in a month, in thousandths of a credit.
    pub(super) fn monthly_limit(&self, tenant: Option<&TenantName>) -> Option<u64> {
        let own = tenant.and_then(|tenant| self.monthly_limits.get(tenant.as_str())).copied();
        own.or(self.monthly_limit).map(thousandths)
    }

    /// How long the provider is asked for a message that it may have.
    pub(super) fn lookup_window(&self) -> Duration {
        Duration::try_from_secs_f64(self.lookup_window_s).unwrap_or_default()
    }
}

impl OvhAccount {
    /// The address of the API, with its version.
    pub(super) fn base(&self) -> &str {
        match self.endpoint.as_str() {
            "ovh-eu" => "https://eu.api.ovh.com/1.0",
            "ovh-ca" => "https://ca.api.ovh.com/1.0",
            address => address.trim_end_matches('/'),
        }
    }
}

/// Credits as they are counted: in thousandths, none fewer than none.
pub(super) fn thousandths(credits: f64) -> u64 {
    // The conversion ends at the largest number, and at zero.
    (credits * 1000.0).round() as u64
}

fn europe() -> String {
    "ovh-eu".to_owned()
}

fn paris() -> TimeZone {
    TimeZone::get("Europe/Paris").unwrap_or(TimeZone::UTC)
}

fn time_zone<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<TimeZone, D::Error> {
    let name = String::deserialize(deserializer)?;
    TimeZone::get(&name).map_err(|_| serde::de::Error::custom("no such time zone"))
}

const fn usual_price() -> f64 {
    SMS_CREDITS_PER_SEGMENT
}

const fn ten_minutes() -> f64 {
    600.0
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_what_the_documentation_says() {
        let ovh = r#"{"provider": "ovh", "application_key": "a", "application_secret": "b", "consumer_key": "c",
            "service": "sms-xx12345-1", "sender": "Fourmi", "time_zone": "Europe/Paris", "monthly_limit": 100,
            "monthly_limits": {"kiosks": 0.5}, "low_credits": 20}"#;
        let account: SmsAccount = serde_json::from_str(ovh).unwrap();
        let ProviderAccount::Ovh(ovh) = &account.provider else { panic!("it is with OVHcloud") };
        assert_eq!(ovh.base(), "https://eu.api.ovh.com/1.0");
        assert_eq!(account.monthly_limit(None), Some(100_000));
        assert_eq!(account.monthly_limit(Some(&"kiosks".parse().unwrap())), Some(500));
        assert_eq!(account.monthly_limit(Some(&"other".parse().unwrap())), Some(100_000));
        assert_eq!(account.lookup_window(), Duration::from_secs(600));

        let http =
            r#"{"provider": "http", "url": "https://sms.example.org/messages", "token": "t", "receipts": false}"#;
        let account: SmsAccount = serde_json::from_str(http).unwrap();
        assert!(matches!(account.provider, ProviderAccount::Http(_)) && !account.receipts);
        for wrong in ["{}", r#"{"provider": "other"}"#, r#"{"provider": "http", "url": "x"}"#, "[]", ""] {
            assert!(serde_json::from_str::<SmsAccount>(wrong).is_err(), "{wrong}");
        }
    }
}
