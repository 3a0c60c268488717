//! Webhooks: who is told of the ends of jobs, and what they were told.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use fourmi_kinds::{JobKind, WebhookDeliver, WebhookDelivered};
use fourmi_model::{
    ErrorReport, Job, JobId, Scope, State, Submission, TenantName, WebhookEvent, WebhookId, WebhookInfo, WebhookTarget,
};
use fourmi_queue::JobFilter;
use fourmi_records::Webhook;
use jiff::{SignedDuration, Timestamp};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode, header::LOCATION},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::{Origin, Url};
use uuid::Uuid;

use crate::{
    body,
    caller::Caller,
    headers,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    people::{Act, Event},
    problem::{Code, Problem},
    query::{self, Query},
    redis::in_time,
    routes::{
        job_list::{self, Start},
        jobs::Jobs,
        submission::{check_label, invalid},
    },
    webhooks::{self, Message, Webhooks, seal_context},
};

/// The most webhooks of one key or person.
const MOST: u64 = 100;

/// The most of all.
const MOST_OF_ALL: u64 = 10_000;

/// The longest address, in characters.
const MAX_URL_CHARS: usize = 2_048;

/// The longest description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 200;

/// How a secret begins, before its bytes in base64 (Standard Webhooks 1.0.0).
const SECRET_PREFIX: &str = "whsec_";

/// How long the secret before a rotation signs too, in seconds, if nothing is said: a day.
const GRACE_S: u32 = 86_400;

/// The longest that it may: thirty days.
const MAX_GRACE_S: u32 = 30 * 86_400;

/// Messages that one call sends again, at most.
const STEP: usize = 1_000;

/// A webhook to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    /// Where messages go: https, or http if the operator has opened the host.
    #[schemars(length(max = 2_048))]
    url: String,
    /// What it is for, for a person.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    description: Option<String>,
    /// What it tells of, of every job that you see; by default of every end. With none it tells of those jobs alone that
    /// name it.
    #[serde(default)]
    events: Option<Vec<WebhookEvent>>,
    /// The tenant whose jobs it tells of, if you are bound to none; without one, those of all.
    #[serde(default)]
    tenant: Option<TenantName>,
    /// A secret that the other side knows already: `whsec_` and 24 to 64 bytes in base64; by default a new one.
    #[serde(default)]
    secret: Option<String>,
}

/// What to change of a webhook; what is not said stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WebhookPatch {
    /// Where messages go.
    #[serde(default)]
    #[schemars(length(max = 2_048))]
    url: Option<String>,
    /// What it is for; an empty text for nothing.
    #[serde(default)]
    #[schemars(length(max = 200))]
    description: Option<String>,
    /// What it tells of.
    #[serde(default)]
    events: Option<Vec<WebhookEvent>>,
    /// Whether messages are sent. What ends while they are not is not told later.
    #[serde(default)]
    enabled: Option<bool>,
}

/// How a webhook changes its secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct WebhookRotation {
    /// How long the old secret signs too, in seconds; 0 if it has become known.
    #[schemars(range(min = 0, max = 2_592_000))]
    grace_s: u32,
    /// The new secret, if the other side knows it already.
    secret: Option<String>,
}

impl Default for WebhookRotation {
    fn default() -> Self {
        Self { grace_s: GRACE_S, secret: None }
    }
}

/// A webhook with its secret, which is shown this once.
#[derive(Serialize, JsonSchema)]
struct WebhookSecret {
    /// The webhook.
    webhook: WebhookInfo,
    /// What signs its messages: `whsec_` and the key in base64.
    secret: String,
}

/// A page of webhooks.
#[derive(Serialize, JsonSchema)]
struct WebhookList {
    /// The webhooks, oldest first.
    webhooks: Vec<WebhookInfo>,
    /// Where the next page starts: the next call's `after`. `null` at the end.
    next: Option<String>,
}

/// A message on its way to a webhook: a job `webhook.deliver`, whose runs are its attempts.
#[derive(Serialize, JsonSchema)]
struct Delivery {
    /// The job that sends it: `get_job_runs` lists the attempts that failed.
    id: JobId,
    /// The id of the message (`webhook-id`).
    message: String,
    /// What it tells of.
    event: WebhookEvent,
    /// Where it is in its life.
    state: State,
    /// Attempts so far.
    attempts: u32,
    /// When it came about.
    #[schemars(with = "String", extend("format" = "date-time"))]
    created_at: Timestamp,
    /// When the next attempt is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    due_at: Option<Timestamp>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    finished_at: Option<Timestamp>,
    /// The status of the answer that took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// How long that answer took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// Why the newest attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorReport>,
    /// What is sent.
    body: String,
}

/// A page of deliveries.
#[derive(Serialize, JsonSchema)]
struct DeliveryList {
    /// The deliveries; those in Redis first, each part newest first.
    deliveries: Vec<Delivery>,
    /// Where the next page starts: the next call's `cursor`. `null` at the end.
    next: Option<String>,
}

/// A delivery that was put on its way.
#[derive(Serialize, JsonSchema)]
struct Delivering {
    /// The job that sends the message.
    delivery: JobId,
}

/// Which messages to send again.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Redelivery {
    /// One message, by the id of its delivery.
    #[serde(default)]
    delivery: Option<JobId>,
    /// Those that came about at this time or later.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    since: Option<Timestamp>,
    /// Those that came about before this time.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    until: Option<Timestamp>,
    /// Whether those too that were taken.
    #[serde(default)]
    succeeded: bool,
    /// Where to go on: `next` of the answer before.
    #[serde(default)]
    cursor: Option<String>,
}

/// What was sent again.
#[derive(Serialize, JsonSchema)]
struct Redelivered {
    /// How many messages are on their way again.
    redelivered: usize,
    /// The next call's `cursor`: a call looks at a thousand at most. `null` at the end.
    next: Option<String>,
}

/// The most entries of a page.
type Limit = query::Limit<50, 200>;

/// What the routes share.
#[derive(Clone)]
struct Desk {
    jobs: Arc<Jobs>,
    webhooks: Arc<Webhooks>,
}

/// The routes.
pub fn group(jobs: Arc<Jobs>, webhooks: Arc<Webhooks>) -> Group {
    table().sharing(Desk { jobs, webhooks })
}

pub(crate) fn table() -> Group {
    let write = &[Scope::WebhooksWrite];
    let body = &[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest];
    let operations = vec![
        Operation::new("create_webhook", Method::POST, "/api/v1/webhooks", create_webhook)
            .needs(write)
            .says(
                "Makes a webhook",
                "It tells of the ends of jobs that you see, so you must be allowed to read them (`jobs:read`). Its secret is \
                 in this answer and nowhere else.",
            )
            .reads(JSON, schema::<NewWebhook>)
            .answers(StatusCode::CREATED, JSON, schema::<WebhookSecret>, "The webhook, with its secret.")
            .with_headers(&["Location"])
            .fails(body)
            .fails(&[Code::ForeignTenant, Code::UnknownTenant, Code::TooManyWebhooks])
            .fails(&[Code::RecordsUnavailable, Code::RedisUnavailable]),
        Operation::new("list_webhooks", Method::GET, "/api/v1/webhooks", list_webhooks)
            .needs(write)
            .says("Lists webhooks", "Those of your tenant; your own, if you see only what is your own.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most webhooks of a page.")
            .takes(Place::Query, "after", schema::<WebhookId>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<WebhookList>, "A page.")
            .fails(&[Code::InvalidQuery, Code::RecordsUnavailable]),
        identified("get_webhook", Method::GET, "/api/v1/webhooks/{id}", get_webhook)
            .says("Describes a webhook", "")
            .answers(StatusCode::OK, JSON, schema::<WebhookInfo>, "The webhook."),
        identified("change_webhook", Method::PATCH, "/api/v1/webhooks/{id}", change_webhook)
            .says("Changes a webhook", "In force everywhere within two seconds.")
            .reads(JSON, schema::<WebhookPatch>)
            .answers(StatusCode::OK, JSON, schema::<WebhookInfo>, "The webhook.")
            .fails(body)
            .fails(&[Code::ChangedMeanwhile]),
        identified("delete_webhook", Method::DELETE, "/api/v1/webhooks/{id}", delete_webhook)
            .says("Deletes a webhook", "Messages to it that are on their way are given up.")
            .answers_empty(StatusCode::NO_CONTENT, "It is gone."),
        identified("rotate_webhook", Method::POST, "/api/v1/webhooks/{id}/rotate", rotate_webhook)
            .says("Gives a webhook a new secret", "For a while the old one signs too, so that nothing is refused meanwhile.")
            .reads(JSON, schema::<WebhookRotation>)
            .answers(StatusCode::OK, JSON, schema::<WebhookSecret>, "The webhook, with its new secret.")
            .fails(body)
            .fails(&[Code::ChangedMeanwhile]),
        identified("test_webhook", Method::POST, "/api/v1/webhooks/{id}/test", test_webhook)
            .says("Sends a message `webhook.test`", "What became of it stands among the deliveries.")
            .answers(StatusCode::ACCEPTED, JSON, schema::<Delivering>, "It is on its way.")
            .fails(&[Code::WebhookDisabled, Code::RedisUnavailable, Code::QueueFull, Code::RedisFull]),
        identified("list_deliveries", Method::GET, "/api/v1/webhooks/{id}/deliveries", list_deliveries)
            .says("Lists the messages to a webhook", "Each is a job whose runs are its attempts.")
            .takes(Place::Query, "state", schema::<State>, "Only those in this state; several times for several.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most messages of a page.")
            .takes(Place::Query, "cursor", schema::<String>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<DeliveryList>, "A page.")
            .fails(&[Code::InvalidQuery, Code::InvalidCursor, Code::RedisUnavailable]),
        identified("redeliver", Method::POST, "/api/v1/webhooks/{id}/redeliver", redeliver)
            .says(
                "Sends messages once more",
                "One of them, or those of a time that were given up. Each keeps its id (`webhook-id`), by which the other \
                 side drops what it has.",
            )
            .reads(JSON, schema::<Redelivery>)
            .answers(StatusCode::ACCEPTED, JSON, schema::<Redelivered>, "They are on their way.")
            .fails(body)
            .fails(&[Code::InvalidCursor, Code::UnknownJob, Code::WebhookDisabled])
            .fails(&[Code::RedisUnavailable, Code::QueueFull, Code::RedisFull]),
    ];
    Group::new("webhooks", "Who is told of the ends of jobs.", operations)
}

fn identified(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, method, path, handler)
        .needs(&[Scope::WebhooksWrite])
        .takes(Place::Path, "id", schema::<WebhookId>, "The webhook.")
        .fails(&[Code::UnknownWebhook, Code::RecordsUnavailable])
}

#[handler]
async fn create_webhook(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let Desk { webhooks, .. } = state_of(depot)?;
    let caller = Caller::of(depot)?;
    if !caller.may(Scope::JobsRead) {
        let detail = "A webhook tells what jobs gave, which needs the scope jobs:read.";
        return Err(Problem::new(Code::ScopeMissing, detail));
    }
    let wanted: NewWebhook = body::parse(body::read(request).await?)?;
    let tenant = match (caller.tenant(), wanted.tenant) {
        (Some(own), Some(named)) if *own != named => {
            return Err(Problem::field(Code::ForeignTenant, "tenant", format!("must be {own}, or left out")));
        }
        (Some(own), _) => Some(own.clone()),
        (None, Some(named)) if webhooks.records.tenant(&named).await?.is_none() => {
            return Err(Problem::field(Code::UnknownTenant, "tenant", format!("there is no tenant {named}")));
        }
        (None, named) => named,
    };
    let (own, all) = webhooks.records.webhook_counts(caller.id()).await?;
    if own >= MOST || all >= MOST_OF_ALL {
        let detail = format!("There may be {MOST} of one key or person, and {MOST_OF_ALL} in all: delete one first.");
        return Err(Problem::new(Code::TooManyWebhooks, detail));
    }
    let id = WebhookId::random();
    let secret = wanted.secret.as_deref().map_or_else(|| Ok(new_secret()), read_secret)?;
    let webhook = Webhook {
        version: 1,
        url: check_url("url", wanted.url)?,
        description: wanted.description.map(check_description).transpose()?,
        events: check_events(wanted.events.unwrap_or_else(|| WebhookEvent::ALL.to_vec()))?,
        tenant,
        own_only: caller.own_only(),
        secret: webhooks.secrets.seal(&seal_context(&id), &secret).map_err(Problem::internal)?,
        previous_secret: None,
        previous_until: None,
        disabled_at: None,
        disabled_for: None,
        last_success_at: None,
        created_at: Timestamp::now(),
        created_by: caller.id().to_owned(),
        id,
    };
    // Whoever is told that it is there misses nothing from now on.
    in_time(webhooks.open()).await?;
    webhooks.records.add_webhook(&webhook).await?;
    note(&webhooks, request, depot, Act::WebhookCreated, &webhook).await?;
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/webhooks/{}", webhook.id))?);
    let answer = WebhookSecret { webhook: document(webhook), secret: written(&secret) };
    body::write(response, StatusCode::CREATED, &answer)
}

#[handler]
async fn list_webhooks(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let Desk { webhooks, .. } = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let query = Query::of(request, &["limit", "after"])?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let after: Option<WebhookId> = query.one("after")?;
    let known = webhooks.known().await?;
    let seen = known.iter().filter(|webhook| sees(&caller, webhook));
    let mut page: Vec<_> = seen
        .filter(|webhook| after.as_ref().is_none_or(|after| webhook.id > *after))
        .take(limit + 1)
        .cloned()
        .collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|webhook| webhook.id.to_string());
    body::write(response, StatusCode::OK, &WebhookList { webhooks: page.into_iter().map(document).collect(), next })
}

#[handler]
async fn get_webhook(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (_, webhook) = named(request, depot).await?;
    body::write(response, StatusCode::OK, &document(webhook))
}

#[handler]
async fn change_webhook(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (Desk { webhooks, .. }, mut webhook) = named(request, depot).await?;
    let patch: WebhookPatch = body::parse(body::read(request).await?)?;
    if let Some(url) = patch.url {
        webhook.url = check_url("url", url)?;
    }
    match patch.description {
        None => {}
        Some(text) if text.is_empty() => webhook.description = None,
        Some(text) => webhook.description = Some(check_description(text)?),
    }
    if let Some(events) = patch.events {
        webhook.events = check_events(events)?;
    }
    match patch.enabled {
        None => {}
        Some(true) => (webhook.disabled_at, webhook.disabled_for) = (None, None),
        Some(false) => webhook.disabled_at = webhook.disabled_at.or_else(|| Some(Timestamp::now())),
    }
    save(&webhooks, &webhook).await?;
    note(&webhooks, request, depot, Act::WebhookChanged, &webhook).await?;
    body::write(response, StatusCode::OK, &document(webhook))
}

#[handler]
async fn delete_webhook(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (Desk { webhooks, .. }, webhook) = named(request, depot).await?;
    if !webhooks.records.remove_webhook(&webhook.id).await? {
        return Err(unknown());
    }
    note(&webhooks, request, depot, Act::WebhookDeleted, &webhook).await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

#[handler]
async fn rotate_webhook(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (Desk { webhooks, .. }, mut webhook) = named(request, depot).await?;
    let body = body::read(request).await?;
    let rotation: WebhookRotation = if body.is_empty() { WebhookRotation::default() } else { body::parse(body)? };
    if rotation.grace_s > MAX_GRACE_S {
        return Err(invalid("grace_s", format!("must be {MAX_GRACE_S} (thirty days) at most")));
    }
    let secret = rotation.secret.as_deref().map_or_else(|| Ok(new_secret()), read_secret)?;
    let sealed = webhooks.secrets.seal(&seal_context(&webhook.id), &secret).map_err(Problem::internal)?;
    let old = std::mem::replace(&mut webhook.secret, sealed);
    let grace = SignedDuration::from_secs(rotation.grace_s.into());
    let until = Timestamp::now().checked_add(grace).map_err(Problem::internal)?;
    let kept = rotation.grace_s > 0;
    (webhook.previous_secret, webhook.previous_until) = (kept.then_some(old), kept.then_some(until));
    save(&webhooks, &webhook).await?;
    note(&webhooks, request, depot, Act::WebhookRotated, &webhook).await?;
    body::write(response, StatusCode::OK, &WebhookSecret { webhook: document(webhook), secret: written(&secret) })
}

#[handler]
async fn test_webhook(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (Desk { webhooks, .. }, webhook) = named(request, depot).await?;
    check_enabled(&webhook)?;
    let data = json!({ "webhook": webhook.id });
    let id = format!("msg_{}", Uuid::now_v7().simple());
    let message = Message::new(id, WebhookEvent::Test, Timestamp::now(), &data);
    let delivery = JobId::new(webhooks::queue());
    let pushed = in_time(webhooks.queues.push(delivery.clone(), message.to(&webhook, None))).await?;
    pushed.map_err(Problem::from)?;
    body::write(response, StatusCode::ACCEPTED, &Delivering { delivery })
}

#[handler]
async fn list_deliveries(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (Desk { jobs, .. }, webhook) = named(request, depot).await?;
    let query = Query::of(request, &["state", "limit", "cursor"])?;
    let filter = JobFilter { states: query.many("state")?, ..deliveries_to(&webhook)? };
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let start = query.one::<String>("cursor")?.map(|text| text.parse()).transpose()?;
    let (found, next) = page(&jobs, &filter, start, limit).await?;
    let list = DeliveryList { deliveries: found.into_iter().filter_map(delivery).collect(), next };
    body::write(response, StatusCode::OK, &list)
}

#[handler]
async fn redeliver(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (Desk { jobs, webhooks }, webhook) = named(request, depot).await?;
    check_enabled(&webhook)?;
    let wanted: Redelivery = body::parse(body::read(request).await?)?;
    let (found, next) = match &wanted.delivery {
        Some(id) => {
            let job = match in_time(jobs.queues.get(id)).await? {
                Some(job) => Some(job),
                None => jobs.record(id).await?.map(|record| record.job),
            };
            let job = job.filter(|job| target_of(job).is_some_and(|deliver| deliver.webhook == webhook.id));
            (vec![job.ok_or_else(|| Problem::new(Code::UnknownJob, "No message to this webhook has this id."))?], None)
        }
        None if wanted.since.is_none() => {
            return Err(invalid("since", "is missing: name a time, or a delivery"));
        }
        None => {
            let mut filter = deliveries_to(&webhook)?;
            (filter.created_after, filter.created_before) = (wanted.since, wanted.until);
            filter.states = vec![State::Failed, State::Cancelled];
            filter.states.extend(wanted.succeeded.then_some(State::Succeeded));
            let start = wanted.cursor.as_deref().map(str::parse).transpose()?;
            page(&jobs, &filter, start, STEP).await?
        }
    };
    let again: Vec<(JobId, Submission)> = found
        .into_iter()
        .filter_map(|job| Some(webhooks::submission(&target_of(&job)?, &webhook, job.correlation_id)))
        .map(|submission| (JobId::new(webhooks::queue()), submission))
        .collect();
    for pushed in in_time(webhooks.queues.push_many(&webhooks::queue(), &again)).await? {
        pushed.map_err(Problem::from)?;
    }
    body::write(response, StatusCode::ACCEPTED, &Redelivered { redelivered: again.len(), next })
}

/// What the caller may name in a job: a webhook that they see, and an address of its origin.
///
/// # Errors
/// If there is no such webhook for them, or the address is another's.
pub(super) async fn check_target(jobs: &Jobs, caller: &Caller, target: &WebhookTarget) -> Result<(), Problem> {
    let webhook = jobs.records.webhook(&target.id).await?.filter(|webhook| sees(caller, webhook));
    let Some(webhook) = webhook else {
        return Err(invalid("webhook.id", format!("there is no webhook {}", target.id)));
    };
    let Some(url) = &target.url else { return Ok(()) };
    let url = check_url("webhook.url", url.clone())?;
    let origin = |url: &str| Url::parse(url).ok().map(|url| url.origin()).filter(Origin::is_tuple);
    if origin(&url).is_none() || origin(&url) != origin(&webhook.url) {
        return Err(invalid("webhook.url", format!("must have the scheme, host and port of {}", webhook.url)));
    }
    Ok(())
}

/// The webhook that the address names, if the caller sees it.
async fn named(request: &Request, depot: &Depot) -> Result<(Desk, Webhook), Problem> {
    let desk: Desk = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let id: WebhookId = request.param::<String>("id").unwrap_or_default().parse().map_err(|_| unknown())?;
    let webhook = desk.webhooks.records.webhook(&id).await?.filter(|webhook| sees(&caller, webhook));
    Ok((desk, webhook.ok_or_else(unknown)?))
}

fn sees(caller: &Caller, webhook: &Webhook) -> bool {
    caller.sees(webhook.tenant.as_ref(), Some(&webhook.created_by))
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownWebhook, "It was never made, or was deleted.")
}

fn check_enabled(webhook: &Webhook) -> Result<(), Problem> {
    match webhook.disabled_at {
        None => Ok(()),
        Some(_) => Err(Problem::new(Code::WebhookDisabled, "Enable it first: PATCH with enabled true.")),
    }
}

async fn save(webhooks: &Webhooks, webhook: &Webhook) -> Result<(), Problem> {
    if webhooks.records.change_webhook(webhook).await? {
        return Ok(());
    }
    let detail = "Somebody else has changed the webhook in this moment; try again.";
    Err(Problem::new(Code::ChangedMeanwhile, detail))
}

async fn note(
    webhooks: &Webhooks,
    request: &Request,
    depot: &Depot,
    act: Act,
    webhook: &Webhook,
) -> Result<(), Problem> {
    let event = Event::of(request, depot, act).to(&webhook.id).in_tenant(webhook.tenant.as_ref());
    // The path may hold a secret of the other side.
    let host = Url::parse(&webhook.url).ok().and_then(|url| url.host_str().map(str::to_owned));
    Ok(event.with("host", host).note(&webhooks.records).await?)
}

/// The jobs that send messages to a webhook.
fn deliveries_to(webhook: &Webhook) -> Result<JobFilter, Problem> {
    let kind = WebhookDeliver::NAME.parse().map_err(Problem::internal)?;
    Ok(JobFilter { kind: Some(kind), tag: Some(webhook.id.to_string()), ..JobFilter::default() })
}

async fn page(
    jobs: &Jobs,
    filter: &JobFilter,
    start: Option<Start>,
    limit: usize,
) -> Result<(Vec<Job>, Option<String>), Problem> {
    let list = job_list::page(jobs, Some(&webhooks::queue()), filter, start, limit).await?;
    Ok((list.jobs, list.next))
}

fn target_of(job: &Job) -> Option<WebhookDeliver> {
    (job.kind.as_str() == WebhookDeliver::NAME).then(|| serde_json::from_value(job.payload.clone()).ok())?
}

fn delivery(job: Job) -> Option<Delivery> {
    let deliver = target_of(&job)?;
    let delivered: Option<WebhookDelivered> = job.result.and_then(|result| serde_json::from_value(result).ok());
    Some(Delivery {
        id: job.id,
        message: deliver.message,
        event: deliver.event,
        state: job.state,
        attempts: job.attempts,
        created_at: job.created_at,
        due_at: job.due_at,
        finished_at: job.finished_at,
        status: delivered.as_ref().map(|delivered| delivered.status),
        duration_ms: delivered.map(|delivered| delivered.duration_ms),
        error: job.error,
        body: deliver.body,
    })
}

fn check_url(path: &str, text: String) -> Result<String, Problem> {
    let is_short = text.chars().count() <= MAX_URL_CHARS;
    let url = Url::parse(&text).ok().filter(|url| is_short && matches!(url.scheme(), "http" | "https"));
    match url.filter(|url| url.username().is_empty() && url.password().is_none() && url.fragment().is_none()) {
        Some(url) => Ok(url.into()),
        None => Err(invalid(
            path,
            "must be an https address without a user or a fragment, such as https://app.example.org/hooks",
        )),
    }
}

fn check_description(text: String) -> Result<String, Problem> {
    check_label("description", &text, MAX_DESCRIPTION_CHARS)?;
    Ok(text)
}

fn check_events(mut events: Vec<WebhookEvent>) -> Result<Vec<WebhookEvent>, Problem> {
    if events.contains(&WebhookEvent::Test) {
        return Err(invalid("events", "cannot hold webhook.test, which is sent when somebody asks for it"));
    }
    events.sort_unstable();
    events.dedup();
    Ok(events)
}

fn new_secret() -> Vec<u8> {
    rand::random::<[u8; 32]>().to_vec()
}

fn read_secret(text: &str) -> Result<Vec<u8>, Problem> {
    let bytes = text.strip_prefix(SECRET_PREFIX).and_then(|text| BASE64_STANDARD.decode(text).ok());
    bytes
        .filter(|bytes| (24..=64).contains(&bytes.len()))
        .ok_or_else(|| invalid("secret", "must be whsec_ and 24 to 64 bytes in base64"))
}

fn written(secret: &[u8]) -> String {
    format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(secret))
}

fn document(webhook: Webhook) -> WebhookInfo {
    WebhookInfo {
        id: webhook.id,
        url: webhook.url,
        description: webhook.description,
        events: webhook.events,
        tenant: webhook.tenant,
        own_only: webhook.own_only,
        enabled: webhook.disabled_at.is_none(),
        disabled_for: webhook.disabled_for,
        disabled_at: webhook.disabled_at,
        previous_secret_until: webhook.previous_until.filter(|until| *until > Timestamp::now()),
        last_success_at: webhook.last_success_at,
        created_at: webhook.created_at,
        created_by: webhook.created_by,
    }
}
