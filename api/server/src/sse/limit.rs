//! How many streams a key may have open, so that one caller cannot take all that there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    LimitHits,
    caller::Caller,
    problem::{Code, Problem},
};

/// When a caller who has too many may try again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Counts the open streams of each key; cheap to clone.
#[derive(Clone)]
pub struct Streams(Arc<Inside>);

struct Inside {
    per_key: usize,
    hits: LimitHits,
    open: Mutex<HashMap<String, usize>>,
}

impl Streams {
    /// Allows each key this many, and counts those that are refused.
    pub fn new(per_key: usize, hits: LimitHits) -> Self {
        Self(Arc::new(Inside { per_key, hits, open: Mutex::default() }))
    }

    /// How many are open.
    pub(crate) fn count(&self) -> usize {
        self.open().values().sum()
    }

    /// A place for one more stream, which is free again when the permit is dropped.
    ///
    /// # Errors
    /// If the key has as many as it may.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<Permit, Problem> {
        let mut open = self.open();
        let count = open.get(caller.id()).copied().unwrap_or(0);
        if count >= self.0.per_key {
            self.0.hits.count("streams");
            let detail = format!("This key has {count} streams open: close some, or follow many jobs by one stream.");
            return Err(Problem::new(Code::TooManyStreams, detail).retry_after(RETRY_AFTER));
        }
        open.insert(caller.id().to_owned(), count + 1);
        Ok(Permit { streams: self.clone(), caller: caller.clone() })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of an open stream.
pub(crate) struct Permit {
    streams: Streams,
    caller: Caller,
}

impl Permit {
    /// Waits until the caller is logged out; a key is not.
    pub(crate) fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let login = self.caller.login().cloned();
        async move {
            match login {
                Some(login) => login.end().await,
                None => std::future::pending().await,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(count) = open.get_mut(self.caller.id()) {
            *count -= 1;
            if *count == 0 {
                open.remove(self.caller.id());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fourmi_model::Scopes;

    use super::*;
    use crate::caller::Rights;

    fn caller(key: &str) -> Caller {
        Caller::new(Rights {
            id: key.to_owned(),
            tenant: None,
            own_only: false,
            scopes: Scopes::all(),
            rate_limit: None,
            login: None,
        })
    }

    #[test]
    fn a_key_has_as_many_as_it_may_and_others_have_theirs() {
        let streams = Streams::new(2, LimitHits::default());
        let (one, other) = (caller("one"), caller("other"));
        let held = [streams.admit(&one).unwrap(), streams.admit(&one).unwrap()];
        assert_eq!(streams.admit(&one).err().unwrap().status(), 429);
        let theirs = streams.admit(&other).unwrap();
        drop(held);
        assert!(streams.admit(&one).is_ok());
        drop(theirs);
        assert!(streams.open().is_empty());
    }
}
