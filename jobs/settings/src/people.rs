//! People who log in, and how long what the platform signs for them is worth something.

use std::time::Duration;

use crate::{Environment, SecretKeys, SettingError, concerns::within, table};

/// People, and how they log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct People {
    /// What all keys of the platform are derived from.
    pub secrets: SecretKeys,
    /// How long an access token is valid.
    pub access_token: Duration,
    /// How long a person stays logged in without coming back.
    pub refresh_token: Duration,
    /// How long tokens are signed with one key.
    pub token_key: Duration,
    /// Whether people may make accounts for themselves, with tenants that allow it.
    pub registration: bool,
    /// The address that people reach the platform by, without a slash at its end.
    pub public_url: Option<String>,
}

impl People {
    /// Reads `FOURMI_SECRET_KEY`, `FOURMI_SECRET_KEY_BEFORE`, `FOURMI_*_TOKEN_*`, `FOURMI_TOKEN_KEY_DAYS`,
    /// `FOURMI_REGISTRATION` and `FOURMI_PUBLIC_URL`.
    ///
    /// # Errors
    /// If one does not have its form, or a secret can be guessed.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let minutes = environment.parsed(&table::ACCESS_TOKEN_MINUTES, |text| within(text, 1, 1_440))?;
        let days = |setting| environment.parsed(setting, |text| within(text, 1, 365)).map(of_days);
        Ok(Self {
            secrets: SecretKeys::read(environment)?,
            access_token: Duration::from_secs(minutes * 60),
            refresh_token: days(&table::REFRESH_TOKEN_DAYS)?,
            token_key: days(&table::TOKEN_KEY_DAYS)?,
            registration: environment.parsed(&table::REGISTRATION, switch)?,
            public_url: environment.parsed(&table::PUBLIC_URL, public_url)?,
        })
    }
}

const fn of_days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

fn switch(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// Nothing, or an address that a path can follow.
pub(crate) fn public_url(text: &str) -> Option<Option<String>> {
    if text.is_empty() {
        return Some(None);
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '@' | '"' | '<' | '>' | '\\');
    let has_host = !rest.is_empty() && !rest.starts_with('/');
    (has_host && rest.chars().all(plain)).then(|| Some(text.trim_end_matches('/').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG: &str = "b1f6c0de94a7835e2d1f6c0de94a7835";

    fn read(name: &str, value: &str) -> Result<People, SettingError> {
        People::read(&Environment::of([(name, value)]))
    }

    #[test]
    fn without_an_environment_people_stay_a_week() {
        let people = People::read(&Environment::of::<&str, &str>([])).unwrap();
        assert_eq!((people.secrets.present, people.secrets.before, people.public_url), (None, None, None));
        assert_eq!(people.access_token, Duration::from_secs(15 * 60));
        assert_eq!(people.refresh_token, of_days(7));
        assert_eq!(people.token_key, of_days(30));
        assert!(people.registration);
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused_and_not_shown() {
        let strong = format!(" {STRONG}\n");
        assert_eq!(read("FOURMI_SECRET_KEY", &strong).unwrap().secrets.present.unwrap().expose(), STRONG);
        assert_eq!(read("FOURMI_SECRET_KEY_BEFORE", &strong).unwrap().secrets.before.unwrap().expose(), STRONG);
        for weak in [
            "b1f6c0de94a7835e2d1f6c0de94a783",
            "0123012301230123012301230123012301230123",
            "aAbBcCdDeEaAbBcCdDeEaAbBcCdDeEaAbBcCdDeE",
            "ChangeMe-b1f6c0de94a7835e2d1f6c0de94a7835",
            "b1f6c0de94a7835e-my-SECRET-2d1f6c0de94a7835",
            "correct-horse-password-battery-staple-0123",
            "an-Example-b1f6c0de94a7835e2d1f6c0de94a7835",
            "Default-b1f6c0de94a7835e2d1f6c0de94a7835",
            "your-b1f6c0de94a7835e2d1f6c0de94a7835-here",
        ] {
            for name in ["FOURMI_SECRET_KEY", "FOURMI_SECRET_KEY_BEFORE"] {
                let error = read(name, weak).unwrap_err();
                let text = error.to_string();
                assert!(text.starts_with(&format!("{name} is \"***\"; it should be at least 32 characters")), "{text}");
                assert!(!format!("{text} {error:?}").contains(weak), "{text}");
            }
        }
    }

    #[test]
    fn addresses_and_switches_are_read() {
        for (value, expected) in [
            ("https://jobs.example.org/", "https://jobs.example.org"),
            ("http://[::1]:8700/api", "http://[::1]:8700/api"),
        ] {
            assert_eq!(read("FOURMI_PUBLIC_URL", value).unwrap().public_url.as_deref(), Some(expected));
        }
        assert!(!read("FOURMI_REGISTRATION", "off").unwrap().registration);
        assert_eq!(read("FOURMI_REFRESH_TOKEN_DAYS", "365").unwrap().refresh_token, of_days(365));
    }

    #[test]
    fn an_error_names_the_variable_and_its_form() {
        for (name, value) in [
            ("FOURMI_ACCESS_TOKEN_MINUTES", "0"),
            ("FOURMI_ACCESS_TOKEN_MINUTES", "1441"),
            ("FOURMI_REFRESH_TOKEN_DAYS", "0"),
            ("FOURMI_TOKEN_KEY_DAYS", "366"),
            ("FOURMI_REGISTRATION", "yes"),
            ("FOURMI_PUBLIC_URL", "jobs.example.org"),
            ("FOURMI_PUBLIC_URL", "javascript://jobs"),
            ("FOURMI_PUBLIC_URL", "https:///path"),
            ("FOURMI_PUBLIC_URL", "https://jobs.example.org/?a=b"),
            ("FOURMI_PUBLIC_URL", "https://me@jobs.example.org"),
            ("FOURMI_PUBLIC_URL", "https://jobs.example.org\r\nBcc: x"),
        ] {
            let mistakes = Environment::of([(name, value)]).mistakes();
            assert_eq!(mistakes.len(), 1, "{name}={value}");
            let text = mistakes[0].to_string();
            assert!(text.starts_with(&format!("{name} is {value:?}; it should be ")), "{text}");
        }
    }
}
