//! A connection to the broker, with what must be there.
//!
//! One that breaks is made anew as a whole: what was not acknowledged the broker sends again, what was not confirmed is
//! published again, so there is nothing to recover.

use std::time::Duration;

use anyhow::Context as _;
use fourmi_settings::Amqp;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind, PublisherConfirm,
    options::{
        BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::time::timeout;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages that are held unacknowledged: four batches, one that comes, one that is handed on, two that are answered.
const PREFETCH: u16 = 2_000;

/// Persistent (AMQP 0-9-1, basic.properties delivery-mode).
const PERSISTENT: u8 = 2;

/// A connection that is ready.
pub(crate) struct Broker {
    /// Submissions come here.
    pub(crate) incoming: Channel,
    /// Replies, dead letters and events go out here, each confirmed.
    pub(crate) outgoing: Channel,
    pub(crate) amqp: Amqp,
    _connection: Connection,
}

impl Broker {
    /// Connects, and declares queues and exchanges, all durable, if they are not there.
    ///
    /// # Errors
    /// If the broker does not answer, refuses, or has one of them in another form.
    pub(crate) async fn connect(amqp: &Amqp) -> anyhow::Result<Self> {
        // Another part of the process may have chosen one before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let properties = ConnectionProperties::default().with_connection_name("fourmi".into());
        let connecting = Connection::connect(amqp.url.expose(), properties);
        let connection = timeout(PATIENCE, connecting).await.context("no answer")?.context("AMQP_URL")?;
        let (incoming, outgoing) = (connection.create_channel().await?, connection.create_channel().await?);
        incoming.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        outgoing.confirm_select(ConfirmSelectOptions::default()).await?;
        let broker = Self { incoming, outgoing, amqp: amqp.clone(), _connection: connection };
        broker.declare().await.context("queues and exchanges cannot be declared")?;
        Ok(broker)
    }

    async fn declare(&self) -> Result<(), lapin::Error> {
        let Amqp { queue, events, dead, .. } = &self.amqp;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let table = FieldTable::default;
        self.incoming.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), table()).await?;
        if let Some(events) = events {
            self.outgoing.exchange_declare(events.as_str().into(), ExchangeKind::Topic, durable, table()).await?;
        }
        self.outgoing.exchange_declare(dead.as_str().into(), ExchangeKind::Fanout, durable, table()).await?;
        // Without a queue the exchange would lose what comes to it.
        self.outgoing.queue_declare(dead.as_str().into(), QueueDeclareOptions::durable(), table()).await?;
        let bind = QueueBindOptions::default();
        self.outgoing.queue_bind(dead.as_str().into(), dead.as_str().into(), "".into(), bind, table()).await
    }

    /// Publishes a persistent message; whether it has come stands in what is given. It waits until the message has left, so
    /// many are published side by side.
    pub(crate) async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<PublisherConfirm, lapin::Error> {
        let properties = properties.with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions::default();
        self.outgoing.basic_publish(exchange.into(), key.into(), options, body, properties).await
    }
}

/// Waits until the broker has all of these messages.
///
/// # Errors
/// If it refuses one, or the connection breaks.
pub(crate) async fn confirmed(confirms: impl IntoIterator<Item = PublisherConfirm>) -> anyhow::Result<()> {
    for confirm in confirms {
        match confirm.await? {
            Confirmation::Ack(_) => {}
            Confirmation::Nack(_) | Confirmation::NotRequested => anyhow::bail!("the broker refuses a message"),
        }
    }
    Ok(())
}
