//! `sms.receipt`: finds out whether a text message has arrived.

use std::{sync::Arc, time::Duration};

use fourmi_kinds::{SMS_RECEIPT_DELAYS, SmsReceipt, SmsReceived};
use fourmi_model::{Channel, ErrorClass, Failure, NextStep, SmsState, SuppressionReason};
use fourmi_records::{SmsIntent, Suppression};
use fourmi_runtime::Context;
use jiff::Timestamp;

use super::{
    AnyProvider,
    account::SmsAccount,
    provider::{Delivery, Provider},
};
use crate::{
    account::account,
    office::{Desk, Office, records_unavailable},
};

/// Asks once.
pub(crate) async fn run(office: Arc<Office>, job: SmsReceipt, context: Context) -> Result<SmsReceived, Failure> {
    let desk = office.desk(context.settings()).await?;
    let tenant = context.tenant().await?;
    let intent = desk.records.sms(&job.message).await.map_err(records_unavailable)?;
    // What belongs to others is answered as what does not exist.
    let Some(intent) = intent.filter(|intent| intent.tenant == tenant) else {
        let message = "there is no text message of this job";
        return Err(Failure::permanent("unknown_message", message).class(ErrorClass::NotFound));
    };
    match (intent.state, &intent.provider_id) {
        (SmsState::Delivered, _) => {
            Ok(SmsReceived { state: SmsState::Delivered, code: intent.receipt, delivered_at: None })
        }
        (SmsState::Undelivered, _) => Err(undelivered(intent.receipt.as_deref(), None)),
        (SmsState::Accepted, Some(id)) => {
            let account: SmsAccount = account(&context, &intent.account).await?;
            let provider = AnyProvider::of(&office, &desk, &intent.account, &account);
            let delivery = provider.delivery(id, &intent.tag).await;
            let delivery = delivery.map_err(|trouble| again(trouble.failure(), context.attempt()))?;
            conclude(&desk, &intent, delivery, context.attempt()).await
        }
        _ => Err(Failure::permanent("unknown_message", "the provider does not have the message, or gave it no id")),
    }
}

async fn conclude(desk: &Desk, intent: &SmsIntent, delivery: Delivery, attempt: u32) -> Result<SmsReceived, Failure> {
    let Delivery { state, code, reason, delivered_at, is_number_dead } = delivery;
    if state == SmsState::Accepted {
        let failure = Failure::retry("not_delivered_yet", "nobody knows yet whether the message has arrived");
        return Err(again(failure, attempt));
    }
    if is_number_dead {
        suppress(desk, intent, code.as_deref()).await?;
    }
    let receipt = code.clone().unwrap_or_default();
    desk.records.receive_sms(&intent.job, state, &receipt).await.map_err(records_unavailable)?;
    if state == SmsState::Undelivered {
        return Err(undelivered(code.as_deref(), reason));
    }
    Ok(SmsReceived { state, code, delivered_at })
}

/// The number does not exist, or wants nothing: whoever sends to it again pays for nothing.
async fn suppress(desk: &Desk, intent: &SmsIntent, code: Option<&str>) -> Result<(), Failure> {
    let suppression = Suppression {
        tenant: intent.tenant.clone(),
        channel: Channel::Sms,
        address: intent.recipient.clone(),
        reason: SuppressionReason::Bounced,
        note: Some(format!("the provider says so ({}) of {}", code.unwrap_or_default(), intent.job)),
        created_at: Timestamp::now(),
        created_by: None,
    };
    desk.records.add_suppression(&suppression).await.map(drop).map_err(records_unavailable)
}

fn undelivered(code: Option<&str>, reason: Option<&str>) -> Failure {
    let reason = reason.unwrap_or("it was not delivered");
    let message = match code {
        Some(code) if !code.is_empty() => format!("the message has not arrived: {reason} ({code})"),
        _ => format!("the message has not arrived: {reason}"),
    };
    Failure::permanent("undelivered", message).class(ErrorClass::Unavailable)
}

/// The same failure, after which the provider is asked again when it is time.
fn again(failure: Failure, attempt: u32) -> Failure {
    let after_ms = match failure.next {
        NextStep::Retry { after_ms } => after_ms.unwrap_or_default(),
        _ => return failure,
    };
    let wait = delay_after(attempt).max(Duration::from_millis(after_ms));
    let after_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    Failure { next: NextStep::Retry { after_ms }, ..failure }
}

fn delay_after(attempt: u32) -> Duration {
    let place = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX).min(SMS_RECEIPT_DELAYS.len() - 1);
    SMS_RECEIPT_DELAYS[place].mul_f64(0.75 + rand::random::<f64>() / 2.0)
}
