//! Where values come from, and what is said of a wrong one.

use std::{collections::HashMap, ffi::OsString, path::PathBuf};

use crate::Setting;

/// A setting that is wrong or missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingError {
    /// The value cannot be used.
    #[error("{name} is {shown:?}; it should be {form}")]
    Wrong {
        /// The variable.
        name: &'static str,
        /// Its value, as far as it may be shown.
        shown: String,
        /// What it should look like.
        form: &'static str,
    },
    /// This program cannot do without it.
    #[error("{name} is not set; it should be {form}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it should look like.
        form: &'static str,
    },
    /// The file that a setting names cannot be used.
    #[error("{name} names {path}, which cannot be used: {reason}")]
    File {
        /// The variable.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of the API key cannot be read.
    #[error(
        "the API key cannot be read from {path}: {reason}. Start the platform first (`fourmi up`), name the file with {name} or --key-file, or set FOURMI_API_KEY"
    )]
    KeyFile {
        /// The variable.
        name: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// Where settings come from: the environment of the process, or in tests a list.
pub struct Environment {
    lookup: Lookup,
}

type Lookup = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

impl Environment {
    /// The environment of this process.
    pub fn real() -> Self {
        Self { lookup: Box::new(|name| std::env::var_os(name)) }
    }

    /// These variables and no others.
    pub fn of<N: Into<String>, V: Into<OsString>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        let variables: HashMap<String, OsString> =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { lookup: Box::new(move |name| variables.get(name).cloned()) }
    }

    /// This environment with one variable that wins over it, such as an option of the command line.
    #[must_use]
    pub fn with(self, setting: &'static Setting, value: Option<impl Into<OsString>>) -> Self {
        let Some(value) = value.map(Into::into) else { return self };
        Self {
            lookup: Box::new(move |name| if name == setting.name { Some(value.clone()) } else { (self.lookup)(name) }),
        }
    }

    /// This environment with one variable not set.
    #[must_use]
    pub fn without(self, setting: &'static Setting) -> Self {
        Self { lookup: Box::new(move |name| if name == setting.name { None } else { (self.lookup)(name) }) }
    }

    /// Those of these variables that are set, to be handed on with [`Environment::of`].
    pub fn pick(&self, settings: &[&Setting]) -> Vec<(String, String)> {
        let value = |setting: &&Setting| Some((setting.name.to_owned(), self.raw(setting)?.into_string().ok()?));
        settings.iter().filter_map(value).collect()
    }

    /// The value as the system gives it; `None` if it is not set or empty.
    pub fn raw(&self, setting: &Setting) -> Option<OsString> {
        (self.lookup)(setting.name).filter(|value| !value.is_empty())
    }

    /// The value as a path.
    pub(crate) fn path(&self, setting: &Setting) -> Option<PathBuf> {
        self.raw(setting).map(PathBuf::from)
    }

    /// The value as text.
    pub(crate) fn text(&self, setting: &Setting) -> Result<Option<String>, SettingError> {
        self.raw(setting)
            .map(|value| value.into_string().map_err(|value| wrong(setting, &value.to_string_lossy())))
            .transpose()
    }

    /// The value, or else the default, as `parse` reads it.
    pub(crate) fn parsed<T>(
        &self,
        setting: &Setting,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, SettingError> {
        let text = self.text(setting)?.unwrap_or_else(|| setting.default.to_owned());
        parse(text.trim()).ok_or_else(|| wrong(setting, &text))
    }
}

/// The error for a value that does not have the form of its setting.
pub(crate) fn wrong(setting: &Setting, value: &str) -> SettingError {
    SettingError::Wrong { name: setting.name, shown: setting.shown(value), form: setting.form }
}
