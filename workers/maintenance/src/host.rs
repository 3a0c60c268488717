//! `host.metrics`: measures the machine.

use std::sync::Arc;

use fourmi_kinds::{HostReport, Temperature};
use fourmi_model::Failure;
use fourmi_retention::room;
use fourmi_runtime::Context;
use sysinfo::{Components, CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, RefreshKind, System};
use tokio::{task::spawn_blocking, time::sleep};

use crate::house::{Keys, unavailable};

/// Measures for a moment.
pub(crate) async fn run(keys: Arc<Keys>, context: Context) -> Result<HostReport, Failure> {
    let house = keys.open(context.settings()).await?;
    let usage = CpuRefreshKind::nothing().with_usage();
    let kinds = RefreshKind::nothing().with_cpu(usage).with_memory(MemoryRefreshKind::everything());
    let system = spawn_blocking(move || System::new_with_specifics(kinds)).await.map_err(unmeasured)?;
    let mut system = system.map_err(unmeasured)?;
    // How busy processors are is seen between two looks.
    tokio::select! {
        () = sleep(MINIMUM_CPU_UPDATE_INTERVAL) => {}
        () = context.cancelled() => return Err(Failure::cancelled()),
    }
    let folder = house.settings.data.folder().to_owned();
    let measured = spawn_blocking(move || {
        system.refresh_cpu_usage();
        let room = room(&folder).map_err(unavailable)?;
        let load = System::load_average().map_err(unmeasured)?;
        let (memory_bytes, memory_used_bytes) = memory(&system);
        Ok(HostReport {
            host: System::host_name().unwrap_or_default(),
            uptime_s: System::uptime().map_err(unmeasured)?,
            cores: system.cpus().len() as u64,
            cpu_percent: rounded(f64::from(system.global_cpu_usage())),
            load: [load.one, load.five, load.fifteen],
            memory_bytes,
            memory_used_bytes,
            swap_used_bytes: system.used_swap(),
            disk_bytes: room.all,
            disk_free_bytes: room.free,
            temperatures: temperatures(),
        })
    });
    measured.await.map_err(unmeasured)?
}

/// Memory that there is and that is used: of the container, if it is bounded.
pub(crate) fn memory(system: &System) -> (u64, u64) {
    match system.cgroup_limits().filter(|limits| limits.total_memory < system.total_memory()) {
        Some(limits) => (limits.total_memory, limits.total_memory.saturating_sub(limits.free_memory)),
        None => (system.total_memory(), system.total_memory().saturating_sub(system.available_memory())),
    }
}

/// Virtual machines have none.
fn temperatures() -> Vec<Temperature> {
    let Ok(components) = Components::new_with_refreshed_list() else { return Vec::new() };
    let sensors = components.iter().filter_map(|sensor| {
        let celsius = sensor.temperature().filter(|celsius| celsius.is_finite())?;
        Some(Temperature { name: sensor.label().to_owned(), celsius: rounded(f64::from(celsius)) })
    });
    sensors.collect()
}

fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

fn unmeasured(error: impl std::fmt::Display) -> Failure {
    Failure::retry("host_unmeasured", "the machine says nothing of itself").because(error)
}
