//! `fourmi users import`: a person a line.

use std::time::Duration;

use fourmi_client::{Client, ClientError, NewUser, Problem};
use fourmi_model::UserInfo;
use serde_json::json;

use crate::{commands::lines::Lines, exit::Exit, print, session::Session};

/// After how many people it is said how far it is: a log file should not fill.
const STEP: u64 = 100;

/// How long to wait if the API says "not now" and not until when.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes in the people in a file, or in standard input (`-`), and says of each what became of them.
pub(crate) async fn run(session: &Session, from: &str) -> anyhow::Result<Exit> {
    let mut lines = Lines::open("people", from)?;
    let client = session.client()?;
    let progress = session.progress();
    let mut total = Total::default();
    while let Some((number, line)) = lines.read()? {
        let taken = take(&client, &line).await.inspect_err(|_| {
            progress.clear();
            session.note(&format!("{} Line {number} was not.", total.sentence()));
        })?;
        total.add(session, number, taken)?;
        let so_far = total.taken + total.refused;
        if so_far.is_multiple_of(STEP) {
            progress.wait(&format!("{} so far", people_of(so_far)), "");
        }
    }
    progress.clear();
    session.note(&total.sentence());
    Ok(if total.refused == 0 { Exit::Done } else { Exit::Failed })
}

/// Why a line was not taken.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: String,
    message: String,
}

/// What became of a line. An error is none of the line, so it would be that of all that come after it.
async fn take(client: &Client, line: &str) -> Result<Result<UserInfo, Refusal>, ClientError> {
    let user = match read(line) {
        Ok(user) => user,
        Err(refusal) => return Ok(Err(refusal)),
    };
    loop {
        match client.create_user(&user).await {
            Ok(user) => return Ok(Ok(user)),
            // Many at once are more than the API likes.
            Err(ClientError::Problem(problem)) if problem.status == 429 => {
                tokio::time::sleep(problem.retry_after.unwrap_or(PAUSE)).await;
            }
            Err(ClientError::Problem(problem)) if is_about_the_person(&problem) => {
                return Ok(Err(Refusal { message: problem.to_string(), code: problem.code }));
            }
            Err(error) => return Err(error),
        }
    }
}

fn read(line: &str) -> Result<NewUser, Refusal> {
    serde_json::from_str(line).map_err(|error| Refusal { code: "invalid_json".to_owned(), message: error.to_string() })
}

/// Whether the same call may succeed with another person.
fn is_about_the_person(problem: &Problem) -> bool {
    matches!(problem.status, 400 | 409 | 413 | 422) || ["foreign_tenant", "role_too_high"].contains(&&*problem.code)
}

/// What became of the people.
#[derive(Default)]
struct Total {
    taken: u64,
    refused: u64,
}

impl Total {
    fn add(&mut self, session: &Session, line: u64, taken: Result<UserInfo, Refusal>) -> anyhow::Result<()> {
        match taken {
            Ok(user) => {
                self.taken += 1;
                if !session.json() {
                    return print::line(user.id.as_str());
                }
                print::json_line(&json!({"line": line, "id": user.id}))
            }
            Err(Refusal { code, message }) => {
                self.refused += 1;
                if !session.json() {
                    print::to_stderr(&format!("line {line}: {}", print::one_line(&message)));
                    return Ok(());
                }
                print::json_line(&json!({"line": line, "error": {"code": code, "message": message}}))
            }
        }
    }

    fn sentence(&self) -> String {
        let refused = if self.refused > 0 { format!(", {} refused", self.refused) } else { String::new() };
        format!("{} taken{refused}.", people_of(self.taken))
    }
}

fn people_of(count: u64) -> String {
    if count == 1 { "1 person".to_owned() } else { format!("{count} people") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_person_is_refused_with_its_reason() {
        let user = read(r#"{"email": "ada@example.org", "tenant": "acme", "password_hash": "$2b$12$x"}"#).unwrap();
        assert_eq!(user.password_hash.as_deref(), Some("$2b$12$x"));
        for (line, reason) in [("{", "EOF"), (r#"{"mail": "x"}"#, "mail"), (r#"{"tenant": "a b"}"#, "tenant name")] {
            let refusal = read(line).unwrap_err();
            assert_eq!(refusal.code, "invalid_json");
            assert!(refusal.message.contains(reason), "{refusal:?}");
        }
    }

    #[test]
    fn what_would_stop_everybody_is_no_refusal_of_one() {
        let problem = |status: u16, code: &str| -> Problem {
            serde_json::from_value(json!({"status": status, "code": code})).unwrap()
        };
        let about = [(409, "name_taken"), (422, "invalid_request"), (403, "role_too_high"), (422, "unknown_tenant")];
        assert!(about.iter().all(|(status, code)| is_about_the_person(&problem(*status, code))));
        let others = [(401, "unauthorized"), (403, "scope_missing"), (503, "records_unavailable")];
        assert!(!others.iter().any(|(status, code)| is_about_the_person(&problem(*status, code))));
    }
}
