//! The figures of the platform.

use bytes::Bytes;
use fourmi_model::Scope;
use fourmi_telemetry::metrics::CONTENT_TYPE as PAGE;
use salvo::{
    Depot, Response, handler,
    http::{HeaderValue, Method, ResBody, StatusCode, header::CONTENT_TYPE},
};

use crate::{
    metrics::Monitor,
    operation::{Group, Operation, schema, state_of},
    problem::Problem,
};

const ABOUT: &str = "In the text format of Prometheus: what this process counts, and how queues, Redis and records are now. \
    What concerns queues is the same from every API process. Figures of jobs by kind are shown by workers themselves \
    (`FOURMI_METRICS_LISTEN`).";

/// The route.
pub fn group(monitor: Monitor) -> Group {
    table().sharing(monitor)
}

pub(crate) fn table() -> Group {
    Group::new(
        "metrics",
        "Figures for monitoring.",
        vec![
            Operation::new("get_metrics", Method::GET, "/metrics", get_metrics)
                .needs(&[Scope::MetricsRead])
                .says("Shows the figures of the platform", ABOUT)
                .answers(StatusCode::OK, "text/plain", schema::<String>, "The figures."),
        ],
    )
}

#[handler]
async fn get_metrics(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let monitor: Monitor = state_of(depot)?;
    let page = monitor.page().await;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PAGE));
    response.replace_body(ResBody::Once(Bytes::from(page)));
    Ok(())
}
