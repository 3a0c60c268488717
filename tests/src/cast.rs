//! People of a platform, made as an admin makes them: invited, by the link that the admin reads.

use fourmi_model::UserInfo;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::Platform;

/// A password that is good enough.
pub const GOOD_PASSWORD: &str = "forty-two ants march";

/// Somebody who has an account, and is logged in.
#[derive(Debug, Clone)]
pub struct Person {
    /// The account.
    pub info: UserInfo,
    /// The access token.
    pub token: String,
    /// The refresh token.
    pub refresh: String,
}

impl Platform {
    /// Makes a tenant where people may make accounts for themselves.
    pub async fn add_tenant(&self, name: &str) {
        let tenant = json!({"name": name, "registration": true});
        let answer = self.request("POST", "/tenants").json(&tenant).send().await.unwrap();
        assert!(matches!(answer.status().as_u16(), 201 | 409), "{}", answer.text().await.unwrap());
    }

    /// A request with this token. `path` is what comes after `/api/v1`.
    pub fn request_as(&self, token: &str, method: &str, path: &str) -> RequestBuilder {
        self.open_request(method, &format!("/api/v1{path}")).bearer_auth(token)
    }

    /// Asks to log in.
    pub async fn try_login(&self, username: &str, password: &str) -> Response {
        let body = json!({"username": username, "password": password});
        self.open_request("POST", "/api/v1/auth/login").json(&body).send().await.unwrap()
    }

    /// Logs in with [`GOOD_PASSWORD`].
    pub async fn login(&self, username: &str) -> Person {
        greeted(self.try_login(username, GOOD_PASSWORD).await).await
    }

    /// The first admin, by the password in the data folder.
    pub async fn first_admin(&self) -> Person {
        let password = std::fs::read_to_string(self.data().join("admin-password")).unwrap();
        greeted(self.try_login("admin", password.trim()).await).await
    }

    /// Invites somebody and follows the link: `role` is `user`, `admin` or `super_admin`, who has no tenant.
    pub async fn add_person(&self, name: &str, role: &str, tenant: Option<&str>) -> Person {
        let mut body = json!({"email": format!("{name}@example.org"), "role": role, "name": name});
        if let Some(tenant) = tenant {
            body["tenant"] = json!(tenant);
        }
        let answer = self.request("POST", "/users").json(&body).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 201, "{text}");
        let info: UserInfo = serde_json::from_str(&text).unwrap();
        let token = self.link_token(info.id.as_str(), "invitation").await;
        let body = json!({"token": token, "password": GOOD_PASSWORD});
        let answer = self.open_request("POST", "/api/v1/auth/reset-password").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 204, "{}", answer.text().await.unwrap());
        self.login(&format!("{name}@example.org")).await
    }

    /// The token of a link that was sent to a person.
    pub async fn link_token(&self, user: &str, purpose: &str) -> String {
        let links = self.get(&format!("/users/{user}/links")).await;
        let links = links["links"].as_array().unwrap();
        let link = links.iter().find(|link| link["purpose"] == purpose).expect("the link");
        link["url"].as_str().unwrap().split_once("token=").unwrap().1.to_owned()
    }

    /// The id of the person with this address.
    pub async fn user_id(&self, email: &str) -> String {
        let found = self.get(&format!("/users?search={email}")).await;
        found["users"][0]["id"].as_str().expect("the person").to_owned()
    }
}

/// Who was let in.
async fn greeted(answer: Response) -> Person {
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    let greeting: Value = serde_json::from_str(&text).unwrap();
    let word = |name: &str| greeting[name].as_str().unwrap().to_owned();
    Person {
        info: serde_json::from_value(greeting["user"].clone()).unwrap(),
        token: word("access_token"),
        refresh: word("refresh_token"),
    }
}
