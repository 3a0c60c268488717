//! Text messages: what one would cost, what a person knows of one, and what providers say of them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use fourmi_kinds::{JobKind, SMS_CREDITS_PER_SEGMENT, SmsEncoding, SmsReceipt, SmsSize, transliterate};
use fourmi_model::{Job, ParkReason, Scope, SmsState, State, TenantName};
use fourmi_queue::Retried;
use fourmi_secrets::Secrets;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    caller::Caller,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    problem::{Code, Problem},
    query::Query,
    redis::in_time,
    routes::{
        jobs::{self, Jobs, unknown_job},
        submission::invalid,
    },
};

/// What proves that an address was given to a provider.
const PURPOSE: &str = "receipts of text messages";

/// The name under which a message makes the job that asks for its receipt.
const RECEIPT: &str = "receipt";

/// What the routes share.
#[derive(Clone)]
pub struct Sms {
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// What makes addresses that nobody guesses.
    pub secrets: Arc<Secrets>,
    /// The folder of the operator's accounts with providers.
    pub accounts: PathBuf,
}

/// A text that might be sent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SmsDraft")]
struct Draft {
    /// What it would say.
    text: String,
    /// Whether characters that would double the price are replaced by some that read alike.
    #[serde(default)]
    transliterate: bool,
    /// The account with a provider that would send it.
    #[serde(default = "usual_account")]
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]{1,64}$"))]
    account: String,
}

/// How large a text message would be.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SmsEstimate")]
struct Estimate {
    /// Its alphabet.
    encoding: SmsEncoding,
    /// What its characters take of the room of that alphabet.
    characters: u32,
    /// The parts in which it would be sent and paid; `sms.send` takes six.
    segments: u32,
    /// What it is taken to cost, in credits of the provider, which has the last word. Absent if there is no such account here, or
    /// the caller's jobs may not use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credits: Option<f64>,
    /// What would be sent.
    text: String,
}

/// What the file of an account says of prices.
#[derive(Deserialize)]
struct Prices {
    /// Other accounts have none.
    #[serde(rename = "provider")]
    _provider: String,
    #[serde(default = "usual_price")]
    credits_per_segment: f64,
    /// Whose jobs may use it, if not those of all.
    #[serde(default)]
    tenants: Option<Vec<TenantName>>,
}

/// What a person has found out about a text message.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SmsDecision")]
struct Decision {
    /// Whether it was sent. If not, it is sent now.
    sent: bool,
}

/// Where a provider says that messages have arrived.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SmsReceiptAddress")]
struct ReceiptAddress {
    /// The address on this API, without scheme and host. Whoever knows it can have messages of the account looked up.
    #[schemars(extend("format" = "uri-reference"))]
    path: String,
}

/// The routes.
pub fn group(sms: Sms) -> Group {
    table().sharing(sms)
}

pub(crate) fn table() -> Group {
    let operations = vec![
        Operation::new("estimate_sms", Method::POST, "/api/v1/sms/estimate", estimate)
            .needs(&[Scope::JobsSubmit])
            .says("Counts the parts of a text message, and what it would cost", "Nothing is sent, and no provider is asked.")
            .reads(JSON, schema::<Draft>)
            .answers(StatusCode::OK, JSON, schema::<Estimate>, "How large it is.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest]),
        jobs::identified("decide_sms", Method::POST, "/api/v1/sms/{id}/decision", decide)
            .needs(&[Scope::JobsControl])
            .says(
                "Says whether a text message was sent",
                "For a job that is parked as `uncertain`, or has failed while nobody knew: the provider did not answer, and does \
                 not know the message. Look into its own list. The job goes on with what you say.",
            )
            .reads(JSON, schema::<Decision>)
            .answers(StatusCode::OK, JSON, schema::<Job>, "It waits for a worker.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::NotUncertain, Code::NotRetryable]),
        Operation::new("get_sms_receipt_address", Method::GET, "/api/v1/sms/receipt-address", receipt_address)
            .needs(&[Scope::QueuesAdmin])
            .says("Gives the address for the receipts of an account", "Write it, with your host, into the provider's settings.")
            .takes(Place::Query, "account", schema::<String>, "The account; `sms` if nothing is said.")
            .answers(StatusCode::OK, JSON, schema::<ReceiptAddress>, "The address.")
            .fails(&[Code::InvalidQuery, Code::InvalidRequest]),
        Operation::new("take_sms_receipt", Method::GET, "/api/v1/sms/receipts/{token}", take_receipt)
            .open()
            .uncounted()
            .says(
                "Takes a receipt of a provider",
                "For whoever knows the address. What it says is a hint: the provider is asked whether it is so.",
            )
            .takes(Place::Path, "token", schema::<String>, "What was given out for the account.")
            .takes(Place::Query, "id", schema::<String>, "The message, as the provider calls it.")
            .takes(Place::Query, "ptt", schema::<String>, "What became of it. The provider is asked instead.")
            .takes(Place::Query, "date", schema::<String>, "When; not read.")
            .takes(Place::Query, "description", schema::<String>, "In words; not read.")
            .answers_empty(StatusCode::OK, "It was heard.")
            .fails(&[Code::NotFound]),
    ];
    Group::new(
        "sms",
        "Text messages, which jobs of the kinds `sms.send` and `sms.receipt` send and follow.",
        operations,
    )
}

#[handler]
async fn estimate(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (Sms { accounts, .. }, caller) = (state_of(depot)?, Caller::of(depot)?);
    let Draft { text, transliterate: is_plain, account } = body::parse(body::read(request).await?)?;
    check_account(&account)?;
    let text = if is_plain { transliterate(&text) } else { text };
    let SmsSize { encoding, characters, segments } = SmsSize::of(&text);
    let price = credits_per_segment(&accounts.join(account), caller.tenant()).await;
    let credits = price.map(|price| (price * f64::from(segments) * 1000.0).round() / 1000.0);
    body::write(response, StatusCode::OK, &Estimate { encoding, characters, segments, credits, text })
}

/// What a part is taken to cost with the account in a file, if it is one that jobs of a tenant may use.
async fn credits_per_segment(file: &Path, tenant: Option<&TenantName>) -> Option<f64> {
    let text = tokio::fs::read_to_string(file).await.ok()?;
    let Prices { credits_per_segment, tenants, .. } = serde_json::from_str(&text).ok()?;
    let is_allowed = match (tenant, tenants) {
        (Some(tenant), Some(tenants)) => tenants.contains(tenant),
        _ => true,
    };
    is_allowed.then_some(credits_per_segment)
}

fn check_account(name: &str) -> Result<(), Problem> {
    let is_name = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-');
    if !is_name || !(1..=64).contains(&name.len()) {
        return Err(invalid("account", "must be 1 to 64 letters, digits, _ and -"));
    }
    Ok(())
}

fn usual_account() -> String {
    "sms".to_owned()
}

const fn usual_price() -> f64 {
    SMS_CREDITS_PER_SEGMENT
}

#[handler]
async fn decide(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let Sms { jobs, .. } = state_of(depot)?;
    let id = jobs.seen_by(&Caller::of(depot)?, request).await?;
    let Decision { sent } = body::parse(body::read(request).await?)?;
    let job = in_time(jobs.queues.get(&id)).await?.ok_or_else(unknown_job)?;
    // One that is parked for another cause goes on by itself, and asks the provider.
    let waits = match job.state {
        State::Parked => job.parked_reason == Some(ParkReason::Uncertain),
        state => state == State::Failed,
    };
    let intent = jobs.records.sms(&id).await?.filter(|intent| waits && intent.state == SmsState::Sending);
    let intent = intent.ok_or_else(not_uncertain)?;
    if !jobs.records.decide_sms(&intent, sent).await? {
        return Err(not_uncertain());
    }
    tracing::info!(job.id = %id, sms.sent = sent, "a person has decided whether a text message was sent");
    match in_time(jobs.queues.retry(&id)).await? {
        Retried::Waiting => {}
        Retried::NotPossible(state) => return Err(Problem::new(Code::NotRetryable, format!("It is {state}."))),
        Retried::Unknown => return Err(unknown_job()),
    }
    let job = in_time(jobs.queues.get(&id)).await?.ok_or_else(unknown_job)?;
    body::write(response, StatusCode::OK, &job)
}

fn not_uncertain() -> Problem {
    let detail =
        "There is nothing to decide: it is known whether a message was sent, or the job goes on and finds out.";
    Problem::new(Code::NotUncertain, detail)
}

#[handler]
async fn receipt_address(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let Sms { secrets, .. } = state_of(depot)?;
    let query = Query::of(request, &["account"])?;
    let account = query.one::<String>("account")?.unwrap_or_else(usual_account);
    check_account(&account)?;
    let path = format!("/api/v1/sms/receipts/{account}.{}", secrets.proof(PURPOSE, &[&account]));
    body::write(response, StatusCode::OK, &ReceiptAddress { path })
}

#[handler]
async fn take_receipt(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let Sms { jobs, secrets, .. } = state_of(depot)?;
    let token = request.param::<String>("token").unwrap_or_default();
    let account = token.split_once('.').filter(|(account, proof)| secrets.is_proof(PURPOSE, &[account], proof));
    let (account, _) = account.ok_or_else(|| Problem::new(Code::NotFound, "The address was not given out."))?;
    if let Some(id) = request.query::<String>("id")
        && let Err(problem) = ask_now(&jobs, account, &id).await
    {
        // It is asked for anyway, only later; the provider need not say it again.
        tracing::warn!(?problem, "a receipt of a text message could not be looked up at once");
    }
    response.status_code(StatusCode::OK);
    Ok(())
}

/// Has the provider asked now for what it has just told.
async fn ask_now(jobs: &Jobs, account: &str, id: &str) -> Result<(), Problem> {
    let Some(intent) = jobs.records.sms_of_provider(account, id).await? else { return Ok(()) };
    let queue = SmsReceipt::QUEUE.parse().map_err(|_| Problem::internal("the queue of receipts has no name"))?;
    let receipt = intent.job.child(queue, RECEIPT);
    in_time(jobs.queues.promote_jobs(receipt.queue(), std::slice::from_ref(&receipt), false)).await.map(drop)
}
