//! Who may come to the API, from where, and how often.

use ipnet::IpNet;

use crate::{Environment, RateLimits, SettingError, table};

/// The door of the API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Door {
    /// Proxies whose word on a caller's address and scheme is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Names by which the API may be asked, in lower case; any, if there is none.
    pub trusted_hosts: Vec<String>,
    /// Origins whose pages may call the API.
    pub cors_origins: Vec<String>,
    /// How often it may be asked.
    pub rate_limits: RateLimits,
}

impl Door {
    /// Reads `FOURMI_TRUSTED_PROXIES`, `FOURMI_TRUSTED_HOSTS`, `FOURMI_CORS_ORIGINS` and `FOURMI_RATE_LIMITS`.
    ///
    /// # Errors
    /// If one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            trusted_proxies: environment.parsed(&table::TRUSTED_PROXIES, |text| list(text, network))?,
            trusted_hosts: environment.parsed(&table::TRUSTED_HOSTS, |text| list(text, host))?,
            cors_origins: environment.parsed(&table::CORS_ORIGINS, |text| list(text, origin))?,
            rate_limits: environment.parsed(&table::RATE_LIMITS, RateLimits::parse)?,
        })
    }
}

/// Reads the parts of a text between commas; `None` if one cannot be read.
fn list<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(read).collect()
}

/// A network, or one address.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| address.into()))
}

fn host(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    text.chars().all(plain).then(|| text.to_ascii_lowercase())
}

/// `https://app.example.org`, or `*` for every page.
fn origin(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = rest.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']));
    (plain || text == "*").then(|| text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_whole_or_not_at_all() {
        let door = |name: &str, value: &str| Door::read(&Environment::of([(name, value)]));
        let proxies = door("FOURMI_TRUSTED_PROXIES", "10.0.0.0/8, ::1").unwrap().trusted_proxies;
        assert_eq!(proxies, ["10.0.0.0/8".parse().unwrap(), "::1/128".parse::<IpNet>().unwrap()]);
        assert_eq!(door("FOURMI_TRUSTED_HOSTS", "Api.Example.org").unwrap().trusted_hosts, ["api.example.org"]);
        assert_eq!(door("FOURMI_CORS_ORIGINS", "https://a.b:8443").unwrap().cors_origins, ["https://a.b:8443"]);
        for (name, value) in [
            ("FOURMI_TRUSTED_PROXIES", "10.0.0.0/8,nobody"),
            ("FOURMI_TRUSTED_HOSTS", "a/b"),
            ("FOURMI_CORS_ORIGINS", "https://a.b/path"),
            ("FOURMI_CORS_ORIGINS", "a.b"),
            ("FOURMI_RATE_LIMITS", "read=often"),
        ] {
            assert!(door(name, value).is_err(), "{name}={value}");
        }
    }
}
