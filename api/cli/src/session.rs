//! What every command needs: the settings, the client, how to print.

use std::future::Future;

use fourmi_client::Client;
use fourmi_settings::{ClientSettings, Data, Environment, table};
use tokio::signal::unix::{SignalKind, signal};

use crate::{arguments::Common, progress::Progress};

/// What every command needs.
pub(crate) struct Session {
    environment: Environment,
    /// The settings that an option of the command line gives, by name.
    options: Vec<&'static str>,
    json: bool,
    quiet: bool,
}

impl Session {
    pub(crate) fn new(common: &Common) -> Self {
        let mut environment = Environment::real().with(&table::URL, common.url.clone());
        let mut options = Vec::new();
        if common.url.is_some() {
            options.push(table::URL.name);
        }
        if common.key_file.is_some() {
            // What is said now wins over what the environment says.
            environment = environment.without(&table::API_KEY).with(&table::API_KEY_FILE, common.key_file.clone());
            options.push(table::API_KEY_FILE.name);
        }
        Self { environment, options, json: common.json, quiet: common.quiet }
    }

    /// A session with one platform on this machine, whatever the environment says about another.
    pub(crate) fn of_platform(&self, url: String, data: &Data) -> Self {
        let mut environment =
            Environment::real().with(&table::URL, Some(url)).with(&table::DATA, Some(data.folder().as_os_str()));
        // An operator may have put the key elsewhere and have deleted this file.
        if data.api_key().exists() {
            environment = environment.without(&table::API_KEY).without(&table::API_KEY_FILE);
        }
        Self { environment, options: Vec::new(), json: self.json, quiet: self.quiet }
    }

    /// The settings.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Whether an option of the command line gives this setting.
    pub(crate) fn is_option(&self, name: &str) -> bool {
        self.options.contains(&name)
    }

    /// Whether to print JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether to leave out what is neither a result nor an error.
    pub(crate) fn quiet(&self) -> bool {
        self.quiet
    }

    /// The data folder.
    pub(crate) fn data(&self) -> anyhow::Result<Data> {
        Ok(Data::read(&self.environment)?)
    }

    /// A client of the API that the settings name.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let settings = ClientSettings::read(&self.environment)?;
        Ok(Client::new(&settings.url, settings.key.load()?.expose())?)
    }

    /// Shows how far something is.
    pub(crate) fn progress(&self) -> Progress {
        if self.quiet { Progress::silent() } else { Progress::on_stderr() }
    }

    /// A line about what is going on, for a person.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            crate::print::to_stderr(text);
        }
    }
}

/// Gives what `work` gives, or `None` as soon as someone asks this program to stop (Ctrl-C, SIGTERM).
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        biased;
        done = work => Ok(Some(done)),
        _ = interrupt.recv() => Ok(None),
        _ = terminate.recv() => Ok(None),
    }
}
