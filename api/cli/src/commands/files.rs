//! `fourmi upload`, `fetch`, `link`: files in and out.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use fourmi_client::{Client, ClientError};
use fourmi_model::{Artifact, BlobId, Job, JobId, State};
use serde_json::json;

use crate::{
    arguments::lasting,
    exit::{Exit, Stop},
    print,
    session::{Session, unless_interrupted},
};

/// Files that are larger go on where they were when the connection breaks.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

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

/// What to give out.
#[derive(Debug, Args)]
pub(crate) struct LinkArguments {
    /// Id of a stored file
    id: BlobId,
    /// How long the address works, up to 7d
    #[arg(long, value_name = "TIME", value_parser = lasting, default_value = "1h")]
    expires: Duration,
    /// Have browsers save the file rather than show it
    #[arg(long)]
    download: bool,
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

    /// Refuses a path that is no folder, for several files.
    pub(crate) fn check_folder(&self) -> anyhow::Result<()> {
        match &self.output {
            Some(output) if !output.is_dir() => {
                Err(Stop::usage("there may be several files to save; --output must name a folder that is there"))
            }
            _ => Ok(()),
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
    if whole.is_some_and(|bytes| bytes > LARGE_BYTES) {
        upload = upload.resumable();
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
    let saved = save(session, &client, &files, &arguments.place).await?;
    if session.json() {
        print::json(&json!({"files": documents(&files, &saved)}))?;
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

/// Files and where they were saved, for programs.
pub(crate) fn documents(files: &[Artifact], paths: &[PathBuf]) -> serde_json::Value {
    files.iter().zip(paths).map(|(file, path)| json!({"path": path, "file": file})).collect()
}

/// Saves files, showing how much of each is down; gives their paths. Nothing is fetched if one is in the way.
pub(crate) async fn save(
    session: &Session,
    client: &Client,
    files: &[Artifact],
    place: &Place,
) -> anyhow::Result<Vec<PathBuf>> {
    if files.len() > 1 {
        place.check_folder()?;
    }
    let paths = distinct(files.iter().map(|file| place.path(&file.name)));
    for path in &paths {
        place.check(path)?;
    }
    for (file, path) in files.iter().zip(&paths) {
        save_one(session, client, file, path, place.force).await?;
    }
    Ok(paths)
}

/// A file that one job made does not take the place of another: the second `part.m4a` becomes `part-2.m4a`.
fn distinct(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut taken = BTreeSet::new();
    let numbered = |path: &Path, number: u32| {
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{number}"));
        if let Some(ending) = path.extension() {
            name.push(".");
            name.push(ending);
        }
        path.with_file_name(name)
    };
    paths
        .map(|path| {
            let others = (2..).map(|number| numbered(&path, number));
            let free = std::iter::once(path.clone()).chain(others).find(|path| taken.insert(path.clone()));
            free.unwrap_or(path)
        })
        .collect()
}

async fn save_one(
    session: &Session,
    client: &Client,
    file: &Artifact,
    path: &Path,
    replace: bool,
) -> anyhow::Result<()> {
    let progress = session.progress();
    let mut download = client.download(file.file).replace(replace).on_progress({
        let progress = progress.clone();
        move |bytes, whole| progress.transfer("downloading", bytes, whole)
    });
    // A file that still grows has none.
    if !file.sha256.is_empty() {
        download = download.sha256(&file.sha256);
    }
    let saved = unless_interrupted(download.to(path)).await?;
    progress.clear();
    saved.ok_or_else(|| Stop::interrupted(format!("stopped; `fourmi fetch {}` saves the file", file.file)))??;
    Ok(())
}

pub(crate) async fn link(session: &Session, arguments: LinkArguments) -> anyhow::Result<Exit> {
    let link = session.client()?.link(arguments.id, arguments.expires, arguments.download).await?;
    if session.json() {
        print::json(&link)?;
    } else {
        session.note(&format!("Opens the file for whoever has it, until {}:", link.expires_at));
        print::line(&link.url)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_get_numbers() {
        let names = ["a/part.m4a", "a/part.m4a", "a/part", "a/part", "a/part.m4a", "a/part-2.m4a"];
        let saved = distinct(names.into_iter().map(PathBuf::from));
        let expected =
            ["a/part.m4a", "a/part-2.m4a", "a/part", "a/part-2", "a/part-3.m4a", "a/part-2-2.m4a"].map(PathBuf::from);
        assert_eq!(saved, expected);
    }
}
