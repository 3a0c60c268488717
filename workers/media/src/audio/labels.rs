//! What a recording says of itself: tags, chapters, a cover.

use fourmi_kinds::Chapter;

use super::{
    formats::{Chapters, Container},
    track::Part,
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

/// What a recording says of itself.
pub(super) struct Labels {
    pub(super) tags: Tags,
    pub(super) chapters: Vec<Chapter>,
    pub(super) cover: Option<Cover>,
}

impl Labels {
    /// What the recording says of the part of its sound; `alone` if the sound is all that it holds.
    pub(super) fn read(input: &Input<'_>, stream: &Stream, alone: bool) -> Self {
        Self { tags: tags(input, stream, alone), chapters: input.chapters(), cover: input.cover() }
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

    /// What the muxer is to write: chapters as tags where players look for them there.
    pub(super) fn for_container(&self, container: &Container) -> (Tags, &[Chapter]) {
        let mut tags = self.tags.clone();
        match container.chapters {
            Chapters::Native => return (tags, &self.chapters),
            Chapters::None => {}
            Chapters::Tags => tags.extend(vorbis_chapters(&self.chapters)),
        }
        (tags, &[])
    }
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
        let labels =
            Labels { tags: Tags::new(), chapters: vec![chapter(0, 5), chapter(5, 20), chapter(20, 30)], cover: None };
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
