//! Whose jobs and files are to be erased, because they are gone and wanted it so.

use crate::{
    Records, RecordsError,
    row::Columns,
    statement::{Statement, query_of},
    store::{reading, writing},
};

/// What becomes of the jobs and files of a person who is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They stay, under an id that no longer leads to anybody.
    Keep,
    /// They are erased, by whoever reads [`Records::erasures`].
    Erase,
}

/// Noted in the change that removes the person, so that neither happens without the other.
pub(crate) const ERASE: &str = "INSERT INTO erasures (id, asked_at) VALUES ($1, $2) ON CONFLICT DO NOTHING";

impl Records {
    /// The people whose jobs and files are still to be erased, by id; a hundred at most.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn erasures(&self) -> Result<Vec<String>, RecordsError> {
        reading!(self, |db| {
            let rows = sqlx::query("SELECT id FROM erasures ORDER BY asked_at, id LIMIT 100").fetch_all(db).await?;
            rows.iter().map(|row| Columns::of("erasure of", row)?.word("id")).collect::<Result<_, RecordsError>>()?
        })
    }

    /// Notes that nothing is left of somebody.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn erased(&self, id: &str) -> Result<(), RecordsError> {
        let done = Statement::of("DELETE FROM erasures WHERE id = $1").with(id);
        writing!(self, |db| query_of!(done).execute(db).await.map(drop)?)
    }
}
