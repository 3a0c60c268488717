//! The log of events that concern security, which is only added to.

use fourmi_model::{AuditEvent, Outcome, TenantName};
use jiff::Timestamp;
use sqlx::QueryBuilder;

use crate::{
    Records, RecordsError,
    row::{Cells, Columns, json, label, plain},
    store::{reading, writing},
    walk::{Bound, Condition, PAGE, Place, Walk},
};

const TABLE: &str = "audit_events";

/// Rows of one statement.
const ROWS: usize = 50;

const INSERT: &str = "\
INSERT INTO audit_events (id, happened_at, actor, tenant, action, target, outcome, address, user_agent, request_id, details) ";

/// The actions from one word up to another that there are: from each to the next along the index, however many events each
/// has.
const ACTIONS: &str = "\
WITH RECURSIVE known (action) AS ( \
  SELECT min(action) FROM audit_events WHERE action >= $1 AND action < $2 \
  UNION ALL \
  SELECT (SELECT min(action) FROM audit_events WHERE action > known.action AND action < $2) \
  FROM known WHERE known.action IS NOT NULL) \
SELECT action FROM known WHERE action IS NOT NULL";

/// Which events to list: those to which everything given applies.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only what concerns this tenant.
    pub tenant: Option<TenantName>,
    /// Only what was done by the person or API key of this id.
    pub actor: Option<String>,
    /// Only what was done to whom or what has this id.
    pub target: Option<String>,
    /// Only this action, and those below it: `user` stands for `user.role_changed`, too.
    pub action: Option<String>,
    /// Only what ended so.
    pub outcome: Option<Outcome>,
    /// Only what happened at this time or later.
    pub after: Option<Timestamp>,
    /// Only what happened before this time.
    pub before: Option<Timestamp>,
}

impl Records {
    /// Adds events, all or none. One whose id is there already is left out: a batch that comes a second time changes
    /// nothing. Ids are 1 to 100 letters, digits, `_` and `-`; times are kept to the millisecond.
    ///
    /// # Errors
    /// If the database does not answer, or refuses; then none is added.
    pub async fn add_audit(&self, events: &[AuditEvent]) -> Result<(), RecordsError> {
        // In the order of their ids, so that two who add the same events do not wait for each other.
        let mut events: Vec<&AuditEvent> = events.iter().collect();
        events.sort_by_key(|event| &event.id);
        writing!(self, |db| {
            for events in events.chunks(ROWS) {
                let mut insert = QueryBuilder::new(INSERT);
                insert.push_values(events, |mut row, event| {
                    row.push_bind(plain(&event.id))
                        .push_bind(event.time.as_millisecond())
                        .push_bind(event.actor.as_deref().map(label))
                        .push_bind(event.tenant.as_ref().map(TenantName::as_str))
                        .push_bind(label(&event.action))
                        .push_bind(event.target.as_deref().map(label))
                        .push_bind(event.outcome.as_str())
                        .push_bind(event.address.as_deref().map(plain))
                        .push_bind(event.user_agent.as_deref().map(plain))
                        .push_bind(event.request_id.as_deref().map(plain))
                        .push_bind(json(&event.details));
                });
                insert.push(" ON CONFLICT (id) DO NOTHING");
                insert.build().execute(&mut *db).await?;
            }
        })
    }

    /// A page of events, newest first, and the cursor of the next page, if there is one: opaque, URL-safe, and valid for
    /// the same filter. A page has `limit` events (200 at most), or fewer, even none, where few of many fit: one page looks
    /// at a bounded number.
    ///
    /// # Errors
    /// If the cursor is none, the database does not answer, or an event cannot be read.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<AuditEvent>, Option<String>), RecordsError> {
        let start = cursor.map(|cursor| Place::read(cursor, is_id)).transpose()?;
        let actions = match &filter.action {
            Some(action) => self.actions_of(action).await?,
            None => Vec::new(),
        };
        let walk = walk(filter, &actions, start);
        let (events, next) = self.page(&walk, limit.clamp(1, PAGE), event, place_of).await?;
        Ok((events, next.map(|place| place.cursor())))
    }

    /// An action, and those below it that there are events of: a handful, as the program's own words are.
    async fn actions_of(&self, action: &str) -> Result<Vec<String>, RecordsError> {
        let action = label(action);
        // The first character after the dot.
        let (first, end) = (format!("{action}."), format!("{action}/"));
        let below: Vec<String> = reading!(self, |db| {
            sqlx::query_scalar(ACTIONS).bind(first.as_str()).bind(end.as_str()).fetch_all(db).await?
        })?;
        Ok([action.into_owned()].into_iter().chain(below).collect())
    }
}

fn walk(filter: &AuditFilter, actions: &[String], start: Option<Place>) -> Walk {
    let values: Vec<_> = actions.iter().map(|action| action.as_str().into()).collect();
    // The one that matches least, as a rule, comes first.
    let conditions = [
        Condition::is(TABLE, "target", filter.target.as_deref()),
        Condition::is(TABLE, "actor", filter.actor.as_deref()),
        Condition::is(TABLE, "tenant", filter.tenant.as_ref().map(TenantName::as_str)),
        (!values.is_empty()).then_some(Condition { table: TABLE, column: "action", values }),
    ];
    let mut conditions = conditions.into_iter().flatten();
    let along = conditions.next();
    // No index knows it.
    let outcome = Condition::is(TABLE, "outcome", filter.outcome.map(Outcome::as_str));
    Walk {
        table: TABLE,
        time: "happened_at",
        start,
        along,
        bounds: Bound::between("happened_at", filter.after, filter.before).collect(),
        rest: conditions.chain(outcome).collect(),
        rest_bounds: Vec::new(),
    }
}

fn place_of(event: &AuditEvent) -> Place {
    Place { time: event.time.as_millisecond(), id: event.id.clone() }
}

fn is_id(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

fn event(row: &dyn Cells) -> Result<AuditEvent, RecordsError> {
    let row = Columns::of("event", row)?;
    Ok(AuditEvent {
        id: row.word("id")?,
        time: row.time("happened_at")?.unwrap_or_default(),
        actor: row.text("actor")?,
        tenant: row.optional_word("tenant")?,
        action: row.word("action")?,
        target: row.text("target")?,
        outcome: row.word("outcome")?,
        address: row.text("address")?,
        user_agent: row.text("user_agent")?,
        request_id: row.text("request_id")?,
        details: row.json("details")?.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        statement::{Statement, query_of},
        store::Store,
        walk::plan,
    };

    #[tokio::test]
    async fn every_list_goes_along_an_index() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let text = || Some("x".to_owned());
        let none = AuditFilter::default();
        let tenant = Some("acme".parse().unwrap());
        for (filter, index) in [
            (none.clone(), "audit_newest"),
            (AuditFilter { after: Some(Timestamp::UNIX_EPOCH), ..none.clone() }, "audit_newest"),
            (AuditFilter { outcome: Some(Outcome::Denied), ..none.clone() }, "audit_newest"),
            (AuditFilter { action: text(), ..none.clone() }, "audit_by_action (action=?"),
            (AuditFilter { action: text(), tenant, ..none.clone() }, "audit_by_tenant (tenant=?"),
            (AuditFilter { actor: text(), action: text(), ..none.clone() }, "audit_by_actor (actor=?"),
            (AuditFilter { target: text(), actor: text(), ..none }, "audit_by_target (target=?"),
        ] {
            let actions = filter.action.iter().flat_map(|action| [action.clone(), format!("{action}.y")]);
            let start = Place { time: 1, id: "x".to_owned() };
            let plan = plan(&records, &walk(&filter, &actions.collect::<Vec<_>>(), Some(start))).await;
            assert!(plan.contains(&format!("USING COVERING INDEX {index}")), "{filter:?}: {plan}");
            assert!(!plan.contains("SCAN audit_events\n"), "{filter:?}: {plan}");
        }
    }

    #[tokio::test]
    async fn actions_are_found_without_looking_at_their_events() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let Store::Sqlite(sqlite) = &records.store else { unreachable!("it is a file") };
        let explained = Statement::of(format_args!("EXPLAIN QUERY PLAN {ACTIONS}"));
        for row in query_of!(explained).fetch_all(&sqlite.readers).await.unwrap() {
            let step = row.text("detail").unwrap().unwrap();
            let is_table = step.contains("audit_events");
            assert!(
                !is_table || step.contains("SEARCH") && step.contains("audit_by_action (action>? AND action<?"),
                "{step}"
            );
        }
    }
}
