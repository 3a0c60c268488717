//! `fourmi sms`: text messages tried, counted and decided on.

use clap::{Args, Subcommand};
use fourmi_client::{Client, Update};
use fourmi_kinds::{InvalidPayload, JobKind, SmsEncoding, SmsSend, SmsSent};
use fourmi_model::{Job, JobId, State};
use futures_util::StreamExt;
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    follow::{self, Telling},
    print,
    session::Session,
};

/// What to do about text messages.
#[derive(Debug, Subcommand)]
pub(crate) enum SmsCommand {
    /// Send a text message that says it is a test, and show what came of it
    Test(TestArguments),
    /// Count the parts in which a text would be sent and paid, and what they would cost
    Estimate(EstimateArguments),
    /// Say whether a text message was sent that nobody knows of
    Decide(DecideArguments),
    /// Show the address at which a provider says that messages have arrived
    Receipts(ReceiptsArguments),
}

/// A message to try an account with.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi sms test --to +33612345678
  fourmi sms test --to +33612345678 --account sms-spain --text 'Hola'

It is a message like others, and is paid.")]
pub(crate) struct TestArguments {
    /// Number of a mobile telephone, such as +33612345678
    #[arg(long, value_name = "NUMBER")]
    to: String,
    /// Account with a provider: the name of an operator's secret
    #[arg(long, value_name = "NAME", default_value = "sms")]
    account: String,
    /// What it says
    #[arg(long, value_name = "TEXT", default_value = "A test of Fourmi: text messages arrive.")]
    text: String,
}

/// A text to count.
#[derive(Debug, Args)]
pub(crate) struct EstimateArguments {
    /// What the message would say
    text: String,
    /// Replace characters that would double the price by some that read alike
    #[arg(long)]
    transliterate: bool,
    /// Account with a provider that would send it: the name of an operator's secret
    #[arg(long, value_name = "NAME", default_value = "sms")]
    account: String,
}

/// What a person has found out.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fourmi parked list --reason uncertain
  fourmi sms decide messaging-… --sent
  fourmi sms decide messaging-… --not-sent                   it is sent now")]
pub(crate) struct DecideArguments {
    /// Id of the job that is parked as uncertain
    #[arg(value_name = "JOB")]
    id: JobId,
    /// The provider has the message
    #[arg(long, required_unless_present = "not_sent", conflicts_with = "not_sent")]
    sent: bool,
    /// The provider does not have it: send it now
    #[arg(long)]
    not_sent: bool,
}

/// Whose receipts.
#[derive(Debug, Args)]
pub(crate) struct ReceiptsArguments {
    /// Account with a provider: the name of an operator's secret
    #[arg(long, value_name = "NAME", default_value = "sms")]
    account: String,
}

pub(crate) async fn run(session: &Session, command: SmsCommand) -> anyhow::Result<Exit> {
    match command {
        SmsCommand::Test(arguments) => test(session, arguments).await,
        SmsCommand::Estimate(arguments) => estimate(session, arguments).await,
        SmsCommand::Decide(arguments) => decide(session, arguments).await,
        SmsCommand::Receipts(arguments) => receipts(session, arguments).await,
    }
}

async fn test(session: &Session, arguments: TestArguments) -> anyhow::Result<Exit> {
    let TestArguments { to, account, text } = arguments;
    let message = SmsSend { account, ..SmsSend::of(to, text) };
    message.validate().map_err(|mistake| Stop::usage(by_option(&mistake)))?;
    let client = session.client()?;
    let handle = client.submit(&message).tag("test").send().await?;
    let job = until_told(session, &client, handle.id()).await?;
    if session.json() {
        print::json(&json!({"job": job}))?;
    } else if job.state == State::Succeeded {
        let sent: SmsSent = serde_json::from_value(job.result.clone().unwrap_or_default())?;
        print::line(&describe(&sent))?;
    }
    match job.state {
        State::Parked => {
            let why = job.error.as_ref().map_or_else(String::new, |error| print::one_line(&error.message));
            print::to_stderr(&format!("fourmi: the message waits: {why}"));
            Ok(Exit::Failed)
        }
        State::Succeeded => Ok(Exit::Done),
        _ => Ok(follow::tell_end(&job)),
    }
}

/// Follows the message until it is sent, or waits for somebody.
async fn until_told(session: &Session, client: &Client, id: &JobId) -> anyhow::Result<Job> {
    let progress = session.progress();
    let told = tokio::select! {
        job = follow::follow(session, client, id, &progress, Telling::Progress) => job?,
        job = parked(client, id) => job?,
    };
    progress.clear();
    Ok(told)
}

/// The job, once it waits for a cause to go away: that may last.
async fn parked(client: &Client, id: &JobId) -> anyhow::Result<Job> {
    let mut updates = client.events(id);
    while let Some(update) = updates.next().await {
        if let Update::Snapshot(job) | Update::State(job) = update?
            && job.state == State::Parked
        {
            return Ok(*job);
        }
    }
    // It is over, which the other who follows it tells.
    std::future::pending().await
}

fn describe(sent: &SmsSent) -> String {
    let id = sent.ids.first().map_or_else(String::new, |id| format!(" as {}", print::one_line(id)));
    let (parts, credits) = (counted(sent.segments, "part"), counted(sent.credits, "credit"));
    format!("{} has the message for {}{id}: {parts}, {credits}.", sent.provider, sent.recipient)
}

/// So many of a thing.
fn counted(number: impl Into<f64>, thing: &str) -> String {
    let number = number.into();
    let plural = if number == 1.0 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// A mistake in a payload, as one in an option.
fn by_option(mistake: &InvalidPayload) -> String {
    format!("--{} {}", mistake.path, mistake.message)
}

async fn estimate(session: &Session, arguments: EstimateArguments) -> anyhow::Result<Exit> {
    let EstimateArguments { text, transliterate, account } = arguments;
    let estimate = session.client()?.estimate_sms(&text, transliterate, &account).await?;
    if session.json() {
        print::json(&estimate)?;
        return Ok(Exit::Done);
    }
    let alphabet = match estimate.encoding {
        SmsEncoding::Gsm7 => "GSM 03.38",
        SmsEncoding::Ucs2 => "UCS-2",
    };
    let credits = estimate.credits.map_or_else(String::new, |credits| format!(", {}", counted(credits, "credit")));
    let (parts, characters) = (counted(estimate.segments, "part"), counted(estimate.characters, "character"));
    print::line(&format!("{parts}, {characters} of {alphabet}{credits}"))?;
    if estimate.text != text {
        print::line(&print::one_line(&estimate.text))?;
    }
    Ok(Exit::Done)
}

async fn decide(session: &Session, arguments: DecideArguments) -> anyhow::Result<Exit> {
    let DecideArguments { id, sent, .. } = arguments;
    let job = session.client()?.decide_sms(&id, sent).await?;
    if session.json() {
        print::json(&job)?;
    } else if sent {
        print::line(&format!("{id} is taken as sent."))?;
    } else {
        print::line(&format!("{id} is sent now."))?;
    }
    Ok(Exit::Done)
}

async fn receipts(session: &Session, arguments: ReceiptsArguments) -> anyhow::Result<Exit> {
    let path = session.client()?.sms_receipt_address(&arguments.account).await?;
    if session.json() {
        print::json(&json!({"path": path}))?;
    } else {
        print::line(&path)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn parse(line: &str) -> Result<SmsCommand, clap::Error> {
        let words = ["fourmi", "sms"].into_iter().chain(line.split_whitespace());
        let Command::Sms(read) = Arguments::try_parse_from(words)?.command else {
            panic!("{line} is of something else")
        };
        Ok(read)
    }

    #[test]
    fn a_decision_is_one_or_the_other() {
        let id = "messaging-0198c0de-0000-7000-8000-000000000001";
        for (words, decided) in [("--sent", true), ("--not-sent", false)] {
            let SmsCommand::Decide(read) = parse(&format!("decide {id} {words}")).unwrap() else { panic!("{words}") };
            assert_eq!(read.sent, decided);
        }
        for wrong in ["", "--sent --not-sent"] {
            assert!(parse(&format!("decide {id} {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mistakes_are_named_by_their_option() {
        let mistake = SmsSend::of("+33123456789", "Hello").validate().unwrap_err();
        assert!(by_option(&mistake).starts_with("--to is a fixed line"), "{mistake}");
    }
}
