//! A program of the workspace, as its users start it.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long something that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program; killed when dropped. What it writes is kept, and printed if the test fails.
pub struct Program {
    name: String,
    child: Child,
    log: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Program {
    /// Where a binary of the workspace is.
    pub fn path(name: &str) -> PathBuf {
        // Tests lie in a folder of their own beside the programs.
        let this = std::env::current_exe().unwrap();
        let folder = this.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap();
        let path = folder.join(name);
        assert!(path.exists(), "{} is missing: run scripts/test, or cargo build --workspace", path.display());
        path
    }

    /// Starts a binary of the workspace with this environment and nothing of ours but `PATH`.
    pub fn start<'a>(name: &str, arguments: &[&str], environment: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut command = Command::new(Self::path(name));
        command.args(arguments);
        Self::spawn(name, command, environment)
    }

    /// Starts a program of the system, with this environment and nothing of ours but `PATH`.
    pub fn start_installed<'a>(
        name: &str,
        arguments: &[&str],
        environment: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let mut command = Command::new(name);
        command.args(arguments);
        Self::spawn(name, command, environment)
    }

    /// Starts a binary that sees a small file system of its own in place of `folder`, which exists.
    pub fn start_on_small_disk<'a>(
        name: &str,
        folder: &Path,
        kibibytes: u32,
        environment: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        let mount = r#"mount -t tmpfs -o size="$1"k none "$2" && exec "$3""#;
        let mut command = Command::new("unshare");
        // Who is not root becomes it in a world of its own, where that means nothing to others.
        let world: &[&str] = if nix::unistd::geteuid().is_root() { &["-m"] } else { &["-r", "-m"] };
        command.args(world).args(["sh", "-c", mount, "sh", &kibibytes.to_string()]).arg(folder).arg(Self::path(name));
        Self::spawn(name, command, environment)
    }

    /// Starts any program with this environment and nothing of ours but `PATH`.
    pub fn spawn<'a>(
        name: &str,
        mut command: Command,
        environment: impl IntoIterator<Item = (&'a str, String)>,
    ) -> Self {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let log: Arc<(Mutex<Vec<String>>, Condvar)> = Arc::default();
        follow(child.stdout.take().unwrap(), log.clone());
        follow(child.stderr.take().unwrap(), log.clone());
        Self { name: name.to_owned(), child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where a path of its own lies that others see otherwise: on its [small disk](Self::start_on_small_disk).
    pub fn inside(&self, path: &Path) -> PathBuf {
        let mut inside = PathBuf::from(format!("/proc/{}/root", self.pid()));
        inside.extend(path.components().skip(1));
        inside
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a line that contains `text`, and gives it.
    pub fn wait_for_line(&self, text: &str) -> String {
        let (lines, more) = &*self.log;
        let found = |lines: &Vec<String>| lines.iter().find(|line| line.contains(text)).cloned();
        let guard = lines.lock().unwrap();
        let (guard, _) = more.wait_timeout_while(guard, PATIENCE, |lines| found(lines).is_none()).unwrap();
        found(&guard).unwrap_or_else(|| panic!("{} does not say {text:?}", self.name))
    }

    /// What it has written so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.0.lock().unwrap().clone()
    }
}

fn follow(pipe: impl std::io::Read + Send + 'static, log: Arc<(Mutex<Vec<String>>, Condvar)>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            log.0.lock().unwrap().push(line);
            log.1.notify_all();
        }
    });
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.lines().join("\n"));
        }
    }
}

/// Waits until something is true.
pub fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is true, and gives what made it so.
pub async fn eventually_async<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What the open descriptors of a process stand for: `socket:[4711]`, `/dev/null`.
pub fn descriptors(pid: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    links.filter_map(|link| Some(std::fs::read_link(link.path()).ok()?.to_str()?.to_owned())).collect()
}
