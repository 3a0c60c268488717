//! Providers of messages: how they are, and what was spent with them.

use fourmi_model::{HealthStatus, ProviderCheck, ProviderInfo, ProviderList, Scope, SpendingInfo};
use fourmi_records::{Provider, Records, Spending};
use jiff::{Timestamp, tz::TimeZone};
use salvo::{
    Depot, Response, handler,
    http::{Method, StatusCode},
};

use crate::{
    body,
    operation::{Group, JSON, Operation, schema, state_of},
    problem::{Code, Problem},
};

/// The routes.
pub fn group(records: Records) -> Group {
    table().sharing(records)
}

const LIST: &str = "As the workers have met and checked them, a few seconds ago. A provider is there once a job has asked for it, or it was checked.";

pub(crate) fn table() -> Group {
    let operations = vec![
        Operation::new("list_providers", Method::GET, "/api/v1/providers", list_providers)
            .needs(&[Scope::QueuesRead])
            .says("Lists the providers of messages: how they are, and what was spent with them this month", LIST)
            .answers(StatusCode::OK, JSON, schema::<ProviderList>, "The providers.")
            .fails(&[Code::RecordsUnavailable]),
    ];
    Group::new("providers", "Who carries messages.", operations)
}

#[handler]
async fn list_providers(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let records: Records = state_of(depot)?;
    let month = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string();
    let providers = records.providers().await?.into_iter().map(provider).collect();
    let spending = records.spending(&month).await?.into_iter().map(spending).collect();
    body::write(response, StatusCode::OK, &ProviderList { providers, month, spending })
}

fn provider(provider: Provider) -> ProviderInfo {
    ProviderInfo {
        status: if provider.down_since.is_some() { HealthStatus::Down } else { HealthStatus::Ok },
        account: provider.account,
        down_since: provider.down_since,
        answers: provider.answers,
        outages: provider.outages,
        answered_at: provider.answered_at,
        failed_at: provider.failed_at,
        latency_ms: provider.latency_ms,
        last_code: provider.last_code,
        credits: provider.credits.map(from_thousandths),
        check: provider.check.map(|check| ProviderCheck {
            checked_at: check.at,
            status: check.status,
            message: check.message,
            latency_ms: check.latency_ms,
        }),
    }
}

fn spending(Spending { tenant, account, amount }: Spending) -> SpendingInfo {
    SpendingInfo { tenant, account, amount: from_thousandths(amount) }
}

/// Credits, of which thousandths are counted.
#[expect(clippy::cast_precision_loss, reason = "nobody has so many credits")]
pub(crate) fn from_thousandths(number: i64) -> f64 {
    number as f64 / 1_000.0
}
