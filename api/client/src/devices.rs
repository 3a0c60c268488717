//! Devices that take push notifications.

use fourmi_model::{DeviceId, DeviceInfo, DevicePlatform, TenantName, TokenKind};
use reqwest::Method;
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError};

/// A device to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewDevice {
    /// Where FCM finds it.
    pub token: String,
    /// What sort of address that is.
    pub token_kind: TokenKind,
    /// What the device is.
    pub platform: DevicePlatform,
    /// Whoever uses it, as the app calls them; needed with a key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The version of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    /// The language of its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The tenant that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantName>,
}

#[derive(Deserialize)]
struct Page {
    devices: Vec<DeviceInfo>,
    next: Option<String>,
}

impl Client {
    /// Registers a device. A token that is known already keeps its id, and moves to the new owner.
    ///
    /// # Errors
    /// `invalid_request`, `scope_missing`, or that the API does not answer.
    pub async fn register_device(&self, device: &NewDevice) -> Result<DeviceInfo, ClientError> {
        self.json(self.request(Method::POST, ["devices"]).json(device)).await
    }

    /// Devices that this client sees, those after one and oldest first, 200 at most; and whether there are more.
    ///
    /// # Errors
    /// `scope_missing`, or that the API does not answer.
    pub async fn devices(
        &self,
        owner: Option<&str>,
        tenant: Option<&TenantName>,
        after: Option<&DeviceId>,
    ) -> Result<(Vec<DeviceInfo>, bool), ClientError> {
        let mut request = self.request(Method::GET, ["devices"]).query(&[("limit", "200")]);
        let after = after.map(DeviceId::as_str);
        for (name, value) in [("owner", owner), ("tenant", tenant.map(TenantName::as_str)), ("after", after)] {
            if let Some(value) = value {
                request = request.query(&[(name, value)]);
            }
        }
        let page: Page = self.json(request).await?;
        Ok((page.devices, page.next.is_some()))
    }

    /// Deletes a device.
    ///
    /// # Errors
    /// `unknown_device`, `scope_missing`, or that the API does not answer.
    pub async fn delete_device(&self, id: &DeviceId) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, ["devices", id.as_str()])).await.map(drop)
    }
}
