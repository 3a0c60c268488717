//! A stream of what happens to one job: snapshot, then tail, until it is over.

use std::sync::Arc;

use fourmi_model::{Job, JobId};
use fourmi_queue::{Update, Watch};
use futures_util::{Stream, StreamExt, stream};
use salvo::sse::SseEvent;

use super::{
    Place, Teller, unfold,
    vocabulary::{Far, Told},
};
use crate::caller::Caller;

/// One job that is followed.
pub(crate) struct OneJob {
    pub(crate) id: JobId,
    pub(crate) watch: Watch,
    pub(crate) caller: Caller,
    pub(crate) teller: Teller,
}

impl OneJob {
    /// The snapshot, if the client lacks it, and what follows.
    pub(crate) fn events(mut self, job: Job, has_it: bool) -> impl Stream<Item = SseEvent> + Send + 'static {
        let job = self.caller.show(job);
        let opening = if has_it {
            self.teller.meet(&job);
            Vec::new()
        } else {
            self.teller.tell(&Told::Snapshot(job), Some(Place::of(&self.watch).to_string()))
        };
        let tail = unfold(self, |mut this| async move {
            let update = this.watch.next().await?;
            Some((this.tell(update), this))
        });
        stream::iter(opening).chain(tail)
    }

    fn tell(&mut self, update: Update) -> Vec<SseEvent> {
        let told = match update {
            Update::State(job) => Told::State(self.caller.show(*job)),
            Update::Progress { version, run, progress } => {
                Told::Progress(Far { id: self.id.clone(), version, run, progress: Arc::new(progress) })
            }
            Update::Log { line, missed } => Told::Line(line, missed),
        };
        self.teller.tell(&told, Some(Place::of(&self.watch).to_string()))
    }
}
