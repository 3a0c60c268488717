//! Logging in. Whoever is logged in shows an access token where programs show a key.

use fourmi_model::UserInfo;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Client, ClientError};

/// Whoever is logged in, and their tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Greeting {
    /// The access token: [`Client::new`] takes it in place of a key.
    pub access_token: String,
    /// How long the access token holds, in seconds.
    pub expires_in: u64,
    /// What renews the session, once: [`Client::refresh`] gives the next one.
    pub refresh_token: String,
    /// When the session ends (RFC 3339), unless it is renewed before.
    pub session_expires_at: String,
    /// The person.
    pub user: UserInfo,
}

impl Client {
    /// Logs a person in at the API at `url`, by their username or e-mail address and password, and by a code of their second
    /// factor if they have one.
    ///
    /// ```no_run
    /// # async fn example(password: &str) -> Result<(), fourmi_client::ClientError> {
    /// use fourmi_client::Client;
    ///
    /// let url = "http://127.0.0.1:8700";
    /// let greeting = Client::login(url, "ada@example.org", password, None).await?;
    /// let client = Client::new(url, &greeting.access_token)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `credentials_invalid`, `login_delayed`, `login_busy`, `second_factor_required`, `second_factor_invalid`,
    /// `email_unconfirmed`, `account_deactivated`, `tenant_suspended`, or that the API does not answer.
    pub async fn login(url: &str, username: &str, password: &str, code: Option<&str>) -> Result<Greeting, ClientError> {
        let client = Self::without_key(url)?;
        let mut body = json!({"username": username, "password": password});
        if let Some(code) = code {
            body["code"] = code.into();
        }
        client.json(client.request(Method::POST, ["auth", "login"]).json(&body)).await
    }

    /// Renews a session at the API at `url`. The refresh token works once; one that is used again ends the session.
    ///
    /// # Errors
    /// `session_over`, `account_deactivated`, `tenant_suspended`, or that the API does not answer.
    pub async fn refresh(url: &str, refresh_token: &str) -> Result<Greeting, ClientError> {
        let client = Self::without_key(url)?;
        let call = client.request(Method::POST, ["auth", "refresh"]);
        client.json(call.json(&json!({"refresh_token": refresh_token}))).await
    }

    /// Ends the session whose access token this client shows, everywhere within two seconds.
    ///
    /// # Errors
    /// `token_expired`; `people_only` if this client shows a key; or that the API does not answer.
    pub async fn logout(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::POST, ["auth", "logout"])).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::{Scripted, answer};

    #[tokio::test]
    async fn whoever_logs_in_shows_no_key() {
        let greeting = r#"{"access_token":"a.b.c","token_type":"bearer","expires_in":900,"refresh_token":"r",
            "session_expires_at":"2026-02-01T00:00:00Z","user":{"id":"user-0198c0de000070008000000000000001",
            "username":"ada","email_confirmed":true,"role":"super_admin","active":true,"has_password":true,
            "second_factor":false,"language":"en","created_at":"2026-01-01T00:00:00Z"}}"#;
        let refused = r#"{"status":401,"code":"session_over"}"#;
        let answers = [answer("200 OK", "", None, greeting), answer("401 Unauthorized", "", None, refused)];
        let api = Scripted::start(answers).await;
        let url = api.client().url().to_owned();
        let greeting = Client::login(&url, "ada", "correct horse", None).await.unwrap();
        assert_eq!((greeting.access_token.as_str(), greeting.user.username.as_str()), ("a.b.c", "ada"));
        let refused = Client::refresh(&url, "r").await.unwrap_err();
        assert_eq!(refused.problem().unwrap().code, "session_over");
        let heads = api.requests();
        assert!(heads[0].starts_with("POST /api/v1/auth/login ") && heads[1].starts_with("POST /api/v1/auth/refresh "));
        assert!(heads.iter().all(|head| !head.to_lowercase().contains("authorization")), "{heads:?}");
    }
}
