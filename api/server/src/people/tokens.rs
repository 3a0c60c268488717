//! Access tokens: what a person shows with every request after logging in. JSON Web Tokens (RFC 7519) in the profile of
//! RFC 9068, signed with HS256 and a key that is replaced from time to time: its generation stands in the token's `kid`.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use fourmi_model::{Role, TenantName, UserId};
use jiff::{Timestamp, fmt::serde::timestamp};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode, errors::ErrorKind,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hs256;

/// Who makes the tokens, and for whom: ourselves.
const FOURMI: &str = "fourmi";

/// What they are (RFC 9068).
const TYPE: &str = "at+jwt";

/// How every token begins: with `{"` in base64.
const BEGINNING: &[u8] = b"eyJ";

/// Bytes of a token. Ours have some 500.
const MAX_BYTES: usize = 4096;

/// How far the clocks of two servers may be apart, in seconds: for the end of a token, and for its beginning.
pub(crate) const LATE_S: i64 = 10;
const EARLY_S: i64 = 60;

/// Who logged in, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) user: UserId,
    pub(crate) session: String,
    pub(crate) role: Role,
    pub(crate) tenant: Option<TenantName>,
    /// Which state of the person's rights the token speaks of.
    pub(crate) access_version: i64,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    iss: String,
    aud: String,
    /// The person.
    #[serde(rename = "sub")]
    pub(crate) user: UserId,
    /// The id of the session.
    #[serde(rename = "sid")]
    pub(crate) session: String,
    /// What the person was when the token was made.
    pub(crate) role: Role,
    /// The tenant that the person belongs to.
    #[serde(rename = "ten", default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<TenantName>,
    /// Which state of the person's rights the token speaks of.
    #[serde(rename = "ver")]
    pub(crate) access_version: i64,
    /// When it was made.
    #[serde(rename = "iat", with = "timestamp::second::required")]
    pub(crate) issued_at: Timestamp,
    /// When it ends.
    #[serde(rename = "exp", with = "timestamp::second::required")]
    pub(crate) expires_at: Timestamp,
    /// The id of the token.
    #[serde(rename = "jti")]
    pub(crate) id: String,
}

/// Why a token opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// It is no token.
    #[error("it is not an access token, or was cut off")]
    Malformed,
    /// It was good.
    #[error("its time is over")]
    Expired,
    /// It was made elsewhere, for something else or with a key that is gone, or was changed.
    #[error("it was not made here, or was changed")]
    Foreign,
}

/// There is no key to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no key to sign with")]
pub(crate) struct NoKey;

/// Whoever makes and knows access tokens.
pub(crate) struct Tokens {
    lifetime: Duration,
    ring: ArcSwap<Ring>,
    validation: Validation,
}

/// The keys in force, the newest first. There are two or three.
#[derive(Default)]
struct Ring(Vec<RingKey>);

struct RingKey {
    header: Header,
    signs: EncodingKey,
    checks: DecodingKey,
}

impl Tokens {
    /// Tokens that live for so long; before [`Tokens::set_ring`] there are none.
    pub(crate) fn new(lifetime: Duration) -> Self {
        hs256::install();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[FOURMI]);
        validation.set_audience(&[FOURMI]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // Times are judged here, by the caller's clock.
        validation.validate_exp = false;
        Self { lifetime, ring: ArcSwap::default(), validation }
    }

    /// Takes these keys, by generation, in place of all others. The newest signs.
    pub(crate) fn set_ring(&self, mut keys: Vec<(i64, [u8; 32])>) {
        keys.sort_unstable_by_key(|(generation, _)| std::cmp::Reverse(*generation));
        let ring = keys.iter().filter_map(|(generation, key)| RingKey::new(*generation, key)).collect();
        self.ring.store(Arc::new(Ring(ring)));
    }

    /// A new token, and when it ends.
    ///
    /// # Errors
    /// If the ring is empty.
    pub(crate) fn issue(&self, subject: &Subject, now: Timestamp) -> Result<(String, Timestamp), NoKey> {
        let ring = self.ring.load();
        let key = ring.0.first().ok_or(NoKey)?;
        let claims = Claims::of(subject, now, self.lifetime).ok_or(NoKey)?;
        let token = encode(&key.header, &claims, &key.signs).map_err(|_| NoKey)?;
        Ok((token, claims.expires_at))
    }

    /// What a token says, if it is ours and good now.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        if !looks_like_token(token.as_bytes()) {
            return Err(TokenError::Malformed);
        }
        let ring = self.ring.load();
        let key = ring.key_of(token)?;
        let claims = decode::<Claims>(token, &key.checks, &self.validation).map_err(|error| why(error.kind()))?.claims;
        claims.check_times(now)?;
        Ok(claims)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl Ring {
    /// The key that a token says it was signed with, if its header is one of ours in everything.
    fn key_of(&self, token: &str) -> Result<&RingKey, TokenError> {
        let header = decode_header(token).map_err(|error| why(error.kind()))?;
        self.0.iter().find(|key| key.header == header).ok_or(TokenError::Foreign)
    }
}

impl RingKey {
    /// `None` if the key cannot be one, which keys of 32 bytes always can.
    fn new(generation: i64, key: &[u8; 32]) -> Option<Self> {
        let mut header = Header::new(Algorithm::HS256);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(generation.to_string());
        Some(Self { header, signs: EncodingKey::from_secret(key).ok()?, checks: DecodingKey::from_secret(key).ok()? })
    }
}

impl Claims {
    /// `None` if time ends before the token would.
    fn of(subject: &Subject, now: Timestamp, lifetime: Duration) -> Option<Self> {
        let issued_at = Timestamp::from_second(now.as_second()).ok()?;
        Some(Self {
            iss: FOURMI.to_owned(),
            aud: FOURMI.to_owned(),
            user: subject.user.clone(),
            session: subject.session.clone(),
            role: subject.role,
            tenant: subject.tenant.clone(),
            access_version: subject.access_version,
            issued_at,
            expires_at: issued_at.checked_add(lifetime).ok()?,
            id: Uuid::new_v4().simple().to_string(),
        })
    }

    fn check_times(&self, now: Timestamp) -> Result<(), TokenError> {
        let now = now.as_second();
        if self.issued_at.as_second() > now.saturating_add(EARLY_S) {
            Err(TokenError::Foreign)
        } else if self.expires_at.as_second().saturating_add(LATE_S) <= now {
            Err(TokenError::Expired)
        } else {
            Ok(())
        }
    }
}

/// Whether it may be an access token, and not an API key.
pub(crate) fn looks_like_token(shown: &[u8]) -> bool {
    shown.len() <= MAX_BYTES && shown.starts_with(BEGINNING) && shown.iter().filter(|byte| **byte == b'.').count() == 2
}

fn why(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::InvalidToken
        | ErrorKind::Base64(_)
        | ErrorKind::Json(_)
        | ErrorKind::Utf8(_)
        | ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_) => TokenError::Malformed,
        _ => TokenError::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    use hmac::Mac;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const OLD_KEY: [u8; 32] = [6; 32];
    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tokens() -> Tokens {
        let tokens = Tokens::new(Duration::from_secs(900));
        tokens.set_ring(vec![(1, OLD_KEY), (2, KEY)]);
        tokens
    }

    fn subject() -> Subject {
        Subject {
            user: "user-0198c0de000070008000000000000001".parse().unwrap(),
            session: "session-1".to_owned(),
            role: Role::Admin,
            tenant: Some("acme".parse().unwrap()),
            access_version: 3,
        }
    }

    fn good() -> String {
        tokens().issue(&subject(), at(NOW)).unwrap().0
    }

    fn header() -> Value {
        json!({"typ": "at+jwt", "alg": "HS256", "kid": "2"})
    }

    fn claims() -> Value {
        json!({
            "iss": "fourmi", "aud": "fourmi", "sub": "user-0198c0de000070008000000000000001", "sid": "session-1",
            "role": "user", "ver": 1, "iat": NOW, "exp": NOW + 900, "jti": "1",
        })
    }

    /// An object with one member changed, or taken out.
    fn with(mut object: Value, name: &str, value: Value) -> Value {
        let members = object.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name)
        } else {
            members.insert(name.to_owned(), value)
        };
        object
    }

    fn signed(header: &Value, claims: &Value, key: &[u8; 32]) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let mac = fourmi_secrets::hmac_sha256(key).chain_update(&message).finalize().into_bytes();
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    fn check(token: &str) -> Result<Claims, TokenError> {
        tokens().check(token, at(NOW))
    }

    fn refused(token: &str) -> TokenError {
        check(token).unwrap_err()
    }

    #[test]
    fn a_token_says_who_shows_it() {
        let (token, end) = tokens().issue(&subject(), at(NOW)).unwrap();
        let claims = check(&token).unwrap();
        let Subject { user, session, role, tenant, access_version } = subject();
        assert_eq!((claims.user, claims.session, claims.role), (user, session, role));
        assert_eq!((claims.tenant, claims.access_version), (tenant, access_version));
        assert_eq!((claims.issued_at, claims.expires_at, end), (at(NOW), at(NOW + 900), at(NOW + 900)));
        assert_ne!(claims.id, check(&good()).unwrap().id);
        assert!(looks_like_token(token.as_bytes()) && token.len() < 600, "{}", token.len());
        let header = decode_header(&token).unwrap();
        assert_eq!((header.typ.as_deref(), header.kid.as_deref()), (Some("at+jwt"), Some("2")));
        let super_admin = Subject { role: Role::SuperAdmin, tenant: None, ..subject() };
        let claims = check(&tokens().issue(&super_admin, at(NOW)).unwrap().0).unwrap();
        assert_eq!((claims.role, claims.tenant), (Role::SuperAdmin, None));
    }

    #[test]
    fn a_token_of_another_library_that_says_the_same_is_good() {
        assert_eq!(check(&signed(&header(), &claims(), &KEY)).unwrap().role, Role::User);
    }

    #[test]
    fn an_older_key_still_checks_and_one_that_is_gone_does_not() {
        let before = tokens();
        before.set_ring(vec![(1, OLD_KEY)]);
        let (token, _) = before.issue(&subject(), at(NOW)).unwrap();
        assert!(check(&token).is_ok());
        let later = tokens();
        later.set_ring(vec![(2, KEY)]);
        assert_eq!(later.check(&token, at(NOW)), Err(TokenError::Foreign));
        later.set_ring(Vec::new());
        assert_eq!(later.check(&good(), at(NOW)), Err(TokenError::Foreign));
        assert_eq!(later.issue(&subject(), at(NOW)), Err(NoKey));
    }

    #[test]
    fn no_other_algorithm_opens() {
        for algorithm in ["none", "None", "NONE", "", "hs256", "HS1", "foo"] {
            let header = with(header(), "alg", json!(algorithm));
            let token = signed(&header, &claims(), &KEY);
            assert_eq!(refused(&token), TokenError::Malformed, "{algorithm}");
            let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
            assert_eq!(refused(&unsigned), TokenError::Malformed, "{algorithm}");
        }
        for algorithm in ["HS384", "HS512", "RS256", "PS256", "ES256", "ES384", "EdDSA"] {
            let header = with(header(), "alg", json!(algorithm));
            assert_eq!(refused(&signed(&header, &claims(), &KEY)), TokenError::Foreign, "{algorithm}");
        }
        let key = EncodingKey::from_secret(&KEY).unwrap();
        assert!(encode(&Header::new(Algorithm::HS512), &claims(), &key).is_err());
        assert!(encode(&Header::new(Algorithm::ES256), &claims(), &key).is_err());
    }

    #[test]
    fn nothing_in_a_token_can_be_changed() {
        let token = good();
        let parts: Vec<_> = token.split('.').collect();
        let raised = with(claims(), "role", json!("super_admin"));
        let raised = BASE64_URL_SAFE_NO_PAD.encode(raised.to_string());
        assert_eq!(refused(&format!("{}.{raised}.{}", parts[0], parts[2])), TokenError::Foreign);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(check(&String::from_utf8(changed).unwrap()).is_err(), "{place}");
            assert!(check(&token[..place]).is_err(), "{place}");
        }
        assert!(check(&format!("{token}A")).is_err() && check(&format!("{token}=")).is_err());
        assert!(check(&format!(" {token}")).is_err() && check(&format!("{token}\n")).is_err());
    }

    #[test]
    fn a_token_belongs_to_its_key() {
        assert_eq!(refused(&signed(&with(header(), "kid", json!("1")), &claims(), &KEY)), TokenError::Foreign);
        assert_eq!(refused(&signed(&header(), &claims(), &OLD_KEY)), TokenError::Foreign);
        for kid in [json!("3"), json!(""), json!("02"), json!("-1"), json!("../2"), Value::Null] {
            assert_eq!(
                refused(&signed(&with(header(), "kid", kid.clone()), &claims(), &KEY)),
                TokenError::Foreign,
                "{kid}"
            );
        }
        assert_eq!(refused(&signed(&with(header(), "kid", json!(2)), &claims(), &KEY)), TokenError::Malformed);
    }

    #[test]
    fn only_access_tokens_of_ours_open() {
        for typ in [json!("JWT"), json!("dpop+jwt"), Value::Null] {
            assert_eq!(
                refused(&signed(&with(header(), "typ", typ.clone()), &claims(), &KEY)),
                TokenError::Foreign,
                "{typ}"
            );
        }
        for (name, value) in [("crit", json!(["exp"])), ("jku", json!("https://a.b/keys")), ("zip", json!("DEF"))] {
            assert_eq!(refused(&signed(&with(header(), name, value), &claims(), &KEY)), TokenError::Foreign, "{name}");
        }
        for (name, value) in [("iss", "someone"), ("aud", "something"), ("iss", ""), ("aud", "")] {
            let token = signed(&header(), &with(claims(), name, json!(value)), &KEY);
            assert_eq!(refused(&token), TokenError::Foreign, "{name}={value}");
        }
    }

    #[test]
    fn a_token_that_does_not_say_everything_is_malformed() {
        for name in ["iss", "aud", "sub", "sid", "role", "ver", "iat", "exp", "jti"] {
            let token = signed(&header(), &with(claims(), name, Value::Null), &KEY);
            assert_eq!(refused(&token), TokenError::Malformed, "{name}");
        }
        for (name, value) in [
            ("sub", json!("user-1")),
            ("role", json!("god")),
            ("ver", json!("1")),
            ("exp", json!("tomorrow")),
            ("exp", json!(i64::MAX)),
            ("exp", json!(1e300)),
            ("iat", json!(i64::MIN)),
            ("aud", json!(["other", 1])),
            ("ten", json!("not a tenant!")),
        ] {
            let token = signed(&header(), &with(claims(), name, value.clone()), &KEY);
            assert_eq!(refused(&token), TokenError::Malformed, "{name}={value}");
        }
        for claims in [json!(null), json!([]), json!("claims"), json!({})] {
            assert_eq!(refused(&signed(&header(), &claims, &KEY)), TokenError::Malformed, "{claims}");
        }
    }

    #[test]
    fn a_token_has_its_time() {
        let (token, tokens) = (good(), tokens());
        assert!(tokens.check(&token, at(NOW + 900 + 9)).is_ok());
        assert_eq!(tokens.check(&token, at(NOW + 900 + 10)), Err(TokenError::Expired));
        assert_eq!(tokens.check(&token, Timestamp::MAX), Err(TokenError::Expired));
        assert!(tokens.check(&token, at(NOW - 60)).is_ok());
        assert_eq!(tokens.check(&token, at(NOW - 61)), Err(TokenError::Foreign));
        assert_eq!(tokens.check(&token, Timestamp::MIN), Err(TokenError::Foreign));
        assert_eq!(tokens.issue(&subject(), Timestamp::MAX), Err(NoKey));
        // Whoever forges an end learns nothing of whether there was one.
        let forged = signed(&header(), &with(claims(), "exp", json!(NOW - 1000)), &[1; 32]);
        assert_eq!(refused(&forged), TokenError::Foreign);
    }

    #[test]
    fn garbage_is_malformed() {
        let long = format!("eyJ{}", "a".repeat(1_000_000));
        let long_parts = format!("eyJ{0}.{0}.{0}", "a".repeat(300_000));
        let deep = format!("{}.e30.AA", BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"a\":{}", "[".repeat(2000))));
        for garbage in [
            "",
            ".",
            "..",
            "...",
            "eyJ",
            "eyJ..",
            "eyJ.eyJ.",
            "eyJ.a.b.c",
            ".eyJ.",
            "fourmi_key",
            &long,
            &long_parts,
            &deep,
        ] {
            assert_eq!(refused(garbage), TokenError::Malformed, "{}", &garbage[..garbage.len().min(20)]);
        }
        assert!(!looks_like_token(b"fourmi_0123.4567.89") && !looks_like_token(long_parts.as_bytes()));
    }

    #[test]
    fn a_key_is_never_shown() {
        let text = format!("{:?}", tokens());
        assert!(!text.contains("7, 7"), "{text}");
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_refused_without_a_panic(
            shown in ".{1,200}",
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            place in 0_usize..400,
        ) {
            let bytes = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
            let [header, claims] = [header(), claims()].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
            let good = good();
            let (before, after) = good.split_at(place.min(good.len()));
            for token in [
                shown.clone(),
                format!("eyJ{shown}.{bytes}.{bytes}"),
                format!("{bytes}.{bytes}.{bytes}"),
                format!("{header}.{bytes}.{bytes}"),
                format!("{header}.{claims}.{bytes}"),
                format!("{before}{shown}{after}"),
            ] {
                prop_assert!(check(&token).is_err(), "{}", token);
            }
        }
    }
}
