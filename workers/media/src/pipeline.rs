//! From a recording that is here to stored files.
//!
//! What each step made is noted in the job's own folder: a run that follows one that was killed repeats the step that was
//! cut off, and none before it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fourmi_kinds::{AudioCodec, AudioExtract, AudioExtracted, MediaInfo, MediaNote, StreamType, Waveform};
use fourmi_media::{
    Control,
    audio::{self, Analysis, Extraction, Extras, Variant},
    pictures::{self, Pictures},
    probe,
};
use fourmi_model::{Artifact, ErrorClass, Failure, LogLevel};
use fourmi_runtime::{Context, Kept};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    source::Recording,
    stages::{Stage, Stages},
};

/// What is to be done, and with what.
pub(crate) struct Work<'a> {
    pub(crate) request: &'a AudioExtract,
    pub(crate) wants_file: bool,
    pub(crate) recording: &'a Recording,
    /// Where steps are noted, if anywhere.
    pub(crate) kept: Option<&'a Kept>,
    pub(crate) folder: &'a Path,
    pub(crate) context: &'a Context,
    pub(crate) stages: &'a Stages,
}

/// A file that was made and is to be stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Made {
    path: PathBuf,
    role: String,
    name: String,
    media_type: String,
}

/// The media type of playlists. Nothing but what is written here may be stored under it: the API signs what they name.
pub(crate) const PLAYLIST: &str = "application/vnd.apple.mpegurl";

impl Made {
    fn new(path: &Path, role: &str, name: &str, media_type: &str) -> Self {
        let (role, name, media_type) = (role.to_owned(), name.to_owned(), media_type.to_owned());
        Self { path: path.to_owned(), role, name, media_type }
    }
}

/// Everything that was made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Files {
    files: Vec<Made>,
    hls: Vec<Variant>,
    notes: Vec<MediaNote>,
}

/// Stores files one after the other, but for those that an earlier run has stored.
struct Store<'a> {
    work: &'a Work<'a>,
    stored: Vec<Artifact>,
    next: usize,
    count: usize,
}

impl Store<'_> {
    async fn put(&mut self, Made { path, role, name, media_type }: Made) -> Result<Artifact, Failure> {
        let number = self.next;
        self.next += 1;
        if let Some(file) = self.stored.get(number) {
            return Ok(file.clone());
        }
        self.work.stages.say((number * 100 / self.count) as f32, "storing");
        let file = self.work.context.store(&path, role, name, media_type).await?;
        self.stored.push(file.clone());
        self.work.note("stored", &self.stored)?;
        Ok(file)
    }
}

impl Work<'_> {
    /// # Errors
    /// Those of the library, and of storing.
    pub(crate) async fn run(&self) -> Result<AudioExtracted, Failure> {
        let subject = Arc::new(Subject::of(self.request, self.recording));
        let extraction = self.extraction(&subject).await?;
        let made = match self.noted::<Files>("made") {
            Some(made) => made,
            None => {
                let made = self.make_files(&subject, &extraction).await?;
                self.note("made", &made)?;
                made
            }
        };
        self.stages.enter(Stage::Store);
        let notes = [&self.recording.notes, &extraction.notes, &made.notes].into_iter().flatten().cloned().collect();
        let files = self.store(made).await?;
        self.stages.say(100.0, "stored");
        Ok(AudioExtracted {
            files,
            duration_ms: extraction.duration_ms,
            codec: extraction.codec,
            tags: extraction.tags,
            chapters: extraction.chapters,
            loudness: extraction.loudness,
            source: self.recording.info.clone(),
            reused: false,
            timings_ms: self.stages.timings(),
            notes,
        })
    }

    /// The audio file; what is known of the recording itself, if none is wanted.
    async fn extraction(&self, subject: &Arc<Subject>) -> Result<Extraction, Failure> {
        if let Some(extraction) = self.noted::<Extraction>("extraction") {
            self.context.log(LogLevel::Info, "an earlier run has made the sound; this one goes on from there");
            return Ok(extraction);
        }
        if !self.wants_file {
            let path = subject.path.clone();
            let info = self.blocking(move |control| probe::probe(&path, control)).await?;
            return described(subject, info);
        }
        self.stages.enter(Stage::Analyse);
        let analysis = match self.noted::<Option<Analysis>>("analysis") {
            Some(analysis) => analysis,
            None => {
                let (subject, extras) = (subject.clone(), subject.clone());
                let analyse = move |control: &dyn Control| {
                    audio::analyse(&subject.path, &subject.request, &extras.extras(), control)
                };
                let analysis = self.blocking(analyse).await?;
                self.note("analysis", &analysis)?;
                analysis
            }
        };
        self.stages.enter(Stage::Transcode);
        let (subject, folder) = (subject.clone(), self.folder.to_owned());
        let extract = move |control: &dyn Control| {
            let Subject { path, request, .. } = &*subject;
            audio::extract(path, &folder, request, &subject.extras(), analysis.as_ref(), control)
        };
        let extraction = self.blocking(extract).await?;
        self.note("extraction", &extraction)?;
        let how = if extraction.codec.copied { "taken as it is" } else { "encoded" };
        self.context.log(LogLevel::Info, format!("the sound is {how}: {}", extraction.codec.name));
        Ok(extraction)
    }

    async fn make_files(&self, subject: &Arc<Subject>, extraction: &Extraction) -> Result<Files, Failure> {
        self.stages.enter(Stage::Tag);
        let mut made = Files::default();
        if self.wants_file {
            made.files.push(self.made(&extraction.path, "audio", &extraction.extension, &extraction.media_type));
        }
        made.files.extend(self.words(extraction)?);
        self.pictures(subject, &mut made).await?;
        made.files.extend(self.split(extraction).await?);
        made.files.extend(self.waveform(subject, extraction).await?);
        if let Some(hls) = self.request.hls.clone() {
            self.stages.enter(Stage::Segment);
            let (audio, folder) = (self.sound(subject, extraction), self.folder.to_owned());
            made.hls = self.blocking(move |control| audio::hls(&audio, &hls, &folder, control)).await?;
        }
        Ok(made)
    }

    /// The file that others are made of.
    fn sound(&self, subject: &Subject, extraction: &Extraction) -> PathBuf {
        if self.wants_file { extraction.path.clone() } else { subject.path.clone() }
    }

    /// Pictures: those of the page or, failing that, of the recording.
    async fn pictures(&self, subject: &Arc<Subject>, made: &mut Files) -> Result<(), Failure> {
        let sources = subject.picture.iter().chain([&subject.path]).cloned();
        for source in sources {
            let (form, folder) = (self.request.thumbnails, self.folder.to_owned());
            let find = move |control: &dyn Control| pictures::thumbnails(&source, form, &folder, control);
            let found = self.blocking(find).await?;
            made.notes.extend(found.notes);
            if let Some(Pictures { cover, small, extension, media_type, .. }) = found.pictures {
                made.files.push(self.made(&cover, "cover", &extension, &media_type));
                made.files.push(self.made(&small, "thumbnail", &format!("small.{extension}"), &media_type));
                break;
            }
        }
        Ok(())
    }

    /// What there is to read: what is known of the recording, and its chapters.
    fn words(&self, extraction: &Extraction) -> Result<Vec<Made>, Failure> {
        let mut made = Vec::new();
        let mut write = |role: &str, ending: &str, media_type: &str, text: &str| {
            let path = self.folder.join(ending);
            std::fs::write(&path, text).map_err(|error| broken(&error))?;
            made.push(self.made(&path, role, ending, media_type));
            Ok::<_, Failure>(())
        };
        if self.wants_file {
            write("info", "info.json", "application/json", &self.info(extraction).to_string())?;
        }
        if self.request.chapters.sidecar && !extraction.chapters.is_empty() {
            write("chapters", "chapters.json", "application/json", &audio::chapters_json(&extraction.chapters))?;
            write("chapters_vtt", "chapters.vtt", "text/vtt", &audio::chapters_vtt(&extraction.chapters))?;
        }
        Ok(made)
    }

    /// What is known of the recording, in one document.
    fn info(&self, extraction: &Extraction) -> serde_json::Value {
        serde_json::json!({
            "title": extraction.tags.get("title").or(self.recording.page.title.as_ref()),
            "source": self.recording.info,
            "duration_ms": extraction.duration_ms,
            "codec": extraction.codec,
            "tags": extraction.tags,
            "page_tags": self.recording.page.tags,
            "chapters": extraction.chapters,
            "loudness": extraction.loudness,
            "notes": extraction.notes,
        })
    }

    /// One file a chapter.
    async fn split(&self, extraction: &Extraction) -> Result<Vec<Made>, Failure> {
        if !self.request.chapters.split || !self.wants_file {
            return Ok(Vec::new());
        }
        let (path, chapters) = (extraction.path.clone(), extraction.chapters.clone());
        let folder = self.folder.to_owned();
        let parts = self.blocking(move |control| audio::split(&path, &chapters, &folder, control)).await?;
        let made = parts.into_iter().map(|part| {
            let title = format!("{:02} {}", part.number, part.chapter.title);
            Made {
                name: format!("{} - {}.{}", self.recording.name, title.trim(), part.extension),
                path: part.path,
                role: "chapter".to_owned(),
                media_type: part.media_type,
            }
        });
        Ok(made.collect())
    }

    async fn waveform(&self, subject: &Subject, extraction: &Extraction) -> Result<Option<Made>, Failure> {
        let form = self.request.waveform;
        let (ending, media_type) = match form {
            Waveform::Off => return Ok(None),
            Waveform::Json(_) => ("waveform.json", "application/json"),
            Waveform::Binary(_) => ("waveform.dat", "application/octet-stream"),
        };
        self.stages.enter(Stage::Waveform);
        let path = match &extraction.waveform {
            Some(path) => path.clone(),
            None => {
                let audio = self.sound(subject, extraction);
                let output = self.folder.join(ending);
                let path = output.clone();
                self.blocking(move |control| audio::waveform(&audio, form, &output, control)).await?;
                path
            }
        };
        Ok(Some(self.made(&path, "waveform", ending, media_type)))
    }

    /// A file, named after the recording.
    fn made(&self, path: &Path, role: &str, ending: &str, media_type: &str) -> Made {
        Made::new(path, role, &format!("{}.{ending}", self.recording.name), media_type)
    }

    async fn store(&self, made: Files) -> Result<Vec<Artifact>, Failure> {
        let count = made.files.len() + made.hls.len() * 2 + 1;
        let mut store = Store { work: self, stored: self.noted("stored").unwrap_or_default(), next: 0, count };
        for file in made.files {
            store.put(file).await?;
        }
        if !made.hls.is_empty() {
            self.store_hls(&made.hls, &mut store).await?;
        }
        Ok(store.stored)
    }

    /// Playlists name files, so these must have been stored before.
    async fn store_hls(&self, variants: &[Variant], store: &mut Store<'_>) -> Result<(), Failure> {
        // The API signs what a playlist names in this form, so that one link opens all of it.
        let uri = |file: &Artifact, name: &str| format!("../../{}/content/{name}", file.file);
        let mut listed = Vec::new();
        for variant in variants {
            let (media, list) = (format!("{}k.mp4", variant.kbps), format!("{}k.m3u8", variant.kbps));
            let file = store.put(Made::new(&variant.media, "hls_media", &media, &variant.media_type)).await?;
            let path = self.folder.join(&list);
            std::fs::write(&path, variant.playlist(&uri(&file, &media))).map_err(|error| broken(&error))?;
            let file = store.put(Made::new(&path, "hls_variant", &list, PLAYLIST)).await?;
            listed.push(uri(&file, &list));
        }
        let listed: Vec<_> = listed.iter().map(String::as_str).zip(variants).collect();
        let path = self.folder.join("hls.m3u8");
        std::fs::write(&path, audio::master_playlist(&listed)).map_err(|error| broken(&error))?;
        store.put(self.made(&path, "hls", "m3u8", PLAYLIST)).await.map(drop)
    }

    fn noted<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.kept?.checkpoint(name)
    }

    fn note(&self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let noted = self.kept.map_or(Ok(()), |kept| kept.set_checkpoint(name, value));
        noted.map_err(|error| broken(&error))
    }

    /// Does work of libav's, on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Control) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let control = self.stages.clone();
        let done = tokio::task::spawn_blocking(move || work(&control)).await;
        done.unwrap_or_else(|error| {
            let failure = Failure::retry("panic", "the handler met a fault of its own and was stopped");
            Err(failure.class(ErrorClass::Internal).because(error))
        })
    }
}

fn broken(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::retry("disk_full", "there is no room left on the worker's disk")
        }
        _ => Failure::retry("storage_failed", "the folder of the job cannot be used").because(error),
    }
}

/// The recording and the request, as the library's threads see them.
struct Subject {
    path: PathBuf,
    request: AudioExtract,
    extras: Extras<'static>,
    picture: Option<PathBuf>,
}

impl Subject {
    fn of(request: &AudioExtract, recording: &Recording) -> Self {
        let (tags, chapters) = (recording.page.tags.clone(), recording.page.chapters.clone());
        Self {
            path: recording.path.clone(),
            request: request.clone(),
            extras: Extras { tags, chapters, cover: None },
            picture: recording.picture.clone(),
        }
    }

    fn extras(&self) -> Extras<'_> {
        Extras { cover: self.picture.as_deref(), ..self.extras.clone() }
    }
}

/// What is known of a recording that is not made into another file.
fn described(subject: &Subject, info: MediaInfo) -> Result<Extraction, Failure> {
    let sound = info.streams.iter().find(|stream| stream.stream_type == StreamType::Audio);
    let sound = sound.ok_or_else(|| Failure::permanent("no_audio_stream", "the file has no sound"))?;
    let duration_ms = info.duration_ms.or(sound.duration_ms).unwrap_or(0);
    Ok(Extraction {
        path: subject.path.clone(),
        extension: String::new(),
        media_type: String::new(),
        bytes: info.bytes,
        duration_ms,
        codec: AudioCodec {
            name: sound.codec.clone(),
            copied: true,
            sample_rate: sound.sample_rate.unwrap_or(0),
            channels: sound.channels.unwrap_or(0),
            bit_rate: info.bit_rate.unwrap_or(0),
        },
        tags: info.tags,
        chapters: info.chapters,
        loudness: None,
        waveform: None,
        notes: Vec::<MediaNote>::new(),
    })
}
