//! Names that callers give to files.

/// The longest name, in bytes: what file systems take.
const MAX_BYTES: usize = 255;

/// The longest ending that is kept when a name is cut, in bytes with its dot.
const MAX_ENDING_BYTES: usize = 16;

/// A name that is safe to save under, as near to `name` as can be: the last part of a path, without characters that
/// control a terminal or turn text around, at most 255 bytes long (the ending is kept); `file` if nothing is left.
pub fn clean_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or_default();
    let visible: String = last.chars().filter(|c| !c.is_control() && !turns_text(*c)).collect();
    match visible.trim() {
        "" | "." | ".." => "file".to_owned(),
        name => shortened(name),
    }
}

/// Whether this is one of Unicode's bidirectional controls, which can make `exe.mp3` look like `3pm.exe`.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shortened(name: &str) -> String {
    if name.len() <= MAX_BYTES {
        return name.to_owned();
    }
    let ending = name.rfind('.').map(|dot| &name[dot..]).filter(|ending| ending.len() <= MAX_ENDING_BYTES);
    let ending = ending.unwrap_or_default();
    format!("{}{ending}", &name[..name.floor_char_boundary(MAX_BYTES - ending.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_their_letters_and_lose_what_is_dangerous() {
        for (given, kept) in [
            ("Été à Reykjavík.mp4", "Été à Reykjavík.mp4"),
            ("../../etc/passwd", "passwd"),
            (r"C:\Users\me\film.mov", "film.mov"),
            ("folder/", "folder"),
            ("a\r\nSet-Cookie: b\0.mp4", "aSet-Cookie: b.mp4"),
            ("gpj.\u{202e}3pm.exe", "gpj.3pm.exe"),
            (" padded ", "padded"),
            ("", "file"),
            ("..", "file"),
            ("\u{7}", "file"),
            (".hidden", ".hidden"),
        ] {
            assert_eq!(clean_name(given), kept, "{given:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_keeps_its_ending() {
        let name = clean_name(&format!("{}.mp4", "é".repeat(200)));
        assert!(name.len() <= MAX_BYTES && name.ends_with("é.mp4"), "{name}");
        assert_eq!(clean_name(&"x".repeat(300)).len(), MAX_BYTES);
        assert_eq!(clean_name(&format!("a.{}", "x".repeat(300))).len(), MAX_BYTES);
    }
}
