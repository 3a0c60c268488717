//! `sms.send` and `sms.receipt`: text messages, and whether they have arrived.

mod number;
mod receipt;
mod send;
mod text;

pub use number::mobile_number;
pub use receipt::{SMS_RECEIPT_DELAYS, SmsReceipt, SmsReceived};
pub use send::{SMS_ATTEMPTS, SMS_CREDITS_PER_SEGMENT, SmsPurpose, SmsSend, SmsSent, sms_tag};
pub use text::{MAX_SEGMENTS, SmsEncoding, SmsSize, transliterate};
