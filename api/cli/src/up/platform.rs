//! The processes of a platform: started in one order, stopped in the other.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsString,
    time::Duration,
};

use fourmi_client::Client;
use fourmi_model::WorkerInfo;
use fourmi_settings::{Data, table};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{
    sync::mpsc::{self, UnboundedReceiver},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Settings,
    autoscale::Decision,
    children::{Event, Group, Order, Spec, Surroundings},
    follow::{self, Follower},
    output::Output,
    redis::PrivateRedis,
    resp::{Address, Pulse},
    scale::{Target, WORKERS, WorkerClass, free_numbers, said_of, to_stop},
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
/// What a scheduler has not noted the next one does again, to no effect.
const SCHEDULES_GRACE: Duration = Duration::from_secs(5);

/// The processes of a platform.
pub(crate) struct Platform {
    settings: Settings,
    json: bool,
    redis: Group,
    api: Group,
    schedules: Group,
    workers: Group,
    surroundings: Surroundings,
    events: UnboundedReceiver<Event>,
    failures: u32,
    /// The newest process id of each child.
    pids: HashMap<String, u32>,
    host: String,
    /// What every child must know.
    environment: Vec<(&'static str, OsString)>,
}

impl Platform {
    pub(crate) fn new(settings: Settings, json: bool, output: Output) -> Self {
        let (events, heard) = mpsc::unbounded_channel();
        Self {
            settings,
            json,
            redis: Group::new(),
            api: Group::new(),
            schedules: Group::new(),
            workers: Group::new(),
            surroundings: Surroundings { output, events },
            events: heard,
            failures: 0,
            pids: HashMap::new(),
            host: nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
            environment: Vec::new(),
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

    /// Starts Redis, the API and the scheduler; returns when the API answers.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let redis_url = self.start_redis().await?;
        self.environment =
            vec![(table::DATA.name, self.settings.data.folder().into()), (table::REDIS_URL.name, redis_url.into())];
        let mut api = self.spec("api", "fourmi-api", API_GRACE)?;
        api.environment.push((table::LISTEN.name, self.settings.address.to_string().into()));
        self.api.keep_running(api, self.surroundings.clone());
        self.until_api_answers().await?;
        let schedules = self.spec("schedules", "fourmi-schedules", SCHEDULES_GRACE)?;
        self.schedules.keep_running(schedules, self.surroundings.clone());
        Ok(())
    }

    /// Starts as many workers as there shall be.
    pub(crate) async fn start_workers(&mut self, follower: Option<&Follower>) -> anyhow::Result<()> {
        for class in WORKERS {
            let said = said_of(class, &self.settings.scale);
            let processes = match follower {
                Some(follower) => follower.at_start(class, said).await.unwrap_or_else(|error| {
                    self.note(&format!("how many {} processes there shall be cannot be read: {error}", class.name));
                    said.unwrap_or(1)
                }),
                None => said.unwrap_or(1),
            };
            self.adjust(&Target { class, processes, patient: false, workers: Vec::new() })?;
        }
        self.until_started().await
    }

    /// Waits until each worker has been started, or could not be.
    async fn until_started(&mut self) -> anyhow::Result<()> {
        let mut missing: BTreeSet<String> = self.workers.children().map(|(name, _)| name.to_owned()).collect();
        while !missing.is_empty() {
            let Some(event) = self.events.recv().await else { return Ok(()) };
            self.tell(&event)?;
            let (Event::Started { name, .. } | Event::Failed { name, .. }) = event;
            missing.remove(&name);
        }
        Ok(())
    }

    /// Starts what is missing of a class of workers, lets those end that are too many.
    fn adjust(&mut self, target: &Target) -> anyhow::Result<()> {
        let class = target.class;
        let children: Vec<(u32, bool)> =
            self.workers.children().filter_map(|(name, runs_on)| Some((number_of(class, name)?, runs_on))).collect();
        let running: Vec<u32> = children.iter().filter(|(_, runs_on)| *runs_on).map(|(number, _)| *number).collect();
        let wanted = usize::try_from(target.processes)?;
        for number in free_numbers(
            &children.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
            wanted.saturating_sub(running.len()),
        ) {
            let mut spec = self.spec(&name_of(class, number), class.program, self.settings.drain + WORKER_MARGIN)?;
            spec.renewable = true;
            self.workers.keep_running(spec, self.surroundings.clone());
        }
        let surplus = running.len().saturating_sub(wanted);
        let ours = running.into_iter().map(|number| (number, self.registered(class, number, target))).collect();
        for number in to_stop(ours, surplus, target.patient) {
            let name = name_of(class, number);
            self.note(&format!("stopping {name}: {wanted} of its class are wanted"));
            self.workers.stop(&name);
        }
        Ok(())
    }

    /// What a process of ours says of itself.
    fn registered<'a>(&self, class: &WorkerClass, number: u32, target: &'a Target) -> Option<&'a WorkerInfo> {
        let pid = self.pids.get(&name_of(class, number))?;
        target.workers.iter().find(|worker| worker.pid == *pid && worker.host == self.host)
    }

    async fn start_redis(&mut self) -> anyhow::Result<String> {
        if let Some(redis) = &self.settings.redis {
            self.note("using the Redis that REDIS_URL names");
            return Ok(redis.url.expose().to_owned());
        }
        let redis = PrivateRedis::prepare(&self.settings.data, self.settings.fsync, &self.surroundings).await?;
        let address = redis.address();
        let orders = self.redis.subscribe("redis");
        self.redis.run(redis.keep_running(orders, self.surroundings.clone()));
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

    fn spec(&self, name: &str, program: &str, grace: Duration) -> anyhow::Result<Spec> {
        let program = self.settings.own.with_file_name(program);
        if !program.is_file() {
            let message = format!("{} is missing; `cargo build --workspace` builds all programs", program.display());
            return Err(Stop::failed("program_missing", message));
        }
        Ok(Spec {
            name: name.to_owned(),
            program,
            arguments: Vec::new(),
            environment: self.environment.clone(),
            withheld: &[table::API_KEY.name, table::API_KEY_FILE.name],
            on_orphaned: Signal::SIGKILL,
            grace,
            renewable: false,
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

    fn tell(&mut self, event: &Event) -> anyhow::Result<()> {
        if let Event::Started { name, pid } = event {
            self.pids.insert(name.clone(), *pid);
        }
        match event {
            _ if !self.json => Ok(()),
            Event::Started { name, pid } => print::json_line(&json!({"event": "started", "process": name, "pid": pid})),
            Event::Failed { name, reason } => {
                print::json_line(&json!({"event": "failed", "process": name, "reason": reason}))
            }
        }
    }

    pub(crate) fn note(&self, text: &str) {
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
        let password = data.admin_password();
        let admin = match password.exists() {
            true => format!("\n  admin    password in {}", print::short(&password).display()),
            // It was changed.
            false => String::new(),
        };
        let elsewhere = exports(&url, data);
        print::line(&format!(
            "\n\
            Fourmi is up.\n\
            \n  address  {url}   (documentation: {url}/docs)\
            \n  API key  in {key}{admin}\n\
            \nTry in another terminal:{elsewhere}\
            \n  {fourmi} extract FILE --format opus     # the sound of a video of yours\
            \n  {fourmi} jobs                           # what was done\
            \n  curl -H \"Authorization: Bearer $(cat {key})\" {url}/api/v1/kinds\n\
            \nCtrl-C stops everything this command started, in order.\n"
        ))
    }

    /// Stays, passes on what happens, and follows how many workers there shall be, until it is dropped.
    pub(crate) async fn attend(&mut self, follower: Option<Follower>) -> anyhow::Result<Exit> {
        let (orders, mut heard) = mpsc::channel(1);
        // Ends with this function.
        let mut following = JoinSet::new();
        if let Some(follower) = follower {
            following.spawn(follower.follow(orders));
        }
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.tell(&event)?,
                    None => return Ok(Exit::Done),
                },
                Some(orders) = heard.recv() => match orders {
                    Ok(orders) => self.obey(&orders)?,
                    Err(error) => {
                        self.note(&format!("how many workers there shall be cannot be read, so they stay: {error}"));
                    }
                },
            }
        }
    }

    fn obey(&mut self, orders: &[follow::Order]) -> anyhow::Result<()> {
        for follow::Order { target, decision } in orders {
            if let Some(Decision { from, to, why }) = decision.as_ref().filter(|it| it.from != it.to) {
                let class = target.class.name;
                self.note(&format!("{class} is scaled from {from} to {to}: {why}"));
                if self.json {
                    print::json_line(&json!({"event": "scaled", "class": class, "from": from, "to": to, "why": why}))?;
                }
            }
            self.adjust(target)?;
        }
        Ok(())
    }

    /// Stops everything in order: `false` if a second signal cut that short.
    pub(crate) async fn drain(&mut self, signals: &mut Signals) -> bool {
        // From here on the groups' own tasks are all that matters.
        self.events.close();
        let drain = self.settings.drain;
        let output = self.surroundings.output.clone();
        let steps = [
            (&mut self.workers, format!("stopping the workers; running jobs have {} s", drain.as_secs())),
            (&mut self.schedules, "stopping the scheduler".to_owned()),
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

/// The name of a worker process: `media.2`.
fn name_of(class: &WorkerClass, number: u32) -> String {
    format!("{}.{number}", class.name)
}

fn number_of(class: &WorkerClass, name: &str) -> Option<u32> {
    name.strip_prefix(class.name)?.strip_prefix('.')?.parse().ok()
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
