//! Schedules: what is done again and again.

mod form;

use std::sync::Arc;

use fourmi_model::{FireOutcome, JobId, ScheduleFire, ScheduleId, ScheduleInfo, Scope, TenantName};
use fourmi_records::Schedule;
use fourmi_timetable::{OrderForm, Ordered, Tick};
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode, header::LOCATION},
};
use schemars::JsonSchema;
use serde::Serialize;

use self::form::{ScheduleForm, document, stand_after, stand_still, timetable};
use crate::{
    body,
    caller::Caller,
    headers,
    operation::{Group, JSON, Operation, Place, schema, state_of},
    people::{Act, Event},
    problem::{Code, Problem},
    query::{self, Query},
    redis::in_time,
    routes::{jobs::Jobs, submission::check_audience},
};

/// The most schedules of a tenant.
const MOST: u64 = 10_000;

/// The most of all.
const MOST_OF_ALL: u64 = 100_000;

/// A page of schedules.
#[derive(Serialize, JsonSchema)]
struct ScheduleList {
    /// The schedules, oldest first.
    schedules: Vec<ScheduleInfo>,
    /// Where the next page starts: the next call's `after`. `null` at the end.
    next: Option<ScheduleId>,
}

/// The next ticks of a schedule.
#[derive(Serialize, JsonSchema)]
struct TickList {
    /// The ticks, in order; none if it is over. Of one that is paused those that would be.
    #[schemars(with = "Vec<String>", extend("items" = {"type": "string", "format": "date-time"}))]
    ticks: Vec<Timestamp>,
}

/// What became of the ticks of a schedule.
#[derive(Serialize, JsonSchema)]
struct FireList {
    /// The ticks, newest first; the newest thousand are remembered.
    fires: Vec<ScheduleFire>,
    /// Where the next page starts: the next call's `before`. `null` at the end.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    next: Option<Timestamp>,
}

/// A job that was asked for.
#[derive(Serialize, JsonSchema)]
struct Ran {
    /// The job.
    job: JobId,
}

/// The most entries of a page.
type Limit = query::Limit<50, 200>;

/// The most ticks that are told.
type Count = query::Limit<10, 100>;

/// The routes.
pub fn group(jobs: Arc<Jobs>) -> Group {
    table().sharing(jobs)
}

pub(crate) fn table() -> Group {
    let write = &[Scope::SchedulesWrite];
    let body = &[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest];
    let of_kind = &[Code::UnknownKind, Code::KindInternal, Code::KindStaffOnly, Code::KindOperatorsOnly];
    let job = &[Code::InvalidPayload, Code::MissingFile, Code::ForeignTenant];
    let operations = vec![
        Operation::new("create_schedule", Method::POST, "/api/v1/schedules", create_schedule)
            .needs(write)
            .says(
                "Makes a schedule",
                "Its jobs are yours, as if you submitted them, so you must be allowed to (`jobs:submit`). The job is checked now, \
                 with the payload of a tick at this moment. A schedule outlives the key that made it.",
            )
            .reads(JSON, schema::<ScheduleForm>)
            .answers(StatusCode::CREATED, JSON, schema::<ScheduleInfo>, "The schedule.")
            .with_headers(&["Location"])
            .fails(body)
            .fails(of_kind)
            .fails(job)
            .fails(&[Code::UnknownTenant, Code::NameTaken, Code::TooManySchedules, Code::RecordsUnavailable]),
        Operation::new("list_schedules", Method::GET, "/api/v1/schedules", list_schedules)
            .needs(write)
            .says("Lists schedules", "Those of your tenant; your own, if you see only what is your own.")
            .takes(Place::Query, "name", schema::<String>, "Only the one of this name; one in each tenant.")
            .takes(Place::Query, "tenant", schema::<TenantName>, "Only those of this tenant.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most schedules of a page.")
            .takes(Place::Query, "after", schema::<ScheduleId>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<ScheduleList>, "A page.")
            .fails(&[Code::InvalidQuery, Code::RecordsUnavailable]),
        identified("get_schedule", Method::GET, "/api/v1/schedules/{id}", get_schedule)
            .says("Describes a schedule", "")
            .answers(StatusCode::OK, JSON, schema::<ScheduleInfo>, "The schedule."),
        identified("replace_schedule", Method::PUT, "/api/v1/schedules/{id}", replace_schedule)
            .says(
                "Changes a schedule",
                "It is from now on as the body says, in force within a second. A tick that has come already and was not dealt \
                 with is, unless it is due at other times from now on.",
            )
            .reads(JSON, schema::<ScheduleForm>)
            .answers(StatusCode::OK, JSON, schema::<ScheduleInfo>, "The schedule.")
            .fails(body)
            .fails(of_kind)
            .fails(job)
            .fails(&[Code::NameTaken, Code::ChangedMeanwhile]),
        identified("delete_schedule", Method::DELETE, "/api/v1/schedules/{id}", delete_schedule)
            .says("Deletes a schedule", "The jobs that it has made stay.")
            .answers_empty(StatusCode::NO_CONTENT, "It is gone."),
        identified("pause_schedule", Method::POST, "/api/v1/schedules/{id}/pause", pause_schedule)
            .says("Pauses a schedule", "Ticks that come while it is paused make no jobs, and are not made up for.")
            .answers(StatusCode::OK, JSON, schema::<ScheduleInfo>, "The schedule.")
            .fails(&[Code::ChangedMeanwhile]),
        identified("resume_schedule", Method::POST, "/api/v1/schedules/{id}/resume", resume_schedule)
            .says("Resumes a schedule", "Its next tick is the first after this moment.")
            .answers(StatusCode::OK, JSON, schema::<ScheduleInfo>, "The schedule.")
            .fails(&[Code::ChangedMeanwhile]),
        identified("run_schedule", Method::POST, "/api/v1/schedules/{id}/run", run_schedule)
            .says("Makes its job now", "Whatever is due, also while it is paused. The tick of its payload is this moment.")
            .answers(StatusCode::ACCEPTED, JSON, schema::<Ran>, "The job is accepted.")
            .fails(&[Code::KindStaffOnly, Code::KindOperatorsOnly, Code::InvalidRequest])
            .fails(&[Code::QueueFull, Code::RedisFull])
            .fails(&[Code::RedisUnavailable, Code::DiskFull]),
        identified("list_ticks", Method::GET, "/api/v1/schedules/{id}/ticks", list_ticks)
            .says("Lists the next ticks of a schedule", "")
            .takes(Place::Query, "count", schema::<Count>, "How many at most.")
            .answers(StatusCode::OK, JSON, schema::<TickList>, "The ticks.")
            .fails(&[Code::InvalidQuery]),
        identified("list_fires", Method::GET, "/api/v1/schedules/{id}/fires", list_fires)
            .says("Lists what became of ticks", "With the job that each made.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most ticks of a page.")
            .takes(Place::Query, "before", body::time, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<FireList>, "A page.")
            .fails(&[Code::InvalidQuery]),
    ];
    Group::new("schedules", "What is done again and again.", operations)
}

fn identified(id: &'static str, method: Method, path: &'static str, handler: impl salvo::Handler) -> Operation {
    Operation::new(id, method, path, handler)
        .needs(&[Scope::SchedulesWrite])
        .takes(Place::Path, "id", schema::<ScheduleId>, "The schedule.")
        .fails(&[Code::UnknownSchedule, Code::RecordsUnavailable])
}

#[handler]
async fn create_schedule(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let caller = submitter(depot)?;
    let form: ScheduleForm = body::parse(body::read(request).await?)?;
    let tenant = form.tenant(&jobs, &caller).await?;
    let (own, all) = jobs.records.schedule_counts(tenant.as_ref()).await?;
    if own >= MOST || all >= MOST_OF_ALL {
        let detail = format!("There may be {MOST} of one tenant, and {MOST_OF_ALL} in all: delete one first.");
        return Err(Problem::new(Code::TooManySchedules, detail));
    }
    let schedule = form.make(&jobs, &caller, tenant, Timestamp::now()).await?;
    if !jobs.records.add_schedule(&schedule).await? {
        return Err(name_taken(&schedule.name));
    }
    note(&jobs, request, depot, Act::ScheduleCreated, &schedule).await?;
    response.headers_mut().insert(LOCATION, headers::value(format!("/api/v1/schedules/{}", schedule.id))?);
    body::write(response, StatusCode::CREATED, &document(schedule))
}

#[handler]
async fn list_schedules(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let query = Query::of(request, &["name", "tenant", "limit", "after"])?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let (name, after): (Option<String>, Option<ScheduleId>) = (query.one("name")?, query.one("after")?);
    let tenant: Option<TenantName> = query.one("tenant")?;
    let is_foreign = caller.tenant().zip(tenant.as_ref()).is_some_and(|(own, named)| own != named);
    let mut page = Vec::new();
    if !is_foreign {
        let tenant = caller.tenant().or(tenant.as_ref());
        let creator = caller.own_only().then(|| caller.id());
        page = jobs.records.schedules(tenant, creator, name.as_deref(), after.as_ref(), limit + 1).await?;
    }
    let more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| more).map(|schedule| schedule.id.clone());
    body::write(response, StatusCode::OK, &ScheduleList { schedules: page.into_iter().map(document).collect(), next })
}

#[handler]
async fn get_schedule(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (_, schedule) = named(request, depot).await?;
    body::write(response, StatusCode::OK, &document(schedule))
}

#[handler]
async fn replace_schedule(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, before) = named(request, depot).await?;
    let caller = submitter(depot)?;
    let form: ScheduleForm = body::parse(body::read(request).await?)?;
    let tenant = form.tenant(&jobs, &caller).await?;
    if tenant.is_some() && tenant != before.tenant {
        return Err(Problem::field(Code::InvalidRequest, "tenant", "never changes; make another schedule"));
    }
    let schedule = form.replace(&jobs, &caller, before, Timestamp::now()).await?;
    let is_taken = async || {
        let tenant = schedule.tenant.as_ref();
        let same = jobs.records.schedules(tenant, None, Some(&schedule.name), None, 2).await?;
        Ok::<_, Problem>(same.iter().any(|other| other.id != schedule.id && other.tenant == schedule.tenant))
    };
    if !jobs.records.change_schedule(&schedule).await? {
        return Err(if is_taken().await? { name_taken(&schedule.name) } else { changed_meanwhile() });
    }
    note(&jobs, request, depot, Act::ScheduleChanged, &schedule).await?;
    body::write(response, StatusCode::OK, &document(schedule))
}

#[handler]
async fn delete_schedule(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, schedule) = named(request, depot).await?;
    if !jobs.records.remove_schedule(&schedule.id).await? {
        return Err(unknown());
    }
    note(&jobs, request, depot, Act::ScheduleDeleted, &schedule).await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

#[handler]
async fn pause_schedule(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, mut schedule) = named(request, depot).await?;
    if !schedule.paused {
        schedule.paused = true;
        stand_still(&mut schedule);
        save(&jobs, request, depot, &schedule).await?;
    }
    body::write(response, StatusCode::OK, &document(schedule))
}

#[handler]
async fn resume_schedule(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, mut schedule) = named(request, depot).await?;
    if schedule.paused {
        schedule.paused = false;
        let timetable = timetable(&schedule)?;
        stand_after(&mut schedule, &timetable, Timestamp::now());
        save(&jobs, request, depot, &schedule).await?;
    }
    body::write(response, StatusCode::OK, &document(schedule))
}

#[handler]
async fn run_schedule(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, schedule) = named(request, depot).await?;
    let caller = submitter(depot)?;
    let kind = schedule.job.kind.as_str();
    jobs.keeper.limits().count_kind(kind, &caller).await?;
    jobs.check_room(kind)?;
    if let Some(kind) = jobs.kinds.get(schedule.tenant.as_ref(), kind) {
        check_audience(&kind, &caller)?;
    }
    let form: OrderForm = serde_json::from_str(&schedule.order_form).map_err(Problem::internal)?;
    let now = Timestamp::from_millisecond(Timestamp::now().as_millisecond()).map_err(Problem::internal)?;
    let tick = Tick {
        at: now,
        window_start: schedule.standing.last_fired_at.unwrap_or(now),
        zone: timetable(&schedule)?.zone().clone(),
    };
    let ordered = Ordered { id: &schedule.id, name: &schedule.name, job: &schedule.job, tick: &tick };
    let (id, mut submission) =
        form.order(ordered).map_err(|error| Problem::field(Code::InvalidRequest, "job.payload", error))?;
    // Two who ask get two jobs.
    submission.idempotency_key = None;
    let pushed = in_time(jobs.queues.push(id, submission)).await??;
    let fire = ScheduleFire {
        tick: now,
        by_hand: true,
        outcome: FireOutcome::Fired,
        at: now,
        job: Some(pushed.id.clone()),
        error: None,
    };
    jobs.records.schedule_ran(&schedule.id, &fire).await?;
    body::write(response, StatusCode::ACCEPTED, &Ran { job: pushed.id })
}

#[handler]
async fn list_ticks(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (_, schedule) = named(request, depot).await?;
    let query = Query::of(request, &["count"])?;
    let count = query.one::<Count>("count")?.unwrap_or_default().0;
    let ticks = timetable(&schedule)?.all_after(Timestamp::now()).take(count).collect();
    body::write(response, StatusCode::OK, &TickList { ticks })
}

#[handler]
async fn list_fires(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (jobs, schedule) = named(request, depot).await?;
    let query = Query::of(request, &["limit", "before"])?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let mut fires = jobs.records.schedule_fires(&schedule.id, query.one("before")?, limit + 1).await?;
    let more = fires.len() > limit;
    fires.truncate(limit);
    let next = fires.last().filter(|_| more).map(|fire| fire.tick);
    body::write(response, StatusCode::OK, &FireList { fires, next })
}

/// The caller, if it may submit jobs.
fn submitter(depot: &Depot) -> Result<Caller, Problem> {
    let caller = Caller::of(depot)?;
    if caller.may(Scope::JobsSubmit) {
        return Ok(caller);
    }
    Err(Problem::new(Code::ScopeMissing, "A schedule submits jobs, which needs the scope jobs:submit."))
}

/// The schedule that the address names, if the caller sees it.
async fn named(request: &Request, depot: &Depot) -> Result<(Arc<Jobs>, Schedule), Problem> {
    let jobs: Arc<Jobs> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let id: ScheduleId = request.param::<String>("id").unwrap_or_default().parse().map_err(|_| unknown())?;
    let schedule = jobs.records.schedule(&id).await?;
    let schedule = schedule.filter(|schedule| caller.sees(schedule.tenant.as_ref(), Some(&schedule.created_by)));
    Ok((jobs, schedule.ok_or_else(unknown)?))
}

fn unknown() -> Problem {
    Problem::new(Code::UnknownSchedule, "It was never made, or was deleted.")
}

fn name_taken(name: &str) -> Problem {
    Problem::field(Code::NameTaken, "name", format!("another schedule is called {name}"))
}

fn changed_meanwhile() -> Problem {
    Problem::new(Code::ChangedMeanwhile, "Somebody else has changed the schedule in this moment; try again.")
}

async fn save(jobs: &Jobs, request: &Request, depot: &Depot, schedule: &Schedule) -> Result<(), Problem> {
    if !jobs.records.change_schedule(schedule).await? {
        return Err(changed_meanwhile());
    }
    note(jobs, request, depot, Act::ScheduleChanged, schedule).await
}

async fn note(jobs: &Jobs, request: &Request, depot: &Depot, act: Act, schedule: &Schedule) -> Result<(), Problem> {
    let event = Event::of(request, depot, act).to(&schedule.id).in_tenant(schedule.tenant.as_ref());
    Ok(event.with("name", schedule.name.clone()).note(&jobs.records).await?)
}
