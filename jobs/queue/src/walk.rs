//! Walking through an index of jobs in bounded steps, while jobs leave it and others come.

use fourmi_model::QueueName;
use redis::Value;
use uuid::Uuid;

use crate::{
    QueueError,
    link::Link,
    read::{meta_key, number, text},
    scripts,
};

/// Entries that a step looks at, at most.
pub(crate) const ENTRIES_A_STEP: usize = 1_000;

/// Jobs that are read, and changed, at once.
pub(crate) const BATCH: usize = 200;

/// Where a step starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The entry that was looked at last: its time, and its id.
    after: (String, Uuid),
    /// When the first step began, in ms: what has come since is none of ours, so that what is let run and comes back is not
    /// let run for ever.
    began: i64,
}

impl Place {
    /// Reads the cursor that a step gave.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let [time, id, began] = text.split('_').collect::<Vec<_>>().try_into().ok()?;
        time.parse::<f64>().ok().filter(|time| time.is_finite())?;
        Some(Self { after: (time.to_owned(), Uuid::try_parse(id).ok()?), began: began.parse().ok()? })
    }

    /// The cursor.
    pub(crate) fn write(&self) -> String {
        format!("{}_{}_{}", self.after.0, self.after.1, self.began)
    }
}

/// Entries of an index.
pub(crate) struct Entries {
    pub(crate) ids: Vec<Uuid>,
    /// When the first step began, in ms.
    pub(crate) began: i64,
    /// Where the following ones are; `None` at the end.
    pub(crate) next: Option<Place>,
}

/// The next entries of an index, [`BATCH`] at most.
pub(crate) async fn entries(
    link: &Link,
    queue: &QueueName,
    index: &str,
    place: Option<&Place>,
) -> Result<Entries, QueueError> {
    let mut call = scripts::WALK.key(meta_key(queue));
    call.arg(index).arg(BATCH);
    match place {
        Some(Place { after: (time, id), .. }) => call.arg(time).arg(id.hyphenated().to_string()),
        None => call.arg("").arg(""),
    };
    let answer: Vec<Value> = link.invoke(&call).await?;
    let corrupt = || QueueError::Corrupt(format!("the index {index}"));
    let [now, entries @ ..] = answer.as_slice() else { return Err(corrupt()) };
    let began = place.map_or(number(now), |place| place.began);
    let ids = entries.chunks_exact(2).map(|entry| Uuid::try_parse(text(&entry[0])).map_err(|_| corrupt()));
    let ids: Vec<Uuid> = ids.collect::<Result<_, _>>()?;
    let last = ids.last().zip(entries.last()).filter(|_| ids.len() == BATCH);
    let next = last.map(|(id, time)| Place { after: (text(time).to_owned(), *id), began });
    Ok(Entries { ids, began, next })
}
