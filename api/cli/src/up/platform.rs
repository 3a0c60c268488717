//! The processes of a platform: started in one order, stopped in the other.

use std::{ffi::OsString, time::Duration};

use fourmi_client::Client;
use fourmi_settings::{Data, table};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    time::{Instant, sleep, timeout},
};

use super::{
    Settings,
    children::{Event, Group, Order, Spec, Surroundings},
    output::Output,
    redis::PrivateRedis,
    resp::{Address, Pulse},
    scale::{self, WORKERS},
    signals::Signals,
};
use crate::{
    exit::{Exit, Stop},
    print,
};

/// A process that fails this often before the platform is ready will not succeed the next time.
const FAILURES: u32 = 3;
const API_STARTS_WITHIN: Duration = Duration::from_secs(60);
const API_GRACE: Duration = Duration::from_secs(10);
/// What a worker needs beyond its drain time: to give jobs back and to say good-bye.
const WORKER_MARGIN: Duration = Duration::from_secs(15);

/// The processes of a platform.
pub(crate) struct Platform {
    settings: Settings,
    json: bool,
    redis: Group,
    api: Group,
    workers: Group,
    surroundings: Surroundings,
    events: UnboundedReceiver<Event>,
    failures: u32,
}

impl Platform {
    pub(crate) fn new(settings: Settings, json: bool, output: Output) -> Self {
        let (events, heard) = mpsc::unbounded_channel();
        Self {
            settings,
            json,
            redis: Group::new(),
            api: Group::new(),
            workers: Group::new(),
            surroundings: Surroundings { output, events },
            events: heard,
            failures: 0,
        }
    }

    /// Where the API is.
    pub(crate) fn url(&self) -> String {
        self.settings.url()
    }

    /// The data folder.
    pub(crate) fn data(&self) -> &Data {
        &self.settings.data
    }

    /// Starts everything; returns when the API answers.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let redis_url = self.start_redis().await?;
        let mut environment: Vec<(&'static str, OsString)> =
            vec![(table::DATA.name, self.settings.data.folder().into()), (table::REDIS_URL.name, redis_url.into())];
        self.start_workers(&environment)?;
        environment.push((table::LISTEN.name, self.settings.address.to_string().into()));
        let api = self.spec("api", "fourmi-api", environment, API_GRACE)?;
        self.api.keep_running(api, self.surroundings.clone());
        self.until_api_answers().await
    }

    async fn start_redis(&mut self) -> anyhow::Result<String> {
        if let Some(redis) = &self.settings.redis {
            self.note("using the Redis that REDIS_URL names");
            return Ok(redis.url.expose().to_owned());
        }
        let redis = PrivateRedis::prepare(&self.settings.data, self.settings.fsync, &self.surroundings).await?;
        let address = redis.address();
        self.redis.run(redis.keep_running(self.redis.subscribe(), self.surroundings.clone()));
        self.until_redis_answers(&address).await?;
        Ok(address.url().expose().to_owned())
    }

    /// Redis reads all its data before it serves, which may take minutes: it is waited for as long as it does not fail.
    async fn until_redis_answers(&mut self, address: &Address) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut next_word = Duration::from_secs(5);
        loop {
            self.hear("redis", "Is it installed (`scripts/setup` does that)? Or name one that runs with REDIS_URL.")?;
            if address.pulse().await == Pulse::Ready {
                return Ok(());
            }
            if started.elapsed() > next_word {
                self.note("Redis is still reading its data …");
                next_word *= 2;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn start_workers(&mut self, environment: &[(&'static str, OsString)]) -> anyhow::Result<()> {
        let numbers = scale::numbers(&self.settings.scale);
        for class in WORKERS {
            for number in 1..=numbers.get(class.name).copied().unwrap_or(0) {
                let name = format!("{}.{number}", class.name);
                let grace = self.settings.drain + WORKER_MARGIN;
                let spec = self.spec(&name, class.program, environment.to_vec(), grace)?;
                self.workers.keep_running(spec, self.surroundings.clone());
            }
        }
        Ok(())
    }

    fn spec(
        &self,
        name: &str,
        program: &str,
        environment: Vec<(&'static str, OsString)>,
        grace: Duration,
    ) -> anyhow::Result<Spec> {
        let program = self.settings.own.with_file_name(program);
        if !program.is_file() {
            let message = format!("{} is missing; `cargo build --workspace` builds all programs", program.display());
            return Err(Stop::failed("program_missing", message));
        }
        Ok(Spec {
            name: name.to_owned(),
            program,
            arguments: Vec::new(),
            environment,
            withheld: &[table::API_KEY.name, table::API_KEY_FILE.name],
            on_orphaned: Signal::SIGKILL,
            grace,
        })
    }

    async fn until_api_answers(&mut self) -> anyhow::Result<()> {
        let client = Client::new(&self.url(), "")?;
        let deadline = Instant::now() + API_STARTS_WITHIN;
        while Instant::now() < deadline {
            self.hear("api", "Its last lines above say why.")?;
            if let Ok(Ok(())) = timeout(Duration::from_secs(2), client.ping()).await {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Err(Stop::failed("api_silent", format!("the API does not answer at {}", self.url())))
    }

    /// Takes note of what happened; an error if the process that is waited for fails again and again.
    fn hear(&mut self, awaited: &str, advice: &str) -> anyhow::Result<()> {
        while let Ok(event) = self.events.try_recv() {
            self.tell(&event)?;
            let Event::Failed { name, reason } = event else { continue };
            self.failures += u32::from(name == awaited);
            if self.failures >= FAILURES {
                return Err(Stop::failed("does_not_start", format!("{name} {reason}, {FAILURES} times. {advice}")));
            }
        }
        Ok(())
    }

    fn tell(&self, event: &Event) -> anyhow::Result<()> {
        match event {
            _ if !self.json => Ok(()),
            Event::Started { name, pid } => print::json_line(&json!({"event": "started", "process": name, "pid": pid})),
            Event::Failed { name, reason } => {
                print::json_line(&json!({"event": "failed", "process": name, "reason": reason}))
            }
        }
    }

    fn note(&self, text: &str) {
        self.surroundings.output.note(text);
    }

    /// Tells where everything is and what to try.
    pub(crate) fn tell_ready(&self) -> anyhow::Result<()> {
        let (url, data) = (self.url(), &self.settings.data);
        if self.json {
            return print::json_line(&json!({
                "event": "ready", "url": url, "key_file": data.api_key(), "data": data.folder(),
            }));
        }
        let (key, fourmi) = (print::short(&data.api_key()), print::short(&self.settings.own));
        let (key, fourmi) = (key.display(), fourmi.display());
        let elsewhere = exports(&url, data);
        print::line(&format!(
            "\n\
            Fourmi is up.\n\
            \n  address  {url}   (documentation: {url}/docs)\
            \n  API key  in {key}\n\
            \nTry in another terminal:{elsewhere}\
            \n  {fourmi} extract FILE --format opus     # the sound of a video of yours\
            \n  {fourmi} jobs                           # what was done\
            \n  curl -H \"Authorization: Bearer $(cat {key})\" {url}/api/v1/kinds\n\
            \nCtrl-C stops everything this command started, in order.\n"
        ))
    }

    /// Stays, and passes on what happens, until it is dropped.
    pub(crate) async fn attend(&mut self) -> anyhow::Result<Exit> {
        while let Some(event) = self.events.recv().await {
            self.tell(&event)?;
        }
        Ok(Exit::Done)
    }

    /// Stops everything in order: `false` if a second signal cut that short.
    pub(crate) async fn drain(&mut self, signals: &mut Signals) -> bool {
        // From here on the groups' own tasks are all that matters.
        self.events.close();
        let drain = self.settings.drain;
        let output = self.surroundings.output.clone();
        let steps = [
            (&mut self.workers, format!("stopping the workers; running jobs have {} s", drain.as_secs())),
            (&mut self.api, "stopping the API".to_owned()),
            (&mut self.redis, "stopping Redis".to_owned()),
        ];
        let mut clean = true;
        let mut groups: Vec<_> = steps.into_iter().filter(|(group, _)| !group.is_empty()).collect();
        for index in 0..groups.len() {
            let (group, what) = &mut groups[index];
            if clean {
                output.note(&format!("{what} …"));
                group.order(Order::Stop);
                clean = tokio::select! {
                    () = group.ended() => true,
                    () = signals.next() => false,
                };
            }
            if !clean {
                output.note("asked again: killing everything");
                for (group, _) in &groups[index..] {
                    group.order(Order::Kill);
                }
                for (group, _) in &mut groups[index..] {
                    group.ended().await;
                }
                return false;
            }
        }
        if clean {
            output.note("everything has stopped");
        }
        clean
    }
}

/// What a terminal in this folder must know of this platform, if it is not where every platform is by default.
fn exports(url: &str, data: &Data) -> String {
    let mut exports = String::new();
    if url != table::URL.default {
        exports.push_str(&format!(" {}={url}", table::URL.name));
    }
    if std::path::absolute(table::DATA.default).ok().as_deref() != Some(data.folder()) {
        exports.push_str(&format!(" {}='{}'", table::DATA.name, data.folder().display()));
    }
    if exports.is_empty() { exports } else { format!("\n  export{exports}") }
}
