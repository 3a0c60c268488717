//! The way to the world.

use fourmi_egress::{Client, Guard, Proxy};
use fourmi_model::{ErrorClass, Failure, ParkReason};
use fourmi_runtime::Context;
use fourmi_settings::Media;

use super::{Limits, direct::Fetcher};
use crate::stages::Stages;

/// The way to the world, for one job: everything that it fetches passes the guard.
pub(crate) struct Web {
    pub(super) proxy: Proxy,
    client: Client,
    pub(super) limits: Limits,
}

impl Web {
    /// # Errors
    /// `not_configured`, if the operator's rules cannot be read; `spawn_failed`.
    pub(crate) async fn open(settings: &Media, limits: Limits) -> Result<Self, Failure> {
        let guard = Guard::parse(&settings.egress_allow)
            .map_err(|error| Failure::park(ParkReason::NotConfigured, format!("FOURMI_EGRESS_ALLOW: {error}")))?;
        let failed = |message: &str| Failure::retry("spawn_failed", message).class(ErrorClass::Internal);
        let proxy = Proxy::start(guard).await.map_err(|error| failed("no proxy could be started").because(error))?;
        let client = proxy.client().map_err(|error| {
            failed("TLS cannot be set up; are there certificates (ca-certificates)?").because(error)
        })?;
        Ok(Self { proxy, client, limits })
    }

    /// Our own client.
    pub(crate) fn fetcher<'a>(&'a self, context: &'a Context, stages: &'a Stages) -> Fetcher<'a> {
        Fetcher { client: &self.client, proxy: &self.proxy, limits: &self.limits, context, stages }
    }
}
