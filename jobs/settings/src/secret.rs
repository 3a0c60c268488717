//! Text that must not reach a log by accident.

use std::fmt;

use crate::{Environment, Setting, SettingError, environment::wrong, table};

/// Text that must not reach a log by accident: its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, to be handed to where it is needed and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
/// The fewest characters of a secret that keys are derived from.
const SECRET_CHARACTERS: usize = 32;

/// The fewest different ones among them: 64 random hexadecimal digits hold fewer once in a million million times.
const SECRET_VARIETY: usize = 10;

/// What stands in secrets that were copied from an example, or made up by a person.
const SECRET_WORDS: [&str; 6] = ["change", "secret", "password", "example", "default", "your-"];

/// What all keys of a platform are derived from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretKeys {
    /// The secret; without it, what lies in the data folder.
    pub present: Option<Secret>,
    /// The secret before it was changed.
    pub before: Option<Secret>,
}

impl SecretKeys {
    /// The variables that it reads.
    pub const SETTINGS: &'static [&'static Setting] = &[&table::SECRET_KEY, &table::SECRET_KEY_BEFORE];

    /// Reads `FOURMI_SECRET_KEY` and `FOURMI_SECRET_KEY_BEFORE`.
    ///
    /// # Errors
    /// If one can be guessed.
    pub fn read(environment: &Environment) -> Result<Self, SettingError> {
        Ok(Self {
            present: secret(environment, &table::SECRET_KEY)?,
            before: secret(environment, &table::SECRET_KEY_BEFORE)?,
        })
    }
}

impl Secret {
    /// Whether keys may be derived from it: a person can neither guess it nor know it from an example.
    pub fn is_strong(&self) -> bool {
        let text = self.expose().to_lowercase();
        let mut variety: Vec<char> = text.chars().collect();
        let length = variety.len();
        variety.sort_unstable();
        variety.dedup();
        length >= SECRET_CHARACTERS
            && variety.len() >= SECRET_VARIETY
            && !SECRET_WORDS.iter().any(|word| text.contains(word))
    }
}

fn secret(environment: &Environment, setting: &'static Setting) -> Result<Option<Secret>, SettingError> {
    let Some(text) = environment.text(setting)? else { return Ok(None) };
    let secret = Secret::new(text.trim());
    if secret.is_strong() { Ok(Some(secret)) } else { Err(wrong(setting, &text)) }
}
