//! What `dataset.analyze` can do, for front ends that build a form from it.

use fourmi_kinds::{AlgorithmList, algorithms};
use salvo::{
    Response, handler,
    http::{Method, StatusCode},
};

use crate::{
    body,
    operation::{Group, JSON, Operation, schema},
    problem::Problem,
};

/// The routes.
pub fn group() -> Group {
    table()
}

const LIST: &str = "Each with its parameters: type, range, default and meaning, in English and French. A job names an \
    algorithm in the field that is its step. `options` are the other fields, in the same way.";

pub(crate) fn table() -> Group {
    let operations = vec![
        Operation::new("list_algorithms", Method::GET, "/api/v1/insight/algorithms", list_algorithms)
            .says("Lists the algorithms that dataset.analyze knows", LIST)
            .answers(StatusCode::OK, JSON, schema::<AlgorithmList>, "The algorithms."),
    ];
    Group::new("insight", "What can be found out about tables.", operations)
}

#[handler]
async fn list_algorithms(response: &mut Response) -> Result<(), Problem> {
    body::write(response, StatusCode::OK, &algorithms())
}
