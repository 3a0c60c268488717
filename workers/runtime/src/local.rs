//! The host of a run in the worker process itself.

use std::{path::PathBuf, sync::Arc};

use fourmi_blobs::{BlobError, Blobs, Owner};
use fourmi_model::{
    Artifact, BlobId, Envelope, ErrorClass, Failure, JobId, LogEntry, Parent, ParkReason, Progress, TenantName,
};
use fourmi_queue::{BackendHandle, QueueError, Queues, Refusal, Run, Transitions};
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use crate::{
    context::{GrowingFile, Host, InputFile, NewFile, NewGrowing, Shared, scratch_failure},
    enqueue::NewJob,
    rooms::Rooms,
    watch::Watch,
};

pub(crate) struct LocalHost {
    pub(crate) id: JobId,
    pub(crate) run: u64,
    pub(crate) envelope: Arc<Envelope>,
    pub(crate) queues: Queues,
    pub(crate) transitions: Transitions,
    pub(crate) backend: BackendHandle,
    pub(crate) blobs: Blobs,
    pub(crate) rooms: Rooms,
    /// The folder of the operator's secrets.
    pub(crate) secrets: PathBuf,
    /// Whose the job and its files are; asked for when it matters.
    pub(crate) owner: OnceCell<Owner>,
    pub(crate) watch: Option<Arc<Watch>>,
}

impl LocalHost {
    async fn owner(&self) -> Result<Owner, Failure> {
        let ask = async || {
            let tenant = self.queues.tenant(&self.id).await.map_err(|error| queue_failure(&error))?;
            let tenant = tenant.ok_or_else(lease_lost)?;
            Ok(Owner { tenant, submitted_by: self.envelope.submitted_by.clone() })
        };
        self.owner.get_or_try_init(ask).await.cloned()
    }
}

impl Host for LocalHost {
    fn progress(&self, progress: Progress) {
        if let Some(watch) = &self.watch {
            watch.is_in(&progress.stage);
        }
        self.backend.progress(&self.id, self.run, &progress);
    }

    fn log(&self, entry: LogEntry) {
        self.backend.log(&self.id, self.run, entry);
    }

    fn log_left_out(&self, lines: u64) {
        self.backend.log_left_out(&self.id, self.run, lines);
    }

    fn input(&self, file: BlobId) -> BoxFuture<'_, Result<InputFile, Failure>> {
        Box::pin(async move {
            match self.blobs.get(&file).await {
                Ok(Some(blob)) => Ok(InputFile { path: self.blobs.path(&file), name: blob.name, sha256: blob.sha256 }),
                Ok(None) => Err(unknown_file(file)),
                Err(error) => Err(storage_failure(&error)),
            }
        })
    }

    fn share(&self, file: BlobId, name: Option<String>) -> BoxFuture<'_, Result<Shared, Failure>> {
        Box::pin(async move {
            let owner = self.owner().await?;
            let shared = match name {
                Some(name) => self.blobs.share_as(&file, &owner, &name).await,
                None => self.blobs.share(&file, &owner).await,
            };
            let shared = shared.map_err(|error| storage_failure(&error))?.ok_or_else(|| unknown_file(file))?;
            Ok(Shared { id: shared.id, name: shared.name })
        })
    }

    fn store(&self, file: NewFile) -> BoxFuture<'_, Result<Artifact, Failure>> {
        Box::pin(async move {
            let owner = self.owner().await?;
            let stored = self.blobs.import(&file.path, &file.name, owner, Some(&file.media_type)).await;
            let stored = stored.map_err(|error| storage_failure(&error).in_stage("store"))?;
            Ok(Artifact {
                role: file.role,
                file: stored.id,
                name: stored.name,
                bytes: stored.bytes,
                sha256: stored.sha256,
                media_type: stored.media_type,
            })
        })
    }

    fn grow(&self, file: NewGrowing) -> BoxFuture<'_, Result<GrowingFile, Failure>> {
        Box::pin(async move {
            let earlier = match file.again {
                Some(id) => self.blobs.regrow(&id).await.map_err(|error| storage_failure(&error))?,
                None => None,
            };
            let growing = match earlier {
                Some(growing) => growing,
                None => {
                    let growing = self.blobs.grow(&file.name, self.owner().await?, &file.media_type).await;
                    let growing = growing.map_err(|error| storage_failure(&error))?;
                    self.rooms.note_growing(&growing.id()).map_err(|error| scratch_failure(&error))?;
                    growing
                }
            };
            Ok(GrowingFile { id: growing.id(), path: growing.path().to_owned() })
        })
    }

    fn discard(&self, file: BlobId) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async move { self.blobs.delete(&file).await.map(drop).map_err(|error| storage_failure(&error)) })
    }

    fn secret(&self, name: String) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async move {
            let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            let missing = || {
                let message = format!("the operator keeps no secret {name}: put it into {name} in the folder secrets");
                Failure::park(ParkReason::NotConfigured, message)
            };
            if !is_plain {
                return Err(missing());
            }
            tokio::fs::read_to_string(self.secrets.join(&name)).await.map_err(|_| missing())
        })
    }

    fn tenant(&self) -> BoxFuture<'_, Result<Option<TenantName>, Failure>> {
        Box::pin(async move { Ok(self.owner().await?.tenant) })
    }

    fn parents(&self) -> BoxFuture<'_, Result<Vec<Parent>, Failure>> {
        Box::pin(async move {
            self.queues.parents(&self.id, &self.envelope.after).await.map_err(|error| queue_failure(&error))
        })
    }

    fn enqueue(&self, job: NewJob) -> BoxFuture<'_, Result<JobId, Failure>> {
        Box::pin(async move {
            let (id, mut submission) = job.submission(&self.id, &self.envelope);
            if let Some(context) = self.watch.as_ref().and_then(|watch| watch.trace_context()) {
                submission.envelope.traceparent = Some(context.to_string());
            }
            let run = Run { job: self.id.uuid(), number: self.run };
            let noted = self.transitions.note_child(run, &id).await.map_err(|error| queue_failure(&error))?;
            submission.tenant = noted.ok_or_else(lease_lost)?;
            match self.queues.push(id, submission).await {
                Ok(Ok(pushed)) => Ok(pushed.id),
                Ok(Err(Refusal::QueueFull { retry_after })) => {
                    Err(Failure::retry_after(retry_after, "queue_full", "the queue of the new job is full"))
                }
                Ok(Err(refusal)) => Err(Failure::permanent("invalid_child", refusal.to_string())),
                Err(error) => Err(queue_failure(&error)),
            }
        })
    }
}

fn lease_lost() -> Failure {
    Failure::retry("lease_lost", "the run has lost its lease: another may be at work")
}

fn unknown_file(file: BlobId) -> Failure {
    let message = format!("there is no file {file}; it may have been deleted");
    Failure::permanent("unknown_file", message).class(ErrorClass::NotFound)
}

fn queue_failure(error: &QueueError) -> Failure {
    Failure::retry("queue_unavailable", "Redis does not answer as it should").because(error)
}

fn storage_failure(error: &BlobError) -> Failure {
    match error {
        BlobError::DiskFull => Failure::retry("disk_full", "the disk is full; free some space"),
        other => Failure::retry("storage_failed", "a file could not be read or written").because(other),
    }
}
