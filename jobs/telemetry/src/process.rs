//! What the system says of processes.

use std::{fs, path::Path, sync::OnceLock, time::Duration};

use nix::{
    sys::resource::{Resource, getrlimit},
    unistd::{SysconfVar, getpid, sysconf},
};

/// A tick of the clock in which the kernel counts time: the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// Of so many processes the memory is added up.
const MOST_DESCENDANTS: usize = 64;

/// This process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Processor time used, without child processes.
    pub cpu: Duration,
    /// Processor time of child processes that have ended and were waited for.
    pub children_cpu: Duration,
    /// Memory in use.
    pub resident_bytes: u64,
    /// Memory of the processes that this one has started, and of those that they have started.
    pub children_resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_descriptors: u64,
    /// File descriptors that may be open.
    pub most_descriptors: u64,
    /// When it started, since 1970.
    pub started_at: Duration,
}

/// The figures of this process; `None` where the system does not tell.
pub fn figures() -> Option<Figures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in brackets, may hold blanks. What follows is counted from the state, which proc(5) calls the third.
    let fields: Vec<u64> =
        stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = |number: usize| TICK * u32::try_from(field(number)).unwrap_or(u32::MAX);
    let own = getpid().as_raw();
    let resident_bytes = resident_pages(own)? * page_bytes();
    Some(Figures {
        cpu: ticks(14) + ticks(15),
        children_cpu: ticks(16) + ticks(17),
        resident_bytes,
        children_resident_bytes: resident_memory(own).unwrap_or(0).saturating_sub(resident_bytes),
        threads: field(20),
        open_descriptors: open_descriptors(),
        most_descriptors: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        started_at: booted_at() + ticks(22),
    })
}

/// Resident memory of a process and of all that it has started, in bytes; `None` if there is no such process.
pub fn resident_memory(process: i32) -> Option<u64> {
    let mut family = vec![process];
    let mut pages = 0;
    // Those who come are few: a program that the handler started, and perhaps a helper of that.
    while let Some(one) = family.pop() {
        pages += resident_pages(one).unwrap_or(0);
        if family.len() < MOST_DESCENDANTS {
            family.extend(children(one));
        }
    }
    (pages > 0).then(|| pages * page_bytes())
}

fn resident_pages(process: i32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{process}/statm")).ok()?.split(' ').nth(1)?.parse().ok()
}

fn page_bytes() -> u64 {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

fn children(process: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let started = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    started.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

fn open_descriptors() -> u64 {
    let folder = Path::new("/proc/self/fd");
    // Newer kernels (6.2) say how many there are; thousands of streams are slow to count.
    match folder.metadata().map_or(0, |folder| folder.len()) {
        0 => fs::read_dir(folder).map_or(0, |entries| entries.count() as u64),
        count => count,
    }
}

/// When the machine was started, since 1970.
fn booted_at() -> Duration {
    static BOOTED: OnceLock<Duration> = OnceLock::new();
    *BOOTED.get_or_init(|| {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let seconds = stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok());
        Duration::from_secs(seconds.unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Command, Stdio},
        time::{SystemTime, UNIX_EPOCH},
    };

    use super::*;

    #[test]
    fn a_process_knows_itself_and_its_children() {
        let before = figures().unwrap();
        assert!(before.resident_bytes > 1 << 20 && before.threads >= 1 && before.open_descriptors > 2, "{before:?}");
        assert!(before.most_descriptors >= before.open_descriptors, "{before:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(now.abs_diff(before.started_at) < Duration::from_secs(3_600), "{before:?}");

        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(resident_memory(pid).unwrap() > 0 && figures().unwrap().children_resident_bytes > 0);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(resident_memory(pid), None);
    }
}
