//! `mail.notice`: what the platform says to its people, in their language.

use std::sync::Arc;

use fourmi_kinds::{MailNotice, MailNoticed};
use fourmi_model::{ErrorClass, Failure, LinkPurpose};
use fourmi_records::{OneTime, Tenant, User};
use fourmi_runtime::Context;
use jiff::Timestamp;
use lettre::{Address, message::Mailbox};

use super::{Post, message, no_address, no_public_url, refused_for_good, refused_for_now, texts};
use crate::office::{Desk, Office, records_unavailable};

/// The name of the account by which the platform writes.
const ACCOUNT: &str = "smtp";

/// Sends a mail of the platform. Who asked for no bulk mail gets it too: they have asked for it, or it is about what somebody
/// did with their account.
pub(crate) async fn run(office: Arc<Office>, job: MailNotice, context: Context) -> Result<MailNoticed, Failure> {
    let desk = office.desk(context.settings()).await?;
    let user = desk.records.user(&job.to).await.map_err(records_unavailable)?;
    let user = user.ok_or_else(|| over("person_gone", "the account was deleted"))?;
    let link = link(&desk, &job).await?;
    let address = address(&desk, &job, &user, link.as_ref())?;
    let tenant = match &user.tenant {
        Some(name) => desk.records.tenant(name).await.map_err(records_unavailable)?,
        None => None,
    };
    let url = link.as_ref().map(|link| url(&desk, tenant.as_ref(), link)).transpose()?;
    let server = desk.servers.of(&context, ACCOUNT).await?;
    let post = Post { office: &office, desk: &desk, context: &context, account: ACCOUNT, server: &server };
    let message_id = post.message_id();
    if context.run() > 1 {
        // An earlier run may have handed it over and died before it could say so.
        let mailed = desk.records.mailed(&context.job_id().to_string()).await.map_err(records_unavailable)?;
        if !mailed.is_empty() {
            return Ok(MailNoticed { message_id });
        }
    }
    let sender = tenant.and_then(|tenant| tenant.title).unwrap_or_else(|| "Fourmi".to_owned());
    let expires = link.as_ref().map(|link| link.one_time.expires_at);
    let said = texts::of(job.notice, user.profile.language);
    let text =
        texts::letter(&said, user.profile.language, user.profile.name.as_deref(), &sender, url.as_deref(), expires);
    let head = message::head(server.from(), &message_id, &texts::subject(&said, &sender))
        .to(Mailbox::new(user.profile.name.clone(), address.clone()))
        .envelope(post.own_envelope()?);
    // Programs that answer mails by themselves leave this one alone (RFC 3834).
    let automatic = message::header("Auto-Submitted", "auto-generated");
    let head = automatic.into_iter().fold(head, |head, value| head.raw_header(value));
    let mail = message::write(head, (Some(&text), None), Vec::new())?.formatted();
    let handed = post.hand_over(&[address], &mail).await?;
    match handed.refused.first() {
        None => Ok(MailNoticed { message_id }),
        Some((_, reply)) if reply.is_transient() => Err(refused_for_now(reply, &context).because(reply)),
        Some((_, reply)) => Err(refused_for_good(reply).because(reply)),
    }
}

/// The link that a mail carries.
struct Link {
    purpose: LinkPurpose,
    one_time: OneTime,
}

/// # Errors
/// A permanent failure if it works no more: nobody wants a mail with a dead link.
async fn link(desk: &Desk, job: &MailNotice) -> Result<Option<Link>, Failure> {
    let Some(id) = &job.token else { return Ok(None) };
    let one_time = desk.records.one_time(id).await.map_err(records_unavailable)?;
    let works = |one_time: &OneTime| {
        one_time.user == job.to && one_time.used_at.is_none() && one_time.expires_at > Timestamp::now()
    };
    let one_time = one_time.filter(works).ok_or_else(|| over("link_over", "the link of the mail works no more"))?;
    let purpose = one_time.purpose.parse().map_err(|_| over("link_over", "the link is of an unknown sort"))?;
    Ok(Some(Link { purpose, one_time }))
}

/// Where the mail goes: to the address that the link confirms, to the one that was sealed, else to the person's.
fn address(desk: &Desk, job: &MailNotice, user: &User, link: Option<&Link>) -> Result<Address, Failure> {
    let sealed =
        match &job.sealed_address {
            Some(sealed) => {
                let opened = desk.secrets.open(&MailNotice::seal_context(&job.to), sealed);
                let text = opened.and_then(|bytes| String::from_utf8(bytes).ok());
                Some(text.ok_or_else(|| {
                    over("address_sealed", "the address cannot be opened: FOURMI_SECRET_KEY is another")
                })?)
            }
            None => None,
        };
    let confirmed = link.and_then(|link| link.one_time.email.clone());
    let text = sealed.or(confirmed).or_else(|| user.email.clone());
    let text = text.ok_or_else(|| over("no_address", "the person has no e-mail address"))?;
    text.parse().map_err(|_| no_address(&text))
}

/// The link as it is written: to the app of the tenant, else to the platform.
fn url(desk: &Desk, tenant: Option<&Tenant>, link: &Link) -> Result<String, Failure> {
    let base = tenant.and_then(|tenant| tenant.app_url.as_deref()).or_else(|| desk.public_url());
    let base = base.ok_or_else(|| no_public_url("the mail carries a link, and nobody knows where to"))?;
    let Link { purpose, one_time } = link;
    let token = (one_time.id.as_str(), purpose.as_str(), one_time.user.as_str());
    Ok(desk.secrets.one_time_url(base.trim_end_matches('/'), purpose.page(), token))
}

fn over(code: &str, message: &str) -> Failure {
    Failure::permanent(code, message).class(ErrorClass::NotFound)
}
