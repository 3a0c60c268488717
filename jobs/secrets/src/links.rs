//! Links that mails carry. Whoever knows the secret of the platform can make them: the API that shows them to admins, and the
//! worker that sends them.

use crate::Secrets;

/// What the token of a link is sealed for that takes somebody off a list.
const UNSUBSCRIBE: &str = "unsubscribe";

impl Secrets {
    /// The secret half of a link that does one thing for one person, once.
    pub fn one_time(&self, id: &str, purpose: &str, user: &str) -> String {
        self.proof("links", &[id, purpose, user])
    }

    /// Whether it is the secret half of that link.
    pub fn opens_one_time(&self, id: &str, purpose: &str, user: &str, secret: &str) -> bool {
        self.is_proof("links", &[id, purpose, user], secret)
    }

    /// Such a link: `page` is that of the app at `base`, where there is no slash at the end.
    pub fn one_time_url(&self, base: &str, page: &str, (id, purpose, user): (&str, &str, &str)) -> String {
        format!("{base}/{page}?token={id}.{}", self.one_time(id, purpose, user))
    }

    /// What shows that whoever holds it gets the mails of a tenant, or of none, at an address. It is sealed, so that the
    /// address stands in no log of addresses that were asked for.
    pub fn unsubscribe_token(&self, tenant: Option<&str>, address: &str) -> String {
        let plain = format!("{}\n{address}", tenant.unwrap_or_default());
        self.seal(UNSUBSCRIBE, plain.as_bytes()).unwrap_or_default()
    }

    /// The tenant and the address of such a token; `None` if it is none.
    pub fn open_unsubscribe(&self, token: &str) -> Option<(Option<String>, String)> {
        let plain = String::from_utf8(self.open(UNSUBSCRIBE, token)?).ok()?;
        let (tenant, address) = plain.split_once('\n')?;
        Some((Some(tenant.to_owned()).filter(|tenant| !tenant.is_empty()), address.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use fourmi_settings::{Data, Environment, SecretKeys};

    use super::*;

    #[test]
    fn links_are_opened_by_what_they_were_made_for() {
        let keys = [("FOURMI_SECRET_KEY", "b1f6c0de94a7835e2d1f6c0de94a7835")];
        let secrets = Secrets::load(&SecretKeys::read(&Environment::of(keys)).unwrap(), &Data::at("/nowhere")).unwrap();
        let token = secrets.unsubscribe_token(Some("acme"), "ada@example.org");
        assert!(!token.contains("ada") && token.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c)));
        let opened = secrets.open_unsubscribe(&token);
        assert_eq!(opened, Some((Some("acme".to_owned()), "ada@example.org".to_owned())));
        let of_none = secrets.open_unsubscribe(&secrets.unsubscribe_token(None, "ada@example.org"));
        assert_eq!(of_none, Some((None, "ada@example.org".to_owned())));
        for wrong in ["", "v1.", &token[..token.len() - 1], &secrets.seal("totp", b"acme\na@b.co").unwrap()] {
            assert_eq!(secrets.open_unsubscribe(wrong), None, "{wrong}");
        }

        let url =
            secrets.one_time_url("https://app.example.org", "reset-password", ("token-1", "reset_password", "user-1"));
        let secret = url.strip_prefix("https://app.example.org/reset-password?token=token-1.").unwrap();
        assert!(secrets.opens_one_time("token-1", "reset_password", "user-1", secret));
        assert!(!secrets.opens_one_time("token-1", "invitation", "user-1", secret));
    }
}
