//! Log files, which are replaced when they are full.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use fourmi_settings::LogFiles;

/// Processes of one program that write into one folder at most.
const PROCESSES: usize = 1_000;

/// The files of one process. `fourmi-api.log` is written, `fourmi-api.log.1` is the one before, and so on; another process of the
/// same program has `fourmi-api-2.log`. A lock on `fourmi-api.log.lock` says that somebody has them.
///
/// Written here because crates that rotate by size bring their own clock and compression, and none keeps processes apart.
pub(super) struct Files {
    path: PathBuf,
    file: File,
    bytes: u64,
    most_bytes: u64,
    most_files: usize,
    _lock: File,
}

impl Files {
    /// Those that no other process has.
    pub(super) fn open(settings: &LogFiles) -> io::Result<Self> {
        fs::create_dir_all(&settings.folder)?;
        let program = std::env::args_os().next().unwrap_or_default();
        let program = Path::new(&program).file_name().map_or("fourmi".into(), |name| name.to_string_lossy());
        for number in 1..=PROCESSES {
            let number = if number == 1 { String::new() } else { format!("-{number}") };
            let path = settings.folder.join(format!("{program}{number}.log"));
            let lock = append(&path.with_added_extension("lock"))?;
            match lock.try_lock() {
                Ok(()) => {
                    let file = append(&path)?;
                    let bytes = file.metadata()?.len();
                    let (most_bytes, most_files) = (settings.bytes, settings.count);
                    return Ok(Self { path, file, bytes, most_bytes, most_files, _lock: lock });
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{PROCESSES} processes write there already")))
    }

    /// Writes lines into the newest file, after a new one was begun if they have no room in it.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.most_bytes {
            self.replace()?;
        }
        self.file.write_all(lines)?;
        self.bytes += length;
        Ok(())
    }

    fn replace(&mut self) -> io::Result<()> {
        let older = |age: usize| match age {
            0 => self.path.clone(),
            age => self.path.with_added_extension(age.to_string()),
        };
        if self.most_files == 1 {
            fs::remove_file(&self.path)?;
        }
        for age in (1..self.most_files).rev() {
            match fs::rename(older(age - 1), older(age)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}
