//! A private Redis.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A Redis of the test's own on a unix socket, with an append-only file; stopped and removed when dropped.
pub struct RedisServer {
    folder: TempDir,
    options: Vec<String>,
    /// What a Sentinel watches; none for a server.
    configuration: Option<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one that writes its log before it answers, so that nothing accepted is lost by a kill.
    pub fn start() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one with these options.
    pub fn with(options: &[&str]) -> Self {
        let mut server = Self::prepare(options);
        server.restart();
        server
    }

    fn prepare(options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("redis").tempdir_in("/tmp").unwrap();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self { folder, options, configuration: None, child: None }
    }

    /// Starts a Sentinel with these lines of configuration.
    pub fn sentinel(options: &[&str], configuration: &str) -> Self {
        let mut server = Self::prepare(options);
        server.configuration = Some(configuration.to_owned());
        server.restart();
        server
    }

    /// Its socket, with the password if it asks for one.
    pub fn url(&self) -> String {
        let password = self.options.iter().skip_while(|option| *option != "--requirepass").nth(1);
        let password = password.map(|password| format!("?pass={password}")).unwrap_or_default();
        format!("redis+unix://{}{password}", self.socket().display())
    }

    /// Its data folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    /// Starts it again after [`RedisServer::kill`] or [`RedisServer::stop`], with the data that it had.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it is running");
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new("redis-server");
        if let Some(configuration) = &self.configuration {
            // A Sentinel writes what it learns into the file.
            let file = self.folder.path().join("sentinel.conf");
            std::fs::write(&file, configuration).unwrap();
            command.arg(file).arg("--sentinel");
        }
        command
            .args(["--port", "0", "--save", "", "--enable-debug-command", "yes", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            // A Ctrl-C at the terminal is for the test, which stops what it started.
            .process_group(0);
        self.child = Some(command.spawn().expect("redis-server is installed by scripts/setup"));
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let client = redis::Client::open(self.url()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let pong = client.get_connection().and_then(|mut it| redis::cmd("PING").query::<String>(&mut it));
            match pong {
                Ok(_) => return,
                Err(error) if Instant::now() > deadline => panic!("Redis does not start: {error}"),
                Err(_) => sleep(Duration::from_millis(5)),
            }
        }
    }

    /// A connection for looking inside.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("it is running")
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    fn end(&mut self, signal: Signal) {
        if let Some(mut child) = self.child.take() {
            kill(pid(&child), signal).unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in its tracks: it accepts connections but answers nothing.
    pub fn freeze(&self) {
        kill(pid(self.child.as_ref().unwrap()), Signal::SIGSTOP).unwrap();
    }

    /// Lets it go on after [`RedisServer::freeze`].
    pub fn thaw(&self) {
        kill(pid(self.child.as_ref().unwrap()), Signal::SIGCONT).unwrap();
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.end(Signal::SIGKILL);
    }
}
