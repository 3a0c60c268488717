//! Mails of the platform to its people: jobs of the kind `mail.notice`, which carry ids and nothing personal.

use std::time::Duration;

use fourmi_kinds::{JobKind, MailNotice, Notice};
use fourmi_model::{JobId, Submission};
use fourmi_records::{OneTime, RecordsError, User};
use jiff::Timestamp;

use super::{People, Purpose};
use crate::{problem::Problem, redis::in_time};

/// How long a stranger cannot have a person written to again, after the first mail of a sort; twice as long after each other.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// After how long without a mail the pauses begin anew.
const CALM: Duration = Duration::from_secs(24 * 3_600);

impl People {
    /// Whether a person may be written to because somebody asked who has shown nothing: now and then, so that nobody's letter
    /// box is filled. It counts as done.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn may_write_for_stranger(&self, user: &User, notice: Notice) -> Result<bool, RecordsError> {
        let subject = format!("mail:{}:{notice:?}", user.id);
        let now = Timestamp::now();
        let until = self.records.attempts(&[&subject]).await?.first().and_then(|attempts| attempts.until);
        if until.is_some_and(|until| until > now) {
            return Ok(false);
        }
        let pause = |mails: u32| (FIRST_PAUSE * (1 << mails.saturating_sub(1).min(6))).min(LONGEST_PAUSE);
        self.records.note_failure(&subject, now, CALM, pause).await?;
        Ok(true)
    }

    /// Asks whether mails can be sent now, before it matters to whom: so that a failure tells nothing of an account.
    ///
    /// # Errors
    /// If the jobs cannot be reached.
    pub(crate) async fn check_mail(&self) -> Result<(), Problem> {
        in_time(self.queues.health()).await.map(drop)
    }

    /// Sends a person a link for this purpose, to the address that is confirmed by it, if there is one.
    ///
    /// # Errors
    /// If the jobs or the records cannot be reached.
    pub(crate) async fn mail_link(&self, user: &User, purpose: Purpose, email: Option<String>) -> Result<(), Problem> {
        let one_time = self.make_link(&user.id, purpose, email).await?;
        let notice = match purpose {
            Purpose::ConfirmEmail => Notice::ConfirmEmail,
            Purpose::ResetPassword => Notice::ResetPassword,
            Purpose::Invitation => Notice::Invitation,
        };
        let job = self.submit_mail(user, notice, Some(&one_time)).await?;
        self.records.note_one_time_job(&one_time.id, &job.to_string()).await?;
        Ok(())
    }

    /// Tells a person something.
    ///
    /// # Errors
    /// If the jobs cannot be reached.
    pub(crate) async fn mail(&self, user: &User, notice: Notice) -> Result<(), Problem> {
        self.submit_mail(user, notice, None).await.map(drop)
    }

    /// As [`Self::mail`], for what has happened already and must not fail because nobody can be told.
    pub(crate) async fn try_to_mail(&self, user: &User, notice: Notice) {
        if let Err(problem) = self.mail(user, notice).await {
            tracing::warn!(user.id = %user.id, error.code = problem.code().as_str(), "a mail was not submitted");
        }
    }

    async fn submit_mail(&self, user: &User, notice: Notice, one_time: Option<&OneTime>) -> Result<JobId, Problem> {
        // Whoever reads the mail of the address that was is told that it is another now.
        let address = user.email.as_deref().filter(|_| notice == Notice::EmailChanged);
        let seal = |address: &str| self.secrets.seal(&MailNotice::seal_context(&user.id), address.as_bytes());
        let sealed_address = address.map(seal).transpose().map_err(Problem::internal)?;
        let token = one_time.map(|one_time| one_time.id.clone());
        let mail = MailNotice { to: user.id.clone(), notice, token, sealed_address };
        let payload = serde_json::value::to_raw_value(&mail).map_err(Problem::internal)?;
        let kind = MailNotice::NAME.parse().map_err(Problem::internal)?;
        let mut submission = Submission::new(kind, payload);
        let policy = MailNotice::policy();
        submission.priority = policy.priority;
        submission.note(&policy);
        submission.tenant = user.tenant.clone();
        submission.envelope.deadline = one_time.map(|one_time| one_time.expires_at);
        let id = JobId::new(MailNotice::QUEUE.parse().map_err(Problem::internal)?);
        in_time(self.queues.push(id.clone(), submission)).await?.map_err(Problem::from)?;
        Ok(id)
    }
}
