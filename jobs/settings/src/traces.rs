//! Traces: where they go, and how many.

use percent_encoding::percent_decode_str;

use crate::{Environment, Secret, SettingError, environment::wrong, table};

/// Where traces go, and how many.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// The collector, without a slash at its end; there are no traces without one.
    pub endpoint: Option<String>,
    /// What it wants to be told.
    pub headers: Vec<(String, Secret)>,
    /// The share that is sent of those that begin here, from 0 to 1.
    pub ratio: f64,
}

impl Traces {
    /// Reads `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_TRACES_SAMPLER_ARG`.
    ///
    /// # Errors
    /// If one does not have its form.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let endpoint = match environment.text(&table::OTLP_ENDPOINT)? {
            Some(text) => Some(endpoint(text.trim()).ok_or_else(|| wrong(&table::OTLP_ENDPOINT, &text))?),
            None => None,
        };
        let headers = environment.parsed(&table::OTLP_HEADERS, headers)?;
        let ratio = environment
            .parsed(&table::TRACES_RATIO, |text| text.parse().ok().filter(|ratio: &f64| (0.0..=1.0).contains(ratio)))?;
        Ok(Self { endpoint, headers, ratio })
    }
}

fn endpoint(text: &str) -> Option<String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let plain = rest.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'?' | b'#'));
    (plain && !rest.is_empty() && !rest.starts_with('/')).then(|| text.trim_end_matches('/').to_owned())
}

/// `name=value,name=value`, the values percent-encoded, as the specification of OpenTelemetry has it.
fn headers(text: &str) -> Option<Vec<(String, Secret)>> {
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = name.trim();
        let is_name =
            !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let is_value = value.bytes().all(|c| c == b' ' || c.is_ascii_graphic());
        (is_name && is_value).then(|| (name.to_ascii_lowercase(), Secret::new(value)))
    };
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Traces, SettingError> {
        Traces::read(&Environment::of([(name, value)]))
    }

    #[test]
    fn there_are_no_traces_without_a_collector() {
        let traces = Traces::read(&Environment::of::<&str, &str>([])).unwrap();
        assert_eq!(traces, Traces { endpoint: None, headers: Vec::new(), ratio: 1.0 });
    }

    #[test]
    fn a_collector_is_read() {
        let traces = read("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/").unwrap();
        assert_eq!(traces.endpoint.as_deref(), Some("http://127.0.0.1:4318"));
        let headers = read("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20a=b, x-tenant=acme").unwrap().headers;
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(headers, [("authorization", "Bearer a=b"), ("x-tenant", "acme")]);
        assert!(read("OTEL_TRACES_SAMPLER_ARG", "0.25").unwrap().ratio < 0.3);
    }

    #[test]
    fn an_error_names_the_variable_and_hides_what_is_secret() {
        for (name, value, shown) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4317", "127.0.0.1:4317"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://127.0.0.1:4317", "grpc://127.0.0.1:4317"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "secret", "***"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=b%0d%0ac: d", "***"),
            ("OTEL_TRACES_SAMPLER_ARG", "1.5", "1.5"),
            ("OTEL_TRACES_SAMPLER_ARG", "NaN", "NaN"),
        ] {
            let text = read(name, value).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{name} is {shown:?}; it should be ")), "{text}");
        }
    }
}
