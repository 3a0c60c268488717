//! A flow as its caller writes it, and the order in which its jobs are pushed.

use std::collections::{BTreeSet, HashMap};

use fourmi_model::{JobId, WebhookTarget};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    problem::{Code, Problem},
    routes::{
        parents,
        submission::{JobSubmission, check_label, invalid},
    },
};

/// The most jobs of a flow.
const MAX_JOBS: usize = 1_000;

/// The most ties between its jobs, and to others.
const MAX_TIES: usize = 10_000;

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Jobs that belong together.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowSubmission<'a> {
    /// The name of the batch, for people.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub(super) name: Option<String>,
    /// The jobs. Each has a name of its own, by which others name it in `after`.
    #[serde(borrow)]
    #[schemars(length(min = 1, max = 1_000))]
    pub(super) jobs: Vec<JobSubmission<'a>>,
    /// Whether they are a batch: a job of its own (`flow.batch`) stands for all of them, with one progress and one end.
    #[serde(default)]
    pub(super) batch: bool,
    /// Who is told of the end of the batch, beside those who are told of every batch's.
    #[serde(default)]
    pub(super) webhook: Option<WebhookTarget>,
    /// A job that follows the batch.
    #[serde(borrow, default)]
    pub(super) then: Option<JobSubmission<'a>>,
}

/// What a job of a flow waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// A job of the flow, by its place.
    Member(usize),
    /// Another one.
    Other(JobId),
}

/// Who waits for whom.
#[derive(Debug)]
pub(super) struct Plan {
    /// The jobs' names.
    pub(super) names: Vec<String>,
    /// What each waits for.
    pub(super) before: Vec<Vec<Before>>,
    /// The places of the jobs, in the order in which they are pushed: the jobs of a level wait for those of earlier ones.
    pub(super) levels: Vec<Vec<usize>>,
}

impl Plan {
    /// Reads names and ties, and takes them out of the submissions.
    ///
    /// # Errors
    /// The first mistake, by the path of its field.
    pub(super) fn of(flow: &mut FlowSubmission<'_>) -> Result<Self, Problem> {
        if flow.jobs.is_empty() || flow.jobs.len() > MAX_JOBS {
            return Err(invalid("jobs", format!("must be 1 to {MAX_JOBS}")));
        }
        check_frame(flow)?;
        let names = names(flow)?;
        let places = names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
        let mut before = Vec::with_capacity(names.len());
        for (place, job) in flow.jobs.iter_mut().enumerate() {
            let after = std::mem::take(&mut job.after);
            before.push(read_after(&after, &places).map_err(|problem| problem.within(&format!("jobs[{place}]")))?);
        }
        if before.iter().map(Vec::len).sum::<usize>() > MAX_TIES {
            return Err(invalid("jobs", format!("may wait for {MAX_TIES} jobs in all")));
        }
        let levels = levels(&names, &before)?;
        Ok(Self { names, before, levels })
    }
}

/// What is said of the flow as a whole.
fn check_frame(flow: &FlowSubmission<'_>) -> Result<(), Problem> {
    if let Some(name) = &flow.name {
        check_label("name", name, MAX_NAME_CHARS)?;
        if !flow.batch {
            return Err(invalid("name", "is kept with the batch: set batch to true"));
        }
    }
    if flow.webhook.is_some() && !flow.batch {
        return Err(invalid("webhook", "is told of the end of the batch: set batch to true"));
    }
    let Some(then) = &flow.then else { return Ok(()) };
    if !flow.batch {
        return Err(invalid("then", "follows the batch: set batch to true"));
    }
    if then.name.is_some() || !then.after.is_empty() {
        let field = if then.name.is_some() { "then.name" } else { "then.after" };
        return Err(invalid(field, "is not for the job that follows the batch"));
    }
    if then.idempotency_key.is_some() {
        return Err(invalid("then.idempotency_key", KEY_OF_THE_FLOW));
    }
    Ok(())
}

const KEY_OF_THE_FLOW: &str = "is not for the jobs of a flow, which has one: the header Idempotency-Key";

fn names(flow: &mut FlowSubmission<'_>) -> Result<Vec<String>, Problem> {
    let mut met = BTreeSet::new();
    let mut names = Vec::with_capacity(flow.jobs.len());
    for (place, job) in flow.jobs.iter_mut().enumerate() {
        let path = format!("jobs[{place}].name");
        if job.idempotency_key.is_some() {
            return Err(invalid(format!("jobs[{place}].idempotency_key"), KEY_OF_THE_FLOW));
        }
        let name = job.name.take().ok_or_else(|| invalid(&path, "is missing"))?;
        check_label(&path, &name, MAX_NAME_CHARS)?;
        if !met.insert(name.clone()) {
            return Err(invalid(&path, "is the name of an earlier job too"));
        }
        names.push(name);
    }
    Ok(names)
}

fn read_after(after: &[String], places: &HashMap<&str, usize>) -> Result<Vec<Before>, Problem> {
    parents::check_number(after)?;
    let read = |(index, text): (usize, &String)| match places.get(text.as_str()) {
        Some(place) => Ok(Before::Member(*place)),
        None => text.parse().map(Before::Other).map_err(|_| parents::unknown(format!("after[{index}]"), text)),
    };
    after.iter().enumerate().map(read).collect()
}

/// The jobs level by level (Kahn's algorithm); what is left in the end waits for itself.
fn levels(names: &[String], before: &[Vec<Before>]) -> Result<Vec<Vec<usize>>, Problem> {
    let members = |place: usize| {
        before[place].iter().filter_map(|before| match before {
            Before::Member(parent) => Some(*parent),
            Before::Other(_) => None,
        })
    };
    let mut open: Vec<usize> = (0..names.len()).map(|place| members(place).count()).collect();
    let mut kids: Vec<Vec<usize>> = vec![Vec::new(); names.len()];
    for place in 0..names.len() {
        members(place).for_each(|parent| kids[parent].push(place));
    }
    let mut level: Vec<usize> = (0..names.len()).filter(|place| open[*place] == 0).collect();
    let mut levels = Vec::new();
    let mut done = 0;
    while !level.is_empty() {
        done += level.len();
        let mut next = Vec::new();
        for place in &level {
            for kid in &kids[*place] {
                open[*kid] -= 1;
                if open[*kid] == 0 {
                    next.push(*kid);
                }
            }
        }
        levels.push(std::mem::replace(&mut level, next));
    }
    if done == names.len() { Ok(levels) } else { Err(cycle(names, before, &open)) }
}

/// Names a cycle: from any job that is left, each waits for another that is left.
fn cycle(names: &[String], before: &[Vec<Before>], open: &[usize]) -> Problem {
    let next = |place: usize| {
        let is_left = |before: &Before| matches!(before, Before::Member(parent) if open[*parent] > 0);
        before[place].iter().enumerate().find_map(|(index, before)| match before {
            Before::Member(parent) if is_left(&Before::Member(*parent)) => Some((index, *parent)),
            _ => None,
        })
    };
    let mut walked: Vec<usize> = Vec::new();
    let mut place = open.iter().position(|left| *left > 0).unwrap_or_default();
    while !walked.contains(&place) {
        walked.push(place);
        place = next(place).map_or(place, |(_, parent)| parent);
    }
    let circle: Vec<&str> = walked
        .iter()
        .skip_while(|other| **other != place)
        .chain([&place])
        .map(|place| names[*place].as_str())
        .collect();
    let index = next(place).map_or(0, |(index, _)| index);
    let shown = if circle.len() > 12 {
        format!("{} … {}", circle[..11].join(" after "), names[place])
    } else {
        circle.join(" after ")
    };
    Problem::field(Code::Cycle, format!("jobs[{place}].after[{index}]"), shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(jobs: &[(&str, &[&str])]) -> Result<Plan, String> {
        let jobs: Vec<_> = jobs
            .iter()
            .map(|(name, after)| serde_json::json!({"name": name, "kind": "a.b", "payload": {}, "after": after}))
            .collect();
        let text = serde_json::json!({ "jobs": jobs }).to_string();
        let mut flow: FlowSubmission<'_> = serde_json::from_str(&text).unwrap();
        Plan::of(&mut flow).map_err(|problem| format!("{problem:?}"))
    }

    #[test]
    fn jobs_come_after_those_that_they_wait_for() {
        let plan = plan(&[("d", &["b", "c"]), ("b", &["a"]), ("c", &["a"]), ("a", &[])]).unwrap();
        assert_eq!(plan.levels, [vec![3], vec![1, 2], vec![0]]);
    }

    #[test]
    fn a_cycle_is_named() {
        for (jobs, path, circle) in [
            (&[("a", &["a"] as &[&str])] as &[(&str, &[&str])], "jobs[0].after[0]", "a after a"),
            (
                &[("x", &[]), ("y", &["z"]), ("a", &["x", "c"]), ("b", &["a"]), ("c", &["b"]), ("z", &["x", "a"])],
                "jobs[2].after[1]",
                "a after c after b after a",
            ),
        ] {
            let problem = plan(jobs).unwrap_err();
            assert!(problem.contains(path) && problem.contains(circle) && problem.contains("Cycle"), "{problem}");
        }
    }

    #[test]
    fn a_name_is_one_of_the_flow_or_an_id() {
        let problem = plan(&[("a", &[]), ("b", &["a", "zebra"])]).unwrap_err();
        assert!(problem.contains("jobs[1].after[1]") && problem.contains("UnknownParent"), "{problem}");
        assert!(plan(&[("a", &[]), ("a", &[])]).unwrap_err().contains("jobs[1].name"));
        assert!(plan(&[("a", &["media-0198c0de-0000-7000-8000-000000000001"])]).is_ok());
        assert!(plan(&[("a", &[]), ("b", &["a", "a"])]).unwrap_err().contains("jobs[1].after[1]"));
        assert!(plan(&[]).is_err());
    }
}
