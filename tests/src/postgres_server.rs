//! A private PostgreSQL.

use std::{
    fs,
    io::Write,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};

/// A PostgreSQL of the test's own on a unix socket; stopped and removed when dropped, or when the test's process ends.
pub struct PostgresServer {
    folder: PathBuf,
    guard: Option<Child>,
    databases: AtomicU32,
}

/// Runs the server until its own input ends, which it does with the test's process, however that ends. Then the folder
/// goes too, unless the last word was to keep it.
const GUARD: &str = r#"
"$1/postgres" -D data -k "$PWD" -h '' -c fsync=off -c log_min_messages=warning </dev/null >>log 2>&1 &
read -r word
kill -CONT $!
kill -QUIT $!
wait
[ "$word" = keep ] || rm -rf "$PWD"
"#;

impl PostgresServer {
    /// Starts one.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("postgres").tempdir_in("/tmp").unwrap().keep();
        if let Some(user) = user() {
            chown(&folder, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let mut server = Self { folder, guard: None, databases: AtomicU32::new(0) };
        let options = ["-D", "data", "-U", "fourmi", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        server.run("initdb", &options);
        server.restart();
        server
    }

    /// One for all tests of a process.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The URL of a new database.
    pub fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.run("createdb", &["-h", self.socket_folder(), "-U", "fourmi", &name]);
        self.url(&name)
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&user=fourmi", self.socket_folder())
    }

    fn socket_folder(&self) -> &str {
        self.folder.to_str().unwrap()
    }

    /// Starts it again after [`PostgresServer::stop`], with the data that it had.
    pub fn restart(&mut self) {
        assert!(self.guard.is_none(), "it is running");
        let mut guard = self.command(Path::new("sh"));
        guard.args(["-c", GUARD, "sh"]).arg(programs()).stdin(Stdio::piped());
        self.guard = Some(guard.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        let is_ready = || {
            let mut ask = self.command(&programs().join("pg_isready"));
            ask.args(["-q", "-h", self.socket_folder()]).status().unwrap().success()
        };
        while !is_ready() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start: {}", log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a crash would: connections break, nothing is tidied up, and the next start recovers from its log.
    pub fn stop(&mut self) {
        self.end("keep\n");
    }

    /// Stops it in its tracks: its connections stay and nothing answers on them, and new ones get no answer.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`PostgresServer::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// To the server and to those of its processes that serve connections.
    fn signal(&self, signal: Signal) {
        let server = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let server: i32 = server.lines().next().unwrap().parse().unwrap();
        let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        for process in std::iter::once(server).chain(children.split_whitespace().map(|child| child.parse().unwrap())) {
            // A connection may have ended meanwhile.
            let _ = kill(Pid::from_raw(process), signal);
        }
    }

    fn end(&mut self, word: &str) {
        if let Some(mut guard) = self.guard.take() {
            guard.stdin.take().unwrap().write_all(word.as_bytes()).unwrap();
            guard.wait().unwrap();
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(&programs().join(program)).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        // A Ctrl-C at the terminal is for the test, which stops what it started.
        command.current_dir(&self.folder).stdin(Stdio::null()).process_group(0);
        if let Some(user) = user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.end("");
    }
}

/// Who runs it: PostgreSQL refuses root, so the user that its package has made.
fn user() -> Option<User> {
    geteuid().is_root().then(|| User::from_name("postgres").unwrap().expect("postgresql is installed by scripts/setup"))
}

/// Where the programs of the newest version are, which Debian keeps out of `PATH`.
fn programs() -> PathBuf {
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = versions.filter(|folder| folder.join("bin/initdb").exists()).max_by_key(version);
    newest.expect("postgresql is installed by scripts/setup").join("bin")
}
