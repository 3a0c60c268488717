//! What is remembered of events that concern security.

use fourmi_model::{AuditEvent, Outcome, TenantName};
use fourmi_records::{Records, RecordsError};
use jiff::Timestamp;
use salvo::{Depot, Request, http::header::USER_AGENT};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{caller::Caller, door::Origin, trace::RequestId};

/// The most characters that are kept of what a program calls itself.
const USER_AGENT_CHARS: usize = 200;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Login,
    Logout,
    Registered,
    EmailConfirmed,
    EmailChanged,
    LinkRequested,
    LinkRead,
    PasswordChanged,
    PasswordReset,
    SecondFactorAdded,
    SecondFactorRemoved,
    SessionRevoked,
    RefreshReused,
    UserCreated,
    UserChanged,
    UserRoleChanged,
    UserActivated,
    UserDeactivated,
    UserDeleted,
    TenantCreated,
    TenantChanged,
    TenantDeleted,
    KeyCreated,
    KeyChanged,
    KeyRotated,
    KeyRevoked,
    TokenKeyRotated,
    WebhookCreated,
    WebhookChanged,
    WebhookRotated,
    WebhookDeleted,
    WebhookDisabled,
    ScheduleCreated,
    ScheduleChanged,
    ScheduleDeleted,
    SuppressionAdded,
    SuppressionRemoved,
    DeviceRegistered,
    DeviceMoved,
    DeviceDropped,
    DeviceRemoved,
}

impl Act {
    /// The word that stands for it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Logout => "logout",
            Self::Registered => "user.registered",
            Self::EmailConfirmed => "user.email_confirmed",
            Self::EmailChanged => "user.email_changed",
            Self::LinkRequested => "link.requested",
            Self::LinkRead => "link.read",
            Self::PasswordChanged => "password.changed",
            Self::PasswordReset => "password.reset",
            Self::SecondFactorAdded => "second_factor.added",
            Self::SecondFactorRemoved => "second_factor.removed",
            Self::SessionRevoked => "session.revoked",
            Self::RefreshReused => "session.refresh_reused",
            Self::UserCreated => "user.created",
            Self::UserChanged => "user.changed",
            Self::UserRoleChanged => "user.role_changed",
            Self::UserActivated => "user.activated",
            Self::UserDeactivated => "user.deactivated",
            Self::UserDeleted => "user.deleted",
            Self::TenantCreated => "tenant.created",
            Self::TenantChanged => "tenant.changed",
            Self::TenantDeleted => "tenant.deleted",
            Self::KeyCreated => "key.created",
            Self::KeyChanged => "key.changed",
            Self::KeyRotated => "key.rotated",
            Self::KeyRevoked => "key.revoked",
            Self::TokenKeyRotated => "token_key.rotated",
            Self::WebhookCreated => "webhook.created",
            Self::WebhookChanged => "webhook.changed",
            Self::WebhookRotated => "webhook.rotated",
            Self::WebhookDeleted => "webhook.deleted",
            Self::WebhookDisabled => "webhook.disabled",
            Self::ScheduleCreated => "schedule.created",
            Self::ScheduleChanged => "schedule.changed",
            Self::ScheduleDeleted => "schedule.deleted",
            Self::SuppressionAdded => "suppression.added",
            Self::SuppressionRemoved => "suppression.removed",
            Self::DeviceRegistered => "device.registered",
            Self::DeviceMoved => "device.moved",
            Self::DeviceDropped => "device.dropped",
            Self::DeviceRemoved => "device.removed",
        }
    }
}

/// An event that is about to be remembered.
#[must_use = "an event is remembered when it is noted"]
pub(crate) struct Event(AuditEvent);

impl Event {
    /// What whoever sent this request did, with success.
    pub(crate) fn of(request: &Request, depot: &Depot, act: Act) -> Self {
        let caller = Caller::of(depot).ok();
        let origin = depot.get_typed::<Origin>().ok();
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        Self(AuditEvent {
            id: format!("event-{}", Uuid::now_v7().simple()),
            time: Timestamp::now(),
            actor: caller.as_ref().map(|caller| caller.id().to_owned()),
            tenant: caller.and_then(|caller| caller.tenant().cloned()),
            action: act.as_str().to_owned(),
            target: None,
            outcome: Outcome::Success,
            address: origin.map(|origin| origin.address.to_string()),
            user_agent: user_agent.map(|text| text.chars().take(USER_AGENT_CHARS).collect()),
            request_id: depot.get_typed::<RequestId>().ok().map(|id| id.0.clone()),
            details: Map::new(),
        })
    }

    /// What the platform did by itself.
    pub(crate) fn of_platform(act: Act) -> Self {
        Self(AuditEvent {
            id: format!("event-{}", Uuid::now_v7().simple()),
            time: Timestamp::now(),
            actor: None,
            tenant: None,
            action: act.as_str().to_owned(),
            target: None,
            outcome: Outcome::Success,
            address: None,
            user_agent: None,
            request_id: None,
            details: Map::new(),
        })
    }

    /// By somebody who shows no token, but is known now.
    pub(crate) fn by(mut self, actor: impl ToString) -> Self {
        self.0.actor = Some(actor.to_string());
        self
    }

    /// It concerns this tenant.
    pub(crate) fn in_tenant(mut self, tenant: Option<&TenantName>) -> Self {
        self.0.tenant = tenant.cloned();
        self
    }

    /// To whom or what.
    pub(crate) fn to(mut self, target: impl ToString) -> Self {
        self.0.target = Some(target.to_string());
        self
    }

    /// How it ended, if not with success.
    pub(crate) fn ended(mut self, outcome: Outcome) -> Self {
        self.0.outcome = outcome;
        self
    }

    /// With something that is worth knowing.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(name.to_owned(), value.into());
        self
    }

    /// Remembers it.
    ///
    /// # Errors
    /// If the records do not answer.
    pub(crate) async fn note(self, records: &Records) -> Result<(), RecordsError> {
        let AuditEvent { id, action, outcome, actor, target, .. } = &self.0;
        tracing::info!(
            audit.id = id,
            audit.action = action,
            audit.outcome = outcome.as_str(),
            audit.actor = actor.as_deref(),
            audit.target = target.as_deref(),
            "security event"
        );
        records.add_audit(std::slice::from_ref(&self.0)).await
    }
}
