//! The second factor: codes of an app on a telephone (TOTP, RFC 6238: SHA-1, six digits, 30 seconds), and codes on paper
//! for when the telephone is lost.

use fourmi_model::UserId;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use totp_rs::{Builder, Secret};

/// 160 bits, as RFC 4226 recommends.
const SECRET_BYTES: usize = 20;

/// Steps of 30 seconds that a clock may be off, either way.
const SKEW: u16 = 1;

/// How many codes on paper there are.
const RECOVERY_CODES: usize = 10;

/// How long they are: 60 random bits.
const RECOVERY_LETTERS: usize = 12;

/// 32 signs, none of which looks like another.
const RECOVERY_ALPHABET: &[u8; 32] = b"23456789abcdefghijkmnpqrstuvwxyz";

/// A new secret, for the app and for us.
pub(crate) fn new_secret() -> Vec<u8> {
    rand::random::<[u8; SECRET_BYTES]>().to_vec()
}

/// The secret as a person types it into an app.
pub(crate) fn base32(secret: &[u8]) -> String {
    Secret::from(secret.to_vec()).to_base32()
}

/// The address that an app reads from a picture; `None` if the secret is too short or the account has no name.
pub(crate) fn uri(secret: &[u8], account: &str, issuer: &str) -> Option<String> {
    // A colon parts the two.
    let [account, issuer] = [account, issuer].map(|name| name.replace(':', " "));
    let builder = Builder::new().with_secret(secret.to_vec()).with_account_name(account).with_issuer(Some(issuer));
    builder.build().ok()?.to_url().ok()
}

/// The number of the step that a code belongs to, if it is right now or was or will be a step away. Whoever takes a code
/// must remember the step, and take no code of that step or an earlier one again.
pub(crate) fn matching_step(secret: &[u8], code: &str, now: Timestamp) -> Option<i64> {
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let totp = Builder::new().with_secret(secret.to_vec()).with_skew(SKEW).build().ok()?;
    let step = totp.check(&code, now.as_second().try_into().ok()?)?;
    step.try_into().ok()
}

/// New codes for a sheet of paper, each of which serves once.
pub(crate) fn recovery_codes() -> Vec<String> {
    (0..RECOVERY_CODES).map(|_| recovery_code(rand::random())).collect()
}

fn recovery_code(random: [u8; RECOVERY_LETTERS]) -> String {
    let letters = random.map(|byte| char::from(RECOVERY_ALPHABET[usize::from(byte) % RECOVERY_ALPHABET.len()]));
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    groups.join("-")
}

/// What is kept of a code: its hash, which differs from person to person. Spaces, hyphens and case do not matter.
pub(crate) fn recovery_hash(user: &UserId, code: &str) -> String {
    let code: String = code.chars().filter(|c| !c.is_whitespace() && *c != '-').flat_map(char::to_lowercase).collect();
    hex::encode(Sha256::digest(format!("fourmi recovery code 1\n{user}\n{code}\n")))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Of RFC 6238, appendix B.
    const SECRET: &[u8] = b"12345678901234567890";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn codes_are_those_of_the_rfc() {
        // Its codes have eight digits, of which ours are the last six.
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(matching_step(SECRET, code, at(second)), Some(second / 30), "{code}");
        }
    }

    #[test]
    fn a_clock_may_be_off_by_one_step() {
        let step = 1_111_111_109 / 30;
        for (second, expected) in [
            (step * 30 - 31, None),
            (step * 30 - 30, Some(step)),
            (step * 30 + 29, Some(step)),
            (step * 30 + 59, Some(step)),
            (step * 30 + 60, None),
        ] {
            assert_eq!(matching_step(SECRET, "081804", at(second)), expected, "{second}");
        }
    }

    #[test]
    fn only_six_digits_are_a_code() {
        let now = at(1_111_111_109);
        assert_eq!(matching_step(SECRET, " 081 804 ", now), Some(37_037_036));
        for wrong in ["", "81804", "0081804", "+81804", "08180a", "٠٨١٨٠٤", "08180\u{0}", "081805"] {
            assert_eq!(matching_step(SECRET, wrong, now), None, "{wrong}");
        }
        assert_eq!(matching_step(b"short", "081804", now), None);
        assert_eq!(matching_step(SECRET, "081804", at(-1)), None);
        assert_eq!(matching_step(SECRET, "081804", Timestamp::MAX), None);
    }

    #[test]
    fn an_app_reads_the_address() {
        assert_eq!(base32(SECRET), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            uri(SECRET, "ana@example.org", "Jobs & more: Café").unwrap(),
            "otpauth://totp/Jobs%20%26%20more%20%20Caf%C3%A9:ana%40example.org\
             ?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Jobs%20%26%20more%20%20Caf%C3%A9"
        );
        assert_eq!(uri(b"short", "ana", "Fourmi"), None);
    }

    #[test]
    fn secrets_and_recovery_codes_differ() {
        assert_eq!(new_secret().len(), 20);
        assert_ne!(new_secret(), new_secret());
        let codes: HashSet<_> = recovery_codes().into_iter().chain(recovery_codes()).collect();
        assert_eq!(codes.len(), 20);
        for code in codes {
            assert_eq!(code.split('-').map(str::len).collect::<Vec<_>>(), [4, 4, 4], "{code}");
        }
        assert_eq!(RECOVERY_ALPHABET.iter().collect::<HashSet<_>>().len(), 32);
    }

    #[test]
    fn a_recovery_code_is_read_however_it_is_typed() {
        let [ana, ben] = [1, 2].map(|last| format!("user-{last:032x}").parse().unwrap());
        let hash = recovery_hash(&ana, "ab2c-de3f-gh4k");
        assert_eq!(hash.len(), 64);
        for typed in ["AB2CDE3FGH4K", " ab2c de3f gh4k\n", "ab2c--DE3F-gh4k"] {
            assert_eq!(recovery_hash(&ana, typed), hash, "{typed}");
        }
        assert_ne!(recovery_hash(&ana, "ab2c-de3f-gh4m"), hash);
        assert_ne!(recovery_hash(&ben, "ab2c-de3f-gh4k"), hash);
    }
}
