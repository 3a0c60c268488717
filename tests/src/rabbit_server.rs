//! A private RabbitMQ.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A RabbitMQ of the test's own on a free port of 127.0.0.1; stopped and removed when dropped, or when the test's process
/// ends.
pub struct RabbitServer {
    folder: PathBuf,
    /// Of AMQP, of Erlang's own protocol, and of its name server.
    ports: [u16; 3],
    guard: Option<Child>,
}

/// Runs the server until its own input ends, which it does with the test's process, however that ends. Then the folder goes
/// too, unless the last word was to keep it. The name server that Erlang starts would stay for ever.
const GUARD: &str = r#"
/usr/lib/rabbitmq/bin/rabbitmq-server </dev/null >>log 2>&1 &
read -r word
[ -f pid ] && kill -KILL "$(cat pid)"
kill -KILL $! 2>/dev/null
wait
epmd -kill >/dev/null 2>&1
[ "$word" = keep ] || rm -rf "$PWD"
"#;

impl RabbitServer {
    /// Starts one.
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("rabbit").tempdir_in("/tmp").unwrap().keep();
        // Kept open together, so that they are three.
        let listeners = [(); 3].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
        let ports = listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        drop(listeners);
        let mut server = Self { folder, ports, guard: None };
        server.restart();
        server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.ports[0])
    }

    /// Starts it again after [`RabbitServer::kill`], with the messages that it had.
    pub fn restart(&mut self) {
        assert!(self.guard.is_none(), "it is running");
        let [port, dist, names] = self.ports.map(|port| port.to_string());
        let path = |name: &str| self.folder.join(name);
        let _ = fs::remove_file(path("log"));
        let arguments = format!("-start_epmd false -erl_epmd_port {dist}");
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD]).current_dir(&self.folder).stdin(Stdio::piped());
        for (name, value) in [
            ("HOME", self.folder.display().to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
            ("ERL_EPMD_PORT", names),
            ("RABBITMQ_NODENAME", format!("fourmi{port}@localhost")),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".to_owned()),
            ("RABBITMQ_NODE_PORT", port),
            ("RABBITMQ_DIST_PORT", dist),
            ("RABBITMQ_MNESIA_BASE", path("db").display().to_string()),
            ("RABBITMQ_LOG_BASE", path("logs").display().to_string()),
            ("RABBITMQ_LOGS", "-".to_owned()),
            ("RABBITMQ_PID_FILE", path("pid").display().to_string()),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins").display().to_string()),
            ("RABBITMQ_CONF_ENV_FILE", "/dev/null".to_owned()),
            ("RABBITMQ_CONFIG_FILE", path("none").display().to_string()),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", arguments),
        ] {
            guard.env(name, value);
        }
        self.guard = Some(guard.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(90);
        let log = || fs::read_to_string(path("log")).unwrap_or_default();
        while !log().contains("Server startup complete") {
            assert!(Instant::now() < deadline, "RabbitMQ does not start: {}", log());
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.end("keep");
    }

    fn end(&mut self, word: &str) {
        let Some(mut guard) = self.guard.take() else { return };
        let _ = guard.stdin.take().map(|mut input| writeln!(input, "{word}"));
        guard.wait().unwrap();
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        self.end("remove");
        let _ = fs::remove_dir_all(&self.folder);
    }
}
