//! Lists of people.

use std::sync::Arc;

use fourmi_model::{Role, TenantName, UserInfo};
use fourmi_records::UserFilter;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{admin, cursor_problem, document};
use crate::{
    body,
    caller::Caller,
    operation::{JSON, Operation, Place, schema, state_of},
    people::People,
    problem::{Code, Problem},
    query::{self, Query},
};

/// A page of people.
#[derive(Serialize, JsonSchema)]
struct UserList {
    /// The people, newest first.
    users: Vec<UserInfo>,
    /// Where the next page starts: the next call's `cursor`. `null` at the end.
    next: Option<String>,
}

/// The most people of a page.
type Limit = query::Limit<50, 200>;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        admin("list_users", Method::GET, "/api/v1/users", list_users)
            .says("Lists and finds people", "Those that the caller looks after.")
            .takes(Place::Query, "tenant", schema::<TenantName>, "Only those of this tenant.")
            .takes(Place::Query, "role", schema::<Role>, "Only those of this role.")
            .takes(Place::Query, "active", schema::<bool>, "Only those who may log in, or may not.")
            .takes(Place::Query, "search", schema::<String>, "Only those whose name, username or address holds this.")
            .takes(Place::Query, "limit", schema::<Limit>, "The most people of a page.")
            .takes(Place::Query, "cursor", schema::<String>, "Where the page starts: `next` of the page before.")
            .answers(StatusCode::OK, JSON, schema::<UserList>, "A page.")
            .fails(&[Code::InvalidQuery, Code::InvalidCursor]),
    ]
}

#[handler]
async fn list_users(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let caller = Caller::of(depot)?;
    let query = Query::of(request, &["tenant", "role", "active", "search", "limit", "cursor"])?;
    let named: Option<TenantName> = query.one("tenant")?;
    let limit = query.one::<Limit>("limit")?.unwrap_or_default().0;
    let cursor: Option<String> = query.one("cursor")?;
    let filter = UserFilter {
        role: query.one("role")?,
        active: query.one("active")?,
        search: query.one("search")?,
        tenant: caller.tenant().cloned().or_else(|| named.clone()),
    };
    // Those of another tenant are not there for this caller.
    let is_foreign = caller.tenant().is_some() && named.is_some_and(|named| Some(&named) != caller.tenant());
    let (users, next) = if is_foreign {
        (Vec::new(), None)
    } else {
        people.records.users(&filter, cursor.as_deref(), limit).await.map_err(cursor_problem)?
    };
    body::write(response, StatusCode::OK, &UserList { users: users.iter().map(document).collect(), next })
}
