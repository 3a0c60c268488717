//! Somebody who archives jobs and uses API keys all the time, and says what was acknowledged.

use anyhow::{Context, ensure};
use fourmi_model::{JobId, JobRecord};
use fourmi_records::{ApiKey, RecordFilter, Records, RecordsError};
use jiff::Timestamp;
use serde_json::json;

/// Jobs of a batch.
pub const BATCH: u16 = 20;

/// How often a writer opens the records anew: so many rounds apart.
const REOPEN: u16 = 10;

/// The key that all writers change: its name counts their rounds.
pub const SHARED_KEY: &str = "shared";

/// One writer of records, in a process of its own.
pub struct RecordWriter {
    /// The file of the records, or their URL.
    pub location: String,
    /// Its number, which makes its jobs others than those of another writer.
    pub number: u16,
}

impl RecordWriter {
    /// Opens the records.
    ///
    /// # Errors
    /// As the records.
    pub async fn open(&self) -> Result<Records, RecordsError> {
        if self.location.starts_with("postgres:") {
            Records::connect(&self.location).await
        } else {
            Records::open(self.location.as_ref()).await
        }
    }

    /// Goes through rounds, and says `acknowledged <round>` when the batch of one is written.
    ///
    /// # Errors
    /// The first thing that is not as it should be.
    pub async fn run(&self, rounds: std::ops::Range<u16>) -> anyhow::Result<()> {
        let mut records = self.open().await.context("open")?;
        let key = ApiKey { id: format!("writer-{}", self.number), sha256: self.number.to_string(), ..shared_key() };
        records.add_key(&key).await.context("add_key")?;
        for round in rounds {
            let batch = self.batch(round)?;
            let written = records.archive(&batch).await.context("archive")?;
            ensure!(written == u64::from(BATCH), "{written} of round {round} are written");
            println!("acknowledged {round}");
            self.read(&records, round).await?;
            change_shared_key(&records).await?;
            records.keys_used(&[(key.id.clone(), Timestamp::now())]).await.context("keys_used")?;
            if round % REOPEN == REOPEN - 1 {
                records.close().await;
                records = self.open().await.context("open again")?;
            }
        }
        Ok(())
    }

    async fn read(&self, records: &Records, round: u16) -> anyhow::Result<()> {
        let job = self.job(round, BATCH - 1)?;
        ensure!(records.job(&job).await.context("job")?.is_some(), "{job} is not there");
        let filter = RecordFilter { tag: Some(self.number.to_string()), ..RecordFilter::default() };
        let (jobs, _) = records.list(&filter, None, 5).await.context("list")?;
        ensure!(jobs.first().is_some_and(|newest| newest.id == job), "round {round} is not the newest");
        Ok(())
    }

    /// A job of a round.
    ///
    /// # Errors
    /// None for any number.
    pub fn job(&self, round: u16, number: u16) -> anyhow::Result<JobId> {
        Ok(format!("media-0198c0de-0000-7000-8000-{:04x}{round:04x}{number:04x}", self.number).parse()?)
    }

    fn batch(&self, round: u16) -> anyhow::Result<Vec<JobRecord>> {
        let record = |number| {
            let time = Timestamp::from_second(i64::from(round))?;
            let job = json!({
                "id": self.job(round, number)?, "kind": "media.probe", "schema_version": 1, "queue": "media",
                "state": "succeeded", "version": 3, "priority": "normal", "tags": [self.number.to_string()], "run": 1,
                "attempts": 1, "crashes": 0, "created_at": time, "finished_at": time,
                "payload": {"text": "x".repeat(500)},
            });
            let job = serde_json::from_value(job).context("a job")?;
            Ok(JobRecord { job, worker: None, waited_ms: None, runs: Vec::new() })
        };
        (0..BATCH).map(record).collect()
    }
}

/// The key that all writers change, as it is made.
pub fn shared_key() -> ApiKey {
    ApiKey {
        id: SHARED_KEY.to_owned(),
        version: 1,
        name: "0".to_owned(),
        prefix: String::new(),
        sha256: SHARED_KEY.to_owned(),
        previous_sha256: None,
        previous_until: None,
        tenant: None,
        scopes: fourmi_model::Scopes::default(),
        device: false,
        created_at: Timestamp::UNIX_EPOCH,
        created_by: None,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        rate_limit: None,
    }
}

/// Counts up once, however many others do so.
async fn change_shared_key(records: &Records) -> anyhow::Result<()> {
    loop {
        let key = records.key(SHARED_KEY).await.context("key")?.context("the shared key is gone")?;
        let before = records.keys_version().await.context("keys_version")?;
        let name = (key.name.parse::<u64>()? + 1).to_string();
        if records.change_key(&ApiKey { name, ..key }).await.context("change_key")? {
            ensure!(records.keys_version().await.context("keys_version")? > before, "the change does not show");
            return Ok(());
        }
    }
}
