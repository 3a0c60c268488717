//! Which files somebody still needs.

use std::collections::HashSet;

use fourmi_kinds::catalogue;
use fourmi_model::{BlobId, State};
use fourmi_queue::{JobFilter, Queues};
use fourmi_records::Records;

use crate::RetentionError;

/// Jobs of one question.
const PAGE: usize = 200;

/// How the id of a file begins.
const PREFIX: &str = "file-";

/// The files that a schedule names, a job with a hold, or the payload of a job that is not over.
pub(crate) async fn files_in_use(queues: &Queues, records: &Records) -> Result<HashSet<BlobId>, RetentionError> {
    let mut files = HashSet::new();
    // A schedule goes before the job that it makes: whoever is between the two is met in one of them.
    for text in records.texts_with_needed_files().await? {
        files.extend(named(&text));
    }
    let states = State::ALL.iter().copied().filter(|state| !state.is_final()).collect();
    let filter = JobFilter { states, ..JobFilter::default() };
    for queue in catalogue().queues() {
        let mut cursor = None;
        loop {
            let page = queues.list(&queue, &filter, cursor.as_deref(), PAGE).await?;
            files.extend(page.jobs.iter().flat_map(|job| named(&job.payload.to_string())));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(files)
}

/// The ids of files in a text.
fn named(text: &str) -> HashSet<BlobId> {
    let ids =
        text.match_indices(PREFIX).filter_map(|(start, _)| text.get(start..start + PREFIX.len() + 32)?.parse().ok());
    ids.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_wherever_they_stand() {
        let (one, other) = (BlobId::random(), BlobId::random());
        let text =
            serde_json::json!({ "a": [{ "b": one }], "c": format!("/files/{other}?x"), "d": "file-é", "e": "file-" });
        assert_eq!(named(&text.to_string()), HashSet::from([one, other]));
    }
}
