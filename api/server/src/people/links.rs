//! Links that mails carry: each opens one thing, once, for a while.
//!
//! Of a link the records keep an id; the other half is derived from the platform's secret. So nobody who reads the records
//! can follow one, and an admin may still be shown it while no mail is sent. The worker that sends mails derives it too.

pub(crate) use fourmi_model::LinkPurpose as Purpose;
use fourmi_model::{TenantName, UserId};
use fourmi_records::{OneTime, RecordsError, User};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::People;
use crate::problem::{Code, Problem};

/// How long a link works.
const fn life(purpose: Purpose) -> SignedDuration {
    match purpose {
        Purpose::ConfirmEmail => SignedDuration::from_hours(72),
        Purpose::ResetPassword => SignedDuration::from_hours(1),
        Purpose::Invitation => SignedDuration::from_hours(7 * 24),
    }
}

/// A link that works, with both halves of its token.
pub(crate) struct Link {
    pub(crate) purpose: Purpose,
    pub(crate) url: String,
    pub(crate) one_time: OneTime,
}

impl People {
    /// Makes a link for a person. Of each purpose only the newest works.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn make_link(
        &self,
        user: &UserId,
        purpose: Purpose,
        email: Option<String>,
    ) -> Result<OneTime, RecordsError> {
        let now = Timestamp::now();
        let one_time = OneTime {
            id: format!("token-{}", Uuid::new_v4().simple()),
            user: user.clone(),
            purpose: purpose.as_str().to_owned(),
            email,
            job: None,
            created_at: now,
            expires_at: now + life(purpose),
            used_at: None,
        };
        self.records.add_one_time(&one_time).await?;
        Ok(one_time)
    }

    /// The links of a person that work, newest first.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn links_of(&self, user: &User) -> Result<Vec<Link>, Problem> {
        let base = self.link_base(user.tenant.as_ref()).await?;
        let links = self.records.one_times_of(&user.id, Timestamp::now()).await?.into_iter().filter_map(|one_time| {
            let purpose: Purpose = one_time.purpose.parse().ok()?;
            let token = (one_time.id.as_str(), purpose.as_str(), one_time.user.as_str());
            let url = self.secrets.one_time_url(&base, purpose.page(), token);
            Some(Link { purpose, url, one_time })
        });
        Ok(links.collect())
    }

    /// Where links to people of a tenant lead: to its app, else to the platform.
    async fn link_base(&self, tenant: Option<&TenantName>) -> Result<String, RecordsError> {
        let tenant = match tenant {
            Some(name) => self.records.tenant(name).await?,
            None => None,
        };
        let base = tenant.and_then(|tenant| tenant.app_url).or_else(|| self.settings.public_url.clone());
        Ok(base.unwrap_or_default().trim_end_matches('/').to_owned())
    }

    /// Reads a token without using it up.
    ///
    /// # Errors
    /// If it is none of these purposes that works.
    pub(crate) async fn read_token(&self, token: &str, purposes: &[Purpose]) -> Result<OneTime, Problem> {
        let (id, secret) = token.split_once('.').ok_or_else(unknown_token)?;
        let one_time = self.records.one_time(id).await?.ok_or_else(unknown_token)?;
        let is_meant = purposes.iter().any(|purpose| purpose.as_str() == one_time.purpose);
        let works = one_time.used_at.is_none() && one_time.expires_at > Timestamp::now();
        if !is_meant || !works || !self.secrets.opens_one_time(id, &one_time.purpose, one_time.user.as_str(), secret) {
            return Err(unknown_token());
        }
        Ok(one_time)
    }

    /// Uses up a token that was read.
    ///
    /// # Errors
    /// If somebody was faster.
    pub(crate) async fn use_token(&self, one_time: &OneTime) -> Result<(), Problem> {
        match self.records.use_one_time(&one_time.id, Timestamp::now()).await? {
            Some(_) => Ok(()),
            None => Err(unknown_token()),
        }
    }
}

fn unknown_token() -> Problem {
    Problem::new(Code::TokenInvalid, "It was used, is over or was never given out: ask for another mail.")
}
