//! A stream on the air: a playlist that slides over segments, which a test publishes one by one.

use std::{collections::VecDeque, fmt::Write as _, path::Path, sync::Arc};

use super::{
    Answer, MediaServer, Route,
    content::{Segments, hls},
};

/// A recording cut into segments; cut once, broadcast as often as needed.
pub struct LiveSource {
    kind: Segments,
    init: Option<Arc<[u8]>>,
    segments: Vec<(f64, Arc<[u8]>)>,
}

impl LiveSource {
    /// Cuts a recording into segments of one second, with its picture or without.
    pub fn cut(folder: &Path, recording: &Path, kind: Segments, picture: bool) -> Self {
        hls(folder, recording, kind, picture, 1);
        let read = |name: &str| Arc::<[u8]>::from(std::fs::read(folder.join(name)).unwrap());
        let playlist = std::fs::read_to_string(folder.join("index.m3u8")).unwrap();
        let mut segments = Vec::new();
        let mut seconds = 0.0;
        for line in playlist.lines() {
            if let Some(text) = line.strip_prefix("#EXTINF:") {
                seconds = text.trim_end_matches(',').parse().unwrap();
            } else if !line.starts_with('#') {
                segments.push((seconds, read(line)));
            }
        }
        let init = (kind == Segments::Fmp4).then(|| read("init.mp4"));
        Self { kind, init, segments }
    }

    /// How many segments there are.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The length of these segments, in milliseconds.
    pub fn duration_ms(&self, segments: std::ops::Range<usize>) -> u64 {
        let seconds: f64 = self.segments[segments].iter().map(|(seconds, _)| seconds).sum();
        (seconds * 1_000.0).round() as u64
    }
}

/// A broadcast. Segments are named by their number, as servers do: after a [`LiveStream::restart`] the same names hold other
/// sound.
pub struct LiveStream<'a> {
    server: &'a MediaServer,
    source: &'a LiveSource,
    folder: String,
    /// Entries of the playlist before it slides.
    window: usize,
    next: usize,
    sequence: u64,
    discontinuities: u64,
    broken: bool,
    ended: bool,
    listed: VecDeque<Listed>,
}

struct Listed {
    sequence: u64,
    seconds: f64,
    discontinuity: bool,
}

impl<'a> LiveStream<'a> {
    /// Puts a stream without any segment on the air, in `folder` (such as `/live`), with a window of five segments.
    pub fn start(server: &'a MediaServer, source: &'a LiveSource, folder: &str) -> Self {
        if let Some(init) = &source.init {
            server.route(&format!("{folder}/init.mp4"), Route::new(init.clone(), "video/mp4"));
        }
        let stream = Self {
            server,
            source,
            folder: folder.to_owned(),
            window: 5,
            next: 0,
            sequence: 0,
            discontinuities: 0,
            broken: false,
            ended: false,
            listed: VecDeque::new(),
        };
        stream.write(Answer::Well, 0);
        stream
    }

    /// The address of the playlist.
    pub fn url(&self) -> String {
        self.server.url(&self.playlist())
    }

    /// The path of the playlist.
    pub fn playlist(&self) -> String {
        format!("{}/live.m3u8", self.folder)
    }

    /// The path of a segment.
    pub fn segment(&self, sequence: u64) -> String {
        let ending = if self.source.kind == Segments::Ts { "ts" } else { "m4s" };
        format!("{}/segment-{sequence}.{ending}", self.folder)
    }

    /// Publishes the next segment, and gives its path.
    pub fn publish_segment(&mut self) -> String {
        let (seconds, bytes) = &self.source.segments[self.next];
        let path = self.segment(self.sequence);
        self.server.route(&path, Route::new(bytes.clone(), "video/mp2t"));
        let discontinuity = std::mem::take(&mut self.broken);
        self.listed.push_back(Listed { sequence: self.sequence, seconds: *seconds, discontinuity });
        while self.listed.len() > self.window {
            let gone = self.listed.pop_front();
            self.discontinuities += u64::from(gone.is_some_and(|it| it.discontinuity));
        }
        self.next += 1;
        self.sequence += 1;
        self.write(Answer::Well, 0);
        path
    }

    /// Publishes the next segment and waits until somebody has asked for it.
    pub async fn publish_and_wait(&mut self) {
        let path = self.segment(self.sequence);
        let before = self.server.requests(&path).len();
        self.publish_segment();
        self.server.wait_for_request(&path, before + 1).await;
    }

    /// Lets segments pass that nobody can see: the numbers go on, the window is empty.
    pub fn skip_segments(&mut self, segments: usize) {
        self.next += segments;
        self.sequence += segments as u64;
        self.listed.clear();
        self.write(Answer::Well, 0);
    }

    /// Marks the next segment as one that does not continue what was before.
    pub fn discontinuity(&mut self) {
        self.broken = true;
    }

    /// The encoder starts again: numbers from 0, an empty window.
    pub fn restart(&mut self) {
        self.sequence = 0;
        self.discontinuities = 0;
        self.listed.clear();
        self.write(Answer::Well, 0);
    }

    /// The next `n` requests of the playlist are answered with this status.
    pub fn fail_playlist(&self, n: usize, status: u16) {
        self.write(Answer::status(status), n);
    }

    /// The stream is over.
    pub fn end(&mut self) {
        self.ended = true;
        self.write(Answer::Well, 0);
    }

    fn write(&self, answer: Answer, times: usize) {
        let first = self.listed.front().map_or(self.sequence, |it| it.sequence);
        let longest = self.source.segments.iter().map(|(seconds, _)| *seconds).fold(1.0, f64::max);
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{first}\n",
            longest.round()
        );
        if self.discontinuities > 0 {
            let _ = writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", self.discontinuities);
        }
        if self.source.init.is_some() {
            text.push_str("#EXT-X-MAP:URI=\"init.mp4\"\n");
        }
        for it in &self.listed {
            if it.discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            let path = self.segment(it.sequence);
            let name = path.rsplit('/').next().unwrap_or_default();
            let _ = writeln!(text, "#EXTINF:{:.6},\n{name}", it.seconds);
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        let route = Route::new(text.into_bytes(), "application/vnd.apple.mpegurl").header("cache-control", "no-cache");
        self.server.route(&self.playlist(), route.first(times, answer));
    }
}
