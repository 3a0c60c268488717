//! Subscriptions that outlive restarts of Redis. Pub/sub is a hint: after every gap the subscriber is told, and asks.

use std::time::Duration;

use futures_util::StreamExt;
use redis::{Msg, aio::PubSubStream};
use tokio::{
    sync::mpsc,
    time::{interval, sleep, timeout},
};

use crate::{QueueError, link::Link};

/// A silent connection is noticed within this time and a half.
const PING_EVERY: Duration = Duration::from_secs(5);

/// What a subscriber gets.
pub(crate) enum Signal {
    /// The subscription stands (again): whatever was published before may have been missed.
    Subscribed,
    /// A message and its channel.
    Message(String, String),
}

/// Subscribes to `channels` until the receiver is dropped.
pub(crate) fn subscribe(link: Link, channels: Vec<String>) -> mpsc::Receiver<Signal> {
    let (sender, receiver) = mpsc::channel(1_024);
    tokio::spawn(async move {
        let mut wait = Duration::from_millis(20);
        while !sender.is_closed() {
            match follow(&link, &channels, &sender, &mut wait).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "subscription lost"),
            }
            sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    });
    receiver
}

/// Passes messages on; returns when the receiver is gone, fails when the connection is.
async fn follow(
    link: &Link,
    channels: &[String],
    sender: &mpsc::Sender<Signal>,
    wait: &mut Duration,
) -> Result<(), QueueError> {
    let (mut sink, mut messages) = link.pubsub().await?.split();
    for channel in channels {
        drive(sink.subscribe(channel), &mut messages, sender).await??;
    }
    if sender.send(Signal::Subscribed).await.is_err() {
        return Ok(());
    }
    *wait = Duration::from_millis(20);
    let mut pings = interval(PING_EVERY);
    pings.tick().await;
    loop {
        tokio::select! {
            () = sender.closed() => return Ok(()),
            message = messages.next() => forward(message, sender).await?,
            _ = pings.tick() => {
                let ping = timeout(PING_EVERY / 2, sink.ping::<redis::Value>());
                let pong = drive(ping, &mut messages, sender).await?;
                pong.map_err(|_| QueueError::Unavailable("a subscription went silent".into()))??;
            }
        }
    }
}

/// Waits for an answer, which is read by the stream of messages: so both must be driven.
async fn drive<T>(
    asked: impl Future<Output = T>,
    messages: &mut PubSubStream,
    sender: &mpsc::Sender<Signal>,
) -> Result<T, QueueError> {
    tokio::pin!(asked);
    loop {
        tokio::select! {
            answer = &mut asked => return Ok(answer),
            message = messages.next() => forward(message, sender).await?,
        }
    }
}

async fn forward(message: Option<Msg>, sender: &mpsc::Sender<Signal>) -> Result<(), QueueError> {
    let message = message.ok_or_else(|| QueueError::Unavailable("a subscription was closed".into()))?;
    let payload: String = message.get_payload()?;
    // A receiver that has gone is noticed by the caller.
    let _ = sender.send(Signal::Message(message.get_channel_name().to_owned(), payload)).await;
    Ok(())
}

impl From<redis::ParsingError> for QueueError {
    fn from(error: redis::ParsingError) -> Self {
        Self::Corrupt(error.to_string())
    }
}
