//! What can be found out about tables.

use fourmi_kinds::AlgorithmList;
use reqwest::Method;

use crate::{Client, ClientError};

impl Client {
    /// The algorithms that `dataset.analyze` knows, with their parameters.
    ///
    /// # Errors
    /// That the API does not answer, or refuses the key.
    pub async fn algorithms(&self) -> Result<AlgorithmList, ClientError> {
        self.json(self.request(Method::GET, ["insight", "algorithms"])).await
    }
}
