//! HLS playlists (RFC 8216) that our jobs make: the files that they name can be opened by the link that opened them.

use std::borrow::Cow;

use fourmi_blobs::{Blob, Origin};
use fourmi_model::BlobId;

/// The media type of a playlist.
const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";

/// The longest playlist that is read into memory, in bytes: two weeks in segments of six seconds.
pub(crate) const MOST_BYTES: u64 = 32 * 1024 * 1024;

/// The longest name at the end of an address, in bytes.
const NAME_BYTES: usize = 64;

/// Whether what a file names may be opened by its link. Only what a job of ours wrote is trusted: whoever uploads a
/// playlist could name files that are not theirs.
pub(crate) fn opens_others(blob: &Blob) -> bool {
    blob.origin == Origin::Job && blob.media_type == MEDIA_TYPE && blob.bytes <= MOST_BYTES
}

/// The playlist, with a query after every address of a stored file: on lines of their own and in attributes `URI="…"`.
/// Whatever else it names stays as it is.
pub(crate) fn with_queries(playlist: &str, query: impl Fn(&BlobId) -> String) -> String {
    let signed = |uri: &str| file_of(uri).map(|file| format!("{uri}?{}", query(&file)));
    playlist.split_inclusive('\n').map(|line| with_query(line, signed)).collect()
}

fn with_query<'a>(line: &'a str, signed: impl Fn(&str) -> Option<String>) -> Cow<'a, str> {
    if line.starts_with("#EXT") {
        return Cow::Owned(with_attributes(line, signed));
    }
    let uri = line.trim_end();
    signed(uri).map_or(Cow::Borrowed(line), |signed| Cow::Owned(signed + &line[uri.len()..]))
}

fn with_attributes(tag: &str, signed: impl Fn(&str) -> Option<String>) -> String {
    // What is quoted holds no quote: every second piece is a value.
    let pieces: Vec<_> = tag.split('"').collect();
    let mut texts = Vec::with_capacity(pieces.len());
    for (number, piece) in pieces.iter().enumerate() {
        let is_uri =
            number % 2 == 1 && (pieces[number - 1].ends_with(":URI=") || pieces[number - 1].ends_with(",URI="));
        texts.push(if is_uri { signed(piece) } else { None }.map_or(Cow::Borrowed(*piece), Cow::Owned));
    }
    texts.join("\"")
}

/// The file that an address names, if it has exactly the form that our jobs write: `../../<file>/content/<name>`.
fn file_of(uri: &str) -> Option<BlobId> {
    let (file, name) = uri.strip_prefix("../../")?.split_once("/content/")?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let fine = (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.');
    file.parse().ok().filter(|_| fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "file-6f9619ff8b86d011b42d00c04fc964ff";

    fn signed(playlist: &str) -> String {
        with_queries(&playlist.replace("FILE", FILE), |file| format!("for={}", &file.to_string()[5..8]))
            .replace(FILE, "FILE")
    }

    #[test]
    fn addresses_of_files_get_a_query() {
        for (line, expected) in [
            ("../../FILE/content/64k.m3u8", "../../FILE/content/64k.m3u8?for=6f9"),
            ("../../FILE/content/audio.m4s\r\n", "../../FILE/content/audio.m4s?for=6f9\r\n"),
            (
                "#EXT-X-MAP:URI=\"../../FILE/content/a.mp4\",BYTERANGE=\"700@0\"\n",
                "#EXT-X-MAP:URI=\"../../FILE/content/a.mp4?for=6f9\",BYTERANGE=\"700@0\"\n",
            ),
            (
                "#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"x,URI=\",URI=\"../../FILE/content/a.m3u8\"",
                "#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"x,URI=\",URI=\"../../FILE/content/a.m3u8?for=6f9\"",
            ),
        ] {
            assert_eq!(signed(line), expected, "{line}");
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let playlist = "#EXTM3U\n#EXTINF:6.0,a title with ../../FILE/content/a.m4s\n# ../../FILE/content/a.m4s\n\
            https://example.org/../../FILE/content/a.m4s\n/api/v1/files/FILE/content/a.m4s\n../../FILE\n../FILE/content/a\n\
            ../../FILE/content/../a\n../../FILE/content/a?x=y\n../../FILE/content/\n../../file-1/content/a\n\
            #EXT-X-MAP:NAME=\"../../FILE/content/a.m4s\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"https://example.org/key\"\n\n";
        assert_eq!(signed(playlist), playlist);
    }
}
