//! `fourmi limits`: how many jobs may run at the same time, how many may start in a time, and who gets how much of a turn.

use clap::{Args, Subcommand};
use fourmi_client::LimitsDocument;
use fourmi_model::{Limit, LimitName, QueueName, Rate, TenantName};

use crate::{
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi limits show media
  fourmi limits set media kind/audio.extract --concurrency 2
  fourmi limits set media 'host/*' --rate 5/s+20      each host: five a second, twenty at once after a silence
  fourmi limits set media tenant/acme --concurrency 4 --rate 1000/h
  fourmi limits set media queue --rate 100/m          all jobs of the queue
  fourmi limits remove media 'host/*'
  fourmi limits weight media acme 3                   three jobs in its turn where others have one";

/// What to do with limits.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum LimitsCommand {
    /// Show the limits of a queue, how far they are used, and the weights of its tenants
    Show {
        /// The queue
        queue: QueueName,
    },
    /// Set a limit; in force within a second, for jobs that wait already too
    Set(SetArguments),
    /// Take a limit away
    Remove {
        /// The queue
        queue: QueueName,
        /// What the limit is about
        name: LimitName,
    },
    /// Set how many jobs of a tenant start in its turn
    Weight {
        /// The queue
        queue: QueueName,
        /// The tenant
        tenant: TenantName,
        /// 1, as everybody's, to 100
        #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
        weight: u32,
    },
}

/// A limit to be set.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SetArguments {
    /// The queue
    queue: QueueName,
    /// What it is about: kind/KIND, tenant/TENANT, a name such as host/example.org, 'host/*' for each of them, or queue
    name: LimitName,
    /// Jobs that may run at the same time, over all processes
    #[arg(long, short, value_name = "N")]
    concurrency: Option<u32>,
    /// How many may start in a time: 5/s, 100/m, 10/30s, or 5/s+20 for a burst of 20
    #[arg(long, short, value_name = "RATE")]
    rate: Option<Rate>,
}

pub(crate) async fn run(session: &Session, command: LimitsCommand) -> anyhow::Result<Exit> {
    let client = session.client()?;
    let limits = match command {
        LimitsCommand::Show { queue } => client.limits(&queue).await?,
        LimitsCommand::Set(SetArguments { queue, name, concurrency, rate }) => {
            let limit = Limit { concurrency, rate };
            if limit == Limit::default() {
                return Err(Stop::usage("say --concurrency N, --rate RATE or both"));
            }
            client.set_limit(&queue, &name, limit).await?
        }
        LimitsCommand::Remove { queue, name } => client.set_limit(&queue, &name, Limit::default()).await?,
        LimitsCommand::Weight { queue, tenant, weight } => client.set_weight(&queue, &tenant, weight).await?,
    };
    show(session, &limits)?;
    Ok(Exit::Done)
}

fn show(session: &Session, LimitsDocument { limits, weights }: &LimitsDocument) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&LimitsDocument { limits: limits.clone(), weights: weights.clone() });
    }
    if limits.is_empty() && weights.is_empty() {
        return print::line("No limits; all tenants have one job a turn.");
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut table = Table::new(&["LIMIT", "AT ONCE", "RATE", "RUNNING", "TOKENS", "LANES HELD BACK"]);
    for state in limits {
        // Of a class, each value has its own.
        let of_one = |text: String| if state.name.is_class() { "-".to_owned() } else { text };
        table.row(vec![
            state.name.to_string(),
            or_dash(state.limit.concurrency.map(|jobs| jobs.to_string())),
            or_dash(state.limit.rate.map(|rate| rate.to_string())),
            of_one(state.running.to_string()),
            of_one(or_dash(state.tokens.map(|tokens| format!("{:.0}", tokens.floor())))),
            of_one(state.lanes_asleep.to_string()),
        ]);
    }
    table.print()?;
    if !weights.is_empty() {
        let mut table = Table::new(&["TENANT", "JOBS A TURN"]);
        for (tenant, weight) in weights {
            table.row(vec![tenant.to_string(), weight.to_string()]);
        }
        print::line("")?;
        table.print()?;
    }
    Ok(())
}
