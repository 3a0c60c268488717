//! Mails as they are written (RFC 5322, MIME).

use fourmi_kinds::MailSend;
use fourmi_model::{ErrorClass, Failure};
use fourmi_runtime::Context;
use lettre::{
    Message,
    message::{
        Attachment, Mailbox, MessageBuilder, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};

/// The most that the attachments of a mail may have, in bytes: in base64 it is a third more, and most servers take 25 to 35
/// MiB.
const MOST: u64 = 20 << 20;

/// A part of a mail, which may hold others.
enum Part {
    Single(SinglePart),
    Several(MultiPart),
}

/// A file that goes with a mail.
pub(crate) struct Enclosed {
    name: String,
    content_id: Option<String>,
    content: Vec<u8>,
}

/// Reads the attachments of a mail.
///
/// # Errors
/// A permanent failure if one is not there (`unknown_file`), or they are too large in all (`attachments_too_large`).
pub(crate) async fn enclosed(job: &MailSend, context: &Context) -> Result<Vec<Enclosed>, Failure> {
    let mut inputs = Vec::new();
    let mut bytes = 0;
    for attachment in &job.attachments {
        let input = context.input(attachment.file).await?;
        // Before anything is read.
        bytes += tokio::fs::metadata(&input.path).await.map_err(|error| unreadable(&error))?.len();
        if bytes > MOST {
            let message = format!("the attachments have more than {} MiB in all: send a link instead", MOST >> 20);
            return Err(Failure::permanent("attachments_too_large", message));
        }
        inputs.push((attachment, input));
    }
    let mut enclosed = Vec::new();
    for (attachment, input) in inputs {
        let content = tokio::fs::read(&input.path).await.map_err(|error| unreadable(&error))?;
        let name = attachment.name.clone().unwrap_or(input.name);
        enclosed.push(Enclosed { name, content_id: attachment.content_id.clone(), content });
    }
    Ok(enclosed)
}

fn unreadable(error: &std::io::Error) -> Failure {
    let failure = Failure::retry("storage_failed", "an attachment cannot be read");
    failure.class(ErrorClass::Unavailable).because(error)
}

/// A head without what is different for every mail.
pub(crate) fn head(from: &Mailbox, id: &str, subject: &str) -> MessageBuilder {
    Message::builder().from(from.clone()).message_id(Some(id.to_owned())).subject(subject)
}

/// A header by its name. What its value may not hold is encoded.
pub(crate) fn header(name: &str, value: &str) -> Option<HeaderValue> {
    Some(HeaderValue::new(HeaderName::new_from_ascii(name.to_owned()).ok()?, value.to_owned()))
}

/// A mail with its text, its HTML and what is enclosed.
///
/// # Errors
/// If the head lacks something: a mistake of the programmer.
pub(crate) fn write(
    head: MessageBuilder,
    (text, html): (Option<&str>, Option<&str>),
    enclosed: Vec<Enclosed>,
) -> Result<Message, Failure> {
    let (shown, beside): (Vec<_>, Vec<_>) = enclosed.into_iter().partition(|file| file.content_id.is_some());
    let body = match (text, html) {
        (Some(text), Some(html)) => {
            let plain = MultiPart::alternative().singlepart(SinglePart::plain(text.to_owned()));
            Part::Several(with(plain, together(Part::Single(SinglePart::html(html.to_owned())), shown)))
        }
        (None, Some(html)) => together(Part::Single(SinglePart::html(html.to_owned())), shown),
        (text, None) => Part::Single(SinglePart::plain(text.unwrap_or_default().to_owned())),
    };
    let body = match beside.is_empty() {
        true => body,
        false => Part::Several(
            beside.into_iter().fold(started(MultiPart::mixed(), body), |mail, file| mail.singlepart(part(file))),
        ),
    };
    let written = match body {
        Part::Single(part) => head.singlepart(part),
        Part::Several(parts) => head.multipart(parts),
    };
    written.map_err(|error| Failure::permanent("mail_unwritable", "the mail cannot be written").because(error))
}

/// HTML with what it shows.
fn together(html: Part, shown: Vec<Enclosed>) -> Part {
    if shown.is_empty() {
        return html;
    }
    Part::Several(shown.into_iter().fold(started(MultiPart::related(), html), |mail, file| mail.singlepart(part(file))))
}

fn started(parts: lettre::message::MultiPartBuilder, first: Part) -> MultiPart {
    match first {
        Part::Single(part) => parts.singlepart(part),
        Part::Several(several) => parts.multipart(several),
    }
}

fn with(parts: MultiPart, part: Part) -> MultiPart {
    match part {
        Part::Single(part) => parts.singlepart(part),
        Part::Several(several) => parts.multipart(several),
    }
}

/// Bytes are always in base64, so that none is changed on its way. Their type is that of the content, not of the name.
fn part(file: Enclosed) -> SinglePart {
    let found = infer::get(&file.content).map_or("application/octet-stream", |found| found.mime_type());
    let media_type = ContentType::parse(found).unwrap_or(ContentType::TEXT_PLAIN);
    let attachment = match file.content_id {
        Some(id) => Attachment::new_inline_with_name(id, file.name),
        None => Attachment::new(file.name),
    };
    attachment.body(file.content, media_type)
}
