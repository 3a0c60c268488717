//! The processes that things happen to, and what happens to them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use fourmi_queue::{ControlChange, Queues};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};

use super::{
    Options,
    faults::{Fault, Happened, Planned, Steering, Trouble},
    journal::{Journal, now},
    proxy::{Line, Proxy},
    submitter::{self, Task},
    work::QUEUE,
};
use crate::RedisServer;

/// Jobs that a worker runs at a time.
const SLOTS: usize = 4;

/// How long a worker may go on with its jobs when it is asked to stop.
const DRAIN_SECONDS: u64 = 1;

/// How long a process that was asked to end may take.
const END: Duration = Duration::from_secs(60);

pub(super) struct House {
    redis: Arc<Mutex<RedisServer>>,
    redis_url: String,
    workers: Vec<Arc<Place>>,
    submitters: Vec<Arc<Place>>,
    /// Grows when Redis is taken away and when it is back.
    redis_hits: Arc<AtomicU32>,
    troubles: Arc<Journal>,
    keepers: Vec<JoinHandle<()>>,
}

/// Where a process is, and another one after its end.
struct Place {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    proxy: Proxy,
    /// 0: nobody is there now.
    pid: AtomicU32,
    /// How long nobody comes after the process that is there, in milliseconds.
    away_ms: AtomicU64,
    /// Somebody has hit the process that is there.
    hit: AtomicBool,
    closing: AtomicBool,
    /// What a process is told that starts while the place closes, because the one before could not end what it had begun;
    /// `None` if others do so.
    to_end: Option<&'static str>,
    /// Nobody comes any more.
    closed: AtomicBool,
    troubles: Arc<Journal>,
}

impl Place {
    /// Starts a process, and another one whenever it has ended, until the place is closed.
    async fn keep(self: Arc<Self>) {
        let mut ended_well = false;
        while !self.closing.load(SeqCst) || (self.to_end.is_some() && !ended_well) {
            self.hit.store(false, SeqCst);
            let mut child = self.start();
            let pid = child.id().unwrap_or_default();
            self.pid.store(pid, SeqCst);
            let status = child.wait().await.unwrap();
            self.pid.store(0, SeqCst);
            ended_well = status.success();
            remove_what_faketime_left(pid);
            if !self.hit.load(SeqCst) && !self.closing.load(SeqCst) {
                let what = Trouble::UnexpectedExit { pid, process: self.name.clone(), how: status.to_string() };
                self.troubles.write(&Happened { at: now(), until: now(), what });
                sleep(Duration::from_millis(500)).await;
            }
            let back = Instant::now() + Duration::from_millis(100 + self.away_ms.swap(0, SeqCst));
            while Instant::now() < back && !self.closing.load(SeqCst) {
                sleep(Duration::from_millis(20)).await;
            }
        }
        self.closed.store(true, SeqCst);
    }

    fn start(&self) -> Child {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        // This very program, also when a build has put another one in its place.
        Command::new("/proc/self/exe")
            .args(&self.arguments)
            .args(self.to_end.filter(|_| self.closing.load(SeqCst)))
            .env_clear()
            .envs(self.environment.iter().cloned())
            .env("REDIS_URL", format!("redis://{}", self.proxy.address))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn pid(&self) -> Option<u32> {
        Some(self.pid.load(SeqCst)).filter(|pid| *pid != 0)
    }

    /// Sends a signal to the process that is there; which one that is.
    fn signal(&self, signal: Signal) -> Option<u32> {
        let pid = self.pid()?;
        if signal != Signal::SIGCONT {
            self.hit.store(true, SeqCst);
        }
        send(pid, signal).then_some(pid)
    }
}

fn send(pid: u32, signal: Signal) -> bool {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).is_ok()
}

impl House {
    pub(super) async fn open(options: &Options, folder: &Path) -> Self {
        let redis = RedisServer::with(&[
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            // The verdict reads every transition in it.
            "--auto-aof-rewrite-percentage",
            "0",
        ]);
        let socket = redis.socket();
        let troubles = Arc::new(Journal::open(&folder.join("troubles.jsonl")));
        let (mut workers, mut submitters) = (Vec::new(), Vec::new());
        for number in 0..options.workers {
            let environment = worker_environment(options, folder, number);
            let arguments = vec!["worker".to_owned()];
            let name = format!("worker-{number}");
            workers.push(place(name, arguments, environment, None, folder, &socket, &troubles).await);
        }
        for number in 0..options.submitters {
            let name = format!("submitter-{number}");
            let journal = folder.join(format!("{name}.jsonl"));
            let mut arguments = vec!["submitter".to_owned()];
            arguments.extend(Task::arguments(&journal, &folder.join("effects.jsonl"), number, options.seed));
            submitters.push(place(name, arguments, Vec::new(), Some(Task::TO_END), folder, &socket, &troubles).await);
        }
        let keepers = workers.iter().chain(&submitters).map(|place| tokio::spawn(place.clone().keep())).collect();
        let redis_url = redis.url();
        let redis = Arc::new(Mutex::new(redis));
        Self { redis, redis_url, workers, submitters, redis_hits: Arc::default(), troubles, keepers }
    }

    /// A connection that nothing happens to.
    pub(super) async fn queues(&self) -> Queues {
        let url = self.redis().url();
        Queues::connect(&url).await.unwrap()
    }

    /// Lets everything of the plan happen.
    pub(super) async fn suffer(&self, plan: &[Planned]) {
        let started = Instant::now();
        let mut going_on = Vec::new();
        for planned in plan {
            sleep(Duration::from_millis(planned.at).saturating_sub(started.elapsed())).await;
            going_on.push(tokio::spawn(self.carry_out(planned.fault.clone())));
        }
        for fault in going_on {
            fault.await.unwrap();
        }
    }

    fn carry_out(&self, fault: Fault) -> impl Future<Output = ()> + use<> {
        let (workers, submitters) = (self.workers.clone(), self.submitters.clone());
        let (redis, redis_hits, troubles) = (self.redis.clone(), self.redis_hits.clone(), self.troubles.clone());
        let redis_url = self.redis_url.clone();
        async move {
            let at = now();
            let (mut pid, mut victim) = (None, None);
            match fault {
                Fault::KillWorker { worker } => pid = workers[worker].signal(Signal::SIGKILL),
                Fault::DrainWorker { worker, away_ms } => {
                    workers[worker].away_ms.store(away_ms, SeqCst);
                    pid = workers[worker].signal(Signal::SIGTERM);
                }
                Fault::Steer { control, ms } => steer(&redis_url, control, ms).await,
                Fault::KillSubmitter { submitter } => pid = submitters[submitter].signal(Signal::SIGKILL),
                Fault::KillChild { worker, child } => {
                    pid = workers[worker].pid();
                    let children = pid.map(children).unwrap_or_default();
                    let chosen = usize::try_from(child).unwrap() % children.len().max(1);
                    victim = children.get(chosen).copied().filter(|child| send(*child, Signal::SIGKILL));
                    pid = pid.filter(|_| victim.is_some());
                }
                Fault::PauseWorker { worker, ms } => {
                    pid = workers[worker].signal(Signal::SIGSTOP);
                    sleep(Duration::from_millis(ms)).await;
                    // Dead, it cannot go on.
                    pid.map(|pid| send(pid, Signal::SIGCONT));
                }
                Fault::Disturb { process, line, ms } => {
                    let place = workers.iter().chain(&submitters).nth(process).unwrap();
                    pid = place.pid();
                    place.proxy.set(line);
                    sleep(Duration::from_millis(ms)).await;
                    place.proxy.set(Line::Whole);
                    // Whoever is there now has been hit too.
                    if let Some(other) = place.pid().filter(|other| Some(*other) != pid) {
                        let what = Trouble::Fault { fault: fault.clone(), pid: Some(other), child: None };
                        troubles.write(&Happened { at, until: now(), what });
                    }
                }
                Fault::KillRedis { down_ms } => hit_redis(redis, redis_hits, down_ms, true).await,
                Fault::PauseRedis { ms } => hit_redis(redis, redis_hits, ms, false).await,
            }
            let of_all = matches!(fault, Fault::KillRedis { .. } | Fault::PauseRedis { .. } | Fault::Steer { .. });
            if pid.is_some() || of_all {
                let what = Trouble::Fault { fault, pid, child: victim };
                troubles.write(&Happened { at, until: now(), what });
            }
        }
    }

    /// Notes when this machine, or Redis on it, stands still though nobody has made it.
    pub(super) fn watch_for_stalls(&self, queues: Queues, most: Duration) -> JoinHandle<()> {
        let (redis_hits, troubles) = (self.redis_hits.clone(), self.troubles.clone());
        tokio::spawn(async move {
            loop {
                let (at, began) = (now(), Instant::now());
                let hits = redis_hits.load(SeqCst);
                sleep(Duration::from_millis(50)).await;
                // An error is a long wait as well.
                let _ = queues.health().await;
                let hit = hits % 2 == 1 || redis_hits.load(SeqCst) != hits;
                if !hit && began.elapsed() > most {
                    troubles.write(&Happened { at, until: now(), what: Trouble::Stall });
                }
            }
        })
    }

    /// Lets submitters get their last answers and end.
    pub(super) async fn end_submitters(&self) {
        close(&self.submitters).await;
    }

    pub(super) async fn end_workers(&self) {
        close(&self.workers).await;
    }

    /// Where Redis keeps its log.
    pub(super) fn redis_folder(&self) -> PathBuf {
        self.redis().folder().to_owned()
    }

    /// How many jobs are over of whose end somebody is still to be told.
    pub(super) fn untold(&self) -> u64 {
        redis::cmd("ZCARD").arg(format!("{{{QUEUE}}}:relay")).query(&mut self.redis().connection()).unwrap()
    }

    /// Keys that do not end by themselves.
    pub(super) fn keys_that_stay(&self) -> Vec<String> {
        let mut redis = self.redis().connection();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).unwrap();
        let stays = |key: &String| redis::cmd("TTL").arg(key).query::<i64>(&mut redis).unwrap() == -1;
        keys.into_iter().filter(stays).collect()
    }

    fn redis(&self) -> MutexGuard<'_, RedisServer> {
        self.redis.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.keepers.iter().for_each(JoinHandle::abort);
    }
}

async fn close(places: &[Arc<Place>]) {
    for place in places {
        place.closing.store(true, SeqCst);
        place.signal(Signal::SIGTERM);
    }
    let ended = async {
        while places.iter().any(|place| !place.closed.load(SeqCst)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(END, ended).await.is_ok(), "a process that was asked to end does not");
}

async fn place(
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    to_end: Option<&'static str>,
    folder: &Path,
    socket: &Path,
    troubles: &Arc<Journal>,
) -> Arc<Place> {
    Arc::new(Place {
        log: folder.join(format!("{name}.log")),
        name,
        arguments,
        environment,
        proxy: Proxy::start(socket.to_owned()).await,
        pid: AtomicU32::new(0),
        away_ms: AtomicU64::new(0),
        hit: AtomicBool::new(false),
        closing: AtomicBool::new(false),
        to_end,
        closed: AtomicBool::new(false),
        troubles: troubles.clone(),
    })
}

fn worker_environment(options: &Options, folder: &Path, number: usize) -> Vec<(String, String)> {
    let mut environment = vec![
        ("FOURMI_DATA".to_owned(), folder.join("data").display().to_string()),
        ("FOURMI_LEASE_MS".to_owned(), options.lease_ms.to_string()),
        ("FOURMI_SLOTS".to_owned(), SLOTS.to_string()),
        ("FOURMI_DRAIN_SECONDS".to_owned(), DRAIN_SECONDS.to_string()),
        ("FOURMI_LOG".to_owned(), "info".to_owned()),
    ];
    // The first has the right time.
    let skew = ["+0", "+3h", "-2h", "+400d"][number % 4];
    if let Some(library) = faketime() {
        let own = [("LD_PRELOAD", library.display().to_string().as_str()), ("FAKETIME", skew)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        environment.extend(own);
        // Timers and the journals go by the clock that nobody can set.
        environment.push(("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()));
    }
    environment
}

/// The library of Debian's package of that name.
pub(super) fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

/// Killed, a process cannot remove what the library shares with its children.
fn remove_what_faketime_left(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        // One that was not killed has done so itself.
        let _ = std::fs::remove_file(Path::new("/dev/shm").join(name));
    }
}

/// Steers the queue for a while. Redis may be away: both is said until it is heard.
async fn steer(redis_url: &str, control: Steering, ms: u64) {
    let none = ControlChange::default();
    let (set, back) = match control {
        Steering::Pause => {
            (ControlChange { paused: Some(true), ..none }, ControlChange { paused: Some(false), ..none })
        }
        Steering::Cap(cap) => {
            (ControlChange { cap: Some(Some(cap)), ..none }, ControlChange { cap: Some(None), ..none })
        }
        Steering::Slots(slots) => {
            (ControlChange { slots: Some(Some(slots)), ..none }, ControlChange { slots: Some(None), ..none })
        }
    };
    let say = async |change: &ControlChange| {
        let said = async || Queues::connect(redis_url).await?.set_control(&submitter::queue(), change).await;
        while said().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    say(&set).await;
    sleep(Duration::from_millis(ms)).await;
    say(&back).await;
}

/// Takes Redis away, by a kill or by stopping it in its tracks, and brings it back.
async fn hit_redis(redis: Arc<Mutex<RedisServer>>, hits: Arc<AtomicU32>, ms: u64, kill: bool) {
    let away = spawn_blocking(move || {
        let mut redis = redis.lock().unwrap_or_else(PoisonError::into_inner);
        hits.fetch_add(1, SeqCst);
        if kill {
            redis.kill()
        } else {
            redis.freeze()
        }
        std::thread::sleep(Duration::from_millis(ms));
        if kill {
            redis.restart()
        } else {
            redis.thaw()
        }
        hits.fetch_add(1, SeqCst);
    });
    away.await.unwrap();
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}
