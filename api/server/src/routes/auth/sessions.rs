//! Where one is logged in, and logging out.

use fourmi_model::SessionInfo;
use fourmi_records::Session;
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{done, myself, people_of, personal};
use crate::{
    body,
    caller::Caller,
    door::Origin,
    operation::{JSON, Operation, Place, schema},
    people::{Act, Event, Login, take_cookies},
    problem::{Code, Problem},
};

/// Sessions of a person.
#[derive(Serialize, JsonSchema)]
pub(crate) struct SessionList {
    /// The sessions, the one that was renewed last first.
    pub(crate) sessions: Vec<SessionInfo>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        personal("logout", Method::POST, "/api/v1/auth/logout", log_out)
            .says("Logs out", "The session is over, and its tokens with it, everywhere within two seconds.")
            .answers_empty(StatusCode::NO_CONTENT, "Logged out."),
        personal("list_sessions", Method::GET, "/api/v1/auth/sessions", list_sessions)
            .says("Lists where one is logged in", "")
            .answers(StatusCode::OK, JSON, schema::<SessionList>, "The sessions."),
        personal("end_sessions", Method::DELETE, "/api/v1/auth/sessions", end_sessions)
            .says("Logs out everywhere", "This session ends too.")
            .answers_empty(StatusCode::NO_CONTENT, "Logged out."),
        personal("end_session", Method::DELETE, "/api/v1/auth/sessions/{id}", end_session)
            .says("Logs out elsewhere", "")
            .takes(Place::Path, "id", schema::<String>, "The session.")
            .answers_empty(StatusCode::NO_CONTENT, "It is over.")
            .fails(&[Code::UnknownSession]),
    ]
}

/// Where the caller is logged in.
fn login_of(depot: &Depot) -> Result<Login, Problem> {
    let caller = Caller::of(depot)?;
    caller.login().cloned().ok_or_else(|| Problem::internal("the route is not for people alone"))
}

#[handler]
async fn log_out(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (people, login) = (people_of(depot)?, login_of(depot)?);
    people.records.revoke_session(&login.user, &login.session, "logout", Timestamp::now()).await?;
    people.reload().await?;
    Event::of(request, depot, Act::Logout).to(&login.session).note(&people.records).await?;
    take_cookies(response, depot.get_typed::<Origin>().ok());
    done(response);
    Ok(())
}

#[handler]
async fn list_sessions(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let (caller, user) = myself(&people, depot).await?;
    let current = caller.login().map(|login| login.session.as_str());
    let sessions = people.records.sessions_of(&user.id, Timestamp::now()).await?;
    let sessions = sessions.into_iter().map(|session| document(session, current)).collect();
    body::write(response, StatusCode::OK, &SessionList { sessions })
}

#[handler]
async fn end_sessions(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (people, login) = (people_of(depot)?, login_of(depot)?);
    let ended = people.records.revoke_sessions(&login.user, None, "logout_everywhere", Timestamp::now()).await?;
    people.reload().await?;
    let event = Event::of(request, depot, Act::Logout).to(&login.user);
    event.with("sessions", ended).note(&people.records).await?;
    take_cookies(response, depot.get_typed::<Origin>().ok());
    done(response);
    Ok(())
}

#[handler]
async fn end_session(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let (people, login) = (people_of(depot)?, login_of(depot)?);
    let session: String = request.param("id").unwrap_or_default();
    if !people.records.revoke_session(&login.user, &session, "logout_elsewhere", Timestamp::now()).await? {
        return Err(Problem::new(Code::UnknownSession, "It is over, or was never there."));
    }
    people.reload().await?;
    Event::of(request, depot, Act::SessionRevoked).to(&session).note(&people.records).await?;
    done(response);
    Ok(())
}

pub(crate) fn document(session: Session, current: Option<&str>) -> SessionInfo {
    SessionInfo {
        current: current == Some(session.id.as_str()),
        id: session.id,
        device: session.device,
        user_agent: session.user_agent,
        address: session.address,
        created_at: session.created_at,
        refreshed_at: session.refreshed_at,
        expires_at: session.expires_at,
    }
}
