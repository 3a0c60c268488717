#![doc = include_str!("../README.md")]

mod disk;
mod in_use;
mod keeper;

pub use disk::{Disks, Fullness, Reserve, Room, goes_on_when_full, room};
pub use keeper::{Keeper, RetentionError};
