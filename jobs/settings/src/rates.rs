//! How often the API may be asked, by what is asked of it and by whom.

use std::{collections::BTreeMap, time::Duration};

/// So many requests in a time, of which all may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// How many.
    pub quota: u32,
    /// In which time.
    pub window: Duration,
}

impl RateLimit {
    /// So many in so many seconds.
    pub const fn of(quota: u32, seconds: u64) -> Self {
        Self { quota, window: Duration::from_secs(seconds) }
    }

    /// Reads `100/60`: a hundred in sixty seconds. `None` if it is none, or about more than a day.
    pub fn parse(text: &str) -> Option<Self> {
        let (quota, seconds) = text.split_once('/')?;
        let (quota, seconds): (u32, u64) = (quota.trim().parse().ok()?, seconds.trim().parse().ok()?);
        (quota > 0 && (1..=86_400).contains(&seconds)).then(|| Self::of(quota, seconds))
    }
}

macro_rules! classes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal),+ $(,)?) => {
        /// What is asked.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RouteClass {
            $($(#[doc = $doc])+ $variant),+
        }

        impl RouteClass {
            /// Every class.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }
    };
}

classes! {
    /// Anything.
    Any = "any",
    /// Submitting jobs.
    Submit = "submit",
    /// Reading jobs, queues and workers.
    Read = "read",
    /// Opening streams of events.
    Stream = "stream",
    /// Cancelling, retrying and deleting jobs.
    Control = "control",
    /// Registering kinds, leasing and settling jobs.
    Work = "work",
    /// Sending files.
    Upload = "upload",
    /// Fetching files.
    Download = "download",
    /// Steering queues, and keys.
    Admin = "admin",
    /// What needs no key: health and documents.
    Open = "open",
    /// Trying keys that are wrong.
    Guess = "guess",
    /// Logging in, making accounts, renewing tokens.
    Login = "login",
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// Those with one key.
    Key,
    /// Those from one address.
    Address,
}

/// The limits of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimits {
    classes: BTreeMap<(RouteClass, Per), RateLimit>,
    kinds: BTreeMap<String, RateLimit>,
}

impl Default for RateLimits {
    /// Far above what an app does on purpose: they stop a loop that has gone wild.
    fn default() -> Self {
        use Per::{Address, Key};
        use RouteClass::{Admin, Control, Download, Guess, Login, Open, Read, Stream, Submit, Upload, Work};
        let classes = [
            ((Submit, Key), 120_000),
            ((Read, Key), 120_000),
            ((Stream, Key), 6_000),
            ((Control, Key), 60_000),
            ((Work, Key), 60_000),
            ((Upload, Key), 12_000),
            ((Download, Key), 12_000),
            ((Admin, Key), 6_000),
            ((Download, Address), 12_000),
            ((Open, Address), 200),
            ((Guess, Address), 60),
            ((Login, Address), 600),
        ];
        let classes = classes.into_iter().map(|(what, quota)| (what, RateLimit::of(quota, 60))).collect();
        Self { classes, kinds: BTreeMap::new() }
    }
}

impl RateLimits {
    /// The defaults, changed by a text such as `read=600/60, any@address=100/60, submit:audio.extract=10/60, upload=off`.
    /// `None` if an entry cannot be read.
    pub fn parse(text: &str) -> Option<Self> {
        let mut limits = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (what, limit) = entry.split_once('=')?;
            let limit = if limit.trim() == "off" { None } else { Some(RateLimit::parse(limit)?) };
            limits.set(what.trim(), limit)?;
        }
        Some(limits)
    }

    fn set(&mut self, what: &str, limit: Option<RateLimit>) -> Option<()> {
        if let Some(kind) = what.strip_prefix("submit:") {
            set(&mut self.kinds, kind.to_owned(), limit);
            return (!kind.is_empty()).then_some(());
        }
        let (class, per) = match what.split_once('@') {
            Some((class, "address")) => (class, Per::Address),
            Some(_) => return None,
            None if ["open", "guess", "login"].contains(&what) => (what, Per::Address),
            None => (what, Per::Key),
        };
        let class = RouteClass::ALL.iter().copied().find(|known| known.as_str() == class)?;
        set(&mut self.classes, (class, per), limit);
        Some(())
    }

    /// What binds requests of a class.
    pub fn of(&self, class: RouteClass, per: Per) -> Option<RateLimit> {
        self.classes.get(&(class, per)).copied()
    }

    /// What binds submissions of a kind with one key.
    pub fn of_kind(&self, kind: &str) -> Option<RateLimit> {
        self.kinds.get(kind).copied()
    }
}

fn set<K: Ord>(limits: &mut BTreeMap<K, RateLimit>, what: K, limit: Option<RateLimit>) {
    match limit {
        Some(limit) => limits.insert(what, limit),
        None => limits.remove(&what),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_change_the_defaults() {
        let limits =
            RateLimits::parse("read=600/10, any@address=100/60,submit:audio.extract=10/60, upload=off,").unwrap();
        assert_eq!(limits.of(RouteClass::Read, Per::Key), Some(RateLimit::of(600, 10)));
        assert_eq!(limits.of(RouteClass::Any, Per::Address), Some(RateLimit::of(100, 60)));
        assert_eq!(limits.of(RouteClass::Any, Per::Key), None);
        assert_eq!(limits.of(RouteClass::Upload, Per::Key), None);
        assert_eq!(limits.of_kind("audio.extract"), Some(RateLimit::of(10, 60)));
        assert_eq!(limits.of(RouteClass::Open, Per::Address), Some(RateLimit::of(200, 60)));
        for wrong in
            ["read", "read=", "read=0/60", "read=1/0", "read=1/90000", "reed=1/1", "read@moon=1/1", "submit:=1/1"]
        {
            assert_eq!(RateLimits::parse(wrong), None, "{wrong}");
        }
    }
}
