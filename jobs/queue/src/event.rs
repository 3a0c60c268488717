//! What is published of a job: `<id> <version> <state> <run>[ <progress>]`, or `<id> <version> log <line>`.

use fourmi_model::State;
use uuid::Uuid;

/// Something that happened to a job.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Event<'a> {
    pub(crate) job: Uuid,
    /// The job's version with it.
    pub(crate) version: u64,
    pub(crate) what: What<'a>,
}

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum What<'a> {
    /// It has entered this state, or something else about it has changed.
    State(State),
    /// It has come further.
    Progress { state: State, run: u64, json: &'a str },
    /// A run has written a line to its log.
    Line(&'a str),
}

impl<'a> Event<'a> {
    /// `None` if it is none of ours.
    pub(crate) fn read(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let job = Uuid::try_parse(parts.next()?).ok()?;
        let version = parts.next()?.parse().ok()?;
        let (word, rest) = (parts.next()?, parts.next()?);
        if word == "log" {
            return Some(Self { job, version, what: What::Line(rest) });
        }
        let state = word.parse().ok()?;
        let what = match rest.split_once(' ') {
            Some((run, json)) => What::Progress { state, run: run.parse().ok()?, json },
            None => What::State(rest.parse::<u64>().ok().map(|_| state)?),
        };
        Some(Self { job, version, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sort_of_line_is_read_and_nonsense_is_not() {
        let id = "0198c0de-0000-7000-8000-000000000001";
        let read = |rest: &str| Event::read(&format!("{id} {rest}")).map(|event| format!("{:?}", event.what));
        assert_eq!(read("7 waiting 0").unwrap(), "State(Waiting)");
        let progress = read(r#"8 running 2 {"stage":"a b"}"#).unwrap();
        assert_eq!(progress, r#"Progress { state: Running, run: 2, json: "{\"stage\":\"a b\"}" }"#);
        assert_eq!(read("8 log 3 1 2 info a b").unwrap(), r#"Line("3 1 2 info a b")"#);
        for nonsense in ["", "7", "7 waiting", "x waiting 0", "7 elsewhere 0", "7 waiting x", "7 running x {}"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
