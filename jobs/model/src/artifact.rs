//! Files that jobs read and write, by id.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::InvalidName;

/// The id of a stored file. It says nothing about the content and cannot be guessed (122 random bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlobId(Uuid);

impl BlobId {
    /// A new id.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file-{}", self.0.simple())
    }
}

impl From<BlobId> for String {
    fn from(id: BlobId) -> Self {
        id.to_string()
    }
}

impl FromStr for BlobId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let hex = text
            .strip_prefix("file-")
            .filter(|hex| hex.len() == 32 && hex.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
        hex.and_then(|hex| Uuid::try_parse(hex).ok())
            .map(Self)
            .ok_or_else(|| InvalidName::new("file id", "'file-' and 32 lower-case hexadecimal digits", text))
    }
}

impl TryFrom<String> for BlobId {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl JsonSchema for BlobId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FileId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The id of a stored file, as an upload or a job's result names it.",
            "pattern": "^file-[0-9a-f]{32}$",
            "examples": ["file-6f9619ff8b86d011b42d00c04fc964ff"],
        })
    }
}

/// A file that a job made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Artifact {
    /// What it is to the job: `audio`, `waveform`, `cover`.
    pub role: String,
    /// Where to get it: `GET /api/v1/files/{file}`.
    pub file: BlobId,
    /// The name to save it under.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its content, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Its media type.
    pub media_type: String,
}
