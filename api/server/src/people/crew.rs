//! Threads for work that is slow on purpose, so that it neither holds up the threads that answer requests nor piles up.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use tokio::sync::oneshot;

/// How much less than others the threads count (`nice`): a quarter of a share keeps logins quick beside busy workers.
const NICE: i32 = 5;

/// There is more to do than the crew gets done soon; later there may be room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords are being checked at once")]
pub(crate) struct Busy;

/// A fixed number of threads, and what waits for them. They end with the last clone.
#[derive(Debug, Clone)]
pub(super) struct Crew {
    tasks: SyncSender<Task>,
}

type Task = Box<dyn FnOnce() + Send>;

impl Crew {
    /// Starts the threads; beside what they do, `waiting` tasks find room.
    ///
    /// # Errors
    /// If the system has no room for a thread.
    pub(super) fn start(threads: usize, waiting: usize) -> io::Result<Self> {
        let (tasks, queue) = sync_channel::<Task>(waiting);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name("passwords".to_owned()).spawn(move || serve(&queue))?;
        }
        Ok(Self { tasks })
    }

    /// Has something done, unless nobody waits for it any more when its turn comes.
    ///
    /// # Errors
    /// If there is too much to do already.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let (answer, answered) = oneshot::channel();
        let task = move || {
            if !answer.is_closed() {
                let _ = answer.send(work());
            }
        };
        self.tasks.try_send(Box::new(task)).map_err(|_| Busy)?;
        answered.await.map_err(|_| Busy)
    }
}

fn serve(queue: &Mutex<Receiver<Task>>) {
    // Linux knows priorities of threads, and takes "this process" for "this thread". Refused, they stay as they are.
    let _ = rustix::process::setpriority_process(None, NICE);
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = next else { return };
        // A task that panics drops its answer; the thread is there for the next.
        let _ = catch_unwind(AssertUnwindSafe(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_finds_room_is_refused_at_once() {
        let crew = Crew::start(1, 2).unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let first = tokio::spawn({
            let crew = crew.clone();
            async move {
                crew.run(move || {
                    let _ = begun.send(());
                    released.recv()
                })
                .await
            }
        });
        begins.await.unwrap();
        let (second, third) = (crew.run(|| 2), crew.run(|| 3));
        let (second, third, fourth) = {
            let fourth = async {
                let refused = crew.run(|| 4).await;
                release.send(()).unwrap();
                refused
            };
            // They are polled in this order, so two wait when the fourth comes.
            tokio::join!(biased; second, third, fourth)
        };
        assert_eq!((second, third, fourth), (Ok(2), Ok(3), Err(Busy)));
        assert!(first.await.unwrap().unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_panic_costs_an_answer_and_not_the_thread() {
        let crew = Crew::start(1, 2).unwrap();
        assert_eq!(crew.run(|| panic!("on purpose")).await, Err::<(), _>(Busy));
        assert_eq!(crew.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_done() {
        let crew = Crew::start(1, 2).unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = oneshot::channel();
        let first = crew.run(move || {
            let _ = begun.send(());
            released.recv()
        });
        let (done, mut was_done) = oneshot::channel::<()>();
        let (first, ()) = tokio::join!(first, async {
            begins.await.unwrap();
            {
                let mut gone = Box::pin(crew.run(move || done.send(())));
                assert!(futures_util::poll!(&mut gone).is_pending());
            }
            release.send(()).unwrap();
        });
        assert!(first.unwrap().is_ok());
        assert_eq!(crew.run(|| 1).await, Ok(1));
        assert!(was_done.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_crew_gives_way_to_others() {
        let crew = Crew::start(1, 1).unwrap();
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let own = nice();
        let theirs = crew.run(nice).await.unwrap();
        assert!(theirs >= own.max(NICE), "{theirs} {own}");
    }
}
