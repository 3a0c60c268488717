//! Room on the disks that jobs and files are written to, and when there is too little of it.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use fourmi_kinds::{Audience, catalogue};
use nix::{
    sys::statvfs::statvfs,
    unistd::{AccessFlags, access},
};

/// Room on a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What is free for us.
    pub free: u64,
    /// All that there is.
    pub all: u64,
}

/// The room on the disk of a folder.
///
/// # Errors
/// If there is no such folder, or we may not write to it.
pub fn room(folder: &Path) -> io::Result<Room> {
    access(folder, AccessFlags::W_OK)?;
    let disk = statvfs(folder)?;
    let bytes = |blocks| disk.fragment_size() * blocks;
    Ok(Room { free: bytes(disk.blocks_available()), all: bytes(disk.blocks()) })
}

/// What new jobs and files leave free on every disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    bytes: u64,
}

impl Reserve {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self { bytes }
    }

    /// How many bytes it is on this disk: a twentieth of it at most, so that small disks can be used.
    pub fn of(self, room: Room) -> u64 {
        self.bytes.min(room.all / 20)
    }
}

/// Whether a disk is full: less than the reserve is free. It stays full until a quarter more is, so that it does not
/// change with every file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fullness {
    /// There is room.
    #[default]
    HasRoom,
    /// There is none.
    Full,
}

impl Fullness {
    /// What it is with this room, after it was so.
    #[must_use]
    pub fn next(self, room: Room, reserve: Reserve) -> Self {
        let reserve = reserve.of(room);
        let enough = match self {
            Self::HasRoom => reserve,
            Self::Full => reserve.saturating_add(reserve / 4),
        };
        if room.free < enough { Self::Full } else { Self::HasRoom }
    }
}

/// Whether jobs of this kind are taken while a disk is full: those by which operators make room are.
pub fn goes_on_when_full(kind: &str) -> bool {
    catalogue().get(kind).is_some_and(|kind| kind.audience == Audience::Operators)
}

/// The disks of some folders, looked at again and again. Cheap to clone; clones look at the same.
#[derive(Debug, Clone)]
pub struct Disks {
    reserve: Reserve,
    folders: Arc<Mutex<Vec<Folder>>>,
}

impl Disks {
    /// Of these folders; none was looked at yet.
    pub fn new(reserve: Reserve, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let folders = folders.into_iter().map(|path| Folder { path, fullness: Fullness::default(), is_lost: false });
        Self { reserve, folders: Arc::new(Mutex::new(folders.collect())) }
    }

    /// Whether one of them is full now. One that cannot be looked at is as it was.
    pub async fn are_full(&self) -> bool {
        let Self { reserve, folders } = self.clone();
        let look = move || {
            let mut folders = folders.lock().unwrap_or_else(PoisonError::into_inner);
            folders.iter_mut().for_each(|folder| folder.look(reserve));
            folders.iter().any(|folder| folder.fullness == Fullness::Full)
        };
        // It may take a while to ask the disks of other machines.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

/// A folder, and how its disk was at the last look.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    fullness: Fullness,
    is_lost: bool,
}

impl Folder {
    fn look(&mut self, reserve: Reserve) {
        match room(&self.path) {
            Ok(room) => {
                self.fullness = self.fullness.next(room, reserve);
                self.is_lost = false;
            }
            // Whoever writes to it first makes it.
            Err(error) if error.kind() == ErrorKind::NotFound => self.fullness = Fullness::HasRoom,
            Err(error) => {
                if !std::mem::replace(&mut self.is_lost, true) {
                    tracing::warn!(folder = %self.path.display(), %error, "it is not known how much room there is");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_twentieth_of_a_small_disk() {
        let reserve = Reserve::new(1_000);
        assert_eq!(reserve.of(Room { free: 0, all: 1_000_000 }), 1_000);
        assert_eq!(reserve.of(Room { free: 0, all: 2_000 }), 100);
        assert_eq!(Reserve::new(0).of(Room { free: 0, all: 2_000 }), 0);
    }

    #[test]
    fn a_full_disk_stays_full_until_there_is_a_quarter_more_than_the_reserve() {
        let reserve = Reserve::new(1_000);
        let mut fullness = Fullness::default();
        for (free, expected) in [
            (5_000, Fullness::HasRoom),
            (1_000, Fullness::HasRoom),
            (999, Fullness::Full),
            (1_249, Fullness::Full),
            (1_250, Fullness::HasRoom),
            (1_000, Fullness::HasRoom),
            (0, Fullness::Full),
        ] {
            fullness = fullness.next(Room { free, all: 1_000_000 }, reserve);
            assert_eq!(fullness, expected, "{free}");
        }
    }

    #[test]
    fn without_a_reserve_no_disk_is_full() {
        let room = Room { free: 0, all: 1_000_000 };
        assert_eq!(Fullness::HasRoom.next(room, Reserve::new(0)), Fullness::HasRoom);
        assert_eq!(Fullness::Full.next(room, Reserve::new(0)), Fullness::HasRoom);
    }

    #[test]
    fn operators_make_room_while_there_is_none() {
        assert!(goes_on_when_full("maintenance.retention"));
        for kind in ["audio.extract", "mail.send", "x.echo", ""] {
            assert!(!goes_on_when_full(kind), "{kind}");
        }
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_not_full() {
        let nowhere = std::env::temp_dir().join("fourmi-no-such-folder");
        assert_eq!(room(&nowhere).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(!Disks::new(Reserve::new(u64::MAX), [nowhere]).are_full().await);
        let here = room(&std::env::temp_dir()).unwrap();
        assert!(here.free <= here.all && here.all > 0);
    }
}
