//! People: who they are, that they are who they say, and what their tokens say of them.
//!
//! The records are the truth. What a request needs is known in every process: the keys that sign tokens, and what changed
//! lately in what tokens say ([`Recent`]), to within a second.

mod audit;
mod crew;
mod first;
mod hs256;
mod links;
mod mails;
pub(crate) mod names;
pub(crate) mod password;
mod recent;
pub(crate) mod secret;
mod sessions;
mod throttle;
mod tokens;
pub(crate) mod totp;

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use fourmi_model::TenantName;
use fourmi_queue::Queues;
use fourmi_records::{Records, RecordsError};
use fourmi_secrets::Secrets;
use fourmi_settings::{Data, People as PeopleSettings};
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval},
};

pub(crate) use self::{
    audit::{Act, Event},
    crew::Busy,
    links::Purpose,
    recent::Login,
    sessions::{Credentials, Fresh, Renewed, give_cookies, over, session_of, take_cookies, tenant_suspended},
    throttle::Tries,
    tokens::TokenError,
};
use self::{
    password::Passwords,
    recent::Recent,
    secret::PeopleSecrets as _,
    tokens::{LATE_S, Tokens},
};
use crate::caller::{Caller, Rights};

/// How soon every process knows of a change.
const REFRESH: Duration = Duration::from_secs(1);

/// How often what nobody needs any more is removed, in looks.
const PRUNE: u64 = 3_600;

/// How long it is known where a person was logged in: people come back to a place after a holiday.
const REMEMBER: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How long failed tries and links that are over are kept.
const FORGET: SignedDuration = SignedDuration::from_hours(2 * 24);

/// The people of the platform.
pub struct People {
    pub(crate) records: Records,
    pub(crate) queues: Queues,
    pub(crate) settings: PeopleSettings,
    pub(crate) secrets: Secrets,
    pub(crate) passwords: Passwords,
    tokens: Tokens,
    recent: watch::Sender<Arc<Recent>>,
    /// Held while it is learned what has changed, so that nobody puts older news in the place of newer ones.
    learning: Mutex<()>,
    admin_password: PathBuf,
}

impl People {
    /// The people in the records, and the first admin, who is made if there is nobody.
    ///
    /// # Errors
    /// If the secret is weak, a file cannot be read or made, or the records do not answer.
    pub async fn open(
        records: Records,
        queues: Queues,
        settings: PeopleSettings,
        data: &Data,
    ) -> anyhow::Result<Arc<Self>> {
        let secrets = Secrets::load(&settings.secrets, data)?;
        let people = Self {
            records,
            queues,
            secrets,
            passwords: Passwords::start().context("passwords cannot be checked")?,
            tokens: Tokens::new(settings.access_token),
            recent: watch::channel(Arc::default()).0,
            learning: Mutex::default(),
            settings,
            admin_password: data.admin_password(),
        };
        first::ensure(&people).await?;
        people.reload().await?;
        Ok(Arc::new(people))
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// If it is no token that holds now.
    pub(crate) fn who(&self, token: &str) -> Result<Caller, TokenError> {
        let claims = self.tokens.check(token, Timestamp::now())?;
        let recent = self.recent.borrow();
        if !recent.holds(&claims.user, &claims.session, claims.access_version) {
            return Err(TokenError::Expired);
        }
        drop(recent);
        let login = Login {
            user: claims.user,
            session: claims.session,
            until: claims.expires_at,
            access_version: claims.access_version,
            recent: self.recent.subscribe(),
        };
        Ok(Caller::new(Rights {
            id: login.user.to_string(),
            tenant: claims.tenant,
            own_only: claims.role.sees_own_only(),
            scopes: claims.role.scopes(),
            rate_limit: None,
            login: Some(login),
        }))
    }

    /// Whether everything of this tenant is refused.
    pub(crate) fn is_suspended(&self, tenant: &TenantName) -> bool {
        self.recent.borrow().suspended.contains(tenant)
    }

    /// Learns at once what has changed.
    ///
    /// # Errors
    /// If the records do not answer; what was known is kept then.
    pub(crate) async fn reload(&self) -> Result<(), RecordsError> {
        let _alone = self.learning.lock().await;
        // A change that comes in between is met again at the next look.
        let versions = self.versions().await?;
        self.reload_keys().await?;
        let since = Timestamp::now() - self.token_life() - SignedDuration::from_secs(60);
        let recent = Recent {
            versions,
            access: self.records.access_changes_since(since).await?.into_iter().collect(),
            ended: self.records.sessions_revoked_since(since).await?.into_iter().collect(),
            suspended: self.records.suspended_tenants().await?.into_iter().collect::<HashSet<_>>(),
        };
        self.recent.send_replace(Arc::new(recent));
        Ok(())
    }

    async fn versions(&self) -> Result<(i64, i64), RecordsError> {
        Ok((self.records.people_version().await?, self.records.tenants_version().await?))
    }

    /// How long a token lives that anybody may hold: the longest that the clocks of our processes allow.
    fn token_life(&self) -> SignedDuration {
        SignedDuration::try_from(self.settings.access_token).unwrap_or(SignedDuration::MAX)
            + SignedDuration::from_secs(LATE_S)
    }

    /// Signs with the newest key, of which there is one at least and none too old, and believes those whose tokens may
    /// still be about.
    async fn reload_keys(&self) -> Result<(), RecordsError> {
        let now = Timestamp::now();
        let age = SignedDuration::try_from(self.settings.token_key).unwrap_or(SignedDuration::MAX);
        let mut keys = self.records.token_keys().await?;
        let newest = keys.first();
        if newest.is_none_or(|newest| newest.revoked_at.is_some() || now.duration_since(newest.made_at) >= age) {
            // If another process is faster, its key is as good.
            self.records.add_token_key(newest.map_or(0, |newest| newest.number), now, false).await?;
            keys = self.records.token_keys().await?;
        }
        let mut ring = Vec::new();
        let mut replaced: Option<Timestamp> = None;
        for key in keys {
            let is_over = replaced.is_some_and(|replaced| now.duration_since(replaced) > self.token_life());
            if key.revoked_at.is_none() && !is_over {
                ring.push((key.number, self.secrets.signing_key(key.number)));
            }
            replaced = Some(key.made_at);
        }
        self.tokens.set_ring(ring);
        Ok(())
    }

    /// Takes the next key to sign tokens with. If the others have become known, what they signed holds no longer: everybody
    /// has to renew their tokens.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn rotate_keys(&self, have_become_known: bool) -> Result<i64, RecordsError> {
        loop {
            let newest = self.records.token_keys().await?.first().map_or(0, |newest| newest.number);
            if self.records.add_token_key(newest, Timestamp::now(), have_become_known).await? {
                self.reload().await?;
                return Ok(newest + 1);
            }
        }
    }

    /// Keeps up with the records, and removes from them what nobody needs.
    pub async fn keep_up(self: Arc<Self>) {
        let mut failing = false;
        let mut looks = interval(REFRESH);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u64.. {
            looks.tick().await;
            match self.look(round % PRUNE == PRUNE - 1).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "changes of people cannot be read; what was known stays in force");
                }
                Err(_) => {}
            }
        }
    }

    async fn look(&self, pruning: bool) -> Result<(), RecordsError> {
        if pruning {
            self.prune().await?;
        }
        // Keys grow old, and what was recent once is forgotten, without a change.
        if pruning || self.versions().await? != self.recent.borrow().versions { self.reload().await } else { Ok(()) }
    }

    async fn prune(&self) -> Result<(), RecordsError> {
        let now = Timestamp::now();
        self.records.prune_sessions(now - REMEMBER).await?;
        self.records.prune_one_times(now - FORGET).await?;
        self.records.prune_attempts(now - FORGET).await?;
        self.records.prune_token_keys(now - self.token_life()).await?;
        Ok(())
    }

    /// The admin's file of the first password: of no use once it was changed.
    pub(crate) fn forget_first_password(&self, user: &fourmi_records::User) {
        first::forget(&self.admin_password, user);
    }
}
