//! `fourmi`, the command line.

mod arguments;
mod commands;
mod exit;
mod follow;
mod hints;
mod print;
mod progress;
mod session;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    arguments::{Arguments, Command},
    exit::Exit,
    session::Session,
};

// One thread: a child that is to die with its parent dies with the thread that started it, so that thread must be one
// that ends with the process only.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Arguments { command, common } = Arguments::parse();
    let session = Session::new(&common);
    match run(&session, command).await {
        Ok(exit) => exit.into(),
        Err(error) => exit::report(&session, &error).into(),
    }
}

async fn run(session: &Session, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Up(arguments) => up::run(session, arguments).await,
        Command::Demo(arguments) => commands::demo::run(session, arguments).await,
        Command::Extract(arguments) => commands::extract::run(session, arguments).await,
        Command::Analyze(arguments) => commands::analyze::run(session, arguments).await,
        Command::Live(arguments) => commands::live::run(session, arguments).await,
        Command::Link(arguments) => commands::files::link(session, arguments).await,
        Command::Upload(arguments) => commands::files::upload(session, arguments).await,
        Command::Fetch(arguments) => commands::files::fetch(session, arguments).await,
        Command::Submit(arguments) => commands::submit::run(session, arguments).await,
        Command::Watch(arguments) => commands::watch::run(session, arguments).await,
        Command::Log(arguments) => commands::log::run(session, arguments).await,
        Command::Jobs(arguments) => commands::jobs::list(session, arguments).await,
        Command::Job(arguments) => commands::jobs::show(session, arguments).await,
        Command::Cancel(arguments) => commands::many::cancel(session, arguments).await,
        Command::Retry(arguments) => commands::many::retry(session, arguments).await,
        Command::Delete(arguments) => commands::many::delete(session, arguments).await,
        Command::Dead(command) => commands::dead::run(session, command).await,
        Command::Parked(command) => commands::parked::run(session, command).await,
        Command::Why(arguments) => commands::waiting::why(session, arguments).await,
        Command::Promote(arguments) => commands::waiting::promote(session, arguments).await,
        Command::Priority(arguments) => commands::waiting::priority(session, arguments).await,
        Command::Queues(arguments) => commands::queues::list(session, arguments).await,
        Command::Pause(arguments) => commands::queues::pause(session, arguments).await,
        Command::Resume(arguments) => commands::queues::resume(session, arguments).await,
        Command::Cap(arguments) => commands::queues::cap(session, arguments).await,
        Command::Obliterate(arguments) => commands::queues::obliterate(session, arguments).await,
        Command::Scale(arguments) => commands::scale::run(session, arguments).await,
        Command::Workers(arguments) => commands::workers::list(session, arguments).await,
        Command::Drain(arguments) => commands::workers::drain(session, arguments).await,
        Command::Providers(arguments) => commands::providers::run(session, arguments).await,
        Command::Stats(arguments) => commands::stats::run(session, arguments).await,
        Command::Limits(command) => commands::limits::run(session, command).await,
        Command::Keys(command) => commands::keys::run(session, command).await,
        Command::Users(command) => commands::users::run(session, command).await,
        Command::Tenants(command) => commands::tenants::run(session, command).await,
        Command::Schedules(command) => commands::schedules::run(session, command).await,
        Command::Webhooks(command) => commands::webhooks::run(session, command).await,
        Command::Sms(command) => commands::sms::run(session, command).await,
        Command::Devices(command) => commands::devices::run(session, command).await,
        Command::Suppressions(command) => commands::suppressions::run(session, command).await,
        Command::Audit(arguments) => commands::audit::run(session, arguments).await,
        Command::Maintenance(command) => commands::maintenance::run(session, command).await,
        Command::Flows(command) => commands::flows::run(session, command).await,
        Command::Kinds(arguments) => commands::kinds::run(session, arguments).await,
        Command::Config => commands::config::run(session),
    }
}
