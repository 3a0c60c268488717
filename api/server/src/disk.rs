//! What is done while a disk is full: new jobs and files are refused, and what is old enough is deleted at once.

use std::{sync::Arc, time::Duration};

use fourmi_model::RetentionClass;
use fourmi_retention::{Disks, Keeper, RetentionError};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::problem::Problem;

/// How often the disks are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// How often what is old enough is deleted while one is full.
const CLEAN: Duration = Duration::from_secs(60);

/// Whether there is room for new jobs and files. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    disks: Disks,
    is_full: watch::Sender<bool>,
}

impl Disk {
    /// Of these disks, which are taken to have room until they are looked at.
    pub fn new(disks: Disks) -> Self {
        Self(Arc::new(Watched { disks, is_full: watch::Sender::new(false) }))
    }

    /// Whether one of the disks was full at the last look.
    pub(crate) fn is_full(&self) -> bool {
        *self.0.is_full.borrow()
    }

    /// Refuses what needs room while there is none.
    pub(crate) fn check(&self) -> Result<(), Problem> {
        if !self.is_full() {
            return Ok(());
        }
        let detail =
            "Jobs that run go on. New jobs and files are taken again, by themselves, as soon as there is room.";
        Err(Problem::disk_full(detail))
    }

    /// Looks at the disks once.
    pub(crate) async fn look(&self) {
        let are_full = self.0.disks.are_full().await;
        let has_changed = self.0.is_full.send_if_modified(|known| std::mem::replace(known, are_full) != are_full);
        match (has_changed, are_full) {
            (true, true) => tracing::warn!("a disk is full: new jobs and files are refused until there is room"),
            (true, false) => tracing::info!("there is room on the disks again: new jobs and files are taken"),
            (false, _) => {}
        }
    }

    /// Looks again and again, and deletes what is old enough while one is full; for ever.
    pub(crate) async fn keep_free(self, keeper: Keeper) {
        tokio::join!(self.keep_looking(), self.keep_cleaning(&keeper));
    }

    async fn keep_looking(&self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.look().await;
        }
    }

    async fn keep_cleaning(&self, keeper: &Keeper) {
        let mut full = self.0.is_full.subscribe();
        let mut failing = false;
        while full.wait_for(|full| *full).await.is_ok() {
            match clean(keeper).await {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    failing = true;
                    tracing::warn!(%error, "not all that is old enough can be deleted; trying again every minute");
                }
                Err(_) => {}
            }
            let _has_room = timeout(CLEAN, full.wait_for(|full| !*full)).await;
        }
    }
}

/// Deletes what is old enough. What one class cannot be rid of holds up no other; gives the first error.
async fn clean(keeper: &Keeper) -> Result<(), RetentionError> {
    let mut cleaned = Ok(());
    for class in RetentionClass::ALL {
        match keeper.run(*class, None, false, |_| true).await {
            Ok(done) if done.deleted > 0 => {
                tracing::info!(%class, deleted = done.deleted, bytes = done.bytes, "deleted because a disk is full");
            }
            Ok(_) => {}
            Err(error) => cleaned = cleaned.and(Err(error)),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use fourmi_retention::Reserve;

    use super::*;
    use crate::problem::Code;

    #[tokio::test]
    async fn what_needs_room_is_refused_while_there_is_none() {
        let disk = Disk::new(Disks::new(Reserve::new(0), [std::env::temp_dir()]));
        assert!(disk.check().is_ok());
        disk.0.is_full.send_replace(true);
        let problem = disk.check().unwrap_err();
        assert_eq!((problem.code(), problem.retry_after_s()), (Code::DiskFull, Some(10)));
        disk.look().await;
        assert!(disk.check().is_ok());
    }
}
