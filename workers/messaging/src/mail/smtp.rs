//! Servers of the operator's that take mails (RFC 5321), and the connections to them that are kept.
//!
//! The exchange is spelt out here because its answers matter one by one: a server may take a mail for some of its recipients
//! and refuse others, for now or for good.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use fourmi_model::{Failure, HealthStatus, ParkReason};
use lettre::{
    Address,
    message::Mailbox,
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters},
        commands::{Data, Mail, Noop, Rcpt},
        extension::ClientId,
    },
};
use serde::Deserialize;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use url::Url;

use crate::{account::Account, check::Finding};

/// How long a connection may take, with its greeting and TLS.
const CONNECTING: Duration = Duration::from_secs(20);

/// How long an answer to a command may take.
const ANSWERING: Duration = Duration::from_secs(30);

/// How long the answer may take that says that a mail was taken: servers look into mails before they do. A server that takes
/// longer may have taken it, and gets it a second time.
const TAKING: Duration = Duration::from_secs(120);

/// How long a check may take.
const CHECKING: Duration = Duration::from_secs(30);

/// How long a connection is kept that nobody uses: servers close theirs after a minute and more.
const IDLE: Duration = Duration::from_secs(30);

/// Connections at a time if nothing is said.
const CONNECTIONS: usize = 4;

/// The most connections at a time.
const MOST_CONNECTIONS: usize = 64;

/// What a server says of a letter box that is not there, or not used any more (RFC 3463, X.1 and X.2; RFC 7505 for X.1.10):
/// anything else may be about the sender, the mail or the moment.
const NOBODY: [&str; 6] = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1"];

/// An account with a server, as the operator writes it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SmtpAccount {
    /// `smtps://user:password@host:465`, or `smtp://…` for one with STARTTLS.
    url: String,
    /// Who writes: `Name <address>`.
    from: String,
    /// How many connections there may be at a time.
    #[serde(default)]
    connections: Option<usize>,
    /// A file with the certificates, in PEM, of the authorities of a server that no public one vouches for.
    #[serde(default)]
    ca: Option<PathBuf>,
}

impl Account for SmtpAccount {
    const WHAT: &'static str = "an account with a server that takes mails";
    const DOCUMENT: &'static str = "docs/kinds/mail.send.md";
}

/// A server, with the connections to it that are kept.
pub(crate) struct Server {
    account: SmtpAccount,
    from: Mailbox,
    host: String,
    port: u16,
    tls: Tls,
    credentials: Option<Credentials>,
    hello: ClientId,
    places: Semaphore,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

/// How a connection is encrypted.
enum Tls {
    /// From its first byte.
    Implicit(TlsParameters),
    /// By STARTTLS; without it nothing is sent.
    Upgraded(TlsParameters),
    /// Not at all: for a server on the same machine.
    Off,
}

/// What a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Three digits.
    pub(crate) code: u16,
    /// What it said, with its enhanced status code (RFC 3463) if it has one.
    pub(crate) text: String,
}

impl Reply {
    /// Whether trying again may help.
    pub(crate) fn is_transient(&self) -> bool {
        (400..500).contains(&self.code)
    }

    /// Whether it says by an enhanced status code that there is no such letter box. Without one nobody knows why it refuses.
    pub(crate) fn says_nobody_is_there(&self) -> bool {
        let enhanced = self.text.split_whitespace().next().unwrap_or_default();
        matches!(self.code, 550 | 551 | 553) && NOBODY.contains(&enhanced)
    }

    /// Whether it says that the account has to show who it is, or in another way (RFC 4954, section 6).
    fn wants_a_login(&self) -> bool {
        matches!(self.code, 530 | 534 | 535 | 538)
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

/// What became of a mail's recipients.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Handed {
    /// For whom the server has taken it.
    pub(crate) accepted: Vec<Address>,
    /// Whom it has refused, for now or for good.
    pub(crate) refused: Vec<(Address, Reply)>,
}

/// Why a mail was not handed over.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// There is no connection, or it broke before the mail was said.
    Unreachable(String),
    /// The connection broke when all was said: the server may have taken the mail.
    Unanswered(String),
    /// The server does not let this account in.
    Account(String),
    /// It has answered no.
    Refused(Reply),
}

impl Server {
    /// The server of an account. Nothing is connected yet.
    ///
    /// # Errors
    /// The job is parked as `not_configured` if the account is none that can be used.
    pub(crate) async fn of(name: &str, account: SmtpAccount) -> Result<Self, Failure> {
        Self::read(account).await.map_err(|wrong| {
            let message = format!("secrets/{name} of the data folder: {wrong} ({})", SmtpAccount::DOCUMENT);
            Failure::park(ParkReason::NotConfigured, message)
        })
    }

    async fn read(account: SmtpAccount) -> Result<Self, String> {
        // What stands there may hold the password, so no error tells of it.
        let url = Url::parse(&account.url).map_err(|_| "url is no address such as smtps://user:password@host:465")?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("url names no host")?.to_owned();
        let host = host.trim_matches(['[', ']']).to_owned();
        let wanted = url.query_pairs().find(|(name, _)| name == "tls").map(|(_, value)| value.into_owned());
        let trust = trust(&host, account.ca.as_ref()).await?;
        let (tls, usual) = match (url.scheme(), wanted.as_deref()) {
            ("smtps", None) => (Tls::Implicit(trust), 465),
            ("smtp", None | Some("required")) => (Tls::Upgraded(trust), 587),
            ("smtp", Some("off")) => (Tls::Off, 25),
            _ => return Err("url must begin with smtps:// or smtp://, with ?tls=required or ?tls=off at most".into()),
        };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let credentials = url.password().map(|password| Credentials::new(decoded(url.username()), decoded(password)));
        if credentials.is_some() && matches!(tls, Tls::Off) {
            return Err("url has a password and no encryption: whoever listens would know it".into());
        }
        let from = account.from.parse().map_err(|_| "from is no address such as Name <name@example.org>")?;
        let connections = account.connections.unwrap_or(CONNECTIONS);
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return Err(format!("connections must be 1 to {MOST_CONNECTIONS}"));
        }
        Ok(Self {
            from,
            port: url.port().unwrap_or(usual),
            host,
            tls,
            credentials,
            hello: ClientId::default(),
            places: Semaphore::new(connections),
            idle: Mutex::default(),
            account,
        })
    }

    /// Whether it is the server of this account still.
    pub(crate) fn is_of(&self, account: &SmtpAccount) -> bool {
        self.account == *account
    }

    /// Who writes.
    pub(crate) fn from(&self) -> &Mailbox {
        &self.from
    }

    /// Hands a mail over, for each of its recipients that the server takes.
    pub(crate) async fn hand_over(&self, recipients: &[Address], mail: &[u8]) -> Result<Handed, Trouble> {
        let (mut connection, _place) = self.connection().await?;
        let handed = self.say(&mut connection, recipients, mail).await;
        // After any other trouble nobody knows where the exchange stands.
        if matches!(&handed, Ok(_) | Err(Trouble::Refused(Reply { code: 400..=420 | 422..=599, .. }))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        }
        handed
    }

    /// Whether it lets the account in, and answers.
    pub(crate) async fn check(&self) -> Finding {
        match timeout(CHECKING, self.noop()).await {
            Ok(Ok(())) => Finding::well(),
            Ok(Err(Trouble::Account(why))) => Finding::bad(HealthStatus::NotConfigured, why),
            Ok(Err(Trouble::Refused(reply))) => Finding::bad(HealthStatus::Degraded, reply.to_string()),
            Ok(Err(Trouble::Unreachable(why) | Trouble::Unanswered(why))) => Finding::bad(HealthStatus::Down, why),
            Err(_) => Finding::bad(HealthStatus::Down, format!("no answer within {} s", CHECKING.as_secs())),
        }
    }

    async fn noop(&self) -> Result<(), Trouble> {
        let (mut connection, _place) = self.connection().await?;
        command(&mut connection, Noop).await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        Ok(())
    }

    async fn say(
        &self,
        connection: &mut AsyncSmtpConnection,
        recipients: &[Address],
        mail: &[u8],
    ) -> Result<Handed, Trouble> {
        command(connection, Mail::new(Some(self.from.email.clone()), Vec::new())).await?;
        let mut handed = Handed::default();
        for recipient in recipients {
            match command(connection, Rcpt::new(recipient.clone(), Vec::new())).await {
                Ok(()) => handed.accepted.push(recipient.clone()),
                // It closes the connection: no other will be heard.
                Err(Trouble::Refused(reply)) if reply.code != 421 => handed.refused.push((recipient.clone(), reply)),
                Err(trouble) => return Err(trouble),
            }
        }
        if handed.accepted.is_empty() {
            return Ok(handed);
        }
        command(connection, Data).await?;
        let unanswered = |what: String| Trouble::Unanswered(what);
        match timeout(TAKING, connection.message(mail)).await {
            Ok(Ok(_)) => Ok(handed),
            Ok(Err(error)) => Err(reply_of(&error).map_or_else(|| unanswered(error.to_string()), Trouble::Refused)),
            Err(_) => Err(unanswered(format!("no answer within {} s", TAKING.as_secs()))),
        }
    }

    /// A connection that is ready for a mail: one that was kept, else a new one.
    async fn connection(&self) -> Result<(AsyncSmtpConnection, SemaphorePermit<'_>), Trouble> {
        let closed = |_| Trouble::Unreachable("the worker is stopping".to_owned());
        let place = self.places.acquire().await.map_err(closed)?;
        loop {
            let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some((mut connection, since)) = kept else { break };
            // The server may have closed it since, or be in the middle of a mail that was refused.
            if since.elapsed() < IDLE && command(&mut connection, "RSET\r\n").await.is_ok() {
                return Ok((connection, place));
            }
        }
        match timeout(CONNECTING, self.connect()).await {
            Ok(connected) => Ok((connected?, place)),
            Err(_) => Err(Trouble::Unreachable(format!("no connection within {} s", CONNECTING.as_secs()))),
        }
    }

    /// The host is one that the operator has named, so it may be on the inside: the guard of addresses is not asked.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Trouble> {
        let implicit = match &self.tls {
            Tls::Implicit(parameters) => Some(parameters.clone()),
            Tls::Upgraded(_) | Tls::Off => None,
        };
        let place = (self.host.as_str(), self.port);
        let connected = AsyncSmtpConnection::connect_tokio1(place, None, &self.hello, implicit, None).await;
        let mut connection = connected.map_err(|error| trouble(&error))?;
        if let Tls::Upgraded(parameters) = &self.tls {
            if !connection.can_starttls() {
                return Err(Trouble::Account("it offers no STARTTLS".to_owned()));
            }
            connection.starttls(parameters.clone(), &self.hello).await.map_err(|error| trouble(&error))?;
        }
        if let Some(credentials) = &self.credentials {
            let entered = connection.auth(&[Mechanism::Plain, Mechanism::Login], credentials).await;
            entered.map_err(|error| match reply_of(&error) {
                Some(reply) if !reply.is_transient() => Trouble::Account(reply.to_string()),
                None if error.is_client() => Trouble::Account(error.to_string()),
                _ => trouble(&error),
            })?;
        }
        Ok(connection)
    }
}

/// What certificates of a server are held against.
async fn trust(host: &str, authorities: Option<&PathBuf>) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = authorities {
        let read = tokio::fs::read(path).await.map_err(|error| format!("ca cannot be read: {error}"))?;
        let certificates = Certificate::from_pem(&read).map_err(|_| "ca holds no certificates in PEM")?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificates);
    }
    builder.build_rustls().map_err(|error| format!("TLS cannot be used: {error}"))
}

async fn command(connection: &mut AsyncSmtpConnection, command: impl std::fmt::Display) -> Result<(), Trouble> {
    match timeout(ANSWERING, connection.command(command)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(trouble(&error)),
        Err(_) => Err(Trouble::Unreachable(format!("no answer within {} s", ANSWERING.as_secs()))),
    }
}

fn trouble(error: &Error) -> Trouble {
    match reply_of(error) {
        Some(reply) if reply.wants_a_login() => Trouble::Account(reply.to_string()),
        Some(reply) => Trouble::Refused(reply),
        None => Trouble::Unreachable(error.to_string()),
    }
}

fn reply_of(error: &Error) -> Option<Reply> {
    let text = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    error.status().map(|code| Reply { code: code.into(), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(account: serde_json::Value) -> Result<Server, String> {
        Server::read(serde_json::from_value(account).unwrap()).await
    }

    #[tokio::test]
    async fn an_account_says_how_its_server_is_reached() {
        let from = "Fourmi <fourmi@example.org>";
        for (url, port, user) in [
            ("smtps://ada:p%40ss@mail.example.org", 465, true),
            ("smtp://ada:pass@mail.example.org", 587, true),
            ("smtp://mail.example.org:2525?tls=required", 2525, false),
            ("smtp://127.0.0.1?tls=off", 25, false),
        ] {
            let server =
                read(serde_json::json!({"url": url, "from": from})).await.map_err(|wrong| (url, wrong)).unwrap();
            assert_eq!((server.port, server.credentials.is_some()), (port, user), "{url}");
        }
        for (account, wrong) in [
            (serde_json::json!({"url": "mail.example.org", "from": from}), "url is no address"),
            (serde_json::json!({"url": "https://mail.example.org", "from": from}), "must begin with"),
            (serde_json::json!({"url": "smtp://mail.example.org?tls=opportunistic", "from": from}), "must begin with"),
            (serde_json::json!({"url": "smtp://ada:secret@mail.example.org?tls=off", "from": from}), "no encryption"),
            (serde_json::json!({"url": "smtps://mail.example.org", "from": "nobody"}), "from is no address"),
            (serde_json::json!({"url": "smtps://mail.example.org", "from": from, "connections": 0}), "connections"),
            (
                serde_json::json!({"url": "smtps://mail.example.org", "from": from, "ca": "/nowhere"}),
                "ca cannot be read",
            ),
        ] {
            let said = read(account.clone()).await.err().unwrap();
            assert!(said.contains(wrong) && !said.contains("secret"), "{account}: {said}");
        }
    }

    #[test]
    fn who_is_not_there_is_told_from_who_is_not_wanted() {
        let reply = |code, text: &str| Reply { code, text: text.to_owned() };
        for (reply, nobody) in [
            (reply(550, "5.1.1 no such user"), true),
            (reply(550, "5.1.1"), true),
            (reply(553, "5.1.3 bad address"), true),
            (reply(550, "5.1.10 not found"), true),
            (reply(550, "5.2.1 the letter box is closed"), true),
            (reply(550, "no such user"), false),
            (reply(550, "Blocked, see 5.1.1"), false),
            (reply(550, "5.1.8 bad sender"), false),
            (reply(550, "5.4.1 access denied"), false),
            (reply(550, "5.7.1 relaying denied"), false),
            (reply(554, "5.1.1 rejected"), false),
            (reply(552, "5.2.2 mailbox full"), false),
            (reply(450, "4.2.0 greylisted"), false),
        ] {
            assert_eq!(reply.says_nobody_is_there(), nobody, "{reply}");
        }
    }
}
