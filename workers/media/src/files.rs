//! Files that appear under their name only when they are whole.

use std::path::{Path, PathBuf};

use fourmi_model::Failure;
use tempfile::TempPath;

use crate::failure;

/// A new file in a folder, which is removed again unless it is given a name.
///
/// # Errors
/// `disk_full`, `storage_failed`.
pub(crate) fn temporary_in(folder: &Path) -> Result<TempPath, Failure> {
    tempfile::Builder::new()
        .prefix(".media-")
        .suffix(".part")
        .tempfile_in(folder)
        .map(tempfile::NamedTempFile::into_temp_path)
        .map_err(|error| failure::storage(&error, "creating the file"))
}

/// Gives a whole file its name, in the place of one that has it.
///
/// # Errors
/// `storage_failed`.
pub(crate) fn name(file: TempPath, path: PathBuf) -> Result<PathBuf, Failure> {
    file.persist(&path).map_err(|error| failure::storage(&error.error, "naming the file"))?;
    Ok(path)
}

/// The size in bytes; 0 if there is no such file.
pub(crate) fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |metadata| metadata.len())
}

/// The folder that a file is in, or is to be in.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
