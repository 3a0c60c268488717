//! What a person can do about a job that failed.

/// By the code of the failure.
const HINTS: &[(&str, &str)] = &[
    ("address_forbidden", "It leads into a private network; only the operator can open those to jobs."),
    ("disk_full", "Free some space on the worker's machine, then run it again."),
    ("drm", "It is encrypted for licensed players, and stays so."),
    ("duration_exceeded", "Cut the recording before: none longer than 48 hours is taken."),
    ("extractor_broken", "Update yt-dlp on the worker's machine, or give the address of the recording itself."),
    ("ffmpeg_failed", "The job's error holds the last lines of FFmpeg."),
    ("geo_blocked", "It may be watched from some countries only: fetch it there, and extract the file."),
    ("live_not_started", "The job tries again by itself for a while; submit it again if it has given up."),
    ("live_processing", "The site still prepares the recording; try again in an hour or two."),
    (
        "login_required",
        "Fetch it with your account and extract the file, or name cookies that the operator keeps (--cookies).",
    ),
    ("members_only", "Fourmi is no member there: fetch it with your account, and extract the file."),
    ("no_audio_stream", "It has no sound; a job of the kind media.probe tells what it holds."),
    ("rate_limited_by_source", "Leave the site alone for a while; fewer slots (FOURMI_SLOTS) ask it less often."),
    ("size_exceeded", "Give a higher --max-bytes, or ask the operator for a higher limit."),
    ("source_gone", "Open the address in a browser: the recording may have moved."),
    ("source_timeout", "The site is slow or down; try again later."),
    ("source_unreachable", "Check the address; the site, or the way to it, may be down."),
    ("storage_failed", "The log of the worker tells more; its data folder may not be writable."),
    ("truncated_media", "It ends too early: fetch or record it again."),
    (
        "unsupported_url",
        "Give the address of the recording itself or of its HLS or DASH manifest, or fetch it and give the file.",
    ),
];

/// What to do about a failure of this code, if there is something.
pub(crate) fn hint(code: &str) -> Option<&'static str> {
    HINTS.binary_search_by_key(&code, |(code, _)| code).ok().map(|place| HINTS[place].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hint_is_found_and_is_a_sentence() {
        for (code, text) in HINTS {
            assert_eq!(hint(code), Some(*text), "the table is in order");
            assert!(text.ends_with('.') && !text.contains('\n'), "{text}");
        }
        assert_eq!(hint("not_media"), None);
    }
}
