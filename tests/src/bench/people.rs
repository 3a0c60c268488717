//! What logins take, what they cost others, and what a token costs more than a key.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    GOOD_PASSWORD, Platform,
    bench::{
        Figure, Goal, Report,
        load::{Answers, send},
        quantile,
    },
};

const ROUNDS: usize = 5;

/// Logins of a round, one after the other.
const LOGINS: usize = 40;

/// People who log in at once.
const AT_ONCE: usize = 50;

/// Connections that submit meanwhile.
const CONNECTIONS: usize = 16;

const LASTING: Duration = Duration::from_secs(3);

/// Nobody is to be slowed down on purpose.
const LIMITS: (&str, &str) =
    ("FOURMI_RATE_LIMITS", "login=off,submit=1000000000/60,read=1000000000/60,any=1000000000/60");

/// Measures logins.
pub async fn run(mut report: Report) -> Report {
    let platform = Arc::new(Platform::with(&[LIMITS], 0).await);
    platform.add_tenant("acme").await;
    platform.add_person("admin", "admin", Some("acme")).await;
    logins(&platform, &mut report).await;
    beside_submissions(&platform, &mut report).await;
    // The first session made room for others long ago.
    let token = platform.login("admin@example.org").await.token;
    tokens(&platform, &token, &mut report).await;
    report
}

async fn logins(platform: &Platform, report: &mut Report) {
    let mut slowest = Vec::new();
    for _ in 0..ROUNDS {
        let mut times = Vec::new();
        for _ in 0..LOGINS {
            let started = Instant::now();
            assert_eq!(platform.try_login("admin@example.org", GOOD_PASSWORD).await.status(), 200);
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        slowest.push(quantile(&times, 0.95));
    }
    report.add(&Figure::of("login_p95_ms", "ms", Goal::AtMost(300.0), &slowest));
}

/// Submissions alone, and while fifty people log in again and again.
async fn beside_submissions(platform: &Arc<Platform>, report: &mut Report) {
    let address = platform.url().trim_start_matches("http://").to_owned();
    let body =
        json!({"kind": "audio.extract", "payload": {"source": {"url": "https://example.org/a.mp3"}}}).to_string();
    let submit = format!(
        "POST /api/v1/jobs HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        platform.key(),
        body.len()
    );
    let load = async || {
        let bytes = submit.as_bytes().to_vec();
        send(&address, CONNECTIONS, LASTING, move |_, _| bytes.clone()).await
    };
    let (mut ratios, mut slowest, mut slowest_alone, mut rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let alone = load().await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut people = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (platform, stop) = (Arc::clone(platform), Arc::clone(&stop));
            people.spawn(async move {
                let mut done = 0_usize;
                while !stop.load(Ordering::Relaxed) {
                    done += usize::from(platform.try_login("admin@example.org", GOOD_PASSWORD).await.status() == 200);
                }
                done
            });
        }
        let beside = load().await;
        stop.store(true, Ordering::Relaxed);
        let done: usize = people.join_all().await.into_iter().sum();
        rates.push(done as f64 / beside.elapsed.as_secs_f64());
        ratios.push(beside.rate() / alone.rate());
        slowest.push(p99_ms(beside));
        slowest_alone.push(p99_ms(alone));
    }
    report.add(&Figure::of("submit_ratio_with_50_logins", "", Goal::AtLeast(0.4), &ratios));
    report.add(&Figure::of("submit_p99_ms_with_50_logins", "ms", Goal::AtMost(50.0), &slowest));
    report.add(&Figure::of("submit_p99_ms_alone", "ms", Goal::None, &slowest_alone));
    report.add(&Figure::of("logins_per_s_meanwhile", "/s", Goal::None, &rates));
}

fn p99_ms(answers: Answers) -> f64 {
    let mut times: Vec<f64> = answers.latencies.iter().map(|latency| latency.as_secs_f64() * 1e3).collect();
    times.sort_by(f64::total_cmp);
    quantile(&times, 0.99)
}

/// The processor time of the API for a request with a token, beyond that of one with a key, whose check is a hash.
async fn tokens(platform: &Platform, token: &str, report: &mut Report) {
    let address = platform.url().trim_start_matches("http://").to_owned();
    let cost = async |shown: &str| {
        let head = "GET /api/v1/kinds/media.probe HTTP/1.1\r\nHost: bench";
        let request = format!("{head}\r\nAuthorization: Bearer {shown}\r\n\r\n").into_bytes();
        let before = cpu(platform.api.pid());
        let answers = send(&address, 4, LASTING, move |_, _| request.clone()).await;
        (cpu(platform.api.pid()) - before).as_secs_f64() * 1e6 / answers.latencies.len() as f64
    };
    let mut differences = Vec::new();
    for _ in 0..ROUNDS {
        let (by_key, by_token) = (cost(platform.key()).await, cost(token).await);
        differences.push(by_token - by_key);
    }
    report.add(&Figure::of("token_check_us", "us", Goal::AtMost(20.0), &differences));
}

/// The processor time that a process has used.
fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program, in brackets, may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
