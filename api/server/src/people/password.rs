//! Passwords: how they are kept (Argon2id, RFC 9106), how they are checked, and which are too easy to guess.

use std::{io, str::FromStr, thread};

use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use unicode_normalization::UnicodeNormalization;
use zxcvbn::{Score, zxcvbn};

pub(crate) use super::crew::Busy;
use super::crew::Crew;

/// The cost of a hash, as OWASP's Password Storage Cheat Sheet has it: memory in KiB, passes, lanes.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// What a hash of others may cost at most. Beyond that, one login would hold up all others.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;
const MAX_LANES: u32 = 16;

/// The same for bcrypt: 2^15 rounds, two seconds.
const MAX_BCRYPT_COST: u32 = 15;

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Characters of a password.
const SHORTEST: usize = 8;
const LONGEST: usize = 128;

/// Checks that wait at most; at about 30 ms each, the last of them waits two seconds.
const WAITING: usize = 64;

/// How much of a password is judged: what is strong so far stays so. All ways to read digits and signs as letters are tried,
/// which takes two seconds for 100 characters that are chosen with care, and a tenth of one for so many.
const JUDGED: usize = 32;

/// Pieces of known words shorter than this are found in any password.
const KNOWN_LETTERS: usize = 3;

/// What a password is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the one.
    Right,
    /// It is the one, and its hash is not what it would be today: time to hash it again.
    RightButOld,
    /// It is not.
    Wrong,
}

/// Whoever hashes and checks passwords. Clones share one crew.
#[derive(Debug, Clone)]
pub(crate) struct Passwords {
    crew: Crew,
}

impl Passwords {
    /// Starts the threads that do the work: half as many as there are cores, so that the others answer requests.
    ///
    /// # Errors
    /// If the system has no room for a thread.
    pub(crate) fn start() -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { crew: Crew::start((cores / 2).max(1), WAITING)? })
    }

    /// What is kept of a password.
    ///
    /// # Errors
    /// If too many passwords are being checked.
    pub(crate) async fn hash(&self, password: &str) -> Result<String, Busy> {
        let password = normal(password);
        self.crew.run(move || hash(&password)).await?
    }

    /// Whether a password is the one that `hash` was made of. Without a hash (no such person, no password) it is wrong, and
    /// that takes as long to find out.
    ///
    /// # Errors
    /// If too many passwords are being checked.
    pub(crate) async fn verify(&self, password: &str, hash: Option<&str>) -> Result<Verdict, Busy> {
        let hash = hash.filter(|_| is_within(password)).map(ToOwned::to_owned);
        let password = if hash.is_some() { password.to_owned() } else { String::new() };
        self.crew.run(move || verify(&password, hash.as_deref())).await?
    }

    /// Whether a password is hard to guess, also for those who know some words about its owner: e-mail address, names,
    /// tenant. If it is not, the text says why.
    ///
    /// # Errors
    /// If too many passwords are being checked.
    pub(crate) async fn check_strength(&self, password: &str, known: &[&str]) -> Result<Result<(), String>, Busy> {
        let password = normal(password);
        let letters = password.chars().count();
        if letters < SHORTEST {
            return Ok(Err(format!("It must have {SHORTEST} characters or more.")));
        }
        if letters > LONGEST {
            return Ok(Err(format!("It must have {LONGEST} characters or fewer.")));
        }
        let known = pieces(known);
        self.crew.run(move || check_strength(&password, &known)).await
    }
}

/// One form of each text, whatever keyboard it comes from (Unicode's NFC).
fn normal(password: &str) -> String {
    password.nfc().collect()
}

/// Whether it has a length that a password may have: at most 512 bytes in UTF-8.
fn is_within(password: &str) -> bool {
    password.chars().take(LONGEST + 1).count() <= LONGEST
}

fn argon2() -> Argon2<'static> {
    #[expect(clippy::expect_used, reason = "they are constants, and every test that touches a password checks them")]
    let cost = Params::new(MEMORY_KIB, PASSES, LANES, Some(HASH_BYTES)).expect("the cost is within its bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, cost)
}

fn hash(password: &str) -> Result<String, Busy> {
    let salt: [u8; SALT_BYTES] = rand::random();
    // It fails only where there is no memory left.
    let hash = argon2().hash_password_with_salt(password.as_bytes(), &salt).map_err(|_| Busy)?;
    Ok(hash.to_string())
}

fn verify(password: &str, hash: Option<&str>) -> Result<Verdict, Busy> {
    match hash.and_then(Kept::read) {
        Some(Kept::Bcrypt(hash)) => verify_bcrypt(password, &hash),
        Some(Kept::Argon2id(hash)) => Ok(verify_argon2id(password, &hash)),
        Some(Kept::TooCostly) => Ok(Verdict::Wrong),
        None => pretend(),
    }
}

/// Whether a hash of another system can be checked here.
pub(crate) fn is_known_hash(hash: &str) -> bool {
    matches!(Kept::read(hash), Some(Kept::Argon2id(_) | Kept::Bcrypt(_)))
}

/// As much work as a check of a hash, for where there is none.
fn pretend() -> Result<Verdict, Busy> {
    argon2().hash_password_into(b"", &[0; SALT_BYTES], &mut [0; HASH_BYTES]).map_err(|_| Busy)?;
    Ok(Verdict::Wrong)
}

/// What is kept of a password, here or in an earlier system.
enum Kept {
    Argon2id(Box<PasswordHash>),
    Bcrypt(String),
    TooCostly,
}

impl Kept {
    fn read(hash: &str) -> Option<Self> {
        if ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| hash.starts_with(prefix)) {
            let parts = bcrypt::HashParts::from_str(hash).ok()?;
            let costly = parts.get_cost() > MAX_BCRYPT_COST;
            return Some(if costly { Self::TooCostly } else { Self::Bcrypt(hash.to_owned()) });
        }
        let hash = PasswordHash::new(hash).ok().filter(|hash| hash.algorithm == argon2::ARGON2ID_IDENT)?;
        let cost = Params::try_from(&hash).ok()?;
        let costly = cost.m_cost() > MAX_MEMORY_KIB || cost.t_cost() > MAX_PASSES || cost.p_cost() > MAX_LANES;
        (hash.salt.is_some() && hash.hash.is_some()).then_some(if costly {
            Self::TooCostly
        } else {
            Self::Argon2id(Box::new(hash))
        })
    }
}

/// Bcrypt knows 72 bytes of a password, and earlier systems gave it the text as it came.
fn verify_bcrypt(password: &str, hash: &str) -> Result<Verdict, Busy> {
    match bcrypt::verify(password, hash) {
        Ok(true) => Ok(Verdict::RightButOld),
        Ok(false) => Ok(Verdict::Wrong),
        Err(_) => pretend(),
    }
}

fn verify_argon2id(password: &str, hash: &PasswordHash) -> Verdict {
    let argon2 = argon2();
    if argon2.verify_password(normal(password).as_bytes(), hash).is_err() {
        Verdict::Wrong
    } else if is_of_today(hash, argon2.params()) {
        Verdict::Right
    } else {
        Verdict::RightButOld
    }
}

fn is_of_today(hash: &PasswordHash, today: &Params) -> bool {
    let salt = hash.salt.as_ref().is_some_and(|salt| salt.len() >= SALT_BYTES);
    salt && hash.version == Some(Version::V0x13.into()) && Params::try_from(hash).is_ok_and(|cost| cost == *today)
}

/// The words that others know, whole and in pieces: nobody takes the whole of an e-mail address, but many take its start.
fn pieces(known: &[&str]) -> Vec<String> {
    let of = |word: &&str| word.split(|c: char| !c.is_alphanumeric()).map(ToOwned::to_owned).collect::<Vec<_>>();
    let whole = known.iter().map(|word| (*word).to_owned());
    whole
        .chain(known.iter().flat_map(of))
        .chain(["fourmi".to_owned()])
        .filter(|piece| piece.chars().count() >= KNOWN_LETTERS)
        .collect()
}

fn check_strength(password: &str, known: &[String]) -> Result<(), String> {
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let beginning: String = password.chars().take(JUDGED).collect();
    let estimate = zxcvbn(&beginning, &known);
    if estimate.score() >= Score::Three {
        return Ok(());
    }
    let mut reason = "It is too easy to guess.".to_owned();
    if let Some(feedback) = estimate.feedback() {
        let warning = feedback.warning().map(|warning| warning.to_string());
        for sentence in warning.into_iter().chain(feedback.suggestions().iter().map(ToString::to_string)) {
            reason = format!("{reason} {sentence}");
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWORD: &str = "a heron stands in cold water";

    async fn verdict(password: &str, hash: &str) -> Verdict {
        Passwords::start().unwrap().verify(password, Some(hash)).await.unwrap()
    }

    #[tokio::test]
    async fn a_password_opens_its_own_hash_only() {
        let passwords = Passwords::start().unwrap();
        let hash = passwords.hash(PASSWORD).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert_ne!(hash, passwords.hash(PASSWORD).await.unwrap());
        assert_eq!(passwords.verify(PASSWORD, Some(&hash)).await, Ok(Verdict::Right));
        assert_eq!(passwords.verify("a heron stands in cold wate", Some(&hash)).await, Ok(Verdict::Wrong));
        assert_eq!(passwords.verify("", Some(&hash)).await, Ok(Verdict::Wrong));
        assert_eq!(passwords.verify(PASSWORD, None).await, Ok(Verdict::Wrong));
        assert_eq!(passwords.verify("", None).await, Ok(Verdict::Wrong));
    }

    #[tokio::test]
    async fn a_password_is_the_same_from_every_keyboard() {
        let passwords = Passwords::start().unwrap();
        let hash = passwords.hash("caf\u{e9} au lait").await.unwrap();
        assert_eq!(passwords.verify("cafe\u{301} au lait", Some(&hash)).await, Ok(Verdict::Right));
    }

    #[tokio::test]
    async fn hashes_of_earlier_systems_are_read_and_called_old() {
        // Made by other implementations: crypt_blowfish and libxcrypt.
        for (password, hash) in [
            ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
            ("", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
            ("rasmuslerdorf", "$2y$07$BCryptRequires22Chrcte/VlQH0piJtjXl.0t1XkA8pw9dMXTpOq"),
            ("grüße", "$2y$04$abcdefghijklmnopqrstuuukcFUuF1uD2.SsVXl2Kxf7oTFxL3IEq"),
        ] {
            for version in ["$2a$", "$2b$", "$2x$", "$2y$"] {
                let hash = format!("{version}{}", &hash[4..]);
                assert_eq!(verdict(password, &hash).await, Verdict::RightButOld, "{hash}");
                assert_eq!(verdict("another one", &hash).await, Verdict::Wrong, "{hash}");
            }
        }
        let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let hash = cheap.hash_password_with_salt(PASSWORD.as_bytes(), b"a salt of 16 by.").unwrap().to_string();
        assert_eq!(verdict(PASSWORD, &hash).await, Verdict::RightButOld);
        assert_eq!(verdict("another one", &hash).await, Verdict::Wrong);
        let short_salt = argon2().hash_password_with_salt(PASSWORD.as_bytes(), b"8 bytes.").unwrap().to_string();
        assert_eq!(verdict(PASSWORD, &short_salt).await, Verdict::RightButOld);
    }

    #[tokio::test]
    async fn bcrypt_knows_72_bytes_of_a_password() {
        let long = "0123456789".repeat(8);
        let hash = bcrypt::hash_with_salt(&long, 4, [7; 16]).unwrap().to_string();
        assert_eq!(verdict(&long, &hash).await, Verdict::RightButOld);
        assert_eq!(verdict(&long[..72], &hash).await, Verdict::RightButOld);
        assert_eq!(verdict(&long[..71], &hash).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn bcrypt_reads_a_text_as_it_came() {
        let hash = bcrypt::hash_with_salt("cafe\u{301}", 4, [7; 16]).unwrap().to_string();
        assert_eq!(verdict("cafe\u{301}", &hash).await, Verdict::RightButOld);
        assert_eq!(verdict("caf\u{e9}", &hash).await, Verdict::Wrong);
    }

    #[tokio::test]
    async fn hashes_that_would_cost_too_much_are_wrong() {
        // Any of them would take minutes.
        for hash in [
            "$2a$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$2b$16$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$argon2id$v=19$m=4194304,t=1,p=1$YSBzYWx0IG9mIDE2IGJ5Lg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=64,t=4294967295,p=1$YSBzYWx0IG9mIDE2IGJ5Lg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=200000,t=1,p=4096$YSBzYWx0IG9mIDE2IGJ5Lg$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ] {
            assert_eq!(verdict("U*U", hash).await, Verdict::Wrong, "{hash}");
        }
    }

    #[tokio::test]
    async fn damaged_and_unknown_hashes_are_wrong() {
        let whole = Passwords::start().unwrap().hash(PASSWORD).await.unwrap();
        let cut: Vec<_> = [1, 10, 31, 40, 60, whole.len() - 5].map(|end| whole[..end].to_owned()).into();
        let foreign = [
            "",
            PASSWORD,
            "$",
            "$2a$",
            "$2a$05$é",
            "$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$2b$xx$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            "$argon2id$",
            "$argon2i$v=19$m=64,t=1,p=1$YSBzYWx0IG9mIDE2IGJ5Lg$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=64,t=1,p=1$YSBzYWx0IG9mIDE2IGJ5Lg",
            "$argon2id$v=18$m=64,t=1,p=1$YSBzYWx0IG9mIDE2IGJ5Lg$AAAAAAAAAAAAAAAAAAAAAA",
            "$argon2id$v=19$m=1,t=0,p=0$YSBzYWx0IG9mIDE2IGJ5Lg$AAAAAAAAAAAAAAAAAAAAAA",
            "5f4dcc3b5aa765d61d8327deb882cf99",
        ];
        for hash in cut.iter().map(String::as_str).chain(foreign) {
            assert_eq!(verdict(PASSWORD, hash).await, Verdict::Wrong, "{hash}");
        }
    }

    #[tokio::test]
    async fn a_password_that_is_too_long_is_wrong() {
        let passwords = Passwords::start().unwrap();
        let (fits, long) = ("é".repeat(LONGEST), "é".repeat(LONGEST + 1));
        for (password, verdict) in [(&fits, Verdict::Right), (&long, Verdict::Wrong)] {
            let hash = passwords.hash(password).await.unwrap();
            assert_eq!(passwords.verify(password, Some(&hash)).await, Ok(verdict));
        }
    }

    #[tokio::test]
    async fn a_password_that_is_easy_to_guess_is_refused_with_a_reason() {
        let passwords = Passwords::start().unwrap();
        let known = ["ana.lopez@example.org", "Ana Maria Lopez", "acme-industries"];
        for (password, reason) in [
            ("short", "8 characters"),
            ("seven77", "8 characters"),
            (&*"é".repeat(129), "128 characters"),
            ("password123", "common"),
            ("aaaaaaaaaaaaaaaaaaaaaaaa", "Repeats"),
            ("qwertyuiop", "guess"),
            ("analopez", "guess"),
            ("ana.lopez@example.org", "guess"),
            ("acme-industries1", "guess"),
            ("lopez2024", "guess"),
            ("fourmi2024", "guess"),
        ] {
            let refused = passwords.check_strength(password, &known).await.unwrap().unwrap_err();
            assert!(refused.contains(reason), "{password}: {refused}");
            assert!(!refused.contains(password), "{refused}");
        }
        let long = format!("{PASSWORD} {}", "a".repeat(90));
        for good in [PASSWORD, &long, "kX9#vq2Lm!", "правильный конь батарея скрепка"] {
            assert_eq!(passwords.check_strength(good, &known).await, Ok(Ok(())), "{good}");
        }
    }

    #[tokio::test]
    async fn when_many_wait_the_rest_is_refused() {
        let passwords = Passwords::start().unwrap();
        let many = (0..WAITING * 4).map(|_| passwords.verify(PASSWORD, None));
        let verdicts = futures_util::future::join_all(many).await;
        assert!(verdicts.iter().filter(|verdict| **verdict == Ok(Verdict::Wrong)).count() >= WAITING);
        assert!(verdicts.contains(&Err(Busy)));
    }
}
