//! Submitting and reading jobs by HTTP, beside a bare handler that does one LPUSH.

use std::time::Duration;

use fourmi_client::Client;
use serde_json::json;

use crate::bench::load::{Answers, send};
use crate::{
    Platform, Program,
    bench::{Figure, Goal, Report, quantile},
};

/// As apps do it: some connections, kept open.
const CONNECTIONS: usize = 64;

/// How long one measurement takes.
const LASTING: Duration = Duration::from_secs(3);

/// Measurements of each; figures are their medians.
const ROUNDS: usize = 5;

/// Keys are checked and limits are counted; they are not reached.
const LIMITS: (&str, &str) = ("FOURMI_RATE_LIMITS", "submit=1000000000/60,read=1000000000/60");

/// Adds the figures.
pub(super) async fn run(report: &mut Report) {
    let platform = Platform::with(&[LIMITS], 0).await;
    let address = platform.url().trim_start_matches("http://").to_owned();
    let bare = Program::start("fourmi-bench", &["bare"], [("REDIS_URL", platform.redis.url())]);
    let bare_address = bare.wait_for_line("listening on").split("listening on ").nth(1).unwrap().trim().to_owned();
    let body =
        json!({"kind": "audio.extract", "payload": {"source": {"url": "https://example.org/a.mp3"}}}).to_string();
    let submit = post(platform.key(), &body);
    let job = submit_one(&platform.client).await;
    let get =
        format!("GET /api/v1/jobs/{job} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n", platform.key());

    let (mut rates, mut slowest, mut ratios, mut gets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let of_bare = load(&bare_address, &submit).await;
        let of_submit = load(&address, &submit).await;
        let of_get = load(&address, &get).await;
        rates.push(of_submit.rate());
        ratios.push(of_submit.rate() / of_bare.rate());
        gets.push(of_get.rate());
        slowest.push(p99_ms(of_submit));
    }
    report.add(&Figure::of("submit_rps", "/s", Goal::AtLeast(20_000.0), &rates));
    report.add(&Figure::of("submit_p99_ms", "ms", Goal::AtMost(15.0), &slowest));
    report.add(&Figure::of("submit_ratio", "", Goal::AtLeast(0.4), &ratios));
    report.add(&Figure::of("get_rps", "/s", Goal::AtLeast(30_000.0), &gets));
}

async fn load(address: &str, request: &str) -> Answers {
    let bytes = request.as_bytes().to_vec();
    send(address, CONNECTIONS, LASTING, move |_, _| bytes.clone()).await
}

fn post(key: &str, body: &str) -> String {
    format!(
        "POST /api/v1/jobs HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn submit_one(client: &Client) -> String {
    let payload = json!({"source": {"url": "https://example.org/a.mp3"}});
    client.submit_raw("audio.extract", payload).send().await.unwrap().id().to_string()
}

fn p99_ms(answers: Answers) -> f64 {
    let mut latencies: Vec<f64> = answers.latencies.iter().map(|latency| latency.as_secs_f64() * 1e3).collect();
    latencies.sort_by(f64::total_cmp);
    quantile(&latencies, 0.99)
}
