//! Schedules: what is done again and again.

use fourmi_model::{JobId, Missed, Overlap, ScheduleFire, ScheduleId, ScheduleInfo, ScheduledJob, TenantName};
use jiff::Timestamp;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError};

/// A schedule to be made, or as it is to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleForm {
    /// Its name, of which a tenant has one.
    pub name: String,
    /// A cron expression of five fields, of six with seconds first, or a nickname such as `@daily`. Either this or `every_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Seconds between two ticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_s: Option<u32>,
    /// The IANA time zone in which the expression is read.
    #[serde(default = "utc")]
    pub time_zone: String,
    /// How many seconds a job may be made after its tick.
    #[serde(default)]
    pub jitter_s: u32,
    /// No tick is before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Timestamp>,
    /// No tick is after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// What it does while the job of an earlier tick is not over.
    #[serde(default)]
    pub overlap: Overlap,
    /// What it does about ticks for which nobody was there.
    #[serde(default)]
    pub missed: Missed,
    /// How many of those make a job, if all may.
    #[serde(default = "ten")]
    pub missed_limit: u32,
    /// Whether it makes no jobs.
    #[serde(default)]
    pub paused: bool,
    /// The tenant whose jobs it makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The job that it makes.
    pub job: ScheduledJob,
}

fn utc() -> String {
    "UTC".to_owned()
}

const fn ten() -> u32 {
    10
}

impl ScheduleForm {
    /// A schedule of this name and job that is due never yet: give it `cron` or `every_s`.
    pub fn new(name: &str, job: ScheduledJob) -> Self {
        Self {
            name: name.to_owned(),
            cron: None,
            every_s: None,
            time_zone: utc(),
            jitter_s: 0,
            starts_at: None,
            ends_at: None,
            overlap: Overlap::default(),
            missed: Missed::default(),
            missed_limit: ten(),
            paused: false,
            tenant: None,
            job,
        }
    }
}

impl From<ScheduleInfo> for ScheduleForm {
    fn from(info: ScheduleInfo) -> Self {
        Self {
            name: info.name,
            cron: info.rule.cron,
            every_s: info.rule.every_s,
            time_zone: info.rule.time_zone,
            jitter_s: info.rule.jitter_s,
            starts_at: info.rule.starts_at,
            ends_at: info.rule.ends_at,
            overlap: info.overlap,
            missed: info.missed,
            missed_limit: info.missed_limit,
            paused: info.paused,
            tenant: info.tenant,
            job: info.job,
        }
    }
}

#[derive(Deserialize)]
struct Page {
    schedules: Vec<ScheduleInfo>,
    next: Option<ScheduleId>,
}

#[derive(Deserialize)]
struct Ticks {
    ticks: Vec<Timestamp>,
}

#[derive(Deserialize)]
struct Fires {
    fires: Vec<ScheduleFire>,
}

#[derive(Deserialize)]
struct Ran {
    job: JobId,
}

impl Client {
    /// Makes a schedule.
    ///
    /// # Errors
    /// `invalid_request`, `name_taken`, `too_many_schedules`, `scope_missing`, or that the API does not answer.
    pub async fn create_schedule(&self, schedule: &ScheduleForm) -> Result<ScheduleInfo, ClientError> {
        self.json(self.request(Method::POST, ["schedules"]).json(schedule)).await
    }

    /// All schedules that this client sees, oldest first; only those of a name, if one is given.
    ///
    /// # Errors
    /// `scope_missing`, or that the API does not answer.
    pub async fn schedules(&self, name: Option<&str>) -> Result<Vec<ScheduleInfo>, ClientError> {
        let mut all = Vec::new();
        let mut after: Option<ScheduleId> = None;
        loop {
            let mut request = self.request(Method::GET, ["schedules"]).query(&[("limit", "200")]);
            if let Some(name) = name {
                request = request.query(&[("name", name)]);
            }
            if let Some(after) = &after {
                request = request.query(&[("after", after.as_str())]);
            }
            let page: Page = self.json(request).await?;
            all.extend(page.schedules);
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// A schedule.
    ///
    /// # Errors
    /// `unknown_schedule`, `scope_missing`, or that the API does not answer.
    pub async fn schedule(&self, id: &ScheduleId) -> Result<ScheduleInfo, ClientError> {
        self.json(self.request(Method::GET, ["schedules", id.as_str()])).await
    }

    /// Makes a schedule as it is said to be; in force within a second.
    ///
    /// # Errors
    /// `unknown_schedule`, `invalid_request`, `name_taken`, `changed_meanwhile`, `scope_missing`, or that the API does not
    /// answer.
    pub async fn replace_schedule(
        &self,
        id: &ScheduleId,
        schedule: &ScheduleForm,
    ) -> Result<ScheduleInfo, ClientError> {
        self.json(self.request(Method::PUT, ["schedules", id.as_str()]).json(schedule)).await
    }

    /// Deletes a schedule. The jobs that it has made stay.
    ///
    /// # Errors
    /// `unknown_schedule`, `scope_missing`, or that the API does not answer.
    pub async fn delete_schedule(&self, id: &ScheduleId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["schedules", id.as_str()])).await.map(drop)
    }

    /// Pauses a schedule, or resumes it at the first tick after this moment.
    ///
    /// # Errors
    /// `unknown_schedule`, `changed_meanwhile`, `scope_missing`, or that the API does not answer.
    pub async fn pause_schedule(&self, id: &ScheduleId, paused: bool) -> Result<ScheduleInfo, ClientError> {
        let act = if paused { "pause" } else { "resume" };
        self.json(self.request(Method::POST, ["schedules", id.as_str(), act])).await
    }

    /// Makes the job of a schedule now; gives it.
    ///
    /// # Errors
    /// `unknown_schedule`, `queue_full`, `scope_missing`, or that the API does not answer.
    pub async fn run_schedule(&self, id: &ScheduleId) -> Result<JobId, ClientError> {
        let ran: Ran = self.json(self.request(Method::POST, ["schedules", id.as_str(), "run"])).await?;
        Ok(ran.job)
    }

    /// The next ticks of a schedule, 100 at most.
    ///
    /// # Errors
    /// `unknown_schedule`, `scope_missing`, or that the API does not answer.
    pub async fn schedule_ticks(&self, id: &ScheduleId, count: usize) -> Result<Vec<Timestamp>, ClientError> {
        let request = self.request(Method::GET, ["schedules", id.as_str(), "ticks"]);
        let list: Ticks = self.json(request.query(&[("count", count)])).await?;
        Ok(list.ticks)
    }

    /// What became of the newest ticks of a schedule, 200 at most.
    ///
    /// # Errors
    /// `unknown_schedule`, `scope_missing`, or that the API does not answer.
    pub async fn schedule_fires(&self, id: &ScheduleId, limit: usize) -> Result<Vec<ScheduleFire>, ClientError> {
        let request = self.request(Method::GET, ["schedules", id.as_str(), "fires"]);
        let page: Fires = self.json(request.query(&[("limit", limit)])).await?;
        Ok(page.fires)
    }
}
