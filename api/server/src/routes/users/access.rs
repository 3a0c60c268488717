//! How people get in: where they are logged in, their second factor, the links that were sent to them.

use std::sync::Arc;

use fourmi_kinds::Notice;
use fourmi_model::SessionInfo;
use fourmi_records::User;
use jiff::Timestamp;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{changing, identified, named, within_reach};
use crate::{
    body,
    operation::{JSON, Operation, schema, state_of},
    people::{Act, Event, People, Purpose},
    problem::{Code, Problem},
    routes::auth::{SessionList, session_document, without_second_factor},
};

/// Links that were sent to a person and work.
#[derive(Serialize, JsonSchema)]
struct LinkList {
    /// The links, newest first.
    links: Vec<LinkInfo>,
}

/// A link that was sent to a person.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PersonalLink")]
struct LinkInfo {
    /// What it is for.
    #[schemars(with = "String")]
    purpose: &'static str,
    /// The address that it was sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// The link: whoever has it can do what it is for, once.
    url: String,
    /// The job that sends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    /// When it was made.
    #[schemars(with = "String", extend("format" = "date-time"))]
    created_at: Timestamp,
    /// When it ends.
    #[schemars(with = "String", extend("format" = "date-time"))]
    expires_at: Timestamp,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        identified("list_user_sessions", Method::GET, "/api/v1/users/{id}/sessions", list_sessions)
            .says("Lists where a person is logged in", "")
            .answers(StatusCode::OK, JSON, schema::<SessionList>, "The sessions."),
        changing("end_user_sessions", Method::DELETE, "/api/v1/users/{id}/sessions", end_sessions)
            .says("Logs a person out everywhere", "")
            .answers_empty(StatusCode::NO_CONTENT, "Logged out."),
        changing("remove_user_second_factor", Method::DELETE, "/api/v1/users/{id}/second-factor", remove_second_factor)
            .says("Turns a person's second factor off", "For who has lost both the app and the recovery codes.")
            .answers_empty(StatusCode::NO_CONTENT, "Logging in needs no code any more.")
            .fails(&[Code::SecondFactorMissing]),
        changing("list_user_links", Method::GET, "/api/v1/users/{id}/links", list_links)
            .says("Shows the links that were sent to a person", LINKS)
            .answers(StatusCode::OK, JSON, schema::<LinkList>, "The links."),
        changing("send_user_link", Method::POST, "/api/v1/users/{id}/links", send_link)
            .says("Sends a person a link again", "To confirm the address, else to choose a password.")
            .answers_empty(StatusCode::ACCEPTED, "It is on its way, and can be read (`list_user_links`).")
            .fails(&[Code::RedisUnavailable]),
    ]
}

const LINKS: &str = "For when no mail can be sent: whoever reads one can log in as the person, so it is for those who may do all that the \
    person may, and each reading is remembered in the audit log.";

#[handler]
async fn list_sessions(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = named(&people, request, depot).await?;
    let sessions = people.records.sessions_of(&user.id, Timestamp::now()).await?;
    let sessions: Vec<SessionInfo> = sessions.into_iter().map(|session| session_document(session, None)).collect();
    body::write(response, StatusCode::OK, &SessionList { sessions })
}

#[handler]
async fn end_sessions(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = within_reach(&people, request, depot).await?;
    let ended = people.records.revoke_sessions(&user.id, None, "logged_out_by_admin", Timestamp::now()).await?;
    people.reload().await?;
    let event = Event::of(request, depot, Act::SessionRevoked).to(&user.id).in_tenant(user.tenant.as_ref());
    event.with("sessions", ended).note(&people.records).await?;
    people.try_to_mail(&user, Notice::SessionsEnded).await;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

#[handler]
async fn remove_second_factor(
    request: &mut Request,
    depot: &mut Depot,
    response: &mut Response,
) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = within_reach(&people, request, depot).await?;
    if user.totp_confirmed_at.is_none() {
        return Err(Problem::new(Code::SecondFactorMissing, "There is nothing to turn off."));
    }
    without_second_factor(&people, &user).await?;
    let event = Event::of(request, depot, Act::SecondFactorRemoved).to(&user.id);
    event.in_tenant(user.tenant.as_ref()).note(&people.records).await?;
    response.status_code(StatusCode::NO_CONTENT);
    Ok(())
}

#[handler]
async fn list_links(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = within_reach(&people, request, depot).await?;
    let links = people.links_of(&user).await?;
    if !links.is_empty() {
        let event = Event::of(request, depot, Act::LinkRead).to(&user.id).in_tenant(user.tenant.as_ref());
        event.note(&people.records).await?;
    }
    let links = links.into_iter().map(|link| LinkInfo {
        purpose: link.purpose.as_str(),
        url: link.url,
        email: link.one_time.email,
        job: link.one_time.job,
        created_at: link.one_time.created_at,
        expires_at: link.one_time.expires_at,
    });
    body::write(response, StatusCode::OK, &LinkList { links: links.collect() })
}

#[handler]
async fn send_link(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people: Arc<People> = state_of(depot)?;
    let user = within_reach(&people, request, depot).await?;
    let purpose = match &user {
        User { password_hash: None, .. } => Purpose::Invitation,
        User { email: Some(_), email_confirmed_at: None, .. } => Purpose::ConfirmEmail,
        _ => Purpose::ResetPassword,
    };
    people.mail_link(&user, purpose, user.email.clone()).await?;
    let event = Event::of(request, depot, Act::LinkRequested).to(&user.id).in_tenant(user.tenant.as_ref());
    event.with("purpose", purpose.as_str()).note(&people.records).await?;
    response.status_code(StatusCode::ACCEPTED);
    Ok(())
}
