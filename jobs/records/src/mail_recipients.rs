//! To whom the mail of a job was handed over.

use jiff::{SignedDuration, Timestamp};

use crate::{
    Records, RecordsError,
    row::Columns,
    statement::{Statement, query_of},
    store::{Change, reading, writing},
};

/// How long it is known: longer than any job tries.
const KNOWN: SignedDuration = SignedDuration::from_hours(14 * 24);

const NOTE: &str = "\
INSERT INTO mail_recipients (job, address, mailed_at) VALUES ($1, $2, $3) ON CONFLICT (job, address) DO NOTHING";

impl Records {
    /// Notes that the mail of a job was handed over for these addresses. What was noted two weeks ago is forgotten.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then nothing is noted.
    pub async fn note_mailed(&self, job: &str, addresses: &[String], now: Timestamp) -> Result<(), RecordsError> {
        writing!(self, |db| note(db, job, addresses, now).await?)
    }

    /// The addresses for which the mail of a job was handed over, sorted.
    ///
    /// # Errors
    /// If the database does not answer, or they cannot be read.
    pub async fn mailed(&self, job: &str) -> Result<Vec<String>, RecordsError> {
        let question = "SELECT address AS id, address FROM mail_recipients WHERE job = $1 ORDER BY address";
        let question = Statement::of(question).with(job);
        reading!(self, |db| {
            let rows = query_of!(question).fetch_all(db).await?;
            rows.iter().map(|row| Columns::of("recipient of", row)?.word("address")).collect::<Result<_, _>>()?
        })
    }
}

async fn note(db: &mut impl Change, job: &str, addresses: &[String], now: Timestamp) -> Result<(), RecordsError> {
    for address in addresses {
        db.run(Statement::of(NOTE).with(job).with(address.as_str()).with(now)).await?;
    }
    let old = now.checked_sub(KNOWN).unwrap_or(Timestamp::MIN);
    db.run(Statement::of("DELETE FROM mail_recipients WHERE mailed_at < $1").with(old)).await?;
    Ok(())
}
