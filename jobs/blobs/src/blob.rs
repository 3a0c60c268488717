//! What is known of a stored file.

use std::path::{Path, PathBuf};

use fourmi_model::{BlobId, TenantName};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stored file, without its content. It never changes, unless it still grows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "StoredFile")]
pub struct Blob {
    /// The id.
    pub id: BlobId,
    /// The name to save it under.
    pub name: String,
    /// Its size in bytes; while it grows, what it has now.
    pub bytes: u64,
    /// The SHA-256 of its content, in lower-case hexadecimal digits; absent while it grows.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Its media type, by its content.
    pub media_type: String,
    /// When it was stored.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Timestamp,
    /// Where it came from.
    #[serde(default)]
    pub origin: Origin,
    /// Whose it is.
    #[serde(flatten)]
    pub owner: Owner,
    /// Whether a job still appends to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub growing: bool,
}

/// Whose a file is, which decides who sees it. Files from before this was written down are nobody's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owner {
    /// The tenant, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// The id of the API key that sent it, or that submitted the job that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<String>,
}

/// Where a file came from: what it says is trusted only if we made it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "FileOrigin")]
pub enum Origin {
    /// Somebody sent it. Also said of files from before this was written down.
    #[default]
    Upload,
    /// A job made it.
    Job,
}

/// A file that exists and still grows: whoever made it appends to it by its path, while others read what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growing {
    id: BlobId,
    path: PathBuf,
}

impl Growing {
    pub(crate) fn new(id: BlobId, path: PathBuf) -> Self {
        Self { id, path }
    }

    /// Its id, which it keeps when it is sealed.
    pub fn id(&self) -> BlobId {
        self.id
    }

    /// Where to append, for programs on this machine. What is written there once must stay as it is: it may have been read.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
