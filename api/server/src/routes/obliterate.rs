//! Deleting a queue with all its jobs, for who has said so twice.

use std::collections::BTreeMap;

use fourmi_model::{Scope, State};
use fourmi_queue::{Obliterated, Queues};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    body,
    operation::{JSON, Operation, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::queues::{of_queue, queue_of},
};

/// Whether it is meant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Obliterate {
    /// The `token` of the answer before; without, nothing is deleted.
    #[serde(default)]
    token: Option<String>,
    /// Also while jobs run: their runs are stopped, and what they give is lost.
    #[serde(default)]
    force: bool,
}

/// What would be lost, or is gone.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Obliteration")]
struct ObliterationDocument {
    /// Whether it is done.
    done: bool,
    /// To be sent for it to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// How long the token is valid, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_for_s: Option<u64>,
    /// The jobs that would be lost, by their states.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<BTreeMap<State, u64>>,
    /// How many keys of Redis are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_keys: Option<u64>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        of_queue("obliterate_queue", Method::POST, "/api/v1/queues/{queue}/obliterate", obliterate)
            .needs(&[Scope::QueuesAdmin])
.says(
                "Deletes everything in a queue, when told twice",
                "The first call deletes nothing: it says what would be lost, and gives a token. The second one, with the \
                 token, deletes jobs in every state with all that is known of them, and what steers the queue. Records of \
                 finished jobs stay. Worker processes go on with the empty queue.",
            )
            .reads(JSON, schema::<Obliterate>)
            .answers(StatusCode::OK, JSON, schema::<ObliterationDocument>, "What would be lost, or is gone.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::UnknownToken, Code::JobsRunning]),
    ]
}

#[handler]
async fn obliterate(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let Obliterate { token, force } = body::parse(body::read(request).await?)?;
    let Some(token) = token else {
        let offer = in_time(queues.offer_to_obliterate(&queue)).await?;
        let document = ObliterationDocument {
            done: false,
            token: Some(offer.token),
            valid_for_s: Some(offer.valid_for.as_secs()),
            counts: Some(offer.counts.0),
            deleted_keys: None,
        };
        return body::write(response, StatusCode::OK, &document);
    };
    // Once it has begun it goes on to its end, whether the caller waits or not.
    let work = tokio::spawn(async move { queues.obliterate(&queue, &token, force).await });
    match work.await.map_err(Problem::internal)?? {
        Obliterated::Done(keys) => {
            let document = ObliterationDocument {
                done: true,
                token: None,
                valid_for_s: None,
                counts: None,
                deleted_keys: Some(keys),
            };
            body::write(response, StatusCode::OK, &document)
        }
        Obliterated::Unasked => {
            Err(Problem::new(Code::UnknownToken, "A call without a token gives one, which is valid for a minute."))
        }
        Obliterated::Running => {
            Err(Problem::new(Code::JobsRunning, "Pause the queue and wait until none runs, or say `force`."))
        }
    }
}
