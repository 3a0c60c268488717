//! The private Redis: started, adopted, watched, stopped.
//!
//! It holds `data/redis/lock`, inherited at its start, for as long as it or a child of it that rewrites its log lives.
//! So a supervisor knows for sure whether there is a Redis on these data: never are there two. One that outlived its
//! supervisor is adopted; one that is about to end is waited for.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::TcpListener,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fourmi_settings::{Data, Fsync, Secret, table};
use nix::{sys::signal::Signal, unistd::Pid};
use rand::Rng;
use tokio::{sync::watch, time::sleep};

use super::{
    children::{self, Backoff, Child, Ended, Order, Spec, Surroundings},
    lock::try_lock,
    resp::{Address, Pulse},
};
use crate::exit::Stop;

/// The longest path that the address of a unix socket holds, without its closing zero.
const SOCKET_PATH_BYTES: usize = 107;
/// How long an earlier Redis may take to answer or to end.
const EARLIER_ONE: Duration = Duration::from_secs(60);
/// Writing the last of the log to a slow disk takes its time.
const GRACE: Duration = Duration::from_secs(60);
const NAME: &str = "redis";

/// The private Redis of a data folder.
pub(crate) struct PrivateRedis {
    folder: PathBuf,
    address: Address,
    /// The lock for the Redis to be started; none if there is one to be adopted.
    lock: Option<File>,
}

impl PrivateRedis {
    /// Finds the Redis of an earlier run, or prepares to start one.
    pub(crate) async fn prepare(data: &Data, fsync: Fsync, surroundings: &Surroundings) -> anyhow::Result<Self> {
        let folder = data.redis();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let deadline = Instant::now() + EARLIER_ONE;
        let mut waiting = false;
        loop {
            if let Some(lock) = try_lock(&folder.join("lock"))? {
                let address = choose_address(&folder)?;
                write_files(&folder, &address, fsync)?;
                return Ok(Self { folder, address, lock: Some(lock) });
            }
            if let Some(address) = living(&folder).await {
                // Settings may have changed since it was started.
                write_files(&folder, &address, fsync)?;
                let _same_as_before = address.ask(&["CONFIG", "SET", "appendfsync", fsync.as_str()]).await;
                surroundings.output.note("a Redis of an earlier run is still there: taking it over");
                return Ok(Self { folder, address, lock: None });
            }
            if Instant::now() > deadline {
                let message = format!("a Redis of an earlier run holds {} and does not answer", folder.display());
                return Err(Stop::failed("redis_stuck", message));
            }
            if !std::mem::replace(&mut waiting, true) {
                surroundings.output.note("a Redis of an earlier run is about to end: waiting for it");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Where it listens. It stays the same over restarts.
    pub(crate) fn address(&self) -> Address {
        self.address.clone()
    }

    /// Keeps it running until an order says otherwise.
    pub(crate) async fn keep_running(mut self, mut orders: watch::Receiver<Order>, surroundings: Surroundings) {
        let spec = self.spec();
        let mut backoff = Backoff::default();
        while *orders.borrow() == Order::Run {
            let started = Instant::now();
            let lock = match self.lock.take() {
                Some(lock) => Ok(Some(lock)),
                None => try_lock(&self.folder.join("lock")),
            };
            let reason = match lock {
                Ok(None) => match self.attend_adopted(&mut orders, &surroundings).await {
                    Ended::AsTold => return,
                    Ended::ByItself(_) => "is gone".to_owned(),
                },
                Ok(lock) => match Child::start(&spec, &surroundings, lock) {
                    Ok(child) => match child.until_told(&spec, &mut orders, &surroundings.output).await {
                        Ended::AsTold => return,
                        Ended::ByItself(status) => children::describe(status),
                    },
                    Err(error) => children::cannot_start(&spec, &error),
                },
                Err(error) => format!("cannot be started: its lock: {error}"),
            };
            backoff.wait_after(NAME, &reason, started, &mut orders, &surroundings).await;
        }
    }

    fn spec(&self) -> Spec {
        Spec {
            name: NAME.to_owned(),
            program: "redis-server".into(),
            arguments: vec![self.folder.join("redis.conf").into()],
            environment: Vec::new(),
            withheld: &[table::API_KEY.name],
            // So that it writes the last of its log. The next supervisor waits for it.
            on_orphaned: Signal::SIGTERM,
            grace: GRACE,
            renewable: false,
        }
    }

    /// Watches a Redis that is no child of ours: it lives as long as it holds its lock.
    async fn attend_adopted(&self, orders: &mut watch::Receiver<Order>, surroundings: &Surroundings) -> Ended {
        let gone = async {
            while self.is_locked() {
                sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::pin!(gone);
        tokio::select! {
            () = &mut gone => return Ended::ByItself(Default::default()),
            _ = orders.wait_for(|order| *order != Order::Run) => {}
        }
        if *orders.borrow() == Order::Stop {
            // It answers by ending.
            let _ended = self.address.ask(&["SHUTDOWN"]).await;
            tokio::select! {
                () = &mut gone => return Ended::AsTold,
                _ = orders.wait_for(|order| *order == Order::Kill) => {}
                () = sleep(GRACE) => surroundings.output.note("redis has not stopped; it is killed"),
            }
        }
        self.kill_adopted();
        gone.await;
        Ended::AsTold
    }

    fn is_locked(&self) -> bool {
        matches!(try_lock(&self.folder.join("lock")), Ok(None))
    }

    /// Kills the process that Redis's own file names, if it works in our folder: numbers are given again.
    fn kill_adopted(&self) {
        let pid = fs::read_to_string(self.folder.join("redis.pid")).ok().and_then(|text| text.trim().parse().ok());
        let Some(pid) = pid.filter(|pid: &i32| *pid > 1) else { return };
        let place = fs::read_link(format!("/proc/{pid}/cwd")).ok();
        if place.is_some() && place == self.folder.canonicalize().ok() {
            let _ended_already = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// The address of a Redis that answers in this folder.
async fn living(folder: &Path) -> Option<Address> {
    let address = Address::parse(fs::read_to_string(folder.join("url")).ok()?.trim())?;
    (address.pulse().await != Pulse::None).then_some(address)
}

/// A socket in the folder if its path is not too long, else a free port with a password.
fn choose_address(folder: &Path) -> io::Result<Address> {
    let socket = folder.join("redis.sock");
    let plain = socket.to_str().is_some_and(|path| path.chars().all(|c| !c.is_control() && !"?#%@".contains(c)));
    if plain && socket.as_os_str().len() <= SOCKET_PATH_BYTES {
        return Ok(Address::Socket(socket));
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut random = [0_u8; 32];
    rand::rng().fill_bytes(&mut random);
    let password = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(Address::Port { port, password: Secret::new(password) })
}

/// Writes what Redis reads at its start, and what the next supervisor finds it by.
fn write_files(folder: &Path, address: &Address, fsync: Fsync) -> io::Result<()> {
    write_private(&folder.join("redis.conf"), &configuration(folder, address, fsync))?;
    write_private(&folder.join("url"), address.url().expose().as_bytes())
}

fn configuration(folder: &Path, address: &Address, fsync: Fsync) -> Vec<u8> {
    let mut text = b"# Written by `fourmi up` whenever it starts Redis; changes are lost.\n".to_vec();
    let mut line = |name: &str, value: &[u8]| {
        text.extend_from_slice(name.as_bytes());
        text.push(b' ');
        text.extend_from_slice(&quoted(value));
        text.push(b'\n');
    };
    match address {
        Address::Socket(path) => {
            line("port", b"0");
            line("unixsocket", path.as_os_str().as_bytes());
            line("unixsocketperm", b"700");
        }
        Address::Port { port, password } => {
            line("bind", b"127.0.0.1");
            line("port", port.to_string().as_bytes());
            line("requirepass", password.expose().as_bytes());
        }
    }
    line("dir", folder.as_os_str().as_bytes());
    line("pidfile", folder.join("redis.pid").as_os_str().as_bytes());
    line("daemonize", b"no");
    line("databases", b"1");
    line("loglevel", b"warning");
    line("appendonly", b"yes");
    line("appendfsync", fsync.as_str().as_bytes());
    // The log holds everything; snapshots would only cost forks.
    line("save", b"");
    // A queue may refuse new jobs, never drop accepted ones.
    line("maxmemory-policy", b"noeviction");
    text
}

/// A value as Redis reads it in its configuration: in quotes, with everything unusual as a number.
fn quoted(value: &[u8]) -> Vec<u8> {
    let mut text = vec![b'"'];
    for &byte in value {
        match byte {
            b'"' | b'\\' => text.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => text.push(byte),
            _ => text.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    text.push(b'"');
    text
}

/// Writes a file that its owner alone can read. It holds a password: it must not be readable for a moment.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let _none_left = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(content)?;
    fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_takes_a_port_and_a_password() {
        let short = choose_address(Path::new("/srv/fourmi/redis")).unwrap();
        assert!(matches!(short, Address::Socket(path) if path.ends_with("redis.sock")));
        let longest = PathBuf::from(format!("/{}", "d".repeat(SOCKET_PATH_BYTES - 1 - "/redis.sock".len())));
        assert!(matches!(choose_address(&longest).unwrap(), Address::Socket(_)));
        let long = choose_address(&longest.join("d")).unwrap();
        assert!(matches!(long, Address::Port { password, .. } if password.expose().len() == 64));
    }

    #[test]
    fn unusual_paths_are_quoted() {
        assert_eq!(quoted("/a \"b\"\\\né".as_bytes()), br#""/a \"b\"\\\x0a\xc3\xa9""#);
    }

    #[test]
    fn a_private_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("redis.conf");
        for content in ["one", "two"] {
            write_private(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    }
}
