//! What single values say.

use jiff::{Timestamp, civil};

use crate::number::{self, Style};

/// Numbers beyond it are taken for missing: their squares would be infinite.
pub(crate) const LARGEST: f64 = 1e150;

/// Whether it says that there is no value: nothing, `-`, `NA`, `N/A`, `n/a`, `#N/A`, `<NA>`, `None`, and `null` and `NaN` in
/// any case. `na`, `Na` and `none` are texts.
pub(crate) fn is_missing(text: &[u8]) -> bool {
    match text.len() {
        0 => true,
        1 => text == b"-",
        2 => text == b"NA",
        3 => matches!(text, b"N/A" | b"n/a") || text.eq_ignore_ascii_case(b"nan"),
        4 => matches!(text, b"#N/A" | b"<NA>" | b"None") || text.eq_ignore_ascii_case(b"null"),
        _ => false,
    }
}

/// Yes or no: `true`, `yes`, `vrai`, `oui` and their opposites, in any case.
pub(crate) fn boolean(text: &[u8]) -> Option<bool> {
    const YES: [&[u8]; 4] = [b"true", b"yes", b"vrai", b"oui"];
    const NO: [&[u8]; 4] = [b"false", b"no", b"faux", b"non"];
    if !(2..=5).contains(&text.len()) {
        return None;
    }
    let is = |words: [&[u8]; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(YES) { Some(true) } else { is(NO).then_some(false) }
}

/// Days since 1970 of a day, or of a day with a time, by ISO 8601: `2026-11-29`, `2026-11-29 17:18`, `2026-11-29T17:18:00.5Z`,
/// `2026-11-29T17:18:00+01:00`. Without an offset it is taken for UTC.
pub(crate) fn date(text: &[u8]) -> Option<f64> {
    const SECONDS: f64 = 86_400.0;
    if !(10..=40).contains(&text.len()) || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let digits = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .try_fold(0_u16, |number, byte| byte.is_ascii_digit().then(|| number * 10 + u16::from(byte - b'0')))
    };
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let day = civil::Date::new(year.cast_signed(), i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    if text.len() == 10 {
        return Some(days(day));
    }
    if !matches!(text[10], b'T' | b't' | b' ') || text.contains(&b'[') {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let has_offset = text[11..].contains(['Z', 'z', '+', '-']);
    if has_offset {
        let at: Timestamp = text.parse().ok()?;
        Some((at.as_second() as f64 + f64::from(at.subsec_nanosecond()) / 1e9) / SECONDS)
    } else {
        let at: civil::DateTime = text.parse().ok()?;
        let seconds = i32::from(at.hour()) * 3600 + i32::from(at.minute()) * 60 + i32::from(at.second());
        Some(days(at.date()) + (f64::from(seconds) + f64::from(at.subsec_nanosecond()) / 1e9) / SECONDS)
    }
}

/// Days since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn days(date: civil::Date) -> f64 {
    let (month, day) = (i32::from(date.month()), i32::from(date.day()));
    // The year begins in March, so that the day that comes and goes is its last.
    let year = i32::from(date.year()) - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    f64::from(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

/// Whether it is a number in the usual way of writing.
pub(crate) fn is_plain_number(text: &[u8]) -> bool {
    number::number(text, Style::Point).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_is_missing() {
        for text in ["", "-", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "Null", "None", "#N/A", "<NA>"] {
            assert!(is_missing(text.as_bytes()), "{text}");
        }
        for text in ["na", "Na", "none", "NONE", "0", "--", "nil", "?"] {
            assert!(!is_missing(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn knows_yes_and_no() {
        assert_eq!(["TRUE", "yes", "Vrai", "oui"].map(|text| boolean(text.as_bytes())), [Some(true); 4]);
        assert_eq!(["false", "No", "faux", "NON"].map(|text| boolean(text.as_bytes())), [Some(false); 4]);
        assert_eq!(["1", "y", "T", "truest", ""].map(|text| boolean(text.as_bytes())), [None; 5]);
    }

    #[test]
    fn reads_dates() {
        for (text, days) in [
            ("1970-01-01", 0.0),
            ("1969-12-31", -1.0),
            ("2000-02-29", 11_016.0),
            ("2026-11-29", 20_786.0),
            ("0001-01-01", -719_162.0),
            ("1970-01-02 12:00", 1.5),
            ("1970-01-02T12:00:00", 1.5),
            ("1970-01-02T12:00:00Z", 1.5),
            ("1970-01-02T12:00:00+06:00", 1.25),
            ("1970-01-01T00:00:00.864Z", 0.00001),
        ] {
            assert!((date(text.as_bytes()).unwrap() - days).abs() < 1e-12, "{text}");
        }
        for text in [
            "2001-02-29",
            "2026-13-01",
            "2026-1-1",
            "20261129",
            "2026-11-29x",
            "29-11-2026",
            "2026-11-29T25:00",
            "2026-W01-1",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }
}
