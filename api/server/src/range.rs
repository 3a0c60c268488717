//! Ranges of bytes of a file (RFC 9110, section 14).

use std::ops::Range;

/// The most ranges of one request: players ask for one or two, and every one costs a seek and a header.
const MOST: usize = 16;

/// What a `Range` header asks of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it. Also if the header cannot be read or names too many ranges: a server may ignore it then.
    Whole,
    /// These bytes: one range or several that neither overlap nor touch, in the order in which they were asked for.
    Parts(Vec<Range<u64>>),
    /// Bytes that the file does not have.
    Outside,
}

/// What `header` asks of a file of `length` bytes.
pub(crate) fn asked(header: Option<&str>, length: u64) -> Asked {
    let Some(ranges) = header.and_then(parse) else { return Asked::Whole };
    let parts = ranges.into_iter().filter_map(|range| range.of(length)).fold(Vec::new(), with);
    if parts.is_empty() { Asked::Outside } else { Asked::Parts(parts) }
}

/// The two forms of a range.
enum ByteRange {
    /// From a position to another, which is part of it, or to the end.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

/// The ranges of a header. One that cannot be read makes all of it unreadable.
fn parse(header: &str) -> Option<Vec<ByteRange>> {
    let (unit, ranges) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    // Lists may hold empty elements (RFC 9110, 5.6.1).
    let ranges = ranges.split(',').map(str::trim).filter(|range| !range.is_empty());
    let ranges: Vec<_> = ranges.take(MOST + 1).map(parse_one).collect::<Option<_>>()?;
    (1..=MOST).contains(&ranges.len()).then_some(ranges)
}

fn parse_one(range: &str) -> Option<ByteRange> {
    let (first, last) = range.split_once('-')?;
    match (first.trim(), last.trim()) {
        ("", last) => number(last).map(ByteRange::Last),
        (first, "") => Some(ByteRange::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::From(first, Some(last)))
        }
    }
}

/// Digits only; a number beyond all files is the greatest one.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

impl ByteRange {
    /// The bytes that a file of this length has of it.
    fn of(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(length, |last| last.saturating_add(1).min(length)),
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// These parts and one more, which swallows those that it overlaps or touches and takes the place of their first: so no
/// byte is sent twice, whatever is asked.
fn with(mut parts: Vec<Range<u64>>, mut new: Range<u64>) -> Vec<Range<u64>> {
    let mut place = parts.len();
    while let Some(other) = parts.iter().position(|part| part.start <= new.end && new.start <= part.end) {
        let swallowed = parts.remove(other);
        new = new.start.min(swallowed.start)..new.end.max(swallowed.end);
        place = place.min(other);
    }
    parts.insert(place.min(parts.len()), new);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(range: Range<u64>) -> Asked {
        Asked::Parts(vec![range])
    }

    #[test]
    fn a_range_is_read_as_the_rfc_says() {
        for (header, part) in [
            ("bytes=0-0", one(0..1)),
            ("bytes=2-5", one(2..6)),
            ("bytes=2-", one(2..10)),
            ("Bytes = 2 - 99", one(2..10)),
            ("bytes=-3", one(7..10)),
            ("bytes=-99", one(0..10)),
            ("bytes=9-99999999999999999999999", one(9..10)),
            ("bytes=10-", Asked::Outside),
            ("bytes=-0", Asked::Outside),
            ("bytes=5-2", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("bytes=,", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("nonsense", Asked::Whole),
        ] {
            assert_eq!(asked(Some(header), 10), part, "{header}");
        }
        assert_eq!(asked(None, 10), Asked::Whole);
        assert_eq!(asked(Some("bytes=0-"), 0), Asked::Outside);
    }

    #[test]
    fn several_ranges_keep_their_order_and_send_no_byte_twice() {
        for (header, parts) in [
            ("bytes=0-1,4-5", &[(0, 2), (4, 6)][..]),
            ("bytes=-1, 0-0,, 4-5", &[(9, 10), (0, 1), (4, 6)]),
            ("bytes=0-3,2-5", &[(0, 6)]),
            ("bytes=4-5,2-3", &[(2, 6)]),
            ("bytes=0-0,8-8,4-4,0-", &[(0, 10)]),
            ("bytes=8-9,0-1,3-4,1-3", &[(8, 10), (0, 5)]),
            ("bytes=0-1,20-30", &[(0, 2)]),
        ] {
            let parts = parts.iter().map(|(start, end)| *start..*end).collect();
            assert_eq!(asked(Some(header), 10), Asked::Parts(parts), "{header}");
        }
        assert_eq!(asked(Some("bytes=10-,20-30"), 10), Asked::Outside);
        assert_eq!(asked(Some("bytes=0-1,x"), 10), Asked::Whole);
        let many = |count: u64| format!("bytes={}", (0..count).map(|n| format!("{0}-{0},", n * 2)).collect::<String>());
        assert!(matches!(asked(Some(&many(16)), 100), Asked::Parts(parts) if parts.len() == 16));
        assert_eq!(asked(Some(&many(17)), 100), Asked::Whole);
    }
}
