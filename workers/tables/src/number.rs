//! Numbers as people write them.

/// What a number is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// `1,234.5`
    Point,
    /// `1.234,5`
    Comma,
}

impl Style {
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Point => Self::Comma,
            Self::Comma => Self::Point,
        }
    }
}

/// A number that was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number {
    /// It may be infinite.
    pub(crate) value: f64,
    /// Whether it was written as a whole number.
    pub(crate) whole: bool,
    /// Whether it means the same in either style.
    pub(crate) plain: bool,
}

/// Powers of ten that are exact.
const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The longest text that is looked at as a number with separators of thousands.
const LONGEST: usize = 64;

/// Reads a number: `-12`, `1.5e-3`, `1,234.5`, `1 234,5`, `1'234`, `inf`.
pub(crate) fn number(text: &[u8], style: Style) -> Option<Number> {
    let &first = text.first()?;
    if first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.' | b',') {
        match style {
            Style::Point => plain(text),
            // Without a point or comma it is the same.
            Style::Comma => plain(text).filter(|number| number.plain),
        }
        .or_else(|| separated(text, style))
        .or_else(|| infinite(text))
    } else {
        infinite(text)
    }
}

/// A number without separators of thousands.
fn plain(text: &[u8]) -> Option<Number> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let (mut mantissa, mut seen, mut point) = (0_u64, 0_usize, None);
    for (at, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                seen += 1;
                // Wraps after 19 digits, which is looked at below.
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            }
            b'.' if point.is_none() => point = Some(at),
            b'e' | b'E' if seen > 0 => return exponential(text, &digits[at + 1..], point.is_none()),
            _ => return None,
        }
    }
    if seen == 0 {
        return None;
    }
    let after = point.map_or(0, |at| digits.len() - at - 1);
    // Two exact numbers have a correctly rounded quotient (Clinger 1990).
    let value = if seen <= 19 && mantissa <= 1 << 53 && after < TENS.len() {
        let value = mantissa as f64 / TENS[after];
        if negative { -value } else { value }
    } else {
        parse(text)?
    };
    Some(Number { value, whole: point.is_none(), plain: point.is_none() })
}

fn exponential(text: &[u8], exponent: &[u8], plain: bool) -> Option<Number> {
    let digits = exponent.strip_prefix(b"-").or_else(|| exponent.strip_prefix(b"+")).unwrap_or(exponent);
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then(|| parse(text)).flatten().map(|value| Number {
        value,
        whole: false,
        plain,
    })
}

fn parse(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number with separators of thousands, a comma for a point, or both.
fn separated(text: &[u8], style: Style) -> Option<Number> {
    if text.len() > LONGEST {
        return None;
    }
    let (point, comma) = match style {
        Style::Point => (b'.', b','),
        Style::Comma => (b',', b'.'),
    };
    let (mut clean, mut length) = ([0; LONGEST], 0);
    let (mut separator, mut group, mut groups, mut whole): (Option<&[u8]>, _, _, _) = (None, 0, 0, true);
    let mut rest = text;
    if let [sign @ (b'-' | b'+'), after @ ..] = rest {
        (clean[0], length, rest) = (*sign, 1, after);
    }
    while let [byte, after @ ..] = rest {
        let mut next = after;
        match *byte {
            digit @ b'0'..=b'9' => {
                clean[length] = digit;
                length += 1;
                group += 1;
            }
            byte if byte == point && whole => {
                if groups > 0 && group != 3 {
                    return None;
                }
                clean[length] = b'.';
                length += 1;
                whole = false;
            }
            b'e' | b'E' if group > 0 && groups == 0 => {
                // "1,5e3"
                let end = length + rest.len();
                clean.get_mut(length..end)?.copy_from_slice(rest);
                let value = plain(&clean[..end])?;
                return Some(Number { whole: false, plain: false, ..value });
            }
            byte => {
                let this: &[u8] = match rest {
                    [0xC2, 0xA0, ..] => &rest[..2],
                    [0xE2, 0x80, 0xAF | 0x89, ..] => &rest[..3],
                    _ if byte == comma || byte == b' ' || byte == b'\'' => &rest[..1],
                    _ => return None,
                };
                let fits = if groups == 0 { (1..=3).contains(&group) } else { group == 3 };
                if !whole || !fits || separator.is_some_and(|separator| separator != this) {
                    return None;
                }
                (separator, group, groups) = (Some(this), 0, groups + 1);
                next = &rest[this.len()..];
            }
        }
        rest = next;
    }
    if whole && groups > 0 && group != 3 {
        return None;
    }
    let value = plain(&clean[..length])?.value;
    // Only groups set off by spaces or apostrophes, without a fraction, mean the same in either style.
    let plain = whole && separator.is_none_or(|separator| separator != b"," && separator != b".");
    Some(Number { value, whole, plain })
}

fn infinite(text: &[u8]) -> Option<Number> {
    let (negative, word) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    (word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity")).then_some(Number {
        value: if negative { f64::NEG_INFINITY } else { f64::INFINITY },
        whole: false,
        plain: true,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(text: &str) -> Option<f64> {
        number(text.as_bytes(), Style::Point).map(|number| number.value)
    }

    fn comma(text: &str) -> Option<f64> {
        number(text.as_bytes(), Style::Comma).map(|number| number.value)
    }

    #[test]
    fn reads_numbers_with_a_point() {
        for (text, value) in [
            ("0", 0.0),
            ("-12", -12.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1.5e-3", 0.0015),
            ("1E3", 1000.0),
            ("1,234", 1234.0),
            ("1,234,567.25", 1_234_567.25),
            ("-1 234.5", -1234.5),
            ("12\u{a0}345", 12345.0),
            ("12\u{202f}345", 12345.0),
            ("1'000'000", 1e6),
            ("0.1", 0.1),
            ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
            ("9007199254740993.5", 9_007_199_254_740_993.5),
            ("-inf", f64::NEG_INFINITY),
            ("Infinity", f64::INFINITY),
            ("1e999", f64::INFINITY),
        ] {
            assert_eq!(point(text), Some(value), "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            "e5",
            "1e",
            "1e+",
            "1.2.3",
            "12,34",
            "1,2345",
            "1,234,56",
            "1 2",
            "1,234 567",
            "0x10",
            "1_000",
            "12a",
            "--1",
            "NaN",
            "1,5",
            "1.234,5",
            ",",
            "infinit",
            "1e5.5",
            "1,234e5",
            "1.5,000",
        ] {
            assert_eq!(point(text), None, "{text}");
        }
    }

    #[test]
    fn reads_numbers_with_a_comma() {
        for (text, value) in [
            ("1,5", 1.5),
            ("-0,25", -0.25),
            (",5", 0.5),
            ("1.234", 1234.0),
            ("1.234,5", 1234.5),
            ("1 234,5", 1234.5),
            ("12", 12.0),
            ("1e3", 1000.0),
            ("1,5e3", 1500.0),
        ] {
            assert_eq!(comma(text), Some(value), "{text}");
        }
        for text in ["1.5", "1,234.5", "1,2,3", "1.23", "1.5e3", "0.1"] {
            assert_eq!(comma(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_was_written(value in any::<f64>().prop_filter("finite", |value| value.is_finite())) {
            prop_assert_eq!(point(&format!("{value:?}")), Some(value));
            prop_assert_eq!(point(&format!("{value:e}")), Some(value));
            prop_assert_eq!(comma(&format!("{value:?}").replace('.', ",")), Some(value));
        }

        #[test]
        fn reads_decimals_as_the_standard_library(whole in 0_u64..1_000_000_000_000, after in 0_u64..10_000_000, negative: bool) {
            let text = format!("{}{whole}.{after}", if negative { "-" } else { "" });
            prop_assert_eq!(point(&text), text.parse().ok());
        }

        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(prop_oneof![Just(b'1'), Just(b','), Just(b'.'), Just(b'e'), Just(b'-'), Just(b' '), any::<u8>()], 0..80)) {
            let _ = number(&bytes, Style::Point);
            let _ = number(&bytes, Style::Comma);
        }
    }
}
