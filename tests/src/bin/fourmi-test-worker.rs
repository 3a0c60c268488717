//! A worker whose jobs do what tests need, on the real runtime.

#![expect(clippy::unwrap_used, clippy::panic, reason = "it exists to misbehave")]

use std::{io::Write, path::Path, process::ExitCode, time::Duration};

use fourmi_model::{Failure, JobId, LogLevel, Priority, Progress};
use fourmi_runtime::{Context, Worker};
use fourmi_tests::kinds::{
    Echo, Fail, Family, FamilyInChild, Greet, GreetOne, Hold, HoldInChild, Misbehave, Misdeed, QUEUE, Steps, Talk,
    TalkInChild, with_many,
};
use serde_json::json;

fn main() -> ExitCode {
    let worker = Worker::new(QUEUE)
        .kind::<Hold, _, _>(hold)
        .kind::<HoldInChild, _, _>(async |job: HoldInChild, context| hold(job.0, context).await)
        .kind::<Fail, _, _>(fail)
        .kind::<Misbehave, _, _>(misbehave)
        .kind::<Steps, _, _>(steps)
        .kind::<Talk, _, _>(talk)
        .kind::<Family, _, _>(family)
        .kind::<FamilyInChild, _, _>(async |job: FamilyInChild, context| family(job.0, context).await)
        .kind::<TalkInChild, _, _>(async |job: TalkInChild, context| talk(job.0, context).await);
    let worker = if std::env::var_os("TEST_WORKER_KNOWS_MANY").is_some() { with_many(worker) } else { worker };
    // A worker of the version before, which does not know every kind yet, and one in an older version.
    match std::env::var_os("TEST_WORKER_IS_OLD") {
        Some(_) => worker.kind::<GreetOne, _, _>(async |job: GreetOne, _| Ok(format!("old: {}", job.name))).main(),
        None => worker
            .kind::<Echo, _, _>(async |job: Echo, _| Ok(job.value))
            .kind::<Greet, _, _>(async |job: Greet, _| Ok(format!("new: {}", job.names.join(" and "))))
            .main(),
    }
}

/// One write, so that lines of several processes do not mix.
fn write(journal: &Path, line: String) {
    let mut file = std::fs::File::options().create(true).append(true).open(journal).unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

async fn wait_for(gate: &Path) {
    while !gate.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn hold(job: Hold, context: Context) -> Result<(), Failure> {
    let run = context.run();
    write(&job.journal, format!("{run} started {}", std::process::id()));
    let stopped = async {
        if job.polite {
            context.cancelled().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = wait_for(&job.gate) => {
            write(&job.journal, format!("{run} ended"));
            Ok(())
        }
        () = stopped => {
            write(&job.journal, format!("{run} stopped"));
            Err(Failure::cancelled())
        }
    }
}

async fn fail(job: Fail, context: Context) -> Result<u32, Failure> {
    if context.attempt() > job.times {
        return Ok(context.attempt());
    }
    assert!(!job.panic, "as it was told");
    let words = ("told_to", "as it was told");
    Err(match job.after_ms {
        _ if job.permanent => Failure::permanent(words.0, words.1),
        Some(ms) => Failure::retry_after(Duration::from_millis(ms), words.0, words.1),
        None => Failure::retry(words.0, words.1),
    })
}

async fn misbehave(job: Misbehave, context: Context) -> Result<serde_json::Value, Failure> {
    write(&job.journal, std::process::id().to_string());
    match job.how {
        Misdeed::Behave => Ok(json!({
            "environment": std::env::vars().map(|(name, _)| name).collect::<Vec<_>>(),
            "descriptors": fourmi_tests::descriptors(std::process::id()),
            "scratch": context.scratch()?,
        })),
        Misdeed::Abort => std::process::abort(),
        Misdeed::EatByProgram => {
            let eat = "x = bytearray(160 << 20); import time; time.sleep(600)";
            let program = context.program(Path::new("/usr/bin/python3"), context.scratch()?).args(["-c", eat]);
            program.start().unwrap().wait().await.unwrap();
            Ok(json!("it ate in peace"))
        }
        Misdeed::EatSlowly => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![1_u8; 1 << 20]);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Misdeed::EatAtOnce => {
            let eaten = std::hint::black_box(vec![1_u8; 8 << 30]);
            Ok(json!(eaten.len()))
        }
        Misdeed::Exit => std::process::exit(0),
        Misdeed::PrintNonsense => {
            println!("a library says hello");
            Ok(json!("heard"))
        }
        Misdeed::Panic => panic!("as it was told"),
        Misdeed::Hang => {
            let mut child = std::process::Command::new("/bin/sleep").arg("100000").spawn().unwrap();
            write(&job.journal, child.id().to_string());
            // Deaf to whoever asks it to stop.
            Ok(json!(child.wait().unwrap().code()))
        }
    }
}

async fn talk(job: Talk, context: Context) -> Result<(), Failure> {
    tracing::info!(lines = job.lines, "talking");
    for n in 1..=job.lines {
        context.log(LogLevel::Info, format!("line {n}"));
    }
    if let Some(gate) = &job.gate {
        wait_for(gate).await;
    }
    context.log(LogLevel::Warn, "the last word");
    Ok(())
}

async fn family(job: Family, context: Context) -> Result<serde_json::Value, Failure> {
    let mut made: Vec<JobId> = Vec::new();
    for n in 0..job.children {
        let child = context.enqueue(&format!("child {n}"), &Echo { value: json!(n) });
        let child = child.after(made.last().cloned()).tag("child").priority(Priority::High);
        made.push(child.send().await?);
    }
    if context.attempt() <= job.failures {
        return Err(Failure::retry("told_to", "as it was told"));
    }
    Ok(json!({ "made": made, "parents": context.parents().await? }))
}

async fn steps(job: Steps, context: Context) -> Result<(), Failure> {
    for step in 0..=100_u16 {
        // Backwards now and then: nobody must see that.
        let percent = f32::from(if step % 10 == 5 { step - 5 } else { step });
        context.progress(Progress { stage: "step".into(), percent, ..Progress::default() });
        if let (50, Some(gate)) = (step, &job.gate) {
            wait_for(gate).await;
        }
    }
    Ok(())
}
