//! What scalers see of a queue, and what they ask for.

use fourmi_model::{BusyProcess, ScaleBounds, ScaleProcesses, ScaleSlots};
use fourmi_queue::ControlChange;

use crate::{
    bench::{Bench, LEASE, succeeded},
    registry::process,
};

async fn the_scale_signal_says_what_there_is_to_do_and_who_does_it(bench: Bench) {
    let signal = async || bench.queues.scale(&bench.name).await.unwrap();
    let empty = signal().await;
    assert_eq!((empty.load, empty.oldest_waiting_ms, empty.estimated_drain_ms), (0, None, Some(0)));
    assert_eq!((empty.processes, empty.slots), (ScaleProcesses::default(), ScaleSlots::default()));

    for _ in 0..8 {
        bench.push_plain().await;
    }
    let nobody = signal().await;
    assert_eq!((nobody.waiting, nobody.starts_per_second, nobody.estimated_drain_ms), (8, None, None));
    // The pace counts from the first look.
    bench.transitions.reclaim(100, LEASE).await.unwrap();
    let runs = bench.fetch(6).await;
    bench.settle(runs[0].1, succeeded()).await;
    for (name, busy, draining) in [("busy", 3, false), ("idle", 0, false), ("leaving", 2, true), ("rests", 0, true)] {
        let mut worker = process(&bench, name, 4);
        (worker.busy, worker.draining) = (busy, draining);
        bench.transitions.beat(&worker).await.unwrap();
    }
    let change = ControlChange { processes: Some(Some(5)), slots: Some(Some(8)), ..ControlChange::default() };
    bench.queues.set_control(&bench.name, &change).await.unwrap();

    let seen = signal().await;
    assert_eq!((seen.waiting, seen.running, seen.load, seen.started), (2, 5, 7, 6));
    let pace = seen.starts_per_second.unwrap();
    let drain = seen.estimated_drain_ms.unwrap() as f64;
    assert!(pace > 0.0 && pace <= 6.0 && (drain - 2_000.0 / pace).abs() <= 1.0, "{seen:?}");
    assert!(seen.oldest_waiting_ms.unwrap() < 60_000);
    let busy = |name: &str, busy| BusyProcess { name: name.to_owned(), busy };
    let processes = ScaleProcesses {
        wanted: Some(5),
        live: 2,
        draining: 2,
        busy: vec![busy("busy", 3), busy("leaving", 2)],
        idle: vec!["idle".to_owned()],
    };
    assert_eq!(seen.processes, processes);
    assert_eq!(seen.slots, ScaleSlots { wanted: Some(8), live: 8, busy: 5 });
}

async fn an_autoscaler_is_known_for_as_long_as_it_says_so(bench: Bench) {
    let known = async || bench.queues.scale(&bench.name).await.unwrap().autoscale;
    assert_eq!(known().await, None);
    let bounds = ScaleBounds { min: 1, max: 4 };
    bench.queues.set_autoscale(&bench.name, bounds).await.unwrap();
    assert_eq!(known().await, Some(bounds));
    let left: i64 = bench.redis.ask(redis::cmd("PTTL").arg(bench.key("autoscale")));
    assert!((1..=10_000).contains(&left), "{left}");
    let () = bench.redis.ask(redis::cmd("PEXPIRE").arg(bench.key("autoscale")).arg(0));
    assert_eq!(known().await, None);
}

promises! {
    the_scale_signal_says_what_there_is_to_do_and_who_does_it,
    an_autoscaler_is_known_for_as_long_as_it_says_so,
}
