//! What must be so before a message is sent: that it is wanted, in time, affordable, and at a decent hour.

use std::time::Duration;

use fourmi_kinds::{SmsPurpose, SmsSend};
use fourmi_model::{Channel, ErrorClass, Failure, TenantName};
use fourmi_records::NumberLimit;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned, civil::Date, tz::TimeZone};

use super::account::SmsAccount;
use crate::office::{Desk, records_unavailable};

/// When advertising may begin and must end, in hours: the practice of France
/// (<https://www.service-public.fr/professionnels-entreprises/vosdroits/F24075>).
const DAY: (i8, i8) = (8, 20);

/// How an address of the web begins.
const ADDRESSES: [&str; 3] = ["http://", "https://", "www."];

/// How domains end that are known for addresses without a path, too.
const ENDINGS: [&str; 4] = ["com", "fr", "net", "org"];

/// What parts words, beside blanks.
const PARTING: &str = "()[]{}<>\"'«»“”‘’,;!|";

/// Checks all of it.
///
/// # Errors
/// A permanent failure if the message must never be sent; one that says how long to wait if not now.
pub(super) async fn check(
    desk: &Desk,
    account: &SmsAccount,
    job: &SmsSend,
    tenant: Option<&TenantName>,
    now: Timestamp,
) -> Result<(), Failure> {
    if job.expires_at.is_some_and(|end| end <= now) {
        let message = "nobody needs the message any more: the time after which it is not sent (expires_at) has come";
        return Err(Failure::permanent("expired", message));
    }
    let suppression = desk.records.suppression(tenant, Channel::Sms, &job.to).await.map_err(records_unavailable)?;
    if let Some(suppression) = suppression {
        let message = format!("the number gets no messages any more ({})", suppression.reason);
        return Err(Failure::permanent("opted_out", message).class(ErrorClass::Forbidden));
    }
    check_sender(account, job)?;
    if job.purpose == SmsPurpose::Marketing
        && let Some(end) = quiet_until(now, &account.time_zone)
    {
        let wait = Duration::try_from(end.duration_since(now)).unwrap_or_default();
        let message = format!("advertising is not sent at night, on Sundays and holidays: it waits until {end}");
        return Err(Failure::retry_after(wait, "quiet_hours", message));
    }
    Ok(())
}

/// A message with a link that comes from the number of the provider is blocked by the operators.
fn check_sender(account: &SmsAccount, job: &SmsSend) -> Result<(), Failure> {
    if sender(account, job).is_none() && has_link(&job.sent_text()) {
        let message = "a message with a link must come from a sender with a name that the provider has approved: give the \
                       account, or the job, a sender";
        return Err(Failure::permanent("url_not_allowed_with_short_number", message));
    }
    Ok(())
}

/// Whether a text holds an address of the web, as telephones and operators see one.
fn has_link(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut words = text.split(|c: char| c.is_whitespace() || PARTING.contains(c));
    ADDRESSES.iter().any(|start| text.contains(start)) || words.any(is_address)
}

/// Whether a word in lower case is a domain and a path (`example.org/x`), or a domain with a usual ending: not a date, a
/// fraction, an abbreviation, or the address of a mail.
fn is_address(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ':', '?']);
    let end = word.find(['/', ':', '?', '#']).unwrap_or(word.len());
    let (domain, rest) = word.split_at(end);
    let Some((name, ending)) = domain.rsplit_once('.') else { return false };
    let is_label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-');
    let has_path = rest.trim_start_matches(|c: char| c == ':' || c.is_ascii_digit()).starts_with('/');
    name.contains(char::is_alphabetic)
        && name.split('.').all(is_label)
        && ending.len() >= 2
        && ending.bytes().all(|c| c.is_ascii_lowercase())
        && (has_path || ENDINGS.contains(&ending))
}

/// The name that is shown as the sender.
pub(super) fn sender(account: &SmsAccount, job: &SmsSend) -> Option<String> {
    job.sender.clone().or_else(|| account.sender.clone())
}

/// How many messages a number gets: nobody is to be flooded. They are counted when the message is noted, so that none
/// slips through beside another.
pub(super) fn number_limits(account: &SmsAccount) -> Vec<NumberLimit> {
    let limits = [(account.hourly_per_number, 1), (account.daily_per_number, 24)];
    let limits = limits
        .into_iter()
        .filter_map(|(most, hours)| most.map(|most| NumberLimit { within: SignedDuration::from_hours(hours), most }));
    limits.collect()
}

/// When advertising may be sent again, if it may not now.
fn quiet_until(now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let local = now.to_zoned(zone.clone());
    let (start, end) = DAY;
    let is_open = !is_day_of_rest(local.date());
    if is_open && (start..end).contains(&local.hour()) {
        return None;
    }
    let first = if local.hour() < start { local.date() } else { local.date().tomorrow().ok()? };
    let mut days = (0..14_i64).filter_map(|after| first.checked_add(after.days()).ok());
    let day = days.find(|day| !is_day_of_rest(*day))?;
    let opens: Zoned = day.at(start, 0, 0, 0).to_zoned(zone.clone()).ok()?;
    Some(opens.timestamp())
}

/// Sundays, and the public holidays of France (Code du travail, L3133-1).
fn is_day_of_rest(date: Date) -> bool {
    const FIXED: [(i8, i8); 8] = [(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)];
    /// Easter Monday, Ascension and Whit Monday, in days after Easter.
    const MOVING: [i64; 3] = [1, 39, 50];
    let of_easter = |days: &i64| easter(date.year()).and_then(|easter| easter.checked_add(days.days()).ok());
    date.weekday() == jiff::civil::Weekday::Sunday
        || FIXED.contains(&(date.month(), date.day()))
        || MOVING.iter().any(|days| of_easter(days) == Some(date))
}

/// Easter Sunday (J. Meeus, Astronomical Algorithms, 1991, chapter 8).
fn easter(year: i16) -> Option<Date> {
    let year = i32::from(year);
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e, f) = (b / 4, b % 4, (b + 8) / 25);
    let g = (b - f + 1) / 3;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 22 * l) / 451;
    let n = h + l - 7 * m + 114;
    Date::new(i16::try_from(year).ok()?, i8::try_from(n / 31).ok()?, i8::try_from(n % 31 + 1).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertising_waits_for_a_decent_hour() {
        let zone = TimeZone::get("Europe/Paris").unwrap();
        let until = |now: &str| quiet_until(now.parse().unwrap(), &zone).map(|end| end.to_string());
        let at = |end: &str| Some(end.to_owned());
        // A Friday in winter: Paris is an hour ahead.
        assert_eq!(until("2026-11-27T06:59:59Z"), at("2026-11-27T07:00:00Z"));
        assert_eq!(until("2026-11-27T07:00:00Z"), None);
        assert_eq!(until("2026-11-27T18:59:59Z"), None);
        assert_eq!(until("2026-11-27T19:00:00Z"), at("2026-11-28T07:00:00Z"));
        // Saturday evening, Sunday: until Monday.
        assert_eq!(until("2026-11-28T19:00:00Z"), at("2026-11-30T07:00:00Z"));
        assert_eq!(until("2026-11-29T12:00:00Z"), at("2026-11-30T07:00:00Z"));
        // Christmas is a Friday, and 2027 begins with one.
        assert_eq!(until("2026-12-25T12:00:00Z"), at("2026-12-26T07:00:00Z"));
        // Easter Monday in summer time, and the night of Ascension before.
        assert_eq!(until("2026-04-05T10:00:00Z"), at("2026-04-07T06:00:00Z"));
        assert_eq!(until("2026-05-13T20:00:00Z"), at("2026-05-15T06:00:00Z"));
    }

    #[test]
    fn links_are_told_from_what_looks_like_them() {
        for link in [
            "Voici : https://p.example.org/k3x",
            "HTTP://EXAMPLE.ORG",
            "Look at www.example.paris.",
            "Your picture: example.org/x",
            "Photo.Example.ORG/k3x?y=1, valid until 12/05",
            "(kiosk.photos/abc)",
            "dev.example.eu:8080/x",
            "d'exemple.paris/x",
            "See example.com.",
            "exämple.fr",
        ] {
            assert!(has_link(link), "{link}");
        }
        for text in [
            "Hello, it is ready",
            "On 12/05/2026 or 12.05.2026, at 10:30.",
            "29.nov/30.nov",
            "1/2 or 3.5/4, 50.00€/mois, 90 km/h",
            "a.m./p.m., e.g./i.e., etc.",
            "Write to ada@example.org or ada@example.org/x",
            "Fini.Demain on recommence",
            "and/or, Mr./Mrs., v1.2/v1.3",
            "10:30-12:00, 06 12 34 56 78",
            "./x /x x/ .fr fr. ..org",
        ] {
            assert!(!has_link(text), "{text}");
        }
    }

    #[test]
    fn easter_is_where_the_calendar_has_it() {
        for (year, month, day) in [(2024, 3, 31), (2025, 4, 20), (2026, 4, 5), (2027, 3, 28), (2038, 4, 25)] {
            assert_eq!(easter(year), Some(jiff::civil::date(year, month, day)));
        }
    }
}
