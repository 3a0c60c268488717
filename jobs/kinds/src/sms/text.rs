//! How a text is sent: its alphabet, and how many parts it takes (3GPP TS 23.038 and 23.040).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// The most parts of a message that OVHcloud joins.
pub const MAX_SEGMENTS: u32 = 6;

/// The GSM 7-bit default alphabet (3GPP TS 23.038, 6.2.1), without the escape to its extension.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿\
    abcdefghijklmnopqrstuvwxyzäöñüà";

/// Its extension (6.2.1.1): each takes two septets, the first of which is an escape.
const EXTENSION: &str = "\u{c}^{}\\[~]|€";

/// The alphabet of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SmsEncoding {
    /// GSM 03.38: 160 septets, or 153 in each of several parts.
    Gsm7,
    /// UCS-2: 70 units of 16 bits, or 67 in each of several parts.
    Ucs2,
}

impl SmsEncoding {
    /// What fits into a message that is one part, and into each of several.
    const fn room(self) -> (u32, u32) {
        match self {
            Self::Gsm7 => (160, 153),
            Self::Ucs2 => (70, 67),
        }
    }
}

/// How large a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SmsSize {
    /// Its alphabet: GSM 03.38 if that has all its characters.
    pub encoding: SmsEncoding,
    /// What its characters take of the room: those of the extension of GSM 03.38, and those beyond the 16 bits of UCS-2, count
    /// double.
    pub characters: u32,
    /// The parts in which it is sent and paid.
    pub segments: u32,
}

impl SmsSize {
    /// The size of a text.
    pub fn of(text: &str) -> Self {
        let encoding = if text.chars().all(|c| septets(c).is_some()) { SmsEncoding::Gsm7 } else { SmsEncoding::Ucs2 };
        let widths = || {
            text.chars().map(move |c| match encoding {
                SmsEncoding::Gsm7 => septets(c).unwrap_or(1),
                SmsEncoding::Ucs2 => c.len_utf16() as u32,
            })
        };
        let characters = widths().sum();
        let (alone, joined) = encoding.room();
        let segments = if characters <= alone { 1 } else { parts(widths(), joined) };
        Self { encoding, characters, segments }
    }
}

/// The parts of so much room that characters of these widths fill; none is cut in two.
fn parts(widths: impl Iterator<Item = u32>, room: u32) -> u32 {
    let (mut parts, mut filled) = (1, 0);
    for width in widths {
        if filled + width > room {
            (parts, filled) = (parts + 1, 0);
        }
        filled += width;
    }
    parts
}

/// The septets of a character in GSM 03.38, if it has it.
fn septets(c: char) -> Option<u32> {
    if BASIC.contains(c) { Some(1) } else { EXTENSION.contains(c).then_some(2) }
}

/// The text with characters of GSM 03.38 in place of those that it does not have, where there are some that read alike:
/// `ê` becomes `e`, `’` an apostrophe. What nothing reads like stays.
pub fn transliterate(text: &str) -> String {
    // A letter and its accent may be two characters, of which the alphabet has the one that stands for both.
    text.nfc().fold(String::with_capacity(text.len()), |mut plain, c| {
        match alike(c) {
            _ if septets(c).is_some() => plain.push(c),
            Some(alike) => plain.push_str(alike),
            None => plain.extend(without_accent(c)),
        }
        plain
    })
}

fn alike(c: char) -> Option<&'static str> {
    Some(match c {
        'œ' => "oe",
        'Œ' => "OE",
        '‘' | '’' | '‚' | '‹' | '›' | '′' | '`' | '´' => "'",
        '“' | '”' | '„' | '«' | '»' | '″' => "\"",
        '‐' | '‑' | '‒' | '–' | '—' | '−' => "-",
        '…' => "...",
        '\u{a0}' | '\u{2009}' | '\u{202f}' | '\t' => " ",
        '\u{200b}' | '\u{200d}' | '\u{feff}' => "",
        _ => return None,
    })
}

/// The letter without its accents, if the alphabet has that; the letter itself otherwise.
fn without_accent(c: char) -> Option<char> {
    let mut letters = std::iter::once(c).nfd().filter(|c| !is_combining_mark(*c));
    match (letters.next(), letters.next()) {
        (Some(letter), None) if septets(letter).is_some() => Some(letter),
        // An accent that stands alone.
        (None, None) => None,
        _ => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(text: &str) -> (SmsEncoding, u32, u32) {
        let SmsSize { encoding, characters, segments } = SmsSize::of(text);
        (encoding, characters, segments)
    }

    #[test]
    fn the_alphabet_is_that_of_the_standard() {
        assert_eq!(BASIC.chars().count(), 127, "128 places, of which one is the escape");
        assert_eq!(EXTENSION.chars().count(), 10);
        for c in "êëâîïôûçœÀÈ«»’…".chars() {
            assert_eq!(septets(c), None, "{c}");
        }
        for c in "èéùìòàÇÉäöüÄÖÜß£¥@\n".chars() {
            assert_eq!(septets(c), Some(1), "{c}");
        }
    }

    #[test]
    fn parts_are_counted_as_they_are_paid() {
        use SmsEncoding::{Gsm7, Ucs2};
        for (text, size_of) in [
            ("", (Gsm7, 0, 1)),
            (&*"a".repeat(160), (Gsm7, 160, 1)),
            (&"a".repeat(161), (Gsm7, 161, 2)),
            (&"a".repeat(306), (Gsm7, 306, 2)),
            (&"a".repeat(307), (Gsm7, 307, 3)),
            (&"a".repeat(918), (Gsm7, 918, 6)),
            (&"a".repeat(919), (Gsm7, 919, 7)),
            (&"€".repeat(80), (Gsm7, 160, 1)),
            // 153 is odd: the 77th sign does not fit into the rest of the first part.
            (&"€".repeat(153), (Gsm7, 306, 3)),
            (&"ê".repeat(70), (Ucs2, 70, 1)),
            (&"ê".repeat(71), (Ucs2, 71, 2)),
            (&"ê".repeat(134), (Ucs2, 134, 2)),
            (&"ê".repeat(135), (Ucs2, 135, 3)),
            (&"😀".repeat(35), (Ucs2, 70, 1)),
            // 67 is odd: no sign is cut in two.
            (&"😀".repeat(67), (Ucs2, 134, 3)),
        ] {
            assert_eq!(size(text), size_of, "{text}");
        }
    }

    #[test]
    fn what_reads_alike_takes_the_place_of_what_is_missing() {
        for (text, plain) in [
            ("Fête à l’œuvre « ça »… Ça", "Fete à l'oeuvre \" ca \"... Ça"),
            ("ÀÈÊËÎÏÔÛŸ – Łódź", "AEEEIIOUY - Łodz"),
            // An e and an acute accent, which the alphabet has as one.
            ("e\u{301}te\u{301} e\u{302}", "été e"),
            ("été 10 €", "été 10 €"),
            ("日本 😀", "日本 😀"),
        ] {
            assert_eq!(transliterate(text), plain);
        }
        let plain = transliterate("Prêt : « Noël » coûte 5 € à l’Élysée…");
        assert_eq!(SmsSize::of(&plain).encoding, SmsEncoding::Gsm7, "{plain}");
    }
}
