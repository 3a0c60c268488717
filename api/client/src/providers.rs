//! Providers of messages.

use fourmi_model::ProviderList;
use reqwest::Method;

use crate::{Client, ClientError};

impl Client {
    /// The providers that the workers have met, and what was spent with them this month.
    ///
    /// # Errors
    /// `scope_missing`, or that the API does not answer.
    pub async fn providers(&self) -> Result<ProviderList, ClientError> {
        self.json(self.request(Method::GET, ["providers"])).await
    }
}
