//! Accounts with providers: secrets of the operator, which jobs name.

use fourmi_model::{ErrorClass, Failure, ParkReason, TenantName};
use fourmi_runtime::Context;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// An account: what the operator keeps as a secret of its name, in JSON. Beside what it needs to know itself it may hold
/// `tenants`, whose jobs alone may use it.
pub(crate) trait Account: DeserializeOwned {
    /// What it is, for a person: "an account with a provider of text messages".
    const WHAT: &'static str;

    /// Where its form is documented.
    const DOCUMENT: &'static str;
}

/// Reads an account.
///
/// # Errors
/// The job is parked as `not_configured` if there is none, or it is malformed: it goes on when the operator has written it. A
/// permanent failure `account_forbidden` if it is not for the job's tenant.
pub(crate) async fn account<A: Account>(context: &Context, name: &str) -> Result<A, Failure> {
    let text = context.secret(name).await.map_err(|_| {
        let message = format!(
            "there is no account {name}: put {} into the file secrets/{name} of the data folder ({})",
            A::WHAT,
            A::DOCUMENT
        );
        Failure::park(ParkReason::NotConfigured, message)
    })?;
    // What is wrong, and never what stands there.
    let malformed = |_| {
        let message = format!("secrets/{name} of the data folder is not {} ({})", A::WHAT, A::DOCUMENT);
        Failure::park(ParkReason::NotConfigured, message)
    };
    let (account, tenants) = parse(&text).map_err(malformed)?;
    if let Some(tenants) = tenants
        && !context.tenant().await?.is_some_and(|tenant| tenants.contains(&tenant))
    {
        let message = format!("the account {name} is for jobs of other tenants");
        return Err(Failure::permanent("account_forbidden", message).class(ErrorClass::Forbidden));
    }
    Ok(account)
}

/// An account as the operator has written it, and the tenants that it is for, if it is not for all.
///
/// # Errors
/// If that is none of this sort.
pub(crate) fn parse<A: Account>(text: &str) -> Result<(A, Option<Vec<TenantName>>), serde_json::Error> {
    let mut fields: Map<String, Value> = serde_json::from_str(text)?;
    let tenants = fields.remove("tenants").map(serde_json::from_value).transpose()?;
    Ok((serde_json::from_value(fields.into())?, tenants))
}
