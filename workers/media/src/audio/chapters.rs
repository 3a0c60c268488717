//! Chapters as files beside the sound.

use fourmi_kinds::Chapter;
use serde_json::json;

/// The chapters as JSON: `{"version": "1.2.0", "chapters": [{"startTime": 0.0, "endTime": 2.5, "title": "…"}]}`, times in
/// seconds. See <https://github.com/Podcastindex-org/podcast-namespace/blob/main/docs/examples/chapters/jsonChapters.md>.
pub fn chapters_json(chapters: &[Chapter]) -> String {
    let seconds = |ms: u64| ms as f64 / 1_000.0;
    let chapters: Vec<_> = chapters
        .iter()
        .map(|chapter| {
            json!({
                "startTime": seconds(chapter.start_ms),
                "endTime": seconds(chapter.end_ms),
                "title": chapter.title,
            })
        })
        .collect();
    json!({"version": "1.2.0", "chapters": chapters}).to_string()
}

/// The chapters as WebVTT, a cue each; see <https://www.w3.org/TR/webvtt1/>, section 6.5.
pub fn chapters_vtt(chapters: &[Chapter]) -> String {
    let mut text = "WEBVTT\n".to_owned();
    for (chapter, number) in chapters.iter().zip(1..) {
        let (start, end) = (timestamp(chapter.start_ms), timestamp(chapter.end_ms));
        text.push_str(&format!("\n{number}\n{start} --> {end}\n{}\n", cue_text(&chapter.title)));
    }
    text
}

/// A blank line would end the cue, and marks would be taken for tags.
fn cue_text(title: &str) -> String {
    let line = title.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn timestamp(ms: u64) -> String {
    let (hours, minutes, seconds, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapters_are_written_for_players() {
        let chapters = [
            Chapter { start_ms: 0, end_ms: 2_500, title: "Q&A <live>\n\n--> now".to_owned() },
            Chapter { start_ms: 3_723_456, end_ms: 360_000_000, title: String::new() },
        ];
        assert_eq!(
            chapters_vtt(&chapters),
            "WEBVTT\n\n1\n00:00:00.000 --> 00:00:02.500\nQ&amp;A &lt;live&gt; --&gt; now\n\n2\n01:02:03.456 --> 100:00:00.000\n\n"
        );
        let json: serde_json::Value = serde_json::from_str(&chapters_json(&chapters)).unwrap_or_default();
        assert_eq!(json["chapters"][1]["startTime"], 3_723.456);
        assert_eq!(json["chapters"][0]["title"], "Q&A <live>\n\n--> now");
    }
}
