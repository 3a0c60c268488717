//! `push.fanout`: a notification to many devices.
//!
//! Devices are read in pages by id. Those whose turn has come again and the beginning of a page are a batch: as many as may be
//! on their way at once. When all are answered it is noted how far the broadcast is. Whatever ends a run, the next one goes on
//! after the last batch that was noted, so that no more is sent again than was on its way:
//!
//! ```text
//!        note: open            note: open             note: closed
//! start ------------> batch 1 ------------> batch 2 -------------> over, or stopped
//!                                        ^
//!                        killed here: batch 2 is sent again, and `repeated` counts all of it
//! ```
//!
//! A run that is asked to stop waits for what is on its way, and notes the rest of its batch: nobody gets it twice. What failed
//! for some devices is tried again for these alone, while the others go on.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fourmi_kinds::{JobKind, PushAudience, PushFannedOut, PushFanout, PushPriority};
use fourmi_model::{DeviceId, Failure, Progress, QueueName};
use fourmi_records::{Addressee, Broadcast, Device, DeviceFilter};
use fourmi_runtime::Context;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::{
    fcm::{Message, Project, Projects, Verdict},
    office::{Desk, Office},
    pacer::peak,
    push::{growing, misconfigured, records_failure, save, tell_breaker, tell_operator},
};

/// Messages on their way at once: those of a batch, which is what is sent again when a run dies.
const IN_FLIGHT: usize = 400;

/// While so many devices wait for another try, no page is begun.
const MOST_WAITING: usize = 1_000;

/// Tries of one device, with waits of five minutes in all.
const TRIES: u32 = 6;

/// The wait after the first failed try; FCM asks for ten seconds at least.
const FIRST_WAIT: Duration = Duration::from_secs(10);

/// The wait after too many messages, if FCM does not say how long.
const LIMITED_WAIT: Duration = Duration::from_secs(60);

/// If more than one of so many messages of a batch are too many, all are.
const MANY: usize = 20;

/// If so many devices have had it refused, and none has got it, it is the message that is wrong.
const MOST_REFUSED: u64 = 20;

/// How long a message may be sent as it was written: it says until when it is of use.
const FRESH: Duration = Duration::from_secs(1);

/// How often it is looked whether the queue is paused.
const LOOK: Duration = Duration::from_secs(1);

/// What the next run needs to know.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The last device of the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<DeviceId>,
    /// Devices before it that wait for another try, or their first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<Waiting>,
    /// Devices for which FCM could not read the message.
    #[serde(default)]
    refused: u64,
    /// Whether messages were on their way.
    open: bool,
}

/// A device that waits for a try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    device: DeviceId,
    /// Tries so far.
    tries: u32,
    /// When its turn comes; in another run, at once.
    #[serde(skip)]
    due: Option<Instant>,
}

impl Place {
    /// Takes out devices whose turn has come, no more than may be on their way at once.
    fn take_due(&mut self, now: Instant) -> Vec<Waiting> {
        let is_due = |waiting: &Waiting| waiting.due.is_none_or(|due| due <= now);
        let (mut due, mut waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting).into_iter().partition(is_due);
        waiting.extend(due.split_off(due.len().min(IN_FLIGHT)));
        self.waiting = waiting;
        due
    }

    /// How long it is until the next turn comes.
    fn next_turn(&self, now: Instant) -> Duration {
        let next = self.waiting.iter().map(|waiting| waiting.due.unwrap_or(now)).min();
        next.map(|due| due.saturating_duration_since(now)).unwrap_or_default()
    }
}

/// A device whose turn it is.
struct Turn {
    device: Device,
    tries: u32,
}

/// The message, as it was at some time.
struct Written {
    message: Message,
    at: Instant,
}

impl Written {
    fn now(job: &PushFanout) -> Self {
        Self { message: Message::write(&job.content(), Timestamp::now()), at: Instant::now() }
    }
}

/// A broadcast under way.
struct Fanout<'a> {
    office: &'a Office,
    desk: &'a Desk,
    project: &'a Project,
    job: &'a PushFanout,
    context: &'a Context,
    filter: DeviceFilter,
    /// As many devices as there were at the start, for the progress.
    expected: u64,
    counts: Broadcast,
    place: Place,
    /// Whether there was no device after the place.
    is_read: bool,
    /// The page after the place, if it was read ahead.
    ahead: Option<Vec<Addressee>>,
    /// Until when nothing is sent, because there were too many messages.
    rest: Option<Instant>,
    /// What FCM has said last of a message that it cannot read.
    refusal: Option<String>,
    /// Whether somebody was told already that something is wrong.
    has_told: bool,
    looked: Instant,
}

/// Sends what is left to be sent.
pub(crate) async fn run(
    office: Arc<Office>,
    projects: Arc<Projects>,
    job: PushFanout,
    context: Context,
) -> Result<PushFannedOut, Failure> {
    let desk = office.desk(context.settings()).await?;
    let project = projects.get(&context, &job.account).await?;
    let mut fanout = Fanout::open(&office, &desk, &project, &job, &context).await?;
    loop {
        fanout.wait_for_leave().await?;
        let batch = fanout.batch().await?;
        if !batch.is_empty() {
            fanout.send(batch).await?;
        } else if fanout.must_wait() {
            fanout.wait_for_turns().await?;
        } else if fanout.is_read {
            fanout.note(false).await?;
            fanout.check_refusals(1)?;
            return Ok(fanout.outcome());
        }
    }
}

impl<'a> Fanout<'a> {
    /// Goes on where an earlier run was.
    async fn open(
        office: &'a Office,
        desk: &'a Desk,
        project: &'a Project,
        job: &'a PushFanout,
        context: &'a Context,
    ) -> Result<Self, Failure> {
        let filter = filter(job, context).await?;
        let expected = desk.records.count_devices(&filter).await.map_err(|error| records_failure(&error))?;
        let noted = desk.records.broadcast(context.job_id()).await.map_err(|error| records_failure(&error))?;
        let counts = noted.unwrap_or_default();
        let place: Place = serde_json::from_str(&counts.place).unwrap_or_default();
        let mut fanout = Self {
            office,
            desk,
            project,
            job,
            context,
            filter,
            expected,
            counts,
            place,
            is_read: false,
            ahead: None,
            rest: None,
            refusal: None,
            has_told: false,
            looked: Instant::now(),
        };
        if fanout.place.open {
            fanout.expect_repeats().await?;
        }
        Ok(fanout)
    }

    /// Counts what an earlier run may have had on its way when it died, before any of it is sent again.
    async fn expect_repeats(&mut self) -> Result<(), Failure> {
        let page = self.page(self.place.after.as_ref()).await?;
        let sent = page.iter().filter(|addressee| !addressee.suppressed).count();
        self.counts.repeated += (sent + self.place.waiting.len()).min(IN_FLIGHT) as u64;
        self.ahead = Some(page);
        self.note(true).await
    }

    /// Waits until messages may be sent: not while the queue is paused, everybody else sends, or there were too many.
    async fn wait_for_leave(&mut self) -> Result<(), Failure> {
        self.stop_if_asked().await?;
        while self.is_paused().await {
            self.pass("paused", LOOK).await?;
        }
        if self.job.priority < PushPriority::High
            && let Some(wait) = peak(Timestamp::now())
        {
            self.pass("off_peak", wait).await?;
        }
        if let Some(rest) = self.rest.take() {
            self.pass("rate_limited", rest.saturating_duration_since(Instant::now())).await?;
        }
        Ok(())
    }

    /// Whether the queue is paused, as it was a second ago at most; if Redis does not answer, it is not.
    async fn is_paused(&mut self) -> bool {
        if self.looked.elapsed() < LOOK {
            return false;
        }
        self.looked = Instant::now();
        let queue: Option<QueueName> = PushFanout::QUEUE.parse().ok();
        let Some((queues, queue)) = self.office.queues.get().zip(queue) else { return false };
        queues.control(&queue).await.is_ok_and(|control| control.paused)
    }

    async fn stop_if_asked(&mut self) -> Result<(), Failure> {
        if !self.context.is_cancelled() {
            return Ok(());
        }
        self.note(false).await?;
        Err(Failure::cancelled())
    }

    /// Lets time pass, with nothing on its way.
    async fn pass(&mut self, stage: &str, time: Duration) -> Result<(), Failure> {
        self.note(false).await?;
        self.report(stage);
        tokio::select! {
            () = sleep(time) => {}
            () = self.context.cancelled() => {}
        }
        self.looked = Instant::now().checked_sub(LOOK).unwrap_or_else(Instant::now);
        // Somebody may want nothing any more by now.
        self.ahead = None;
        self.stop_if_asked().await
    }

    /// Whether there is nothing to do but to wait for devices that are tried again.
    fn must_wait(&self) -> bool {
        let count = self.place.waiting.len();
        count >= MOST_WAITING || (count > 0 && self.is_read)
    }

    /// Waits until the turn of the first device comes that waits.
    async fn wait_for_turns(&mut self) -> Result<(), Failure> {
        self.pass("retry", self.place.next_turn(Instant::now())).await
    }

    /// The devices that are sent to next: those whose turn has come again, and a page.
    async fn batch(&mut self) -> Result<Vec<Turn>, Failure> {
        if !self.place.open {
            // What is sent from here on is sent again, if the run dies.
            self.note(true).await?;
        }
        let due = self.place.take_due(Instant::now());
        let mut batch = self.again(due).await?;
        if self.place.waiting.len() < MOST_WAITING && batch.len() < IN_FLIGHT {
            let page = match self.ahead.take() {
                Some(page) => page,
                None => self.page(self.place.after.as_ref()).await?,
            };
            self.take(page, &mut batch);
        }
        Ok(batch)
    }

    async fn page(&self, after: Option<&DeviceId>) -> Result<Vec<Addressee>, Failure> {
        self.desk.records.addressees(&self.filter, after, IN_FLIGHT).await.map_err(|error| records_failure(&error))
    }

    /// Devices that are tried again, if they are still there.
    async fn again(&mut self, due: Vec<Waiting>) -> Result<Vec<Turn>, Failure> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = due.iter().map(|waiting| waiting.device.clone()).collect();
        let found = self.desk.records.addressees_of(self.filter.tenant.as_ref(), &ids).await;
        let found = found.map_err(|error| records_failure(&error))?;
        let tries = |id: &DeviceId| due.iter().find(|waiting| waiting.device == *id).map_or(0, |waiting| waiting.tries);
        let wanted = found.into_iter().filter(|addressee| !addressee.suppressed).map(|addressee| addressee.device);
        let again: Vec<_> = wanted.map(|device| Turn { tries: tries(&device.id), device }).collect();
        self.counts.skipped += (due.len() - again.len()) as u64;
        Ok(again)
    }

    /// Takes of a page what the batch has room for; the rest is read again.
    fn take(&mut self, mut page: Vec<Addressee>, batch: &mut Vec<Turn>) {
        self.is_read = page.is_empty();
        page.truncate(IN_FLIGHT - batch.len());
        self.counts.targeted += page.len() as u64;
        if let Some(last) = page.last() {
            self.place.after = Some(last.device.id.clone());
        }
        for addressee in page {
            match addressee.suppressed {
                true => self.counts.skipped += 1,
                false => batch.push(Turn { device: addressee.device, tries: 0 }),
            }
        }
    }

    /// Sends a batch, and notes how far it has come.
    async fn send(&mut self, batch: Vec<Turn>) -> Result<(), Failure> {
        let account = self.job.account.as_str();
        let is_trial = self.office.breakers.down().iter().any(|down| down == account);
        if let Err(failure) = self.office.breakers.admit(account) {
            self.put_back(batch);
            self.note(false).await?;
            return Err(failure);
        }
        let written = Written::now(self.job);
        let (verdicts, ahead) = {
            let (this, written) = (&*self, &written);
            // While the provider is down, one message tries whether it is back.
            let most = if is_trial { 1 } else { batch.len() };
            let turns = batch.iter().take(most).enumerate();
            let sends: Vec<_> = turns.map(|turn| this.send_one(turn, written, is_trial)).collect();
            let sending = stream::iter(sends).buffer_unordered(IN_FLIGHT).collect::<Vec<_>>();
            tokio::join!(sending, this.page(this.place.after.as_ref()))
        };
        self.ahead = ahead.ok();
        let settled = self.settle(batch, verdicts).await;
        self.note(settled.is_ok()).await?;
        self.report("send");
        settled
    }

    /// Sends a message, unless it must not be sent any more.
    async fn send_one(
        &self,
        (place, turn): (usize, &Turn),
        written: &Written,
        is_trial: bool,
    ) -> (usize, Option<Verdict>) {
        let account = self.job.account.as_str();
        let wait = self.project.pacer.place();
        if !wait.is_zero() {
            tokio::select! {
                () = sleep(wait) => {}
                () = self.context.cancelled() => {}
            }
        }
        let is_down = || self.office.breakers.down().iter().any(|down| down == account);
        if self.context.is_cancelled() || (!is_trial && is_down()) {
            return (place, None);
        }
        // With a small quota its turn comes long after that of the first.
        let anew = (written.at.elapsed() >= FRESH).then(|| Written::now(self.job));
        let message = &anew.as_ref().unwrap_or(written).message;
        let device = &turn.device;
        let sent = Instant::now();
        let verdict = self.project.send(self.desk, message, device.token_kind, &device.token).await;
        self.office.breakers.took(account, sent.elapsed(), verdict.code());
        tell_breaker(self.office, account, &verdict);
        (place, Some(verdict))
    }

    /// Counts what became of a batch. An error is one for all devices.
    async fn settle(&mut self, batch: Vec<Turn>, verdicts: Vec<(usize, Option<Verdict>)>) -> Result<(), Failure> {
        let mut by_place: Vec<Option<Verdict>> = batch.iter().map(|_| None).collect();
        for (place, verdict) in verdicts {
            by_place[place] = verdict;
        }
        let (mut gone, mut failed, mut limited) = (Vec::new(), Vec::new(), Vec::new());
        let mut wrong = None;
        let count = batch.len();
        for (turn, verdict) in batch.into_iter().zip(by_place) {
            let Some(verdict) = verdict else {
                self.put_back([turn]);
                continue;
            };
            self.tell_once(&verdict);
            match verdict {
                Verdict::Sent(_) => self.counts.sent += 1,
                Verdict::Gone | Verdict::Foreign => {
                    self.counts.invalid += 1;
                    gone.push(turn.device);
                }
                Verdict::Refused(words) => {
                    self.counts.failed += 1;
                    failed.push(turn.device.id);
                    self.place.refused += 1;
                    self.refusal = Some(words);
                }
                Verdict::Credentials => {
                    self.counts.failed += 1;
                    failed.push(turn.device.id);
                }
                Verdict::Limited(after) => limited.push((turn, after)),
                Verdict::Unavailable { after, doubtful, .. } => {
                    failed.push(turn.device.id.clone());
                    let wait = growing(FIRST_WAIT, turn.tries + 1).max(after.unwrap_or_default());
                    let is_again = self.try_again(turn, wait);
                    self.counts.repeated += u64::from(is_again && doubtful);
                }
                Verdict::Misconfigured(reason) => {
                    self.put_back([turn]);
                    wrong = Some(reason);
                }
            }
        }
        self.slow_down(limited, count);
        self.forget(&gone, &failed).await?;
        if let Some(reason) = wrong {
            return Err(misconfigured(&self.job.account, &reason));
        }
        self.check_refusals(MOST_REFUSED)
    }

    /// Gives the broadcast up if FCM could read the message for nobody of so many at least: that is not the devices' fault.
    fn check_refusals(&self, least: u64) -> Result<(), Failure> {
        if self.counts.sent > 0 || self.place.refused < least {
            return Ok(());
        }
        let failure = Failure::permanent("payload_refused", "FCM cannot read the message");
        Err(match &self.refusal {
            Some(words) => failure.because(words),
            None => failure,
        })
    }

    /// Of messages that were too many: these devices wait and, if they were more than a few, all others too.
    fn slow_down(&mut self, limited: Vec<(Turn, Option<Duration>)>, count: usize) {
        let are_many = limited.len() * MANY > count;
        for (turn, after) in limited {
            let wait = after.unwrap_or_else(|| growing(LIMITED_WAIT, turn.tries + 1)).max(FIRST_WAIT);
            if are_many {
                self.rest = self.rest.max(Some(Instant::now() + wait));
            }
            self.try_again(turn, wait);
        }
    }

    /// Has a device wait for another try; `false` if it had its last.
    fn try_again(&mut self, turn: Turn, wait: Duration) -> bool {
        let tries = turn.tries + 1;
        if tries >= TRIES {
            self.counts.failed += 1;
            return false;
        }
        let due = Some(Instant::now() + wait);
        self.place.waiting.push(Waiting { device: turn.device.id, tries, due });
        true
    }

    /// Devices that were not sent to after all.
    fn put_back(&mut self, batch: impl IntoIterator<Item = Turn>) {
        let back = batch.into_iter().map(|turn| Waiting { device: turn.device.id, tries: turn.tries, due: None });
        self.place.waiting.extend(back);
    }

    async fn forget(&self, gone: &[Device], failed: &[DeviceId]) -> Result<(), Failure> {
        if !gone.is_empty() {
            self.desk.records.remove_tokens(gone).await.map_err(|error| records_failure(&error))?;
        }
        if !failed.is_empty() {
            self.desk.records.devices_failed(failed).await.map_err(|error| records_failure(&error))?;
        }
        Ok(())
    }

    fn tell_once(&mut self, verdict: &Verdict) {
        let is_wrong = matches!(verdict, Verdict::Foreign | Verdict::Credentials | Verdict::Misconfigured(_));
        if is_wrong && !self.has_told {
            self.has_told = true;
            tell_operator(&self.job.account, self.context, verdict);
        }
    }

    /// Notes how far it is, and whether messages will be on their way when that is read.
    async fn note(&mut self, open: bool) -> Result<(), Failure> {
        self.place.open = open;
        self.counts.place = serde_json::to_string(&self.place).unwrap_or_default();
        save(self.desk, self.context, &self.counts).await
    }

    fn report(&self, stage: &str) {
        let counts = &self.counts;
        let over = counts.targeted.saturating_sub(self.place.waiting.len() as u64) as f64;
        let percent = if self.expected == 0 { 100.0 } else { over / self.expected as f64 * 100.0 };
        let counters = [
            ("targeted", counts.targeted),
            ("sent", counts.sent),
            ("failed", counts.failed),
            ("invalid", counts.invalid),
            ("skipped", counts.skipped),
            ("repeated", counts.repeated),
            ("expected", self.expected),
        ];
        self.context.progress(Progress {
            stage: stage.to_owned(),
            percent: percent.min(100.0) as f32,
            counters: counters.map(|(name, count)| (name.to_owned(), count as f64)).into_iter().collect(),
            ..Progress::default()
        });
    }

    fn outcome(&self) -> PushFannedOut {
        let Broadcast { targeted, sent, failed, invalid, skipped, repeated, .. } = self.counts;
        PushFannedOut { targeted, sent, failed, invalid, skipped, repeated }
    }
}

/// Which devices it is for.
async fn filter(job: &PushFanout, context: &Context) -> Result<DeviceFilter, Failure> {
    let tenant = context.tenant().await?;
    Ok(match &job.audience {
        PushAudience::All => DeviceFilter { tenant, ..DeviceFilter::default() },
        PushAudience::Platform(platform) => {
            DeviceFilter { tenant, platform: Some(*platform), ..DeviceFilter::default() }
        }
        PushAudience::Owners(owners) => DeviceFilter { tenant, owners: owners.clone(), ..DeviceFilter::default() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_devices_are_sent_to_again_than_may_be_on_their_way() {
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        let waiting = |due| Waiting { device: DeviceId::random(), tries: 1, due };
        let mut place = Place::default();
        place.waiting.extend((0..500).map(|_| waiting(Some(now))));
        place.waiting.extend([None, Some(later)].map(waiting));
        let (all, mut taken) = (place.waiting.clone(), Vec::new());
        for (count, next) in [(400, 0), (101, 9), (0, 9)] {
            let due = place.take_due(now);
            assert_eq!((due.len(), place.next_turn(now)), (count, Duration::from_secs(next)));
            taken.extend(due);
        }
        taken.append(&mut place.waiting);
        assert!(all.iter().all(|waiting| taken.contains(waiting)) && taken.len() == all.len(), "none is lost");
        assert_eq!(place.next_turn(now), Duration::ZERO);
    }
}
