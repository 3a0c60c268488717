//! `fourmi submit --from`: a job a line.

use fourmi_client::{ClientError, Submitted};
use serde_json::json;

use crate::{
    commands::{dead::jobs_of, lines::Lines},
    exit::Exit,
    print,
    progress::Progress,
    session::Session,
};

/// Lines that go into one request.
const LINES: usize = 1_000;

/// The most bytes that go into one request, to within a line.
const BYTES: usize = 16 * 1024 * 1024;

/// Submits the jobs in a file, or in standard input (`-`), and says of each what became of it.
pub(crate) async fn run(session: &Session, from: &str, key: Option<String>) -> anyhow::Result<Exit> {
    let mut lines = Lines::open("jobs", from)?;
    let client = session.client()?;
    let progress = session.progress();
    let mut total = Total::default();
    let mut requests = 0;
    while let group = group(&mut lines)?
        && !group.is_empty()
    {
        let mut many = client.submit_many();
        if let Some(key) = &key {
            // The same file gives the same requests.
            many = many.idempotency_key(format!("{key}/{requests}"));
        }
        requests += 1;
        for (_, line) in &group {
            many = many.json(line);
        }
        let results = many.send().await.inspect_err(|_| total.tell_so_far(session, &progress))?;
        for ((number, _), result) in group.iter().zip(results) {
            total.add(session, *number, result)?;
        }
        progress.wait(&format!("{} so far", jobs_of(total.accepted + total.refused)), "");
    }
    progress.clear();
    session.note(&total.sentence());
    Ok(if total.refused == 0 { Exit::Done } else { Exit::Failed })
}

/// The lines of the next request; none at the end.
fn group(lines: &mut Lines) -> anyhow::Result<Vec<(u64, String)>> {
    let (mut group, mut bytes) = (Vec::new(), 0);
    while group.len() < LINES
        && bytes < BYTES
        && let Some((number, line)) = lines.read()?
    {
        bytes += line.len();
        group.push((number, line));
    }
    Ok(group)
}

/// What became of the jobs.
#[derive(Default)]
struct Total {
    accepted: u64,
    refused: u64,
}

impl Total {
    fn add(&mut self, session: &Session, line: u64, result: Result<Submitted, ClientError>) -> anyhow::Result<()> {
        match result {
            Ok(job) => {
                self.accepted += 1;
                if !session.json() {
                    return print::line(&job.id.to_string());
                }
                print::json_line(&json!({"line": line, "id": job.id}))
            }
            Err(error) => {
                self.refused += 1;
                if !session.json() {
                    print::to_stderr(&format!("line {line}: {}", print::one_line(&error.to_string())));
                    return Ok(());
                }
                let code = error.problem().map(|problem| problem.code.as_str());
                print::json_line(&json!({"line": line, "error": {"code": code, "message": error.to_string()}}))
            }
        }
    }

    /// Before an error that ends it all.
    fn tell_so_far(&self, session: &Session, progress: &Progress) {
        progress.clear();
        session.note(&self.sentence());
    }

    fn sentence(&self) -> String {
        let refused = if self.refused > 0 { format!(", {} refused", self.refused) } else { String::new() };
        format!("{} accepted{refused}.", jobs_of(self.accepted))
    }
}
