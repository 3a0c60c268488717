//! The query of an address.

use std::{fmt::Display, str::FromStr};

use salvo::Request;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::problem::{Code, Problem};

/// The query of an address, of which only these names are known: a name that is misspelt must not look like success.
pub(crate) struct Query<'a>(&'a Request);

impl<'a> Query<'a> {
    /// The query of a request.
    ///
    /// # Errors
    /// If it holds another name.
    pub(crate) fn of(request: &'a Request, known: &[&str]) -> Result<Self, Problem> {
        match request.queries().keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(Self(request)),
            Some(name) => {
                let message = format!("is not known here; known are {}", known.join(", "));
                Err(Problem::field(Code::InvalidQuery, name.chars().take(40).collect::<String>(), message))
            }
        }
    }

    /// The texts of a name, in order, without empty ones.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let texts = self.0.queries().get_vec(name).into_iter().flatten();
        texts.map(String::as_str).filter(|text| !text.is_empty())
    }

    /// The value of a name that may stand once.
    ///
    /// # Errors
    /// If it stands twice or cannot be read.
    pub(crate) fn one<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        let mut texts = self.all(name);
        let Some(text) = texts.next() else { return Ok(None) };
        if texts.next().is_some() {
            return Err(Problem::field(Code::InvalidQuery, name, "may stand once"));
        }
        parse(name, text).map(Some)
    }

    /// The values of a name that may stand any number of times.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(crate) fn many<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Vec<T>, Problem> {
        self.all(name).flat_map(|text| text.split(',')).map(|text| parse(name, text)).collect()
    }
}

/// How many entries a page has at most: `DEFAULT` if nothing is said, else 1 to `MOST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit<const DEFAULT: usize, const MOST: usize>(pub(crate) usize);

impl<const DEFAULT: usize, const MOST: usize> Default for Limit<DEFAULT, MOST> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<const DEFAULT: usize, const MOST: usize> FromStr for Limit<DEFAULT, MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.parse().ok().filter(|number| (1..=MOST).contains(number));
        number.map(Self).ok_or_else(|| format!("must be a number from 1 to {MOST}"))
    }
}

impl<const DEFAULT: usize, const MOST: usize> JsonSchema for Limit<DEFAULT, MOST> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "format": "uint", "minimum": 1, "maximum": MOST, "default": DEFAULT })
    }

    fn inline_schema() -> bool {
        true
    }
}

fn parse<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| Problem::field(Code::InvalidQuery, name, error.to_string()))
}
