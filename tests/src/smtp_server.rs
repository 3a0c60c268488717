//! A server that takes mails, and misbehaves as their recipients ask (`tests/clients/smtp_server.py`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Program, eventually_async};

/// How connections to a server are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpMode {
    /// Not at all.
    Plain,
    /// By STARTTLS, without which nothing is taken; with a password (`ada`, `p@ss word`).
    StartTls,
    /// From the first byte; with a password.
    Implicit,
}

/// A server on a free port of 127.0.0.1; stopped when dropped.
pub struct SmtpServer {
    program: Program,
    mode: SmtpMode,
    port: u16,
    folder: TempDir,
}

impl SmtpServer {
    /// Starts one.
    pub fn start(mode: SmtpMode) -> Self {
        Self::on(mode, 0)
    }

    /// Starts one on this port.
    pub fn on(mode: SmtpMode, port: u16) -> Self {
        let folder = TempDir::new().unwrap();
        certificates(folder.path());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/smtp_server.py");
        let (port, file) = (port.to_string(), |name: &str| folder.path().join(name).display().to_string());
        let (certificate, key) = (file("server.pem"), file("server-key.pem"));
        let word = match mode {
            SmtpMode::Plain => "plain",
            SmtpMode::StartTls => "starttls",
            SmtpMode::Implicit => "implicit",
        };
        let mut arguments = vec![script, "--mode", word, "--port", &port, "--certificate", &certificate, "--key", &key];
        if mode != SmtpMode::Plain {
            arguments.push("--auth");
        }
        // The system's own Python, for which scripts/setup --tests installs the library.
        let program = Program::start_installed("/usr/bin/python3", &arguments, []);
        let line = program.wait_for_line("listening ");
        let port = line.rsplit(' ').next().unwrap().parse().unwrap();
        Self { program, mode, port, folder }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that vouches for it.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The account with it, with this password.
    pub fn account_with(&self, password: &str) -> Value {
        let port = self.port;
        let url = match self.mode {
            SmtpMode::Plain => format!("smtp://127.0.0.1:{port}?tls=off"),
            SmtpMode::StartTls => format!("smtp://ada:{password}@localhost:{port}?tls=required"),
            SmtpMode::Implicit => format!("smtps://ada:{password}@localhost:{port}"),
        };
        let mut account = json!({"url": url, "from": "Fourmi <fourmi@mail.test>"});
        if self.mode != SmtpMode::Plain {
            account["ca"] = json!(self.authority());
        }
        account
    }

    /// The account with it.
    pub fn account(&self) -> Value {
        self.account_with("p%40ss%20word")
    }

    /// The mails that it has taken so far.
    pub fn mails(&self) -> Vec<Value> {
        self.told("mail")
    }

    /// Waits until it has taken so many mails, and gives them.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually_async(&format!("{count} mails are taken"), async || {
            Some(self.mails()).filter(|mails| mails.len() >= count)
        })
        .await
    }

    /// Waits until it leaves somebody without an answer.
    pub async fn hangs(&self) {
        eventually_async("no answer comes", async || (!self.told("hangs").is_empty()).then_some(())).await;
    }

    fn told(&self, what: &str) -> Vec<Value> {
        let lines = self.program.lines();
        let told = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get(what).cloned());
        told.collect()
    }
}

/// An authority that nobody knows, and a certificate that it has signed.
fn certificates(folder: &Path) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(folder.join("ca.pem"), ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let signed = server.signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key)).unwrap();
    std::fs::write(folder.join("server.pem"), signed.pem()).unwrap();
    std::fs::write(folder.join("server-key.pem"), key.serialize_pem()).unwrap();
}
