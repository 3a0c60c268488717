//! One platform per data folder.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    path::Path,
};

use fourmi_settings::Data;

use crate::exit::Stop;

/// Holds the data folder for this process. The system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

/// Takes the data folder, or says who has it.
pub(crate) fn take(data: &Data) -> anyhow::Result<DataLock> {
    let path = data.lock();
    let unusable = |error: io::Error| Stop::failed("data_folder", format!("{}: {error}", path.display()));
    let Some(mut file) = try_lock(&path).map_err(unusable)? else {
        let mut holder = String::new();
        let _unreadable = File::open(&path).and_then(|mut file| file.read_to_string(&mut holder));
        return Err(Stop::already_up(taken(data.folder(), holder.trim())));
    };
    let text = format!("{}\n", std::process::id());
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes())).map_err(unusable)?;
    Ok(DataLock { _file: file })
}

fn taken(folder: &Path, holder: &str) -> String {
    let folder = folder.display();
    let stop = if holder.is_empty() { String::new() } else { format!(" (process {holder}; `kill {holder}` stops it)") };
    format!(
        "a platform already runs on {folder}{stop}.\nUse that one, or give this one a folder of its own with FOURMI_DATA and another FOURMI_LISTEN."
    )
}

/// The file, locked for its open file description; `None` if another holds the lock.
///
/// The lock is of the kind of `flock(2)`: a child that inherits the descriptor holds it too, after its parent is gone.
pub(crate) fn try_lock(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::at(folder.path());
        let first = take(&data).unwrap();
        let message = take(&data).unwrap_err().to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
        drop(first);
        take(&data).unwrap();
    }
}
