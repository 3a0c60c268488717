//! Oneself: what one says of oneself, and the end of one's account.

use fourmi_model::{Language, UserInfo};
use fourmi_records::Leftovers;
use jiff::tz::TimeZone;
use salvo::{
    Depot, Request, Response, handler,
    http::{Method, StatusCode},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{check_own_password, checking, done, myself, people_of, personal, posting, second_factor::OwnPassword};
use crate::{
    body,
    door::Origin,
    operation::{JSON, Operation, schema},
    people::{Act, Event, take_cookies},
    problem::{Code, Problem},
    routes::{
        submission::invalid,
        users::{changed, document, remove, set, set_name, set_username},
    },
};

/// The most bytes of preferences, as JSON.
const MAX_PREFERENCES: usize = 16 * 1024;

/// What to change of oneself; what is not said stays.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct ProfilePatch {
    /// A name to log in with; an empty text for none.
    username: Option<String>,
    /// What one is called; an empty text for nothing.
    #[schemars(length(max = 100))]
    name: Option<String>,
    /// The language in which the platform writes to one.
    language: Option<Language>,
    /// Where one is, such as `Europe/Paris`; an empty text for nowhere.
    time_zone: Option<String>,
    /// One's telephone number in international form, such as `+33612345678`; an empty text for none.
    phone: Option<String>,
    /// What apps want to remember: takes the place of what was there; 16 KiB at most.
    preferences: Option<Map<String, Value>>,
}

pub(super) fn operations() -> Vec<Operation> {
    vec![
        personal("get_me", Method::GET, "/api/v1/auth/me", get_me).says("Describes oneself", "").answers(
            StatusCode::OK,
            JSON,
            schema::<UserInfo>,
            "The person.",
        ),
        personal("change_me", Method::PATCH, "/api/v1/auth/me", change_me)
            .says("Changes one's profile", "Address and password have routes of their own.")
            .reads(JSON, schema::<ProfilePatch>)
            .answers(StatusCode::OK, JSON, schema::<UserInfo>, "The person.")
            .fails(&[Code::BadRequest, Code::InvalidJson, Code::PayloadTooLarge, Code::InvalidRequest])
            .fails(&[Code::NameTaken, Code::ChangedMeanwhile]),
        checking(posting("delete_me", "/api/v1/auth/delete-account", delete_me))
            .for_people()
            .says("Deletes one's account", DELETE_ME)
            .reads(JSON, schema::<OwnPassword>)
            .answers_empty(StatusCode::NO_CONTENT, "The account is gone.")
            .fails(&[Code::LastSuperAdmin]),
    ]
}

const DELETE_ME: &str = "With sessions and links, at once and for good. Jobs and files stay with the tenant, under an id that no longer leads \
    to anybody; its admins can erase them too, before.";

#[handler]
async fn get_me(depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let (_, user) = myself(&people, depot).await?;
    body::write(response, StatusCode::OK, &document(&user))
}

#[handler]
async fn change_me(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let patch: ProfilePatch = body::parse(body::read(request).await?)?;
    let (_, mut user) = myself(&people, depot).await?;
    set_username(&mut user, patch.username)?;
    let profile = &mut user.profile;
    set_name(profile, patch.name)?;
    profile.language = patch.language.unwrap_or(profile.language);
    set(&mut profile.time_zone, patch.time_zone, |zone| match TimeZone::get(&zone) {
        Ok(_) => Ok(zone),
        Err(_) => Err(invalid("time_zone", "must be one of the IANA database, such as Europe/Paris")),
    })?;
    set(&mut profile.phone, patch.phone, |phone| {
        let digits = phone.strip_prefix('+').filter(|digits| digits.bytes().all(|c| c.is_ascii_digit()));
        let is_number = digits.is_some_and(|digits| (8..=15).contains(&digits.len()) && !digits.starts_with('0'));
        if is_number { Ok(phone) } else { Err(invalid("phone", "must be in international form, such as +33612345678")) }
    })?;
    if let Some(preferences) = patch.preferences {
        if serde_json::to_vec(&preferences).map_err(Problem::internal)?.len() > MAX_PREFERENCES {
            return Err(invalid("preferences", format!("must have {MAX_PREFERENCES} bytes at most")));
        }
        profile.preferences = preferences;
    }
    changed(people.records.change_user(&user).await?)?;
    body::write(response, StatusCode::OK, &document(&user))
}

#[handler]
async fn delete_me(request: &mut Request, depot: &mut Depot, response: &mut Response) -> Result<(), Problem> {
    let people = people_of(depot)?;
    let OwnPassword { password } = body::parse(body::read(request).await?)?;
    let (_, user) = myself(&people, depot).await?;
    check_own_password(&people, depot, &user, &password).await?;
    remove(&people, &user, Leftovers::Keep).await?;
    let event = Event::of(request, depot, Act::UserDeleted).to(&user.id);
    event.in_tenant(user.tenant.as_ref()).with("data", "keep").note(&people.records).await?;
    take_cookies(response, depot.get_typed::<Origin>().ok());
    done(response);
    Ok(())
}
