//! What changed lately in what tokens say, so that a token is checked without asking the records.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use fourmi_model::{TenantName, UserId};
use jiff::Timestamp;
use tokio::sync::watch;

/// The changes of the time that a token can live, as they are known here.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// The versions of the records of people and of tenants that this is of.
    pub(crate) versions: (i64, i64),
    /// What tokens of these people must say at least.
    pub(crate) access: HashMap<UserId, i64>,
    /// Sessions that were ended.
    pub(crate) ended: HashSet<String>,
    /// Tenants whose people and keys are refused.
    pub(crate) suspended: HashSet<TenantName>,
}

impl Recent {
    /// Whether a token that says this still holds.
    pub(crate) fn holds(&self, user: &UserId, session: &str, access_version: i64) -> bool {
        !self.ended.contains(session) && self.access.get(user).is_none_or(|least| access_version >= *least)
    }
}

/// A person who is logged in, as their token says.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: UserId,
    pub(crate) session: String,
    /// When the token is over.
    pub(crate) until: Timestamp,
    pub(crate) access_version: i64,
    pub(crate) recent: watch::Receiver<Arc<Recent>>,
}

impl Login {
    /// Waits until the token no longer holds: its time is over, or the person was logged out.
    pub(crate) async fn end(mut self) {
        let left = self.until.duration_since(Timestamp::now()).try_into().unwrap_or_default();
        let over = async {
            let no_longer = |recent: &Arc<Recent>| !recent.holds(&self.user, &self.session, self.access_version);
            // If nobody can tell any more, we stop, which ends streams anyway.
            if self.recent.wait_for(no_longer).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _either = tokio::time::timeout(left, over).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn login(recent: &watch::Sender<Arc<Recent>>, until: Timestamp) -> Login {
        let session = "session-1".to_owned();
        Login { user: UserId::random(), session, until, access_version: 3, recent: recent.subscribe() }
    }

    #[tokio::test]
    async fn a_login_ends_by_time_and_when_it_is_taken_back() {
        let (news, _) = watch::channel(Arc::new(Recent::default()));
        let later = Timestamp::now() + Duration::from_secs(3_600);
        login(&news, Timestamp::now()).end().await;

        let one = login(&news, later);
        let (changed, kept) = (one.user.clone(), tokio::spawn(login(&news, later).end()));
        let ended = tokio::spawn(one.end());
        news.send_replace(Arc::new(Recent { access: HashMap::from([(changed, 4)]), ..Recent::default() }));
        ended.await.unwrap();
        assert!(!kept.is_finished());
        news.send_replace(Arc::new(Recent { ended: HashSet::from(["session-1".to_owned()]), ..Recent::default() }));
        kept.await.unwrap();
    }

    #[test]
    fn a_token_holds_unless_something_newer_is_known() {
        let (user, other) = (UserId::random(), UserId::random());
        let recent = Recent {
            access: HashMap::from([(user.clone(), 4)]),
            ended: HashSet::from(["gone".to_owned()]),
            ..Recent::default()
        };
        assert!(recent.holds(&user, "here", 4) && recent.holds(&other, "here", 1));
        assert!(!recent.holds(&user, "here", 3) && !recent.holds(&other, "gone", 9));
    }
}
