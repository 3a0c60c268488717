//! Links: a file for whoever has its address, for a while.

use jiff::{Timestamp, ToSpan};
use salvo::{Depot, Request, Response, handler, http::StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body, disposition,
    links::Grant,
    operation::state_of,
    problem::{Code, Problem},
    routes::files::{Files, seen_file},
};

/// The longest life of a link, in seconds: a week.
const LONGEST_S: i64 = 7 * 24 * 3600;

/// What a link is to be like.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRequest {
    /// How long it is to open the file, in seconds: up to a week.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 1, max = 604_800))]
    expires_in_s: i64,
    /// Whether a browser is to save the file rather than to show it.
    #[serde(default)]
    download: bool,
}

const fn an_hour() -> i64 {
    3600
}

/// A link to a file: whoever has it may read the file without a key.
#[derive(Serialize, JsonSchema)]
pub(super) struct Link {
    /// Its address on this API, without scheme and host.
    #[schemars(extend("format" = "uri-reference"))]
    url: String,
    /// When it ends.
    #[schemars(with = "String", extend("format" = "date-time"))]
    expires_at: Timestamp,
}

#[handler]
pub(super) async fn create_link(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let files: Files = state_of(depot)?;
    let blob = seen_file(request, depot).await?;
    let LinkRequest { expires_in_s, download } = body::parse(body::read(request).await?)?;
    let expires = expires_at(expires_in_s)?;
    let query = files.links.query(&blob.id, Grant { expires, download });
    // The name serves players and browsers, which judge by the ending of an address.
    let url = format!("/api/v1/files/{}/content/{}?{query}", blob.id, disposition::segment(&blob.name));
    body::write(response, StatusCode::OK, &Link { url, expires_at: expires })
}

/// A link holds whole seconds: what it says it ends at is what it ends at.
fn expires_at(expires_in_s: i64) -> Result<Timestamp, Problem> {
    if !(1..=LONGEST_S).contains(&expires_in_s) {
        let message = format!("must be between 1 and {LONGEST_S} (7 days)");
        return Err(Problem::field(Code::InvalidRequest, "expires_in_s", message));
    }
    let now = Timestamp::from_second(Timestamp::now().as_second()).map_err(Problem::internal)?;
    now.checked_add(expires_in_s.seconds()).map_err(Problem::internal)
}
