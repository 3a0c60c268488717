//! Lists of people, newest first.

use fourmi_model::{Role, TenantName, UserId};
use jiff::Timestamp;

use crate::{
    Records, RecordsError, User,
    people::user,
    row::label,
    statement::{Statement, query_of},
    store::reading,
};

/// The most people of a page.
const PAGE: usize = 200;

/// Which people to list: those to whom everything given applies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserFilter {
    /// Only people of this tenant.
    pub tenant: Option<TenantName>,
    /// Only people of this role.
    pub role: Option<Role>,
    /// Only people who may log in, or only those who may not.
    pub active: Option<bool>,
    /// Only people with this in their username, e-mail address or name, upper or lower case. What is longer than 200
    /// characters is cut off.
    pub search: Option<String>,
}

impl Records {
    /// A page of people, newest first, and the cursor of the next page, if there is one: opaque, URL-safe, and valid for the
    /// same filter. A page has `limit` people (200 at most), the last one fewer.
    ///
    /// # Errors
    /// If the cursor is none, the database does not answer, or a person cannot be read.
    pub async fn users(
        &self,
        filter: &UserFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<User>, Option<String>), RecordsError> {
        let start = cursor.map(Place::read).transpose()?;
        let limit = limit.clamp(1, PAGE);
        let page = page(filter, start.as_ref(), limit);
        let mut users: Vec<User> = reading!(self, |db| {
            let rows = query_of!(page).fetch_all(db).await?;
            rows.iter().map(|row| user(row)).collect::<Result<_, _>>()?
        })?;
        let is_last = users.len() <= limit;
        users.truncate(limit);
        let next = if is_last { None } else { users.last().map(|user| Place::of(user).cursor()) };
        Ok((users, next))
    }
}

/// A place in the order of all lists.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    created_at: i64,
    id: UserId,
}

impl Place {
    fn of(user: &User) -> Self {
        Self { created_at: user.created_at.as_millisecond(), id: user.id.clone() }
    }

    fn cursor(&self) -> String {
        format!("{}.{}", self.created_at, self.id)
    }

    fn read(cursor: &str) -> Result<Self, RecordsError> {
        let read = || {
            let (time, id) = cursor.split_once('.')?;
            let time = Timestamp::from_millisecond(time.parse().ok()?).ok()?;
            Some(Self { created_at: time.as_millisecond(), id: id.parse().ok()? })
        };
        read().filter(|place| place.cursor() == cursor).ok_or(RecordsError::Cursor)
    }
}

/// The people of a page after `start`, and one more.
fn page(filter: &UserFilter, start: Option<&Place>, limit: usize) -> Statement {
    let mut statement = Statement::of("SELECT * FROM users WHERE true");
    if let Some(tenant) = &filter.tenant {
        statement.push(" AND tenant = ").bind(tenant.as_str());
    }
    if let Some(role) = filter.role {
        statement.push(" AND role = ").bind(role.as_str());
    }
    if let Some(is_active) = filter.active {
        statement.push(if is_active { " AND deactivated_at IS NULL" } else { " AND deactivated_at IS NOT NULL" });
    }
    if let Some(search) = &filter.search {
        statement.push(" AND search LIKE ").bind(&*pattern(search)).push(" ESCAPE '!'");
    }
    if let Some(Place { created_at, id }) = start {
        statement.push(" AND (created_at, id) < (").bind(*created_at).push(", ").bind(id.as_str()).push(")");
    }
    // As far as the limit goes, a page fits every number.
    let take = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    statement.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(take);
    statement
}

/// What has this text somewhere, as `LIKE` knows it.
fn pattern(search: &str) -> String {
    let mut pattern = String::from("%");
    for letter in label(search).to_lowercase().chars() {
        if matches!(letter, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern + "%"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{row::Cells as _, sqlite::Sqlite, store::Store};

    /// How SQLite finds what a filter wants, in its own words.
    async fn plan(sqlite: &Sqlite, filter: &UserFilter) -> String {
        let start = Place { created_at: 1, id: UserId::random() };
        let mut explained = Statement::of("EXPLAIN QUERY PLAN ");
        explained.push(page(filter, Some(&start), 50).text());
        let rows = query_of!(explained).fetch_all(&sqlite.readers).await.unwrap();
        rows.iter().map(|row| row.text("detail").unwrap().unwrap() + "\n").collect()
    }

    #[tokio::test]
    async fn every_list_goes_along_an_index() {
        let folder = tempfile::TempDir::new().unwrap();
        let records = Records::open(&folder.path().join("records.db")).await.unwrap();
        let Store::Sqlite(sqlite) = &records.store else { unreachable!("it is a file") };
        let tenant: Option<TenantName> = Some("acme".parse().unwrap());
        for (tenant, role, index) in [
            (None, None, "users_newest ((created_at,id)<(?,?))"),
            (None, Some(Role::Admin), "users_by_role (role=? AND (created_at,id)<(?,?))"),
            (tenant.clone(), None, "users_by_tenant (tenant=? AND (created_at,id)<(?,?))"),
            (tenant, Some(Role::User), "users_by_tenant_and_role (tenant=? AND role=? AND (created_at,id)<(?,?))"),
        ] {
            let filter = UserFilter { tenant, role, ..UserFilter::default() };
            for (active, search) in [(None, None), (Some(true), Some("a".to_owned()))] {
                let filter = UserFilter { active, search, ..filter.clone() };
                let plan = plan(sqlite, &filter).await;
                assert!(plan.starts_with(&format!("SEARCH users USING INDEX {index}")), "{filter:?}: {plan}");
                assert!(!plan.contains("B-TREE"), "{filter:?} sorts: {plan}");
            }
        }
    }

    #[test]
    fn a_pattern_means_its_letters_only() {
        assert_eq!(pattern("É%_!\\*"), "%é!%!_!!\\*%");
    }
}
