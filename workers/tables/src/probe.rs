//! `dataset.probe`: columns, types, statistics.

use std::path::Path;

use fourmi_kinds::{DatasetInfo, TableFormat};

use crate::{GoOn, Limits, TableError, profile::Profile, watch::Watch};

/// Looks into a table. Its memory does not grow with the rows.
///
/// # Errors
/// See [`TableError`].
pub fn probe(
    path: &Path,
    format: Option<TableFormat>,
    limits: &Limits,
    go_on: GoOn<'_>,
) -> Result<DatasetInfo, TableError> {
    let watch = Watch::new(go_on);
    let Profile { inspected, columns, rows, notes } = Profile::of(path, format, limits, &watch)?;
    let columns = columns
        .into_iter()
        .map(|column| {
            watch.check()?;
            column.info(&watch)
        })
        .collect::<Result<_, TableError>>()?;
    Ok(DatasetInfo {
        format: inspected.format,
        delimiter: inspected.delimited.then_some(char::from(inspected.delimiter)),
        encoding: inspected.encoding.name().to_owned(),
        bytes: inspected.bytes,
        rows,
        columns,
        notes,
    })
}
