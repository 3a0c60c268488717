//! What a recording says of itself: tags, chapters, a cover.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use ffmpeg_next::codec;
use fourmi_kinds::{AudioExtract, Chapter, TagOptions};

use super::{
    formats::{Chapters, Container, Covers},
    track::{Part, Track},
};
use crate::{
    failure::clock,
    libav::{Cover, Input, Stream, Tags},
};

/// Tags about the old file, which would be wrong of the new one.
const TECHNICAL: &[&str] = &[
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "encoded_by",
    "handler_name",
    "vendor_id",
    "creation_time",
    "duration",
    "bps",
    "number_of_frames",
    "number_of_bytes",
    "timecode",
    "variant_bitrate",
    "iswfmt",
    "itunsmpb",
    "source_id",
    "tlen",
    "tsse",
];
const TECHNICAL_PREFIXES: &[&str] =
    &["_statistics", "id3v2_priv", "com.apple.", "com.android.", "replaygain_", "r128_"];

/// Players read no comment of more megabytes than a few.
const MAX_COMMENT_PICTURE: u32 = 4 * 1024 * 1024;

/// What is known besides the recording itself: of the page on which it was found.
#[derive(Debug, Clone, Default)]
pub struct Extras<'a> {
    /// Tags by their common names. They win over the recording's own.
    pub tags: Tags,
    /// Chapters, in the times of the recording. If there are any, they take the place of its own.
    pub chapters: Vec<Chapter>,
    /// A picture (JPEG, PNG or WebP), for recordings that have none attached.
    pub cover: Option<&'a Path>,
}

/// What the file is to say of itself.
pub(super) struct Labels {
    pub(super) tags: Tags,
    /// In the times of the recording, until `cut`.
    pub(super) chapters: Vec<Chapter>,
    /// Whether chapters go into the file.
    pub(super) embeds: bool,
    pub(super) cover: Option<Cover>,
}

impl Labels {
    /// What the request says, or else the page, or else the recording.
    pub(super) fn read(input: &Input<'_>, track: &Track, request: &AudioExtract, extras: &Extras<'_>) -> Self {
        let own = || tags(input, &track.stream, track.alone);
        let chapters = match &request.chapters.list {
            Some(list) => list.clone(),
            None if extras.chapters.is_empty() => input.chapters(),
            None => extras.chapters.clone(),
        };
        Self {
            tags: merged(&request.tags, own, &extras.tags),
            chapters,
            embeds: request.chapters.embed,
            cover: if request.tags.cover { input.cover() } else { None },
        }
    }

    /// What an audio file says of itself.
    pub(super) fn of_file(input: &Input<'_>, track: &Track) -> Self {
        let tags = tags(input, &track.stream, true);
        Self { tags, chapters: Vec::new(), embeds: false, cover: input.cover() }
    }

    /// Whether a container shows the cover, if there is one.
    pub(super) fn shows_cover(&self, container: &Container) -> bool {
        match container.covers {
            Covers::Native => true,
            Covers::Comment => self.cover.as_ref().and_then(picture_comment).is_some(),
            Covers::None => false,
        }
    }

    pub(super) fn language(&self) -> Option<&str> {
        self.tags.get("language").map(String::as_str)
    }

    /// The same in the times of a part, which ends at `end` if anybody knows.
    pub(super) fn cut(mut self, part: Part, end: Option<i64>) -> Self {
        let milliseconds = |time: i64| u64::try_from(time / 1_000).unwrap_or(0);
        let start = milliseconds(part.start);
        let length = end.map_or(u64::MAX, milliseconds).saturating_sub(start);
        self.chapters.retain_mut(|chapter| {
            chapter.start_ms = chapter.start_ms.saturating_sub(start);
            chapter.end_ms = chapter.end_ms.saturating_sub(start).min(length);
            chapter.start_ms < chapter.end_ms
        });
        self
    }

    /// The chapters of a file of that length.
    pub(super) fn until(&self, duration_ms: u64) -> Vec<Chapter> {
        let chapters = self.chapters.iter().filter(|chapter| chapter.start_ms < duration_ms);
        chapters.map(|chapter| Chapter { end_ms: chapter.end_ms.min(duration_ms), ..chapter.clone() }).collect()
    }

    /// What the muxer is to write: chapters as tags where players look for them there.
    pub(super) fn for_container(&self, container: &Container) -> (Tags, &[Chapter]) {
        let mut tags = self.tags.clone();
        if container.covers == Covers::Comment {
            let cover = self.cover.as_ref().and_then(picture_comment);
            tags.extend(cover.map(|comment| ("metadata_block_picture".to_owned(), comment)));
        }
        if !self.embeds {
            return (tags, &[]);
        }
        match container.chapters {
            Chapters::Native => return (tags, &self.chapters),
            Chapters::None => {}
            Chapters::Tags => tags.extend(vorbis_chapters(&self.chapters)),
        }
        (tags, &[])
    }
}

/// A picture as a comment: a picture block of FLAC in base64, with the type "front cover". See
/// <https://wiki.xiph.org/VorbisComment#Cover_art> and RFC 9639, section 8.8.
fn picture_comment(cover: &Cover) -> Option<String> {
    const FRONT_COVER: u32 = 3;
    const COLOUR_BITS: u32 = 24;
    let (codec, bytes) = cover.content();
    let media_type = match codec {
        codec::Id::MJPEG => "image/jpeg",
        codec::Id::PNG => "image/png",
        _ => return None,
    };
    let length = u32::try_from(bytes.len()).ok().filter(|&length| length <= MAX_COMMENT_PICTURE)?;
    let (width, height) = cover.size();
    let mut block = Vec::with_capacity(bytes.len() + 64);
    let mut put = |content: &[u8]| block.extend_from_slice(content);
    put(&FRONT_COVER.to_be_bytes());
    put(&(media_type.len() as u32).to_be_bytes());
    put(media_type.as_bytes());
    // No description.
    put(&0_u32.to_be_bytes());
    // No palette.
    for number in [width, height, COLOUR_BITS, 0, length] {
        put(&number.to_be_bytes());
    }
    put(bytes);
    Some(BASE64_STANDARD.encode(block))
}

fn merged(options: &TagOptions, own: impl Fn() -> Tags, of_page: &Tags) -> Tags {
    let mut tags = Tags::new();
    if options.from_source {
        tags = own();
        tags.extend(of_page.iter().map(|(name, value)| (name.to_lowercase(), value.clone())));
    }
    tags.extend(options.set.clone());
    tags.retain(|_, value| !value.trim().is_empty());
    tags
}

/// The tags of the recording, by their common names. Those of its sound count where it says nothing; the title of one
/// stream among others is not the title of the recording.
pub(super) fn tags(input: &Input<'_>, stream: &Stream, alone: bool) -> Tags {
    let mut tags = input.tags();
    for (name, value) in &stream.tags {
        let fits = match name.as_str() {
            "title" => alone,
            "language" => value != "und",
            _ => true,
        };
        if fits {
            tags.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    tags.retain(|name, _| !is_technical(name));
    tags
}

fn is_technical(name: &str) -> bool {
    TECHNICAL.contains(&name) || TECHNICAL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Chapters as Vorbis comments; see <https://wiki.xiph.org/Chapter_Extension>. There is room for a thousand.
fn vorbis_chapters(chapters: &[Chapter]) -> impl Iterator<Item = (String, String)> {
    chapters.iter().take(1_000).enumerate().flat_map(|(number, chapter)| {
        let time = clock(chapter.start_ms);
        let time = if time.len() < "00:00:00.000".len() { format!("0{time}") } else { time };
        let name = format!("chapter{number:03}");
        [(format!("{name}name"), chapter.title.clone()), (name, time)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chapter(start_ms: u64, end_ms: u64) -> Chapter {
        Chapter { start_ms, end_ms, title: "x".to_owned() }
    }

    #[test]
    fn chapters_move_and_end_with_the_part() {
        let chapters = vec![chapter(0, 5), chapter(5, 20), chapter(20, 30)];
        let labels = Labels { tags: Tags::new(), chapters, embeds: true, cover: None };
        let labels = labels.cut(Part { start: 10_000, end: Some(22_000) }, Some(22_000));
        assert_eq!(labels.chapters, [chapter(0, 10), chapter(10, 12)]);
    }

    #[test]
    fn chapters_are_written_as_comments() {
        let comments: Tags = vorbis_chapters(&[chapter(0, 1), chapter(3_723_456, 4_000_000)]).collect();
        assert_eq!(comments["chapter001"], "01:02:03.456");
        assert_eq!(comments["chapter001name"], "x");
    }
}
