//! What people are shown and given that is derived from the secret of the platform.

use fourmi_secrets::Secrets;

/// The secret of the platform, as people need it.
pub(crate) trait PeopleSecrets {
    /// The key that signs tokens in one generation.
    fn signing_key(&self, generation: i64) -> [u8; 32];

    /// What the pages of a session show to prove that a form is theirs.
    fn csrf(&self, session: &str) -> String;

    /// Whether it is what the pages of that session show.
    fn is_csrf(&self, session: &str, shown: &str) -> bool;
}

impl PeopleSecrets for Secrets {
    fn signing_key(&self, generation: i64) -> [u8; 32] {
        self.key(&format!("tokens {generation}"))
    }

    fn csrf(&self, session: &str) -> String {
        self.proof("forms", &[session])
    }

    fn is_csrf(&self, session: &str, shown: &str) -> bool {
        self.is_proof("forms", &[session], shown)
    }
}
