//! Devices that take push notifications.

use fourmi_model::{DeviceId, DeviceInfo, DevicePlatform, Scope, TenantName, TokenKind};
use fourmi_records::{Device, DeviceFilter, Records, Registered};
use jiff::Timestamp;
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
    people::{Act, Event},
    problem::{Code, Problem},
    query::{self, Query},
    routes::submission::invalid,
};

/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 1_024;

/// The longest owner, in characters.
const MAX_OWNER_CHARS: usize = 200;

/// The most devices of an owner.
const MOST_OF_OWNER: u32 = 50;

/// The longest of the other texts, in characters.
const MAX_TEXT_CHARS: usize = 64;

/// A device that an app registers, at every start.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    /// Where FCM finds it: 1 to 1024 visible characters. A token that is known already moves to the new owner.
    #[schemars(length(min = 1, max = 1_024))]
    token: String,
    /// What sort of address that is.
    #[serde(default)]
    token_kind: TokenKind,
    /// What the device is.
    platform: DevicePlatform,
    /// Whoever uses it, as the app calls them; by default you, if you are a person.
    #[serde(default)]
    #[schemars(length(min = 1, max = 200))]
    owner: Option<String>,
    /// The version of the app.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    app_version: Option<String>,
    /// The language of its user, as a tag of BCP 47.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    locale: Option<String>,
    /// The tenant that it belongs to, if you are bound to none.
    #[serde(default)]
    tenant: Option<TenantName>,
}

/// A page of devices.
#[derive(Serialize, JsonSchema)]
struct DeviceList {
    /// The devices, oldest first.
    devices: Vec<DeviceInfo>,
    /// Where the next page starts: the next call's `after`. `null` at the end.
    next: Option<String>,
}

/// The most entries of a page.
type Limit = query::Limit<50, 200>;

/// The routes.
pub fn group(records: Records) -> Group {
    table().sharing(records)
}

pub(crate) fn table() -> Group {
    let operations = vec![
        Operation::new("register_device", Method::POST, "/api/v1/devices", register_device)
            .needs(&[Scope::JobsSubmit])
            .says(
                "Registers a device",
                "Apps do so at every start: what was not seen for 270 days is deleted. Who sees only what is their own \
                 registers devices for themselves alone. Of more than 50 devices of an owner, that which was not seen for \
                 longest is deleted.",
            )
            .reads(JSON, schema::<NewDevice>)
            .answers(StatusCode::CREATED, JSON, schema::<DeviceInfo>, "The device.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::ForeignTenant, Code::UnknownTenant, Code::RecordsUnavailable]),
        Operation::new("list_devices", Method::GET, "/api/v1/devices", list_devices)
            .needs(&[Scope::JobsRead])
            .says("Lists devices", "Those of your tenant, or of none; your own, if you see only what is your own.")
            .takes(Place::Query, "owner", schema::<String>, "Only those of this owner.")
            .takes(Place::Query, "tenant", schema::<TenantName>, "Those of this tenant, if you are bound to none.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most devices of a page.")
            .takes(Place::Query, "after", schema::<DeviceId>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<DeviceList>, "A page.")
            .fails(&[Code::InvalidQuery, Code::ForeignTenant, Code::RecordsUnavailable]),
        Operation::new("delete_device", Method::DELETE, "/api/v1/devices/{id}", delete_device)
            .needs(&[Scope::JobsSubmit])
            .says("Deletes a device", "It gets nothing any more, until it is registered anew.")
            .takes(Place::Path, "id", schema::<DeviceId>, "The device.")
            .answers_empty(StatusCode::NO_CONTENT, "It is gone.")
            .fails(&[Code::UnknownDevice, Code::RecordsUnavailable]),
    ];
    Group::new("devices", "Where push notifications go.", operations)
}

#[handler]
async fn register_device(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let records: Records = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let wanted: NewDevice = body::parse(body::read(request).await?)?;
    let tenant = tenant_of(&caller, wanted.tenant, Code::ForeignTenant)?;
    if let (None, Some(named)) = (caller.tenant(), &tenant)
        && records.tenant(named).await?.is_none()
    {
        return Err(Problem::field(Code::UnknownTenant, "tenant", format!("there is no tenant {named}")));
    }
    if wanted.token.is_empty() || wanted.token.len() > MAX_TOKEN_BYTES || !wanted.token.bytes().all(is_visible) {
        return Err(invalid("token", format!("must be 1 to {MAX_TOKEN_BYTES} visible characters")));
    }
    let now = Timestamp::now();
    let device = Device {
        id: DeviceId::random(),
        tenant,
        token: wanted.token,
        token_kind: wanted.token_kind,
        platform: wanted.platform,
        owner: owner_of(&caller, wanted.owner)?,
        app_version: check_text("app_version", wanted.app_version)?,
        locale: check_text("locale", wanted.locale)?,
        failures: 0,
        created_at: now,
        seen_at: now,
    };
    let registered = records.register_device(&device, MOST_OF_OWNER).await?;
    note_registered(request, depot, &records, &registered).await?;
    body::write(response, StatusCode::CREATED, &document(registered.device))
}

/// Apps register at every start: what changes nothing is no event.
async fn note_registered(
    request: &Request,
    depot: &Depot,
    records: &Records,
    Registered { device, owner_before, dropped }: &Registered,
) -> Result<(), Problem> {
    let event = |act, id: &DeviceId| Event::of(request, depot, act).to(id).in_tenant(device.tenant.as_ref());
    let act = match owner_before {
        None => Some(Act::DeviceRegistered),
        Some(before) if *before != device.owner => Some(Act::DeviceMoved),
        Some(_) => None,
    };
    if let Some(act) = act {
        event(act, &device.id).note(records).await?;
    }
    for id in dropped {
        event(Act::DeviceDropped, id).note(records).await?;
    }
    Ok(())
}

#[handler]
async fn list_devices(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let records: Records = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let query = Query::of(request, &["owner", "tenant", "limit", "after"])?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let after: Option<DeviceId> = query.one("after")?;
    let tenant = tenant_of(&caller, query.one("tenant")?, Code::InvalidQuery)?;
    let mut owners: Vec<String> = query.one("owner")?.into_iter().collect();
    if caller.own_only() {
        // What they do not see is answered as if it were not there.
        if owners.iter().any(|owner| owner != caller.id()) {
            return body::write(response, StatusCode::OK, &DeviceList { devices: Vec::new(), next: None });
        }
        owners = vec![caller.id().to_owned()];
    }
    let filter = DeviceFilter { tenant, owners, platform: None };
    let mut page = records.addressees(&filter, after.as_ref(), limit + 1).await?;
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|last| last.device.id.to_string());
    let devices = page.into_iter().map(|addressee| document(addressee.device)).collect();
    body::write(response, StatusCode::OK, &DeviceList { devices, next })
}

#[handler]
async fn delete_device(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let records: Records = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let id: DeviceId = request.param::<String>("id").unwrap_or_default().parse().map_err(|_| unknown())?;
    let device = records.device(&id).await?;
    let device = device.filter(|device| caller.sees(device.tenant.as_ref(), Some(&device.owner)));
    let device = device.ok_or_else(unknown)?;
    if !records.remove_device(&id).await? {
        return Err(unknown());
    }
    let event = Event::of(request, depot, Act::DeviceRemoved).to(&id).in_tenant(device.tenant.as_ref());
    event.note(&records).await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

/// The tenant of what a request is about: the caller's own, or the one that it names.
fn tenant_of(caller: &Caller, named: Option<TenantName>, code: Code) -> Result<Option<TenantName>, Problem> {
    match (caller.tenant(), named) {
        (Some(own), Some(named)) if *own != named => {
            Err(Problem::field(code, "tenant", format!("must be {own}, or left out")))
        }
        (Some(own), _) => Ok(Some(own.clone())),
        (None, named) => Ok(named),
    }
}

/// Whose device it is.
fn owner_of(caller: &Caller, named: Option<String>) -> Result<String, Problem> {
    let is_somebody = caller.own_only() || caller.login().is_some();
    let own = is_somebody.then(|| caller.id().to_owned());
    let Some(owner) = named.or(own) else { return Err(invalid("owner", "is needed with a key")) };
    if caller.own_only() && owner != caller.id() {
        return Err(invalid("owner", "must be you, or left out"));
    }
    match (1..=MAX_OWNER_CHARS).contains(&owner.chars().count()) {
        true => Ok(owner),
        false => Err(invalid("owner", format!("must have 1 to {MAX_OWNER_CHARS} characters"))),
    }
}

fn check_text(field: &'static str, text: Option<String>) -> Result<Option<String>, Problem> {
    match &text {
        Some(text) if !(1..=MAX_TEXT_CHARS).contains(&text.chars().count()) => {
            Err(invalid(field, format!("must have 1 to {MAX_TEXT_CHARS} characters")))
        }
        _ => Ok(text),
    }
}

fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownDevice, "It was never registered, or was deleted.")
}

fn document(device: Device) -> DeviceInfo {
    DeviceInfo {
        token: DeviceInfo::shortened(&device.token),
        id: device.id,
        tenant: device.tenant,
        owner: device.owner,
        platform: device.platform,
        token_kind: device.token_kind,
        app_version: device.app_version,
        locale: device.locale,
        failures: device.failures,
        created_at: device.created_at,
        seen_at: device.seen_at,
    }
}
