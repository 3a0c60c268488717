//! Addresses that get nothing any more: who looks after people lists, adds and removes them, and whoever got a mail in bulk
//! adds their own by its link.

use std::sync::Arc;

use fourmi_model::{Channel, Scope, SuppressionInfo, SuppressionReason, TenantName};
use fourmi_records::Suppression;
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{
        HeaderValue, Method, StatusCode,
        header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    caller::Caller,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    people::{Act, Event},
    problem::{Code, Problem},
    query::{self, Query},
    routes::submission::{check_label, invalid},
    webhooks::Webhooks,
};

const HTML: &str = "text/html";

/// The longest note, in characters.
const MAX_NOTE_CHARS: usize = 200;

/// An address that is to get nothing any more.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewSuppression {
    /// The way by which it is reached.
    channel: Channel,
    /// The address: a number in the form of E.164, a mail address, or an owner of devices.
    address: String,
    /// Why; by default somebody has said so by hand.
    #[serde(default = "by_hand")]
    reason: SuppressionReason,
    /// What a person should know of it.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    note: Option<String>,
    /// The tenant whose messages it does not get, if you are bound to none; without one, it gets those of nobody.
    #[serde(default)]
    tenant: Option<TenantName>,
}

const fn by_hand() -> SuppressionReason {
    SuppressionReason::Manual
}

/// A page of addresses.
#[derive(Serialize, JsonSchema)]
struct SuppressionList {
    /// The addresses, in order.
    suppressions: Vec<SuppressionInfo>,
    /// Where the next page starts: the next call's `after`. `null` at the end.
    next: Option<String>,
}

/// The most entries of a page.
type Limit = query::Limit<50, 200>;

/// The routes.
pub fn group(webhooks: Arc<Webhooks>) -> Group {
    table().sharing(webhooks)
}

pub(crate) fn table() -> Group {
    let of_tenant = "The tenant, if you are bound to none; without one, those that hold for all.";
    let operations = vec![
        Operation::new("list_suppressions", Method::GET, "/api/v1/suppressions", list)
            .needs(&[Scope::UsersAdmin])
            .says("Lists the addresses of a channel that get nothing any more", "Those of your tenant.")
            .takes(Place::Query, "channel", schema::<Channel>, "The channel.")
            .takes(Place::Query, "tenant", schema::<TenantName>, of_tenant)
            .takes(Place::Query, "limit", schema::<Limit>, "The most addresses of a page.")
            .takes(Place::Query, "after", schema::<String>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<SuppressionList>, "A page.")
            .fails(&[Code::InvalidQuery, Code::RecordsUnavailable]),
        Operation::new("add_suppression", Method::POST, "/api/v1/suppressions", add)
            .needs(&[Scope::UsersAdmin])
            .says("Has an address get nothing any more", "One that is there already stays as it is.")
            .reads(JSON, schema::<NewSuppression>)
            .answers(StatusCode::CREATED, JSON, schema::<SuppressionInfo>, "It gets nothing from now on.")
            .answers(StatusCode::OK, JSON, schema::<SuppressionInfo>, "It is there already.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::ForeignTenant, Code::UnknownTenant, Code::RecordsUnavailable]),
        Operation::new("remove_suppression", Method::DELETE, "/api/v1/suppressions", remove)
            .needs(&[Scope::UsersAdmin])
            .says("Lets an address get messages again", "")
            .takes(Place::Query, "channel", schema::<Channel>, "The channel.")
            .takes(Place::Query, "address", schema::<String>, "The address.")
            .takes(Place::Query, "tenant", schema::<TenantName>, of_tenant)
            .answers_empty(StatusCode::NO_CONTENT, "It gets messages again.")
            .fails(&[Code::InvalidQuery, Code::UnknownSuppression, Code::RecordsUnavailable]),
        Operation::new("ask_to_unsubscribe", Method::GET, "/api/v1/unsubscribe/{token}", ask)
            .open()
            .says("Asks whoever follows the link of a mail whether they want no more of them", "Nothing is changed.")
            .takes(Place::Path, "token", schema::<String>, "The token of the link.")
            .answers(StatusCode::OK, HTML, schema::<String>, "A page with a button, in English or French.")
            .fails(&[Code::LinkInvalid]),
        Operation::new("unsubscribe", Method::POST, "/api/v1/unsubscribe/{token}", unsubscribe)
            .open()
            .says(
                "Takes the address of a link off a tenant's mails",
                "Programs that read mail post here by themselves (RFC 8058). The body does not matter.",
            )
            .takes(Place::Path, "token", schema::<String>, "The token of the link.")
            .answers(StatusCode::OK, HTML, schema::<String>, "A page that says so.")
            .fails(&[Code::LinkInvalid, Code::RecordsUnavailable]),
    ];
    Group::new("suppressions", "Who gets no messages any more.", operations)
}

#[handler]
async fn list(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (desk, caller): (Arc<Webhooks>, _) = (state_of(depot)?, Caller::of(depot)?);
    let query = Query::of(request, &["channel", "tenant", "limit", "after"])?;
    let channel = channel_of(&query)?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let after: Option<String> = query.one("after")?;
    let Some(tenant) = seen_tenant(&caller, query.one("tenant")?) else {
        return body::write(response, StatusCode::OK, &SuppressionList { suppressions: Vec::new(), next: None });
    };
    let mut page = desk.records.suppressions(tenant.as_ref(), channel, after.as_deref(), limit + 1).await?;
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|last| last.address.clone());
    let suppressions = page.into_iter().map(document).collect();
    body::write(response, StatusCode::OK, &SuppressionList { suppressions, next })
}

#[handler]
async fn add(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (desk, caller): (Arc<Webhooks>, _) = (state_of(depot)?, Caller::of(depot)?);
    let wanted: NewSuppression = body::parse(body::read(request).await?)?;
    let tenant = match (caller.tenant(), wanted.tenant) {
        (Some(own), Some(named)) if *own != named => {
            return Err(Problem::field(Code::ForeignTenant, "tenant", format!("must be {own}, or left out")));
        }
        (Some(own), _) => Some(own.clone()),
        (None, Some(named)) if desk.records.tenant(&named).await?.is_none() => {
            return Err(Problem::field(Code::UnknownTenant, "tenant", format!("there is no tenant {named}")));
        }
        (None, named) => named,
    };
    let address = wanted.channel.address(&wanted.address);
    let address = address.ok_or_else(|| invalid("address", format!("is no address of {}", wanted.channel)))?;
    if let Some(note) = &wanted.note {
        check_label("note", note, MAX_NOTE_CHARS)?;
    }
    let suppression = Suppression {
        tenant,
        channel: wanted.channel,
        address,
        reason: wanted.reason,
        note: wanted.note,
        created_at: Timestamp::now(),
        created_by: Some(caller.id().to_owned()),
    };
    if desk.records.add_suppression(&suppression).await? {
        note(&desk, request, depot, Act::SuppressionAdded, (suppression.channel, suppression.tenant.as_ref())).await?;
        return body::write(response, StatusCode::CREATED, &document(suppression));
    }
    let (tenant, channel, address) = (suppression.tenant.as_ref(), suppression.channel, &*suppression.address);
    // That of all tenants may come before that of this one: either way nothing is sent.
    let known = desk.records.suppression(tenant, channel, address).await?;
    body::write(response, StatusCode::OK, &document(known.unwrap_or(suppression)))
}

#[handler]
async fn remove(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (desk, caller): (Arc<Webhooks>, _) = (state_of(depot)?, Caller::of(depot)?);
    let query = Query::of(request, &["channel", "address", "tenant"])?;
    let channel = channel_of(&query)?;
    let address: Option<String> = query.one("address")?;
    let address = address.ok_or_else(|| Problem::field(Code::InvalidQuery, "address", "is missing"))?;
    let unknown = || Problem::new(Code::UnknownSuppression, "It was never added, or was removed.");
    let tenant = seen_tenant(&caller, query.one("tenant")?).ok_or_else(unknown)?;
    let address = channel.address(&address).ok_or_else(unknown)?;
    if !desk.records.remove_suppression(tenant.as_ref(), channel, &address).await? {
        return Err(unknown());
    }
    note(&desk, request, depot, Act::SuppressionRemoved, (channel, tenant.as_ref())).await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

#[handler]
async fn ask(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let desk: Arc<Webhooks> = state_of(depot)?;
    opened(&desk, request)?;
    let language = PageLanguage::of(request);
    let (question, button) = language.question();
    let form = format!("<p>{question}</p><form method=\"post\"><button>{button}</button></form>");
    page(response, language, &form);
    Ok(())
}

#[handler]
async fn unsubscribe(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let desk: Arc<Webhooks> = state_of(depot)?;
    let (tenant, address) = opened(&desk, request)?;
    let suppression = Suppression {
        tenant,
        channel: Channel::Mail,
        address,
        reason: SuppressionReason::OptedOut,
        note: None,
        created_at: Timestamp::now(),
        created_by: None,
    };
    // Whoever asks twice is told the same.
    desk.records.add_suppression(&suppression).await?;
    let language = PageLanguage::of(request);
    page(response, language, &format!("<p>{}</p>", language.done()));
    Ok(())
}

/// Whose mails, and the address, that the token of a link names.
fn opened(desk: &Webhooks, request: &Request) -> Result<(Option<TenantName>, String), Problem> {
    let invalid = || Problem::new(Code::LinkInvalid, "Copy the link of the mail whole.");
    let token: String = request.param("token").unwrap_or_default();
    let (tenant, address) = desk.secrets.open_unsubscribe(&token).ok_or_else(invalid)?;
    let tenant = tenant.map(|tenant| tenant.parse()).transpose().map_err(|_| invalid())?;
    Ok((tenant, address))
}

/// The tenant that is meant, of those that the caller sees: `Some(None)` for what holds for all.
fn seen_tenant(caller: &Caller, named: Option<TenantName>) -> Option<Option<TenantName>> {
    match (caller.tenant(), named) {
        (Some(own), Some(named)) if *own != named => None,
        (Some(own), _) => Some(Some(own.clone())),
        (None, named) => Some(named),
    }
}

fn channel_of(query: &Query<'_>) -> Result<Channel, Problem> {
    query.one("channel")?.ok_or_else(|| Problem::field(Code::InvalidQuery, "channel", "is missing: sms, mail or push"))
}

fn document(suppression: Suppression) -> SuppressionInfo {
    let Suppression { tenant, channel, address, reason, note, created_at, created_by } = suppression;
    SuppressionInfo { tenant, channel, address, reason, note, created_at, created_by }
}

/// The address is not noted: the log outlives it.
async fn note(
    desk: &Webhooks,
    request: &Request,
    depot: &Depot,
    act: Act,
    (channel, tenant): (Channel, Option<&TenantName>),
) -> Result<(), Problem> {
    let event = Event::of(request, depot, act).in_tenant(tenant);
    Ok(event.with("channel", channel.as_str()).note(&desk.records).await?)
}

/// The language of a page for somebody who is not known.
#[derive(Clone, Copy)]
enum PageLanguage {
    English,
    French,
}

impl PageLanguage {
    /// That which the browser names first, of the two.
    fn of(request: &Request) -> Self {
        let wanted = request.headers().get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut languages = wanted.split(',').map(|language| language.trim().to_ascii_lowercase());
        match languages.find(|language| language.starts_with("fr") || language.starts_with("en")) {
            Some(language) if language.starts_with("fr") => Self::French,
            _ => Self::English,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }

    const fn question(self) -> (&'static str, &'static str) {
        match self {
            Self::English => ("Do you want to get no more mails like this one?", "Unsubscribe"),
            Self::French => ("Ne plus recevoir d’e-mails comme celui-ci ?", "Se désabonner"),
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Self::English => "You will get no more of these mails.",
            Self::French => "Vous ne recevrez plus ces e-mails.",
        }
    }
}

/// A page without script or style, which shows nothing that came with the request.
fn page(response: &mut Response, language: PageLanguage, content: &str) {
    let (word, (_, title)) = (language.word(), language.question());
    let html = format!(
        "<!doctype html><html lang=\"{word}\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><meta name=\"robots\" content=\"noindex\"><title>{title}</title>{content}</html>\n"
    );
    let policy = "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.replace_body(salvo::http::ResBody::Once(html.into()));
}
