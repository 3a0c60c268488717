//! Text messages and push notifications while workers are killed and providers misbehave: each must end in one state, no text
//! message may be sent twice, and a push notification only if it was on its way when something was hit.
//!
//! The API, the workers and Redis are the real ones; the providers are strict servers of this process, which count what they
//! take. A person is played, too: whoever looks into the provider's own list where nobody else knows, and retries what has
//! failed because its worker was killed three times. What happens follows from the seed (`weather`); what came of it is
//! judged in `verdict`.

mod verdict;
mod weather;

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use clap::builder::TypedValueParser;
use fourmi_kinds::{JobKind, PushFanout, PushSend, SmsReceipt, SmsSend, sms_tag};
use fourmi_model::{DeviceId, DevicePlatform, JobId, ParkReason, QueueName, State, TokenKind};
use fourmi_queue::{JobFilter, Queues};
use fourmi_records::{Device, Records};
use futures_util::{StreamExt, stream};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use tokio::{task::block_in_place, time::sleep};

use super::{draw, random::Random};
use crate::{FcmServer, Platform, Program, SmsServer};
use verdict::{Counters, Evidence, PushStory, SmsStory, judge};
use weather::{Planned, Sky, Trouble, plan, set_push, set_sms};

/// Jobs of one request.
const BATCH: usize = 200;

/// How long nothing may happen while jobs are unfinished and nothing goes wrong any more: devices of a broadcast wait for
/// minutes for their last try.
const PATIENCE: Duration = Duration::from_secs(330);

/// How often delayed jobs are let go once nothing goes wrong any more.
const HURRY: Duration = Duration::from_secs(1);

/// How long the provider of text messages is asked for one that it may have: some times the delay of its tags.
const LOOKUP_WINDOW_S: f64 = 6.0;

/// Questions to Redis that are under way at once.
const AT_ONCE: usize = 64;

/// Broken promises that are printed; the evidence in the folder has all.
const MOST_PRINTED: usize = 10;

/// How many messages, and for how long things go wrong.
#[derive(Debug, Clone, clap::Args)]
pub struct MessageOptions {
    /// Text messages.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub sms: u32,
    /// Push notifications: half of them in broadcasts.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub pushes: u32,
    /// For how long things go wrong.
    #[arg(long, default_value_t = 90)]
    pub seconds: u64,
    /// What goes wrong and when; drawn if it is not given.
    #[arg(long, default_value_t = draw())]
    pub seed: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64).map(usize::from))]
    pub workers: usize,
    /// The folder that keeps the evidence; without it, one beside the programs.
    #[arg(long)]
    pub keep: Option<PathBuf>,
}

/// Messages that are submitted together.
enum Intent {
    Sms(u32),
    /// To one token.
    Token(u32),
    /// To the two devices of an owner.
    Pair(u32),
    /// To all devices of a platform.
    Broadcast(DevicePlatform),
}

const PLATFORMS: [DevicePlatform; 3] = [DevicePlatform::Android, DevicePlatform::Ios, DevicePlatform::Web];

/// How the push notifications are spread: to devices of broadcasts, to tokens, and to owners of two devices each.
struct Shares {
    broadcast: u32,
    tokens: u32,
    pairs: u32,
}

impl Shares {
    fn of(pushes: u32) -> Self {
        let (broadcast, pairs) = (pushes / 2, pushes / 16);
        Self { broadcast, pairs, tokens: pushes - broadcast - 2 * pairs }
    }
}

/// The job of an intent.
struct Submitted {
    job: JobId,
    intent: Intent,
}

/// The two sides and what is between them.
struct Town {
    platform: Platform,
    queues: Queues,
    records: Records,
    sms: SmsServer,
    fcm: FcmServer,
    queue: QueueName,
}

/// Sends messages while things go wrong, and says whether the promises held.
pub async fn run(options: MessageOptions) -> bool {
    let folder = open_folder(&options);
    let MessageOptions { sms, pushes, seconds, seed, .. } = options;
    println!("Chaos of {sms} text messages and {pushes} push notifications for {seconds} s, seed {seed}.");
    let started = Instant::now();
    let town = Town::open(&Shares::of(pushes)).await;
    town.register(&Shares::of(pushes)).await;
    let mut workers = Workers::start(&town.platform, options.workers, &folder);
    let troubles = plan(seed, seconds, options.workers);
    let (submitted, ()) = tokio::join!(town.submit(&options), town.suffer(&mut workers, &troubles, seed));
    println!("Nothing goes wrong any more after {} s; waiting for rest …", started.elapsed().as_secs());
    let helped = town.rest().await;
    println!("At rest after {} s.", started.elapsed().as_secs());
    let evidence = town.gather(&submitted, &Shares::of(pushes), helped.stuck.clone()).await;
    workers.end();

    let (tally, violations) = judge(&evidence);
    let count = |wanted: fn(&Trouble) -> bool| troubles.iter().filter(|planned| wanted(&planned.trouble)).count();
    println!("\n  {:<48}{:>10}", "workers killed", count(|trouble| matches!(trouble, Trouble::KillWorker(_))));
    for (name, value) in [
        ("turns of the providers", count(|trouble| !matches!(trouble, Trouble::KillWorker(_)))),
        ("a person has looked into the provider's list", helped.decided),
        ("a person has retried what was killed three times", helped.retried),
    ] {
        println!("  {name:<48}{value:>10}");
    }
    print!("{tally}");
    println!("  {:<48}{:>10}", "broken promises", violations.len());
    for violation in violations.iter().take(MOST_PRINTED) {
        let job = violation.job.as_ref().map(|job| format!(" {job}")).unwrap_or_default();
        println!("BROKEN {:?}{job}: {}", violation.promise, violation.what);
    }
    let kept = json!({
        "seed": seed, "plan": troubles, "tally": tally, "violations": violations, "evidence": evidence,
        "seconds": started.elapsed().as_secs(),
    });
    std::fs::write(folder.join("messages.json"), serde_json::to_vec(&kept).unwrap()).unwrap();
    let held = violations.is_empty();
    let verdict = if held { "All promises held." } else { "Promises were broken." };
    println!("{verdict} The evidence is in {}", folder.display());
    held
}

/// An empty folder for the evidence.
fn open_folder(options: &MessageOptions) -> PathBuf {
    let beside_programs = || {
        let program = Program::path("fourmi-api");
        program.ancestors().nth(2).unwrap().join("chaos").join(format!("messages-{}", options.seed))
    };
    let folder = options.keep.clone().unwrap_or_else(beside_programs);
    // Only what an earlier run has left is replaced.
    if folder.join("messages.json").exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    std::fs::create_dir_all(&folder).unwrap();
    std::path::absolute(folder).unwrap()
}

/// The messaging workers, of which one takes the place of another.
struct Workers {
    places: Vec<Program>,
    folder: PathBuf,
}

impl Workers {
    fn start(platform: &Platform, count: usize, folder: &Path) -> Self {
        let places = block_in_place(|| (0..count).map(|_| platform.messaging_worker()).collect());
        Self { places, folder: folder.to_owned() }
    }

    fn kill(&mut self, place: usize, platform: &Platform) {
        block_in_place(|| {
            self.places[place].kill();
            self.keep_log(place);
            self.places[place] = platform.messaging_worker();
        });
    }

    fn keep_log(&self, place: usize) {
        let path = self.folder.join(format!("worker-{place}.log"));
        let mut log = std::fs::File::options().create(true).append(true).open(path).unwrap();
        writeln!(log, "{}", self.places[place].lines().join("\n")).unwrap();
    }

    fn end(self) {
        (0..self.places.len()).for_each(|place| self.keep_log(place));
    }
}

/// What a person had to do.
#[derive(Default)]
struct Helped {
    decided: usize,
    retried: usize,
    /// What is left, if nothing happened any more.
    stuck: Option<String>,
}

impl Town {
    async fn open(shares: &Shares) -> Self {
        let (sms, fcm) = (SmsServer::start().await, FcmServer::start().await);
        let settings =
            [("FOURMI_EGRESS_ALLOW", "127.0.0.1"), ("FOURMI_RATE_LIMITS", "submit=off,read=off,control=off,any=off")];
        let platform = Platform::with(&settings, 0).await;
        let secrets = platform.data().join("secrets");
        std::fs::create_dir_all(&secrets).unwrap();
        let account = sms.account(json!({"lookup_window_s": LOOKUP_WINDOW_S}));
        std::fs::write(secrets.join("sms"), account.to_string()).unwrap();
        let mut account = fcm.account();
        // A rate begins with a fiftieth of this, and anew with every worker: a broadcast lasts some seconds, so that kills
        // hit it.
        account["messages_per_minute"] = json!(100 * shares.broadcast);
        std::fs::write(secrets.join("fcm"), account.to_string()).unwrap();
        // Every message that is taken arrives at once.
        sms.set_ptt(4);
        let queues = Queues::connect(&platform.redis.url()).await.unwrap();
        let records = Records::open(&platform.data().join("records.db")).await.unwrap();
        Self { platform, queues, records, sms, fcm, queue: SmsSend::QUEUE.parse().unwrap() }
    }

    /// Registers the devices that will be written to.
    async fn register(&self, shares: &Shares) {
        let now = Timestamp::now();
        let device = |token: String, owner: String, platform| Device {
            id: DeviceId::random(),
            tenant: None,
            token,
            token_kind: TokenKind::Registration,
            platform,
            owner,
            app_version: None,
            locale: None,
            failures: 0,
            created_at: now,
            seen_at: now,
        };
        let of_broadcasts = (0..shares.broadcast).map(|number| {
            let platform = PLATFORMS[number as usize % PLATFORMS.len()];
            device(of_broadcast(number), format!("reader-{number}"), platform)
        });
        // Those of pairs are of a tenant, so that no broadcast is for them.
        let of_pairs = (0..shares.pairs).flat_map(|number| {
            let tenant = Some(PAIRS.parse().unwrap());
            of_pair(number).map(|token| Device {
                tenant: tenant.clone(),
                ..device(token, format!("pair-{number}"), DevicePlatform::Android)
            })
        });
        let devices: Vec<_> = of_broadcasts.chain(of_pairs).collect();
        for devices in devices.chunks(5_000) {
            self.records.register_devices(devices).await.unwrap();
        }
    }

    /// Submits everything, in an order that follows from the seed, while things go wrong.
    async fn submit(&self, options: &MessageOptions) -> Vec<Submitted> {
        let shares = Shares::of(options.pushes);
        let mut intents: Vec<_> = (0..options.sms).map(Intent::Sms).collect();
        intents.extend((0..shares.tokens).map(Intent::Token));
        intents.extend((0..shares.pairs).map(Intent::Pair));
        Random::new(options.seed, 104).shuffle(&mut intents);
        // Broadcasts last, so they begin early: one at once, the others within the first half.
        for (turn, platform) in PLATFORMS.into_iter().enumerate() {
            let place = intents.len() * turn / (2 * PLATFORMS.len());
            intents.insert(place, Intent::Broadcast(platform));
        }
        let batches = intents.len().div_ceil(BATCH);
        let span = Duration::from_secs(options.seconds) * 3 / 4;
        let started = Instant::now();
        let mut submitted = Vec::with_capacity(intents.len());
        let mut intents = intents.into_iter();
        for batch in 0..batches {
            let due = span * u32::try_from(batch).unwrap() / u32::try_from(batches).unwrap();
            sleep(due.saturating_sub(started.elapsed())).await;
            let together: Vec<_> = intents.by_ref().take(BATCH).collect();
            let jobs = self.submit_together(&together).await;
            submitted.extend(jobs.into_iter().zip(together).map(|(job, intent)| Submitted { job, intent }));
        }
        submitted
    }

    async fn submit_together(&self, intents: &[Intent]) -> Vec<JobId> {
        let lines: String = intents.iter().map(|intent| job_of(intent).to_string() + "\n").collect();
        let request = self.platform.request("POST", "/jobs/bulk").header("content-type", "application/x-ndjson");
        let answer = request.body(lines).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{text}");
        let results = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let jobs =
            results.map(|result| serde_json::from_value(result["id"].clone()).unwrap_or_else(|_| panic!("{result}")));
        let jobs: Vec<JobId> = jobs.collect();
        assert_eq!(jobs.len(), intents.len());
        jobs
    }

    /// Lets everything of the plan happen; in the end, nothing goes wrong any more.
    async fn suffer(&self, workers: &mut Workers, plan: &[Planned], seed: u64) {
        let started = Instant::now();
        let [of_sms, of_push] = [105, 106].map(|stream| Arc::new(Mutex::new(Random::new(seed, stream))));
        for planned in plan {
            sleep(Duration::from_millis(planned.at).saturating_sub(started.elapsed())).await;
            match planned.trouble {
                Trouble::KillWorker(place) => workers.kill(place, &self.platform),
                Trouble::Sms(sky) => set_sms(&self.sms, sky, &of_sms),
                Trouble::Push(sky) => set_push(&self.fcm, sky, &of_push),
            }
        }
        set_sms(&self.sms, Sky::Clear, &of_sms);
        set_push(&self.fcm, Sky::Clear, &of_push);
    }

    /// Waits until every job is over, for as long as something happens.
    async fn rest(&self) -> Helped {
        // What was kept from those who ask comes to light, so that receipts come to an end.
        self.sms.show();
        let mut helped = Helped::default();
        let mut last = (Instant::now(), String::new());
        let mut hurried = Instant::now();
        loop {
            if hurried.elapsed() >= HURRY {
                hurried = Instant::now();
                self.hurry().await;
            }
            helped.decided += self.decide().await;
            helped.retried += self.retry().await;
            let counts = self.queues.counts(&self.queue).await.unwrap().0;
            let left: BTreeMap<_, _> = counts.iter().filter(|(state, jobs)| !state.is_final() && **jobs > 0).collect();
            if left.is_empty() && self.failed_by_kills().await.is_empty() {
                return helped;
            }
            if last.0.elapsed() > PATIENCE {
                helped.stuck = Some(format!("nothing happens any more, and these jobs are left: {left:?}"));
                return helped;
            }
            let signs = format!("{counts:?} {} {}", self.sms.posts(), self.fcm.requests());
            if signs != last.1 {
                last = (Instant::now(), signs);
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Lets delayed jobs run now, as an operator would who knows that the providers are well again.
    async fn hurry(&self) {
        for kind in [SmsSend::NAME, SmsReceipt::NAME, PushSend::NAME] {
            let filter = JobFilter { kind: Some(kind.parse().unwrap()), ..JobFilter::default() };
            let mut cursor = None;
            loop {
                let step = self.queues.promote_step(&self.queue, &filter, false, cursor.as_deref()).await.unwrap();
                cursor = step.next;
                if cursor.is_none() {
                    break;
                }
            }
        }
    }

    /// Looks into the provider's own list where nobody knows whether a message was sent, and says so; gives how many.
    async fn decide(&self) -> usize {
        let uncertain = Some(ParkReason::Uncertain);
        let jobs = self.list(State::Parked, JobFilter { parked_reason: uncertain, ..JobFilter::default() }).await;
        for job in &jobs {
            let sent = self.sms.count(&sms_tag(job)) > 0;
            let decision = self.platform.request("POST", &format!("/sms/{job}/decision"));
            let answer = decision.json(&json!({"sent": sent})).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        }
        jobs.len()
    }

    /// Retries what has failed because its workers were killed; gives how many.
    async fn retry(&self) -> usize {
        let jobs = self.failed_by_kills().await;
        for job in &jobs {
            self.queues.retry(job).await.unwrap();
        }
        jobs.len()
    }

    async fn failed_by_kills(&self) -> Vec<JobId> {
        self.list(State::Failed, JobFilter { error: Some("crashed".to_owned()), ..JobFilter::default() }).await
    }

    /// The jobs in a state that a filter wants.
    async fn list(&self, state: State, filter: JobFilter) -> Vec<JobId> {
        let filter = JobFilter { states: vec![state], ..filter };
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.queues.list(&self.queue, &filter, cursor.as_deref(), 200).await.unwrap();
            found.extend(page.jobs.into_iter().map(|job| job.id));
            cursor = page.next;
            if cursor.is_none() {
                return found;
            }
        }
    }

    /// Asks all sides what became of every message.
    async fn gather(&self, submitted: &[Submitted], shares: &Shares, stuck: Option<String>) -> Evidence {
        let mut evidence = Evidence { stuck, ..Evidence::default() };
        let mut tokens = self.fcm.all_taken();
        let mut tags = 0;
        for Submitted { job, intent } in submitted {
            if matches!(intent, Intent::Sms(_)) {
                tags += self.sms.count(&sms_tag(job));
            }
        }
        evidence.foreign_sms = self.sms.taken().len() - tags;
        let asked = stream::iter(submitted).map(|one| self.ask(one)).buffered(AT_ONCE);
        let stories: Vec<_> = asked.collect().await;
        for (Submitted { intent, .. }, story) in submitted.iter().zip(stories) {
            match story {
                Story::Sms(story) => evidence.sms.push(story),
                Story::Push(mut story) => {
                    story.taken = devices_of(intent, shares).map(|token| tokens.remove(&token).unwrap_or(0)).collect();
                    evidence.pushes.push(story);
                }
            }
        }
        evidence.foreign_pushes = tokens.len();
        let month = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string();
        evidence.spent = self.records.spending(&month).await.unwrap().iter().map(|spending| spending.amount).sum();
        evidence.receipts = self.receipts(&evidence.sms).await;
        evidence
    }

    async fn ask(&self, Submitted { job: id, intent }: &Submitted) -> Story {
        let job = self.queues.get(id).await.unwrap().unwrap();
        let code = job.error.as_ref().map(|error| error.code.clone());
        if let Intent::Sms(_) = intent {
            let noted = self.records.sms(id).await.unwrap();
            let (intent, credits) = noted.map_or((None, 0), |noted| (Some(noted.state), noted.credits));
            let taken = self.sms.count(&sms_tag(id));
            return Story::Sms(SmsStory { job: job.id, state: job.state, code, taken, intent, credits });
        }
        let result = job.result.unwrap_or_default();
        let is_broadcast = matches!(intent, Intent::Broadcast(_));
        let outcomes = result["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut runs: HashMap<String, usize> = HashMap::new();
        for run in self.queues.runs(id).await.unwrap() {
            *runs.entry(run.error.code).or_default() += 1;
        }
        let ended_by = |code: &str| runs.get(code).copied().unwrap_or(0);
        Story::Push(PushStory {
            state: job.state,
            code,
            taken: Vec::new(),
            sent: outcomes.iter().filter(|outcome| outcome["state"] == "sent").count(),
            lost_runs: ended_by("worker_lost"),
            doubtful_runs: ended_by("provider_unavailable"),
            counters: is_broadcast.then(|| serde_json::from_value::<Counters>(result).unwrap_or_default()),
            job: job.id,
        })
    }

    async fn receipts(&self, sms: &[SmsStory]) -> BTreeMap<String, usize> {
        let asked =
            stream::iter(sms).map(async |story| self.queues.get(&story.job.child(self.queue.clone(), "receipt")).await);
        let found: Vec<_> = asked.buffered(AT_ONCE).collect().await;
        let mut by_state = BTreeMap::new();
        for job in found.into_iter().filter_map(Result::unwrap) {
            *by_state.entry(job.state.to_string()).or_default() += 1;
        }
        by_state
    }
}

enum Story {
    Sms(SmsStory),
    Push(PushStory),
}

/// The tenant of those who have two devices.
const PAIRS: &str = "pairs";

fn job_of(intent: &Intent) -> Value {
    match intent {
        // Each to a number of its own.
        Intent::Sms(number) => {
            let to = format!("+336{:08}", 12_000_000 + number);
            json!({"kind": SmsSend::NAME, "payload": {"to": to, "text": "Your picture is ready.", "purpose": "transactional"}})
        }
        Intent::Token(number) => {
            json!({"kind": PushSend::NAME, "payload": {"to": {"token": of_token(*number)}, "title": "Hello"}})
        }
        Intent::Pair(number) => {
            let to = json!({"owner": format!("pair-{number}")});
            json!({"kind": PushSend::NAME, "tenant": PAIRS, "payload": {"to": to, "title": "Hello"}})
        }
        // Not held back by the time of day.
        Intent::Broadcast(platform) => {
            let audience = json!({"platform": platform});
            json!({"kind": PushFanout::NAME, "payload": {"audience": audience, "title": "Hello", "priority": "high"}})
        }
    }
}

/// The tokens that an intent is for.
fn devices_of(intent: &Intent, shares: &Shares) -> Box<dyn Iterator<Item = String>> {
    match *intent {
        Intent::Sms(_) => Box::new(std::iter::empty()),
        Intent::Token(number) => Box::new(std::iter::once(of_token(number))),
        Intent::Pair(number) => Box::new(of_pair(number).into_iter()),
        Intent::Broadcast(platform) => {
            let place = PLATFORMS.iter().position(|other| *other == platform).unwrap();
            Box::new((0..shares.broadcast).skip(place).step_by(PLATFORMS.len()).map(of_broadcast))
        }
    }
}

fn of_token(number: u32) -> String {
    format!("token-{number}")
}

fn of_pair(number: u32) -> [String; 2] {
    ["first", "second"].map(|which| format!("pair-{number}-{which}"))
}

fn of_broadcast(number: u32) -> String {
    format!("broadcast-{number}")
}
