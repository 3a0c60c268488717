//! The queue's promises, through its public surface, by subject. They hold on every kind of Redis.

use std::sync::Arc;

use fourmi_tests::Topology;
use futures_util::{StreamExt, future::BoxFuture, stream};

use crate::bench::Bench;

/// A promise, and its name.
type Promise = (&'static str, fn(Bench) -> BoxFuture<'static, ()>);

/// The promises of one subject: each is a test on a plain Redis of its own, so that a broken one is named, and a row of
/// the table for the others.
macro_rules! promises {
    ($($name:ident),+ $(,)?) => {
        mod on_one_server {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(crate::bench::Bench::new().await).await;
                }
            )+
        }

        pub(super) const PROMISES: &[super::Promise] =
            &[$((stringify!($name), |bench| futures_util::FutureExt::boxed($name(bench)))),+];
    };
}

mod actions;
mod dead_letter;
mod end;
mod lanes;
mod log;
mod lost;
mod outbox;
mod push;
mod read;
mod run;
mod scale;
mod watch;

pub(crate) use watch::a_watched_job_is_followed_through;

/// Every subject. (One that is missing here is dead code, which the lints refuse.)
const SUBJECTS: &[&[Promise]] = &[
    push::PROMISES,
    lanes::PROMISES,
    run::PROMISES,
    lost::PROMISES,
    end::PROMISES,
    read::PROMISES,
    dead_letter::PROMISES,
    actions::PROMISES,
    log::PROMISES,
    watch::PROMISES,
    outbox::PROMISES,
    scale::PROMISES,
];

/// Every promise on one Redis, a few at a time, each with a queue of its own.
pub(crate) async fn all_promises_hold_on(redis: &Arc<Topology>) {
    let promises = SUBJECTS.iter().flat_map(|promises| promises.iter());
    let checks = promises.enumerate().map(|(number, (name, promise))| async move {
        let bench = Bench::on(redis.clone(), &format!("test{number}")).await;
        tokio::spawn(promise(bench)).await.unwrap_or_else(|_| panic!("this is broken: {name}"));
    });
    stream::iter(checks).buffer_unordered(4).collect::<()>().await;
}
