//! How many streams a key may have open, so that one caller cannot take all that there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
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
    open: Mutex<HashMap<String, usize>>,
}

impl Streams {
    /// Allows each key this many.
    pub fn new(per_key: usize) -> Self {
        Self(Arc::new(Inside { per_key, open: Mutex::default() }))
    }

    /// A place for one more stream, which is free again when the permit is dropped.
    ///
    /// # Errors
    /// If the key has as many as it may.
    pub(crate) fn admit(&self, caller: &Caller) -> Result<Permit, Problem> {
        let mut open = self.open();
        let count = open.get(caller.key()).copied().unwrap_or(0);
        if count >= self.0.per_key {
            let detail = format!("This key has {count} streams open: close some, or follow many jobs by one stream.");
            return Err(Problem::new(Code::TooManyStreams, detail).retry_after(RETRY_AFTER));
        }
        open.insert(caller.key().to_owned(), count + 1);
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

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.streams.open();
        if let Some(count) = open.get_mut(self.caller.key()) {
            *count -= 1;
            if *count == 0 {
                open.remove(self.caller.key());
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
            key: key.to_owned(),
            tenant: None,
            own_only: false,
            scopes: Scopes::all(),
            rate_limit: None,
        })
    }

    #[test]
    fn a_key_has_as_many_as_it_may_and_others_have_theirs() {
        let streams = Streams::new(2);
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
