//! How many worker processes and slots a queue has, should have and needs.

use fourmi_model::{MAX_PROCESSES, ScaleBounds, ScaleSignal, Scope};
use fourmi_queue::{ControlChange, Queues};
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    body,
    operation::{JSON, Operation, schema, state_of},
    problem::{Code, Problem},
    redis::in_time,
    routes::queues::{given, of_queue, queue_of},
};

/// How a queue is to be scaled; what is left out stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Scale {
    /// Worker processes that each supervisor (`fourmi up`) keeps running; `null`: one.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<u32>", range(min = 0, max = 64))]
    processes: Option<Option<u32>>,
    /// The slots of all worker processes together, shared out among them; `null`: each has its own number.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<u32>")]
    slots: Option<Option<u32>>,
    /// For who autoscales the queue: the bounds within which it does. To be said again every few seconds, because it is
    /// forgotten after ten.
    #[serde(default)]
    autoscale: Option<ScaleBounds>,
}

const READ: &str = "`load` (waiting and running jobs) is one flat number for scalers that take one. Before a process is \
    stopped, look at `processes.busy` and `processes.idle`: an idle one costs nothing.";

const SET: &str = "The numbers are kept until they are changed. `fourmi up` follows `processes` within two seconds: it starts \
    what is missing, and lets idle processes end before busy ones, which finish their jobs first. Worker processes that \
    nobody supervises are not started or stopped by this. If `autoscale` is not `null` in the answer, an autoscaler goes on \
    from these numbers within its bounds.";

pub(super) fn operations() -> Vec<Operation> {
    vec![
        of_queue("get_scale", Method::GET, "/api/v1/queues/{queue}/scale", get_scale)
            .needs(&[Scope::QueuesRead])
            .says("Reads what a scaler must know of a queue", READ)
            .answers(StatusCode::OK, JSON, schema::<ScaleSignal>, "The scale signal."),
        of_queue("set_scale", Method::PUT, "/api/v1/queues/{queue}/scale", set_scale)
            .needs(&[Scope::QueuesAdmin])
            .says("Sets how many worker processes and slots a queue shall have", SET)
            .reads(JSON, schema::<Scale>)
            .answers(StatusCode::OK, JSON, schema::<ScaleSignal>, "The scale signal.")
            .fails(&[
                Code::BadRequest,
                Code::InvalidJson,
                Code::PayloadTooLarge,
                Code::InvalidRequest,
                Code::RedisFull,
            ]),
    ]
}

#[handler]
async fn get_scale(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    body::write(response, StatusCode::OK, &in_time(queues.scale(&queue_of(request)?)).await?)
}

#[handler]
async fn set_scale(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let queues: Queues = state_of(depot)?;
    let queue = queue_of(request)?;
    let Scale { processes, slots, autoscale } = body::parse(body::read(request).await?)?;
    at_most("processes", processes.flatten())?;
    if let Some(ScaleBounds { min, max }) = autoscale {
        at_most("autoscale.max", Some(max))?;
        if min > max {
            return Err(Problem::field(Code::InvalidRequest, "autoscale.min", "must not be more than autoscale.max"));
        }
    }
    let change = ControlChange { processes, slots, ..ControlChange::default() };
    if change != ControlChange::default() {
        in_time(queues.set_control(&queue, &change)).await?;
        tracing::info!(%queue, processes = ?processes, slots = ?slots, "scaled");
    }
    if let Some(bounds) = autoscale {
        in_time(queues.set_autoscale(&queue, bounds)).await?;
    }
    body::write(response, StatusCode::OK, &in_time(queues.scale(&queue)).await?)
}

fn at_most(field: &str, processes: Option<u32>) -> Result<(), Problem> {
    match processes {
        Some(processes) if processes > MAX_PROCESSES => {
            Err(Problem::field(Code::InvalidRequest, field, format!("must be {MAX_PROCESSES} at most")))
        }
        _ => Ok(()),
    }
}
