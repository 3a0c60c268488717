//! What a tick does while the job of an earlier one is not over.

use fourmi_model::{JobId, Overlap, State};

/// How far the job of an earlier tick is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// There is none, or it is over.
    Over,
    /// It has not started.
    Waits(JobId),
    /// It has started.
    Runs(JobId),
}

/// What a tick does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// It makes a job.
    Make,
    /// It makes one that runs when this one is over.
    MakeAfter(JobId),
    /// It cancels this one, and makes a job.
    CancelAndMake(JobId),
    /// It makes none.
    Skip,
}

impl Earlier {
    /// How far this job is, if it is in that state; `None` if the queue has forgotten it.
    pub(crate) fn of(job: JobId, state: Option<State>) -> Self {
        match state {
            None | Some(State::Succeeded | State::Failed | State::Cancelled) => Self::Over,
            Some(State::Running | State::Retrying) => Self::Runs(job),
            Some(State::Scheduled | State::Blocked | State::Waiting | State::Parked) => Self::Waits(job),
        }
    }

    /// What a tick does now.
    pub(crate) fn deed(&self, overlap: Overlap) -> Deed {
        match (overlap, self) {
            (Overlap::Allow, _) | (_, Self::Over) => Deed::Make,
            (Overlap::Skip, _) | (Overlap::QueueOne, Self::Waits(_)) => Deed::Skip,
            (Overlap::QueueOne, Self::Runs(job)) => Deed::MakeAfter(job.clone()),
            (Overlap::CancelOld, Self::Waits(job) | Self::Runs(job)) => Deed::CancelAndMake(job.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tick_does_follows_from_the_policy_and_the_earlier_job() {
        let job = JobId::new("test".parse().unwrap());
        let earlier = |state| Earlier::of(job.clone(), state);
        let (after, cancel) = (Deed::MakeAfter(job.clone()), Deed::CancelAndMake(job.clone()));
        for (state, allow, skip, queue_one, cancel_old) in [
            (None, &Deed::Make, &Deed::Make, &Deed::Make, &Deed::Make),
            (Some(State::Failed), &Deed::Make, &Deed::Make, &Deed::Make, &Deed::Make),
            (Some(State::Waiting), &Deed::Make, &Deed::Skip, &Deed::Skip, &cancel),
            (Some(State::Blocked), &Deed::Make, &Deed::Skip, &Deed::Skip, &cancel),
            (Some(State::Parked), &Deed::Make, &Deed::Skip, &Deed::Skip, &cancel),
            (Some(State::Running), &Deed::Make, &Deed::Skip, &after, &cancel),
            (Some(State::Retrying), &Deed::Make, &Deed::Skip, &after, &cancel),
        ] {
            let policies = [Overlap::Allow, Overlap::Skip, Overlap::QueueOne, Overlap::CancelOld];
            for (overlap, expected) in policies.into_iter().zip([allow, skip, queue_one, cancel_old]) {
                assert_eq!(earlier(state).deed(overlap), *expected, "{state:?} {overlap}");
            }
        }
    }
}
