//! Removes what nobody will finish, while the platform runs.

use std::time::Duration;

use fourmi_blobs::{Blobs, Uploads};

/// How often. Several servers may do it at once.
const EVERY: Duration = Duration::from_secs(10 * 60);

/// Sweeps now and then, for ever.
pub(crate) async fn sweep(blobs: Blobs, uploads: Uploads) {
    let mut turns = tokio::time::interval(EVERY);
    loop {
        turns.tick().await;
        match uploads.sweep().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "uploads expired"),
            Err(error) => tracing::warn!(%error, "expired uploads could not be removed"),
        }
        match blobs.sweep().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "files were removed that nobody finishes"),
            Err(error) => tracing::warn!(%error, "files that nobody finishes could not be removed"),
        }
    }
}
