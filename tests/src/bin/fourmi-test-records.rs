//! `fourmi-test-records LOCATION NUMBER FIRST LAST`: a writer of records that goes through these rounds.

use std::process::ExitCode;

use anyhow::Context;
use fourmi_tests::RecordWriter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().context("LOCATION NUMBER FIRST LAST");
    let writer = RecordWriter { location: next()?, number: next()?.parse()? };
    writer.run(next()?.parse()?..next()?.parse()?).await
}
