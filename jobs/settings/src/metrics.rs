//! Figures of programs that have no HTTP API of their own.

use std::{net::SocketAddr, path::PathBuf};

use crate::{Environment, Secret, SettingError, environment::wrong, table};

/// The fewest characters of a token.
const TOKEN_CHARACTERS: usize = 16;

/// How a program without an HTTP API of its own shows its figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The address to listen on; it does not listen without one. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
    token: Option<Token>,
}

/// Where the token is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Given(Secret),
    File(PathBuf),
}

impl Metrics {
    /// Reads `FOURMI_METRICS_LISTEN`, `FOURMI_METRICS_TOKEN` and `FOURMI_METRICS_TOKEN_FILE`.
    ///
    /// # Errors
    /// If the first is no address with a port, the second could be guessed, or only the first is set: figures are not for
    /// everybody.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        let listen = match environment.text(&table::METRICS_LISTEN)? {
            Some(text) => Some(text.trim().parse().map_err(|_| wrong(&table::METRICS_LISTEN, &text))?),
            None => None,
        };
        let token = match environment.text(&table::METRICS_TOKEN)? {
            Some(text) if is_token(text.trim()) => Some(Token::Given(Secret::new(text.trim()))),
            Some(text) => return Err(wrong(&table::METRICS_TOKEN, &text)),
            None => environment.path(&table::METRICS_TOKEN_FILE).map(Token::File),
        };
        if listen.is_some() && token.is_none() {
            return Err(SettingError::Missing { name: table::METRICS_TOKEN.name, form: table::METRICS_TOKEN.form });
        }
        Ok(Self { listen, token })
    }

    /// The token itself, read from its file if it lies in one.
    ///
    /// # Errors
    /// If there is none, or the file cannot be read or holds something else.
    pub fn token(&self) -> Result<Secret, SettingError> {
        let path = match &self.token {
            Some(Token::Given(token)) => return Ok(token.clone()),
            Some(Token::File(path)) => path,
            None => {
                let (name, form) = (table::METRICS_TOKEN.name, table::METRICS_TOKEN.form);
                return Err(SettingError::Missing { name, form });
            }
        };
        let failed =
            |reason: String| SettingError::File { name: table::METRICS_TOKEN_FILE.name, path: path.clone(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let token = text.trim();
        let form = || failed(format!("it should hold {}", table::METRICS_TOKEN.form));
        if is_token(token) { Ok(Secret::new(token)) } else { Err(form()) }
    }
}

fn is_token(text: &str) -> bool {
    text.len() >= TOKEN_CHARACTERS && text.bytes().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Metrics, SettingError> {
        Metrics::read(&Environment::of(variables.iter().copied()))
    }

    #[test]
    fn figures_are_shown_only_to_who_has_the_token() {
        assert_eq!(read(&[]).unwrap(), Metrics::default());
        let listen = ("FOURMI_METRICS_LISTEN", "127.0.0.1:0");
        let text = read(&[listen]).unwrap_err().to_string();
        assert!(text.starts_with("FOURMI_METRICS_TOKEN is not set; it should be"), "{text}");
        let open = read(&[listen, ("FOURMI_METRICS_TOKEN", "0123456789abcdef\n")]).unwrap();
        assert_eq!(open.token().unwrap().expose(), "0123456789abcdef");
    }

    #[test]
    fn the_token_may_lie_in_a_file() {
        let file = std::env::temp_dir().join(format!("fourmi-token-{}", std::process::id()));
        std::fs::write(&file, "0123456789abcdef\n").unwrap();
        let of_file = read(&[("FOURMI_METRICS_TOKEN_FILE", file.to_str().unwrap())]).unwrap();
        assert_eq!(of_file.token().unwrap().expose(), "0123456789abcdef");
        std::fs::write(&file, "short").unwrap();
        let text = of_file.token().unwrap_err().to_string();
        assert!(text.contains("it should hold at least 16") && !text.contains("short"), "{text}");
        std::fs::remove_file(&file).unwrap();
        let text = of_file.token().unwrap_err().to_string();
        assert!(text.starts_with("FOURMI_METRICS_TOKEN_FILE names "), "{text}");
    }

    #[test]
    fn an_error_names_the_variable_and_hides_the_token() {
        for (name, value, shown) in [
            ("FOURMI_METRICS_LISTEN", "9700", "9700"),
            ("FOURMI_METRICS_TOKEN", "guess me", "***"),
            ("FOURMI_METRICS_TOKEN", "sixteen characters with blanks", "***"),
        ] {
            let text = read(&[(name, value)]).unwrap_err().to_string();
            assert!(text.starts_with(&format!("{name} is {shown:?}; it should be ")), "{text}");
        }
    }
}
