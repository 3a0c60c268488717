//! The same promises on every kind of Redis, and what each kind survives.

use std::sync::Arc;

use fourmi_queue::{QueueError, Queues};
use fourmi_tests::{PASSWORD, Topology};

use crate::conformance::{Bench, a_watched_job_is_followed_through, all_promises_hold_on};

/// All that holds on any Redis, also when its connections are cut.
async fn everything_holds_on(redis: &Arc<Topology>) {
    all_promises_hold_on(redis).await;
    let bench = Bench::on(redis.clone(), "cut").await;
    a_watched_job_is_followed_through(&bench, || redis.cut_connections()).await;
}

#[tokio::test]
async fn with_a_user_who_has_few_rights() {
    let redis = Arc::new(Topology::with_user());
    everything_holds_on(&redis).await;

    let wrong = redis.url().replace("fourmi:", "fourmi:not-");
    let error = Queues::connect(&wrong).await.err().expect("refused");
    assert!(matches!(&error, QueueError::Unsuitable(text) if text.contains("REDIS_URL")), "{error}");
    assert!(!error.to_string().contains(PASSWORD), "{error}");
}

#[tokio::test]
async fn with_tls() {
    let redis = Arc::new(Topology::with_tls());
    everything_holds_on(&redis).await;

    let error = Queues::connect(redis.url()).await.err().expect("an unknown authority");
    assert!(matches!(&error, QueueError::Unavailable(text) if text.contains("certificate")), "{error}");
    let plain = redis.url().replace("rediss", "redis");
    assert!(Queues::connect(&plain).await.is_err());
}
