//! Playlists of HTTP Live Streaming (RFC 8216), as far as a recorder of sound needs them.

use fourmi_model::{ErrorClass, Failure};
use m3u8_rs::{AlternativeMediaType, KeyMethod, MasterPlaylist, MediaPlaylist, Playlist};
use reqwest::Url;

/// A playlist longer than this is none.
pub(super) const LONGEST: usize = 4 * 1024 * 1024;

/// What is on the air at one moment.
#[derive(Debug)]
pub(super) struct Window {
    /// The number of the first segment.
    pub(super) first: u64,
    pub(super) segments: Vec<Segment>,
    /// How long a segment is at most, in milliseconds.
    pub(super) target_ms: u64,
    /// Whether nothing follows.
    pub(super) ended: bool,
}

/// A piece of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) url: String,
    /// The first byte and the number of bytes, if it is a part of a file.
    pub(super) range: Option<(u64, u64)>,
    /// What comes before its first byte (fragmented MP4).
    pub(super) init: Option<(String, Option<(u64, u64)>)>,
    pub(super) duration_ms: u64,
}

impl Window {
    /// The number of the segment after the last.
    pub(super) fn next(&self) -> u64 {
        self.first.saturating_add(self.segments.len() as u64)
    }
}

/// What an address gave.
#[derive(Debug)]
pub(super) enum Read {
    /// The playlist of the stream's sound.
    Window(Window),
    /// A list of variants; the sound is at this address.
    Variant(String),
}

/// Reads the playlist at `url`.
///
/// # Errors
/// `unsupported_url`, `encrypted_stream`.
pub(super) fn read(text: &[u8], url: &str) -> Result<Read, Failure> {
    let unsupported = |why: &str| {
        Failure::permanent("unsupported_url", format!("the address gives no HLS playlist: {why}"))
            .class(ErrorClass::Unsupported)
    };
    let base = Url::parse(url).map_err(|error| unsupported(&error.to_string()))?;
    if !text.trim_ascii_start().starts_with(b"#EXTM3U") {
        return Err(unsupported("it does not begin with #EXTM3U"));
    }
    match m3u8_rs::parse_playlist_res(text) {
        Ok(Playlist::MasterPlaylist(master)) => {
            let variant = choose(&master).ok_or_else(|| unsupported("it lists no stream"))?;
            Ok(Read::Variant(absolute(&base, &variant)?))
        }
        Ok(Playlist::MediaPlaylist(playlist)) => window(&playlist, &base).map(Read::Window),
        Err(_) => Err(unsupported("it cannot be read")),
    }
}

/// Where the sound is: a rendition of sound alone or, failing that, the film with the least picture.
fn choose(master: &MasterPlaylist) -> Option<String> {
    let sound = |only_default: bool| {
        let mut alternatives = master.alternatives.iter();
        alternatives
            .find(|media| {
                media.media_type == AlternativeMediaType::Audio
                    && media.uri.is_some()
                    && (media.default || !only_default)
            })
            .and_then(|media| media.uri.clone())
    };
    let variant =
        || master.variants.iter().filter(|variant| !variant.is_i_frame).min_by_key(|variant| variant.bandwidth);
    sound(true).or_else(|| sound(false)).or_else(|| variant().map(|variant| variant.uri.clone()))
}

fn window(playlist: &MediaPlaylist, base: &Url) -> Result<Window, Failure> {
    let mut segments = Vec::with_capacity(playlist.segments.len());
    let mut init = None;
    let mut end_of_last: u64 = 0;
    for segment in &playlist.segments {
        if segment.key.as_ref().is_some_and(|key| key.method != KeyMethod::None) {
            let message = "the stream is encrypted; such streams are not recorded";
            return Err(Failure::permanent("encrypted_stream", message).class(ErrorClass::Unsupported));
        }
        if let Some(map) = &segment.map {
            let range = map.byte_range.as_ref().map(|range| (range.offset.unwrap_or(0), range.length));
            init = Some((absolute(base, &map.uri)?, range));
        }
        // Without a place, a range follows the one before.
        let range = segment.byte_range.as_ref().map(|range| (range.offset.unwrap_or(end_of_last), range.length));
        end_of_last = range.map_or(0, |(start, length)| start.saturating_add(length));
        segments.push(Segment {
            url: absolute(base, &segment.uri)?,
            range,
            init: init.clone(),
            duration_ms: (f64::from(segment.duration).clamp(0.0, 3_600.0) * 1_000.0).round() as u64,
        });
    }
    let target_ms = playlist.target_duration.clamp(1, 60) * 1_000;
    Ok(Window { first: playlist.media_sequence, segments, target_ms, ended: playlist.end_list })
}

fn absolute(base: &Url, uri: &str) -> Result<String, Failure> {
    let url = base.join(uri).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    url.map(String::from).ok_or_else(|| {
        let message = "the playlist names something that is no http or https URL";
        Failure::permanent("unsupported_url", message).class(ErrorClass::Unsupported)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://host/a/list.m3u8?key=1";

    #[test]
    fn segments_have_addresses_ranges_and_what_comes_before_them() {
        let text = b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-MAP:URI=\"init.mp4\"\n\
            #EXTINF:5.5,\n#EXT-X-BYTERANGE:10@5\none.mp4\n#EXTINF:6,\n#EXT-X-BYTERANGE:20\none.mp4\n#EXT-X-ENDLIST\n";
        let Read::Window(window) = read(text, URL).unwrap() else { panic!() };
        assert_eq!((window.first, window.next(), window.target_ms, window.ended), (7, 9, 6_000, true));
        assert_eq!(window.segments[0].url, "https://host/a/one.mp4");
        assert_eq!(window.segments[0].range, Some((5, 10)));
        assert_eq!(window.segments[1].range, Some((15, 20)));
        assert_eq!(window.segments[1].init, Some(("https://host/a/init.mp4".to_owned(), None)));
        assert_eq!(window.segments[0].duration_ms, 5_500);
    }

    #[test]
    fn sound_alone_is_preferred_to_a_film_and_a_small_film_to_a_large_one() {
        let film = "#EXT-X-STREAM-INF:BANDWIDTH=900000\nbig.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nsmall.m3u8\n";
        let of = |text: String| match read(text.as_bytes(), URL).unwrap() {
            Read::Variant(url) => url,
            Read::Window(_) => panic!(),
        };
        assert_eq!(of(format!("#EXTM3U\n{film}")), "https://host/a/small.m3u8");
        let sound = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"sound.m3u8\"\n";
        assert_eq!(of(format!("#EXTM3U\n{sound}{film}")), "https://host/a/sound.m3u8");
    }

    #[test]
    fn what_is_no_playlist_or_leads_elsewhere_is_refused() {
        for (text, code) in [
            ("<html>", "unsupported_url"),
            ("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\nfile:///etc/passwd\n", "unsupported_url"),
            (
                "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:6,\na.ts\n",
                "encrypted_stream",
            ),
        ] {
            assert_eq!(read(text.as_bytes(), URL).unwrap_err().code, code, "{text}");
        }
    }
}
