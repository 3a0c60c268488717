//! `mail.send` and `mail.notice`: mails by a server of the operator's.
//!
//! Every mail has one `Message-ID`, whatever attempt sends it. Whom a server has taken it for is noted at once: an attempt
//! that follows, because others must wait or the worker died, is for those alone that are left. A server that breaks off when
//! it was told everything may have taken the mail; it gets it again, as RFC 5321 (4.2.5, 6.1) has it, under the same id, by
//! which it or the reader drops what is there already.

mod message;
mod notice;
mod smtp;
mod texts;

use std::{collections::HashMap, sync::Arc, time::Duration};

use fourmi_kinds::{MailRefusal, MailSend, MailSent};
use fourmi_model::{Channel, ErrorClass, Failure, LogLevel, ParkReason, SuppressionReason, TenantName};
use fourmi_records::{Records, Suppression};
use fourmi_runtime::Context;
use jiff::Timestamp;
use lettre::{
    Address,
    address::Envelope,
    message::{Mailbox, header::HeaderValue},
};
use tokio::sync::{Mutex, Semaphore};

use self::smtp::{Handed, Reply, Server, Trouble};
pub(crate) use self::{notice::run as run_notice, smtp::SmtpAccount};
use crate::{
    account::account,
    office::{Desk, Office, records_unavailable},
};

/// The wait after a first failed attempt; twice as long after each other.
const FIRST_DELAY: Duration = Duration::from_secs(30);

/// The longest wait, but for chance.
const LONGEST_DELAY: Duration = Duration::from_secs(6 * 3600);

/// The shortest wait after an answer that may be that of a grey list, which wants to see whether one comes back.
const GREY_DELAY: Duration = Duration::from_secs(5 * 60);

/// Answers that may be those of a grey list.
const GREY: [u16; 3] = [421, 450, 451];

/// The most mails with attachments at a time: each is in memory several times over.
const HEAVY: usize = 4;

/// The servers of a process, by the names of their accounts.
pub(crate) struct Servers {
    by_account: Mutex<HashMap<String, Arc<Server>>>,
    heavy: Semaphore,
}

impl Default for Servers {
    fn default() -> Self {
        Self { by_account: Mutex::default(), heavy: Semaphore::new(HEAVY) }
    }
}

impl Servers {
    /// The server of an account, as the operator has it now.
    ///
    /// # Errors
    /// The job is parked as `not_configured` if there is none, or it is malformed.
    async fn of(&self, context: &Context, name: &str) -> Result<Arc<Server>, Failure> {
        self.with(name, account(context, name).await?).await
    }

    /// The server of an account that is written so.
    ///
    /// # Errors
    /// `not_configured` if it cannot be used.
    pub(crate) async fn with(&self, name: &str, account: SmtpAccount) -> Result<Arc<Server>, Failure> {
        let mut servers = self.by_account.lock().await;
        if let Some(server) = servers.get(name).filter(|server| server.is_of(&account)) {
            return Ok(server.clone());
        }
        let server = Arc::new(Server::of(name, account).await?);
        servers.insert(name.to_owned(), server.clone());
        Ok(server)
    }
}

/// A mail on its way.
struct Post<'a> {
    office: &'a Office,
    desk: &'a Desk,
    context: &'a Context,
    account: &'a str,
    server: &'a Server,
}

/// The recipients of a mail by what is to be done.
#[derive(Default)]
struct Recipients {
    /// Those that get it now.
    left: Vec<Address>,
    /// Those for which it was handed over.
    mailed: Vec<String>,
    /// Those that get nothing any more.
    suppressed: Vec<String>,
}

/// Sends a mail.
pub(crate) async fn run(office: Arc<Office>, job: MailSend, context: Context) -> Result<MailSent, Failure> {
    let desk = office.desk(context.settings()).await?;
    let server = desk.servers.of(&context, &job.account).await?;
    let tenant = context.tenant().await?;
    let post = Post { office: &office, desk: &desk, context: &context, account: &job.account, server: &server };
    let message_id = post.message_id();
    let recipients = post.recipients(&job, tenant.as_ref()).await?;
    let mut sent = MailSent {
        message_id: message_id.clone(),
        accepted: recipients.mailed,
        suppressed: recipients.suppressed,
        refused: Vec::new(),
    };
    if recipients.left.is_empty() {
        return Ok(sent);
    }
    let _heavy = match job.attachments.is_empty() {
        true => None,
        false => desk.servers.heavy.acquire().await.ok(),
    };
    let mail = post.write(&job, tenant.as_ref(), &message_id, &sent.suppressed).await?;
    let handed = post.hand_over(&recipients.left, &mail).await?;
    sent.accepted.extend(handed.accepted.iter().map(|address| comparable(address.as_ref())));
    post.suppress(tenant.as_ref(), &handed).await?;
    if let Some((address, reply)) = handed.refused.iter().find(|(_, reply)| reply.is_transient()) {
        return Err(refused_for_now(reply, &context).because(format_args!("{address}: {reply}")));
    }
    sent.refused = handed.refused.iter().map(refusal).collect();
    match handed.refused.first() {
        Some((address, reply)) if sent.accepted.is_empty() => {
            Err(refused_for_good(reply).because(format_args!("{address}: {reply}")))
        }
        _ => Ok(sent),
    }
}

impl Post<'_> {
    /// The same for every attempt.
    fn message_id(&self) -> String {
        format!("<{}@{}>", self.context.job_id().uuid(), self.server.from().email.domain())
    }

    async fn recipients(&self, job: &MailSend, tenant: Option<&TenantName>) -> Result<Recipients, Failure> {
        let mut recipients = Recipients::default();
        // A first run has nothing to go on with.
        if self.context.run() > 1 {
            let mailed = self.desk.records.mailed(&self.context.job_id().to_string()).await;
            recipients.mailed = mailed.map_err(records_unavailable)?;
        }
        for recipient in job.recipients() {
            let (_, text) = MailSend::name_and_address(recipient);
            let address: Address = text.parse().map_err(|_| no_address(text))?;
            let compared = comparable(text);
            if recipients.mailed.contains(&compared) || recipients.left.contains(&address) {
                continue;
            }
            let suppression = self.desk.records.suppression(tenant, Channel::Mail, &compared).await;
            match suppression.map_err(records_unavailable)? {
                None => recipients.left.push(address),
                Some(_) if recipients.suppressed.contains(&compared) => {}
                Some(_) => recipients.suppressed.push(compared),
            }
        }
        Ok(recipients)
    }

    async fn write(
        &self,
        job: &MailSend,
        tenant: Option<&TenantName>,
        message_id: &str,
        suppressed: &[String],
    ) -> Result<Vec<u8>, Failure> {
        let mut head = message::head(self.server.from(), message_id, &job.subject);
        // The head is the same for every attempt, so it names those too for which the mail was handed over.
        let shown = |list: &[String]| -> Result<Vec<Mailbox>, Failure> {
            let left = list.iter().filter(|text| !suppressed.contains(&comparable(MailSend::name_and_address(text).1)));
            left.map(|text| mailbox(text)).collect()
        };
        head = shown(&job.to)?.into_iter().fold(head, |head, to| head.to(to));
        head = shown(&job.cc)?.into_iter().fold(head, |head, cc| head.cc(cc));
        if let Some(text) = &job.reply_to {
            head = head.reply_to(mailbox(text)?);
        }
        for value in job.headers.iter().filter_map(|(name, value)| message::header(name, value)) {
            head = head.raw_header(value);
        }
        if job.bulk {
            for value in self.way_out(job, tenant)? {
                head = head.raw_header(value);
            }
        }
        // Copies of which others do not know stand in no head: who gets the mail is said to the server.
        head = head.envelope(self.own_envelope()?);
        let enclosed = message::enclosed(job, self.context).await?;
        let written = message::write(head, (job.text.as_deref(), job.html.as_deref()), enclosed)?;
        Ok(written.formatted())
    }

    /// An envelope for a writer of mails that insists on one, from and to the account itself; it is not used.
    fn own_envelope(&self) -> Result<Envelope, Failure> {
        let from = &self.server.from().email;
        Envelope::new(Some(from.clone()), vec![from.clone()]).map_err(|_| no_address(from.as_ref()))
    }

    /// The headers by which a reader's program offers to get no more such mails (RFC 2369, RFC 8058).
    fn way_out(&self, job: &MailSend, tenant: Option<&TenantName>) -> Result<Vec<HeaderValue>, Failure> {
        let Some(base) = self.desk.public_url() else {
            return Err(no_public_url("mail in bulk carries a link by which its reader gets no more of it"));
        };
        let recipient = job.to.first().map(|text| comparable(MailSend::name_and_address(text).1)).unwrap_or_default();
        let token = self.desk.secrets.unsubscribe_token(tenant.map(TenantName::as_str), &recipient);
        let link = format!("<{base}/api/v1/unsubscribe/{token}>");
        let headers = [("List-Unsubscribe", link.as_str()), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")];
        Ok(headers.into_iter().filter_map(|(name, value)| message::header(name, value)).collect())
    }

    /// Hands a mail over, and notes for whom it was taken.
    async fn hand_over(&self, recipients: &[Address], mail: &[u8]) -> Result<Handed, Failure> {
        let breakers = &self.office.breakers;
        breakers.admit(self.account)?;
        let handed = self.server.hand_over(recipients, mail).await;
        match &handed {
            Err(Trouble::Unreachable(_) | Trouble::Unanswered(_) | Trouble::Refused(Reply { code: 421, .. })) => {
                breakers.failed(self.account);
            }
            _ => breakers.answered(self.account),
        }
        let handed = handed.map_err(|trouble| self.failure(trouble))?;
        if !handed.accepted.is_empty() {
            let accepted: Vec<_> = handed.accepted.iter().map(|address| comparable(address.as_ref())).collect();
            let job = self.context.job_id().to_string();
            let noted = self.desk.records.note_mailed(&job, &accepted, Timestamp::now()).await;
            // The mail is sent, whether or not that is noted: to fail now would be to send it again.
            if let Err(error) = noted {
                self.context.log(LogLevel::Warn, format!("for whom the mail was taken cannot be noted: {error}"));
            }
        }
        Ok(handed)
    }

    fn failure(&self, trouble: Trouble) -> Failure {
        let delay = delay_after(self.context.attempt());
        match trouble {
            Trouble::Unreachable(why) => {
                let failure =
                    Failure::retry_after(delay, "mail_unreachable", "the server that takes mails is not there");
                failure.class(ErrorClass::Unavailable).because(why)
            }
            Trouble::Unanswered(why) => {
                let message = "the server broke off before it said whether it has taken the mail; it gets it again";
                Failure::retry_after(delay, "mail_unanswered", message).class(ErrorClass::Unavailable).because(why)
            }
            Trouble::Account(why) => {
                let message = format!(
                    "the server does not let the account {} in: see to its url, user and password",
                    self.account
                );
                Failure::park(ParkReason::NotConfigured, message).because(why)
            }
            Trouble::Refused(reply) if reply.is_transient() => refused_for_now(&reply, self.context).because(reply),
            Trouble::Refused(reply) => refused_for_good(&reply).because(reply),
        }
    }

    /// Whom the server does not know gets nothing any more.
    async fn suppress(&self, tenant: Option<&TenantName>, handed: &Handed) -> Result<(), Failure> {
        for (address, reply) in handed.refused.iter().filter(|(_, reply)| reply.says_nobody_is_there()) {
            let suppression = Suppression {
                tenant: tenant.cloned(),
                channel: Channel::Mail,
                address: comparable(address.as_ref()),
                reason: SuppressionReason::Bounced,
                note: Some(reply.to_string().chars().take(200).collect()),
                created_at: Timestamp::now(),
                created_by: None,
            };
            add(&self.desk.records, &suppression).await?;
        }
        Ok(())
    }
}

async fn add(records: &Records, suppression: &Suppression) -> Result<(), Failure> {
    records.add_suppression(suppression).await.map(drop).map_err(records_unavailable)
}

/// An address as addresses are compared.
fn comparable(address: &str) -> String {
    address.trim().to_ascii_lowercase()
}

fn mailbox(text: &str) -> Result<Mailbox, Failure> {
    let (name, address) = MailSend::name_and_address(text);
    let email = address.parse().map_err(|_| no_address(address))?;
    Ok(Mailbox::new(name.map(str::to_owned), email))
}

fn no_address(text: &str) -> Failure {
    Failure::permanent("invalid_address", format!("{text} is no address that a mail can be sent to"))
}

fn no_public_url(why: &str) -> Failure {
    let message = format!("{why}: set FOURMI_PUBLIC_URL, the address by which people reach the platform");
    Failure::park(ParkReason::NotConfigured, message)
}

fn refusal((address, reply): &(Address, Reply)) -> MailRefusal {
    MailRefusal { address: comparable(address.as_ref()), reply: reply.to_string() }
}

fn refused_for_now(reply: &Reply, context: &Context) -> Failure {
    let mut delay = delay_after(context.attempt());
    if GREY.contains(&reply.code) {
        delay = delay.max(GREY_DELAY);
    }
    let message = format!("the server does not take the mail now ({})", reply.code);
    Failure::retry_after(delay, "mail_deferred", message).class(ErrorClass::Unavailable)
}

fn refused_for_good(reply: &Reply) -> Failure {
    Failure::permanent("mail_refused", format!("the server refuses the mail ({})", reply.code))
}

/// How long to wait after this failed attempt, with a quarter more or less by chance.
fn delay_after(attempt: u32) -> Duration {
    let doublings = attempt.clamp(1, 16) - 1;
    (FIRST_DELAY * (1 << doublings)).min(LONGEST_DELAY).mul_f64(0.75 + rand::random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_make_a_day() {
        let all: Duration = (1..14).map(delay_after).sum();
        assert!(all > Duration::from_secs(15 * 3600) && all < Duration::from_secs(48 * 3600), "{all:?}");
        assert!(delay_after(0) < Duration::from_secs(40) && delay_after(u32::MAX) < LONGEST_DELAY * 2);
    }
}
