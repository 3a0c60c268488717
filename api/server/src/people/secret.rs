//! What people are shown and given that is derived from the secret of the platform.

use fourmi_model::UserId;
use fourmi_secrets::Secrets;

/// The secret of the platform, as people need it.
pub(crate) trait PeopleSecrets {
    /// The key that signs tokens in one generation.
    fn signing_key(&self, generation: i64) -> [u8; 32];

    /// The secret half of a link that does one thing for one person, once.
    fn one_time(&self, id: &str, purpose: &str, user: &UserId) -> String;

    /// Whether it is the secret half of that link.
    fn opens_one_time(&self, id: &str, purpose: &str, user: &UserId, secret: &str) -> bool;

    /// What the pages of a session show to prove that a form is theirs.
    fn csrf(&self, session: &str) -> String;

    /// Whether it is what the pages of that session show.
    fn is_csrf(&self, session: &str, shown: &str) -> bool;
}

impl PeopleSecrets for Secrets {
    fn signing_key(&self, generation: i64) -> [u8; 32] {
        self.key(&format!("tokens {generation}"))
    }

    fn one_time(&self, id: &str, purpose: &str, user: &UserId) -> String {
        self.proof("links", &[id, purpose, user.as_str()])
    }

    fn opens_one_time(&self, id: &str, purpose: &str, user: &UserId, secret: &str) -> bool {
        self.is_proof("links", &[id, purpose, user.as_str()], secret)
    }

    fn csrf(&self, session: &str) -> String {
        self.proof("forms", &[session])
    }

    fn is_csrf(&self, session: &str, shown: &str) -> bool {
        self.is_proof("forms", &[session], shown)
    }
}
