//! People, for those who look after them.

use fourmi_model::{Language, Role, SessionInfo, TenantName, UserId, UserInfo};
use futures_util::Stream;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError, pages};

/// A person to be invited, or to come from another system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NewUser {
    /// The tenant; without one, that of the caller. Super admins have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// What they are; a user, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The e-mail address, to which the invitation is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// A name to log in with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// What they are called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The language in which the platform writes to them; English, if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
    /// The hash of their password in the system that they come from (bcrypt, or argon2id in PHC form). No invitation is sent
    /// then, and the address counts as confirmed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
}

/// What to change of a person; what is not said stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserChange {
    /// What they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Another tenant, for callers who belong to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
    /// A name to log in with; an empty text for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// What they are called; an empty text for nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The language in which the platform writes to them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<Language>,
}

/// Which people to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserQuery {
    /// Only those of this tenant.
    pub tenant: Option<TenantName>,
    /// Only those of this role.
    pub role: Option<Role>,
    /// Only those who may log in, or only those who may not.
    pub active: Option<bool>,
    /// Only those whose name, username or address holds this.
    pub search: Option<String>,
    /// The most people of a page, 200 at most.
    pub limit: Option<usize>,
    /// Where the page starts: [`UserPage::next`] of the page before.
    pub cursor: Option<String>,
}

impl UserQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("tenant", self.tenant.as_ref().map(ToString::to_string)),
            ("role", self.role.map(|role| role.to_string())),
            ("active", self.active.map(|active| active.to_string())),
            ("search", self.search.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
            ("cursor", self.cursor.clone()),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// A part of a list of people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserPage {
    /// The people, newest first.
    pub users: Vec<UserInfo>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

/// What becomes of the jobs and files of a person who is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leftovers {
    /// They stay with the tenant, under an id that no longer leads to anybody.
    #[default]
    Keep,
    /// They go too; jobs that are not over are cancelled.
    Erase,
}

impl Leftovers {
    /// The word that stands for it everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Erase => "erase",
        }
    }
}

/// A link that was sent to a person and works: whoever has it can do what it is for, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonalLink {
    /// What it is for: `invitation`, `confirm_email` or `reset_password`.
    pub purpose: String,
    /// The address that it was sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The link.
    pub url: String,
    /// The job that sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it ends (RFC 3339).
    pub expires_at: String,
}

#[derive(Deserialize)]
struct Sessions {
    sessions: Vec<SessionInfo>,
}

#[derive(Deserialize)]
struct Links {
    links: Vec<PersonalLink>,
}

impl Client {
    /// A page of the people that this client looks after, newest first.
    ///
    /// # Errors
    /// `scope_missing`, `invalid_cursor`, or that the API does not answer.
    pub async fn users(&self, query: &UserQuery) -> Result<UserPage, ClientError> {
        self.json(self.request(Method::GET, ["users"]).query(&query.pairs())).await
    }

    /// All people that a query wants, from its cursor on, page by page as they are asked for. After an error the same page is
    /// asked for again.
    pub fn all_users(&self, query: UserQuery) -> impl Stream<Item = Result<UserInfo, ClientError>> + Send + use<> {
        let client = self.clone();
        pages::all(query, move |query| {
            let client = client.clone();
            async move {
                let UserPage { users, next } = client.users(&query).await?;
                Ok((users, next.map(|next| UserQuery { cursor: Some(next), ..query })))
            }
        })
    }

    /// A person.
    ///
    /// # Errors
    /// `unknown_user`, `scope_missing`, or that the API does not answer.
    pub async fn user(&self, id: &UserId) -> Result<UserInfo, ClientError> {
        self.json(self.request(Method::GET, ["users", id.as_str()])).await
    }

    /// Invites a person: a link to choose a password is sent to their address. Somebody who comes with the hash of a password
    /// is not written to.
    ///
    /// # Errors
    /// `invalid_request`, `name_taken`, `unknown_tenant`, `foreign_tenant`, `role_too_high`, `scope_missing`, or that the API
    /// does not answer.
    pub async fn create_user(&self, user: &NewUser) -> Result<UserInfo, ClientError> {
        self.json(self.request(Method::POST, ["users"]).json(user)).await
    }

    /// Changes a person; a role counts everywhere within two seconds.
    ///
    /// # Errors
    /// `unknown_user`, `invalid_request`, `name_taken`, `role_too_high`, `last_super_admin`, `changed_meanwhile`, or that the
    /// API does not answer.
    pub async fn change_user(&self, id: &UserId, change: &UserChange) -> Result<UserInfo, ClientError> {
        self.json(self.request(Method::PATCH, ["users", id.as_str()]).json(change)).await
    }

    /// Lets a person log in again.
    ///
    /// # Errors
    /// `unknown_user`, `role_too_high`, `changed_meanwhile`, or that the API does not answer.
    pub async fn activate_user(&self, id: &UserId) -> Result<UserInfo, ClientError> {
        self.json(self.request(Method::POST, ["users", id.as_str(), "activate"])).await
    }

    /// Lets a person log in no more: their sessions end everywhere within two seconds, their jobs go on.
    ///
    /// # Errors
    /// `unknown_user`, `role_too_high`, `last_super_admin`, `changed_meanwhile`, or that the API does not answer.
    pub async fn deactivate_user(&self, id: &UserId) -> Result<UserInfo, ClientError> {
        self.json(self.request(Method::POST, ["users", id.as_str(), "deactivate"])).await
    }

    /// Deletes a person with their sessions and links, at once and for good. What is erased beside that goes on in the
    /// background.
    ///
    /// # Errors
    /// `unknown_user`, `role_too_high`, `last_super_admin`, or that the API does not answer.
    pub async fn delete_user(&self, id: &UserId, leftovers: Leftovers) -> Result<(), ClientError> {
        let call = self.request(Method::DELETE, ["users", id.as_str()]).query(&[("data", leftovers.as_str())]);
        self.send(call).await.map(drop)
    }

    /// Where a person is logged in.
    ///
    /// # Errors
    /// `unknown_user`, `scope_missing`, or that the API does not answer.
    pub async fn sessions(&self, id: &UserId) -> Result<Vec<SessionInfo>, ClientError> {
        let answer: Sessions = self.json(self.request(Method::GET, ["users", id.as_str(), "sessions"])).await?;
        Ok(answer.sessions)
    }

    /// Logs a person out everywhere, within two seconds.
    ///
    /// # Errors
    /// `unknown_user`, `role_too_high`, or that the API does not answer.
    pub async fn end_sessions(&self, id: &UserId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["users", id.as_str(), "sessions"])).await.map(drop)
    }

    /// The links that were sent to a person and work, newest first. Each reading is remembered in the audit log.
    ///
    /// # Errors
    /// `unknown_user`, `role_too_high`, or that the API does not answer.
    pub async fn links(&self, id: &UserId) -> Result<Vec<PersonalLink>, ClientError> {
        let answer: Links = self.json(self.request(Method::GET, ["users", id.as_str(), "links"])).await?;
        Ok(answer.links)
    }

    /// Sends a person a link again: to confirm their address, else to choose a password.
    ///
    /// # Errors
    /// `unknown_user`, `role_too_high`, or that the API does not answer.
    pub async fn send_link(&self, id: &UserId) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, ["users", id.as_str(), "links"])).await.map(drop)
    }

    /// Turns the second factor of a person off who has lost it.
    ///
    /// # Errors
    /// `unknown_user`, `second_factor_missing`, `role_too_high`, `changed_meanwhile`, or that the API does not answer.
    pub async fn remove_second_factor(&self, id: &UserId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["users", id.as_str(), "second-factor"])).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use serde_json::json;

    use super::*;
    use crate::scripted::{Scripted, answer};

    fn page(id: &str, next: Option<&str>) -> String {
        let user = json!({
            "id": id, "username": "ada", "email_confirmed": true, "role": "user", "tenant": "acme", "active": true,
            "has_password": true, "second_factor": false, "name": "Ada", "language": "fr", "created_at": "2026-01-01T00:00:00Z",
        });
        answer("200 OK", "", None, &json!({"users": [user], "next": next}).to_string())
    }

    #[tokio::test]
    async fn all_people_are_those_of_every_page_of_the_same_query() {
        let ids = ["user-0198c0de000070008000000000000001", "user-0198c0de000070008000000000000002"];
        let api = Scripted::start([page(ids[0], Some("1.a")), page(ids[1], None)]).await;
        let query = UserQuery { active: Some(true), search: Some("a&b".to_owned()), ..UserQuery::default() };
        let users: Vec<_> = api.client().all_users(query).try_collect().await.unwrap();
        assert_eq!(users.iter().map(|user| user.id.as_str()).collect::<Vec<_>>(), ids);
        assert_eq!((users[0].profile.name.as_deref(), users[0].profile.language), (Some("Ada"), Language::French));
        let asked: Vec<_> = api.requests().iter().map(|head| head.lines().next().unwrap().to_owned()).collect();
        let first = "/api/v1/users?active=true&search=a%26b";
        assert_eq!(asked, [format!("GET {first} HTTP/1.1"), format!("GET {first}&cursor=1.a HTTP/1.1")]);
    }

    #[test]
    fn what_is_not_said_of_a_new_person_is_not_sent() {
        let line = r#"{"tenant":"acme","email":"ada@example.org","password_hash":"$2b$12$x"}"#;
        let user: NewUser = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&user).unwrap(), line);
        assert!(serde_json::from_str::<NewUser>(r#"{"mail":"ada@example.org"}"#).is_err());
    }
}
