//! `fourmi upload`, `fetch`: files in and out.

use std::path::{Path, PathBuf};

use clap::Args;
use fourmi_client::{Client, ClientError};
use fourmi_model::{Artifact, BlobId, Job, JobId, State};
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    print,
    session::{Session, unless_interrupted},
};

/// What to store.
#[derive(Debug, Args)]
pub(crate) struct UploadArguments {
    /// File to store
    file: PathBuf,
    /// Name to store it under [default: its own]
    #[arg(long)]
    name: Option<String>,
}

/// What to save.
#[derive(Debug, Args)]
pub(crate) struct FetchArguments {
    /// Id of a stored file, or of a job that made files
    id: FileOrJob,
    #[command(flatten)]
    place: Place,
}

/// Where to save files.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// File or folder to save to [default: the file's own name in this folder]
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace a file that is there already
    #[arg(long, short)]
    pub(crate) force: bool,
}

#[derive(Debug, Clone)]
enum FileOrJob {
    File(BlobId),
    Job(JobId),
}

impl std::str::FromStr for FileOrJob {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(file) = text.parse() {
            return Ok(Self::File(file));
        }
        text.parse().map(Self::Job).map_err(|_| "neither the id of a file (file-…) nor of a job".to_owned())
    }
}

impl Place {
    /// The path for a file of that name. The name comes from elsewhere: only its last part counts.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let name = Path::new(name).file_name().unwrap_or("file".as_ref());
        match &self.output {
            Some(folder) if folder.is_dir() => folder.join(name),
            Some(path) => path.clone(),
            None => PathBuf::from(name),
        }
    }

    /// Refuses a path that cannot be written, before work is spent on what should go there.
    pub(crate) fn check(&self, path: &Path) -> anyhow::Result<()> {
        match path.metadata() {
            Ok(about) if !about.is_file() => {
                return Err(Stop::usage(format!("{} is not a file; --output names another", path.display())));
            }
            Ok(_) if !self.force => {
                let message =
                    format!("{} is there already; --force replaces it, --output names another", path.display());
                return Err(Stop::usage(message));
            }
            _ => {}
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        match folder {
            Some(folder) if !folder.is_dir() => Err(Stop::usage(format!("there is no folder {}", folder.display()))),
            _ => Ok(()),
        }
    }
}

pub(crate) async fn upload(session: &Session, arguments: UploadArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let stored = send(session, &client, &arguments.file, arguments.name).await?;
    if session.json() {
        print::json(&stored)?;
    } else {
        print::line(&stored.id.to_string())?;
    }
    Ok(Exit::Done)
}

/// Stores a file, showing how much of it is up.
pub(crate) async fn send(
    session: &Session,
    client: &Client,
    file: &Path,
    name: Option<String>,
) -> anyhow::Result<fourmi_client::StoredFile> {
    let progress = session.progress();
    let whole = std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|about| about.len());
    let mut upload = client.upload(file).on_progress({
        let progress = progress.clone();
        move |bytes| progress.transfer("uploading", bytes, whole)
    });
    if let Some(name) = name {
        upload = upload.name(name);
    }
    let sent = unless_interrupted(upload.send()).await?;
    progress.clear();
    sent.ok_or_else(|| Stop::interrupted("stopped; nothing was stored"))?.map_err(Into::into)
}

pub(crate) async fn fetch(session: &Session, arguments: FetchArguments) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let files = match arguments.id {
        FileOrJob::File(file) => vec![described(&client, file).await?],
        FileOrJob::Job(id) => files_of(&client.job(&id).await?)?,
    };
    if files.len() > 1 && arguments.place.output.as_ref().is_some_and(|output| !output.is_dir()) {
        return Err(Stop::usage("the job made several files; --output must name a folder"));
    }
    let mut saved = Vec::new();
    for file in &files {
        saved.push(save(session, &client, file, &arguments.place).await?);
    }
    if session.json() {
        let files: Vec<_> = files.iter().zip(&saved).map(|(file, path)| json!({"path": path, "file": file})).collect();
        print::json(&json!({"files": files}))?;
    } else {
        for path in saved {
            print::line(&path.display().to_string())?;
        }
    }
    Ok(Exit::Done)
}

async fn described(client: &Client, id: BlobId) -> anyhow::Result<Artifact> {
    let file = client.stored_file(id).await?;
    let (name, bytes, sha256, media_type) = (file.name, file.bytes, file.sha256, file.media_type);
    Ok(Artifact { role: "file".to_owned(), file: id, name, bytes, sha256, media_type })
}

/// The files that a job's result names.
pub(crate) fn files_of(job: &Job) -> anyhow::Result<Vec<Artifact>> {
    if job.state != State::Succeeded {
        return Err(ClientError::NotSucceeded(Box::new(job.clone())).into());
    }
    let files = job.result.as_ref().and_then(|result| result.get("files")).cloned().unwrap_or_else(|| json!([]));
    let files: Vec<Artifact> = serde_json::from_value(files)?;
    if files.is_empty() { Err(Stop::usage(format!("{} made no files", job.id))) } else { Ok(files) }
}

/// Saves a file, showing how much of it is down; gives the path.
pub(crate) async fn save(
    session: &Session,
    client: &Client,
    file: &Artifact,
    place: &Place,
) -> anyhow::Result<PathBuf> {
    let path = place.path(&file.name);
    place.check(&path)?;
    let progress = session.progress();
    let download = client.download(file.file).sha256(&file.sha256).replace(place.force).on_progress({
        let progress = progress.clone();
        move |bytes, whole| progress.transfer("downloading", bytes, whole)
    });
    let saved = unless_interrupted(download.to(&path)).await?;
    progress.clear();
    saved.ok_or_else(|| Stop::interrupted(format!("stopped; `fourmi fetch {}` saves the file", file.file)))??;
    Ok(path)
}
