#![doc = include_str!("../README.md")]

mod account;
mod answer;
mod breaker;
mod chat;
mod check;
mod fanout;
mod fcm;
mod google;
mod mail;
mod office;
mod pacer;
mod push;
mod sms;
mod webhook;

use std::{process::ExitCode, sync::Arc};

use fourmi_egress::Guard;
use fourmi_kinds::{
    ChatAlert, JobKind, MailNotice, MailSend, PushFanout, PushSend, SmsReceipt, SmsSend, WebhookDeliver,
};
use fourmi_model::Failure;
use fourmi_runtime::{Context, Worker};
use fourmi_settings::{Environment, Messaging, SettingError, table};

use crate::{fcm::Projects, office::Office};

/// Messages at a time: each waits for somebody else most of the time.
const SLOTS: usize = 64;

/// Messages that are fetched ahead: most are sent in some milliseconds.
const PREFETCH: usize = 64;

/// Whether the settings are right.
fn check(environment: &Environment) -> Result<(), SettingError> {
    let messaging = Messaging::read(environment)?;
    let guard = Guard::parse(&messaging.egress_allow);
    guard.map(drop).map_err(|_| table::EGRESS_ALLOW.wrong(&messaging.egress_allow))
}

/// A handler that works in the office.
fn within<K, F, Fut>(office: &Arc<Office>, handler: F) -> impl Fn(K, Context) -> Fut + Send + Sync + 'static
where
    K: JobKind,
    F: Fn(Arc<Office>, K, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<K::Output, Failure>> + Send + 'static,
{
    let office = office.clone();
    move |job, context| handler(office.clone(), job, context)
}

fn main() -> ExitCode {
    let office = Arc::new(Office::default());
    let projects = Arc::new(Projects::default());
    let (releasing, noting, fanning_out) = (office.clone(), office.clone(), projects.clone());
    let (checking, checked) = (office.clone(), projects.clone());
    Worker::new("messaging")
        .settings(Messaging::SETTINGS, check)
        .slots(SLOTS)
        .prefetch(PREFETCH)
        .beside(async move |queues, queue| {
            let queues = releasing.queues.get_or_init(|| queues);
            breaker::release(&releasing.breakers, queues, &queue).await;
        })
        .beside(async move |_, _| office::note_providers(&noting).await)
        .beside(async move |_, _| check::watch(&checking, &checked).await)
        .kind::<ChatAlert, _, _>(within(&office, chat::run))
        .kind::<MailNotice, _, _>(within(&office, mail::run_notice))
        .kind::<MailSend, _, _>(within(&office, mail::run))
        .kind::<PushFanout, _, _>(within(&office, move |office, job, context| {
            fanout::run(office, fanning_out.clone(), job, context)
        }))
        .kind::<PushSend, _, _>(within(&office, move |office, job, context| {
            push::run(office, projects.clone(), job, context)
        }))
        .kind::<SmsReceipt, _, _>(within(&office, sms::receipt::run))
        .kind::<SmsSend, _, _>(within(&office, sms::send::run))
        .kind::<WebhookDeliver, _, _>(within(&office, webhook::run))
        .main()
}
