//! `fourmi users`: people, and where they are logged in.

use std::pin::pin;

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use fourmi_client::{Client, Leftovers, NewUser, PersonalLink, UserChange, UserPage, UserQuery};
use fourmi_model::{Language, Role, SessionInfo, TenantName, UserInfo};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use serde::{Deserialize, de::IntoDeserializer};
use serde_json::json;

use crate::{
    commands::{
        dead::{agrees, check_that_somebody_is_there},
        pages, users_import,
    },
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi users invite ada@example.org --tenant acme --role admin
  fourmi users links ada@example.org          while no mail is sent: the link that the mail would carry
  fourmi users list --tenant acme --inactive
  fourmi users import people.ndjson
  fourmi users deactivate ada
  fourmi users delete ada@example.org --erase";

/// What to do with people.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum UsersCommand {
    /// List people, newest first
    List(ListArguments),
    /// Show a person
    Show(OnePerson),
    /// Invite a person: they are sent a link to choose a password
    Invite(InviteArguments),
    /// Take in people of another system, with the hashes of their passwords
    Import(ImportArguments),
    /// Change what a person may do, their names or their language
    Change(ChangeArguments),
    /// Let a person log in again
    Activate(OnePerson),
    /// Let a person log in no more; their jobs go on
    Deactivate(OnePerson),
    /// Delete a person, for good
    Delete(DeleteArguments),
    /// List where a person is logged in
    Sessions(OnePerson),
    /// Log a person out everywhere
    Logout(OnePerson),
    /// Show the links that were sent to a person and work; the audit log remembers it
    Links(OnePerson),
    /// Send a person a link again, to confirm the address or else to choose a password
    SendLink(OnePerson),
    /// Turn the second factor of a person off who has lost it
    RemoveSecondFactor(OnePerson),
}

/// A person.
#[derive(Debug, Args)]
pub(crate) struct OnePerson {
    /// The person: an id (user-…), an e-mail address or a username
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    who: String,
}

/// Which people to list.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ListArguments {
    /// Only people of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// Only people of this role: user, admin or super_admin
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// Only people who may log in
    #[arg(long)]
    active: bool,
    /// Only people who may not log in
    #[arg(long, conflicts_with = "active")]
    inactive: bool,
    /// Only people whose name, username or address holds this
    #[arg(long, short, value_name = "TEXT")]
    search: Option<String>,
    /// The most people to list
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, conflicts_with = "all")]
    limit: usize,
    /// List all, however many
    #[arg(long, short)]
    all: bool,
}

/// A person to be invited.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InviteArguments {
    /// The e-mail address, to which the link is sent
    email: String,
    /// The tenant; without one, that of the key. Super admins have none
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// What they are: user, admin or super_admin
    #[arg(long, value_name = "ROLE", default_value_t = Role::User)]
    role: Role,
    /// What they are called
    #[arg(long)]
    name: Option<String>,
    /// A name to log in with, beside the address
    #[arg(long)]
    username: Option<String>,
    /// The language in which the platform writes to them: en or fr
    #[arg(long, value_name = "LANGUAGE", value_parser = language)]
    language: Option<Language>,
}

/// Where people come from.
#[derive(Debug, Args)]
#[command(after_help = "\
A person a line, in the form that POST /api/v1/users reads:
  {\"tenant\": \"acme\", \"email\": \"ada@example.org\", \"name\": \"Ada\", \"password_hash\": \"$2b$12$…\"}

Hashes are of bcrypt, or of argon2id in PHC form; whoever has none is invited. What is refused is told with its line, and
the rest is taken: correct the lines and import them alone.")]
pub(crate) struct ImportArguments {
    /// The file, or - for standard input
    file: String,
}

/// What to change of a person.
#[derive(Debug, Args)]
pub(crate) struct ChangeArguments {
    #[command(flatten)]
    person: OnePerson,
    /// What they are: user, admin or super_admin
    #[arg(long, value_name = "ROLE")]
    role: Option<Role>,
    /// Another tenant; who becomes a super admin leaves theirs
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantName>,
    /// What they are called; '' for nothing
    #[arg(long)]
    name: Option<String>,
    /// A name to log in with; '' for none
    #[arg(long)]
    username: Option<String>,
    /// The language in which the platform writes to them: en or fr
    #[arg(long, value_name = "LANGUAGE", value_parser = language)]
    language: Option<Language>,
}

/// Whom to delete.
#[derive(Debug, Args)]
#[command(after_help = "\
The account, its sessions and its links are gone at once. Jobs and files stay with the tenant, under an id that leads to
nobody, unless they are erased.")]
pub(crate) struct DeleteArguments {
    #[command(flatten)]
    person: OnePerson,
    /// Erase their jobs and files too; jobs that are not over are cancelled
    #[arg(long)]
    erase: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// A language as it is written on the command line.
fn language(text: &str) -> Result<Language, String> {
    Language::deserialize(text.into_deserializer()).map_err(|error: serde::de::value::Error| error.to_string())
}

pub(crate) async fn run(session: &Session, command: UsersCommand) -> anyhow::Result<Exit> {
    match command {
        UsersCommand::List(arguments) => list(session, arguments).await?,
        UsersCommand::Show(person) => show(session, &person.find(&session.client()?).await?)?,
        UsersCommand::Invite(arguments) => invite(session, arguments).await?,
        UsersCommand::Import(ImportArguments { file }) => return users_import::run(session, &file).await,
        UsersCommand::Change(arguments) => change(session, arguments).await?,
        UsersCommand::Activate(person) => {
            let client = session.client()?;
            let user = client.activate_user(&person.find(&client).await?.id).await?;
            tell(session, &user, "may log in")?;
        }
        UsersCommand::Deactivate(person) => {
            let client = session.client()?;
            let user = client.deactivate_user(&person.find(&client).await?.id).await?;
            tell(session, &user, "may log in no more")?;
        }
        UsersCommand::Delete(arguments) => delete(session, arguments).await?,
        UsersCommand::Sessions(person) => {
            let client = session.client()?;
            let user = person.find(&client).await?;
            list_sessions(session, &client.sessions(&user.id).await?)?;
        }
        UsersCommand::Logout(person) => {
            let client = session.client()?;
            let user = person.find(&client).await?;
            client.end_sessions(&user.id).await?;
            tell_done(session, "logout", &user, "is logged out everywhere")?;
        }
        UsersCommand::Links(person) => {
            let client = session.client()?;
            let user = person.find(&client).await?;
            list_links(session, &client.links(&user.id).await?)?;
        }
        UsersCommand::SendLink(person) => {
            let client = session.client()?;
            let user = person.find(&client).await?;
            client.send_link(&user.id).await?;
            tell_done(session, "send_link", &user, "is sent a link; `fourmi users links` shows it")?;
        }
        UsersCommand::RemoveSecondFactor(person) => {
            let client = session.client()?;
            let user = person.find(&client).await?;
            client.remove_second_factor(&user.id).await?;
            tell_done(session, "remove_second_factor", &user, "needs no code any more to log in")?;
        }
    }
    Ok(Exit::Done)
}

impl OnePerson {
    /// The person who is named.
    async fn find(&self, client: &Client) -> anyhow::Result<UserInfo> {
        let who = self.who.trim();
        if let Ok(id) = who.parse() {
            return Ok(client.user(&id).await?);
        }
        let query = UserQuery { search: Some(who.to_owned()), ..UserQuery::default() };
        let mut alike = pin!(client.all_users(query));
        while let Some(user) = alike.try_next().await? {
            if is_called(&user, who) {
                return Ok(user);
            }
        }
        let advice = "`fourmi users list --search TEXT` looks for parts of names and addresses";
        Err(Stop::unknown("unknown_user", format!("nobody has the e-mail address or username {who:?}.\n{advice}")))
    }
}

/// Whether this is all of a person's username or e-mail address, which are both without regard to case.
fn is_called(user: &UserInfo, who: &str) -> bool {
    let names = [Some(&user.username), user.email.as_ref()];
    names.into_iter().flatten().any(|name| name.eq_ignore_ascii_case(who))
}

async fn list(session: &Session, arguments: ListArguments) -> anyhow::Result<()> {
    let ListArguments { tenant, role, active, inactive, search, limit, all } = arguments;
    let wanted = if all { usize::MAX } else { limit };
    let query =
        UserQuery { tenant, role, active: (active || inactive).then_some(active), search, ..UserQuery::default() };
    let client = session.client()?;
    let (users, next) = pages::collect(wanted, None, async |limit, cursor| {
        let page = client.users(&UserQuery { limit: Some(limit), cursor, ..query.clone() }).await?;
        Ok((page.users, page.next))
    })
    .await?;
    if session.json() {
        return print::json(&UserPage { users, next });
    }
    print_table(&users)?;
    if next.is_some() {
        session.note("There are more: --limit N or --all lists them.");
    }
    Ok(())
}

fn print_table(users: &[UserInfo]) -> anyhow::Result<()> {
    if users.is_empty() {
        return print::line("Nobody.");
    }
    let mut table = Table::new(&["ID", "USERNAME", "EMAIL", "NAME", "ROLE", "TENANT", "LAST LOGIN", "STATE"]);
    for user in users {
        table.row(vec![
            user.id.to_string(),
            user.username.clone(),
            or_dash(user.email.as_ref()),
            or_dash(user.profile.name.as_ref()),
            user.role.to_string(),
            or_dash(user.tenant.as_ref()),
            user.last_login_at.map_or_else(|| "never".to_owned(), ago),
            state(user).to_owned(),
        ]);
    }
    table.print()
}

fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| text.to_string())
}

fn ago(time: Timestamp) -> String {
    format!("{} ago", print::rough(print::between(time, Timestamp::now())))
}

/// Whether a person may log in, and what keeps them from it.
fn state(user: &UserInfo) -> &'static str {
    match user {
        UserInfo { active: false, .. } => "deactivated",
        UserInfo { has_password: false, .. } => "invited",
        UserInfo { email: Some(_), email_confirmed: false, .. } => "unconfirmed",
        _ => "active",
    }
}

fn show(session: &Session, user: &UserInfo) -> anyhow::Result<()> {
    if session.json() {
        return print::json(user);
    }
    let field = |name: &str, value: &str| print::line(&format!("{name:<13}  {}", print::one_line(value)));
    let time = |time: Timestamp| format!("{time:.0} ({})", ago(time));
    field("id", user.id.as_str())?;
    field("username", &user.username)?;
    if let Some(email) = &user.email {
        field("email", &format!("{email}{}", if user.email_confirmed { "" } else { " (not confirmed)" }))?;
    }
    let profile = &user.profile;
    for (name, value) in [("name", &profile.name), ("time zone", &profile.time_zone), ("phone", &profile.phone)] {
        value.as_ref().map_or(Ok(()), |value| field(name, value))?;
    }
    field("language", json!(profile.language).as_str().unwrap_or_default())?;
    field("role", user.role.as_str())?;
    if let Some(tenant) = &user.tenant {
        field("tenant", tenant.as_str())?;
    }
    field("state", state(user))?;
    field("second factor", if user.second_factor { "on" } else { "off" })?;
    let by = user.created_by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    field("created", &format!("{}{by}", time(user.created_at)))?;
    field("last login", &user.last_login_at.map_or_else(|| "never".to_owned(), time))
}

async fn invite(session: &Session, arguments: InviteArguments) -> anyhow::Result<()> {
    let InviteArguments { email, tenant, role, name, username, language } = arguments;
    let role = Some(role);
    let new = NewUser { tenant, role, email: Some(email), username, name, language, password_hash: None };
    let user = session.client()?.create_user(&new).await?;
    tell(session, &user, &format!("is invited, as {}", user.id))?;
    session.note(&format!("`fourmi users links {}` shows the link that the mail carries.", user.username));
    Ok(())
}

async fn change(session: &Session, arguments: ChangeArguments) -> anyhow::Result<()> {
    let ChangeArguments { person, role, tenant, name, username, language } = arguments;
    let change = UserChange { role, tenant, username, name, language };
    if change == UserChange::default() {
        return Err(Stop::usage("say what to change: --role, --tenant, --name, --username or --language"));
    }
    let client = session.client()?;
    let user = person.find(&client).await?;
    show(session, &client.change_user(&user.id, &change).await?)
}

async fn delete(session: &Session, arguments: DeleteArguments) -> anyhow::Result<()> {
    let DeleteArguments { person, erase, yes } = arguments;
    if !yes {
        check_that_somebody_is_there("who is deleted is gone", "--yes")?;
    }
    let client = session.client()?;
    let user = person.find(&client).await?;
    let (leftovers, fate) = if erase {
        (Leftovers::Erase, "their jobs and files are erased")
    } else {
        (Leftovers::Keep, "their jobs and files stay with the tenant")
    };
    let name = print::one_line(&user.username);
    if !yes && !agrees(&format!("{name} ({}) would be deleted, and {fate}. Go on? [y/N] ", user.id))? {
        return Err(Stop::usage("nobody was deleted"));
    }
    client.delete_user(&user.id, leftovers).await?;
    if session.json() {
        return print::json(&json!({"deleted": user.id, "data": leftovers.as_str()}));
    }
    print::line(&format!("{name} is deleted; {fate}."))
}

/// What became of a person, who is the answer.
fn tell(session: &Session, user: &UserInfo, text: &str) -> anyhow::Result<()> {
    if session.json() { print::json(user) } else { print::line(&format!("{} {text}.", user.username)) }
}

/// What was done to a person, of which the API says nothing more.
fn tell_done(session: &Session, action: &str, user: &UserInfo, text: &str) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({"action": action, "user": user.id}));
    }
    print::line(&format!("{} {text}.", user.username))
}

fn list_sessions(session: &Session, sessions: &[SessionInfo]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({"sessions": sessions}));
    }
    if sessions.is_empty() {
        return print::line("Logged in nowhere.");
    }
    let mut table = Table::new(&["ID", "DEVICE", "ADDRESS", "BEGAN", "RENEWED", "ENDS", "PROGRAM"]);
    for it in sessions {
        table.row(vec![
            it.id.clone(),
            or_dash(it.device.as_ref()),
            it.address.clone(),
            ago(it.created_at),
            ago(it.refreshed_at),
            format!("{:.0}", it.expires_at),
            or_dash(it.user_agent.as_ref()),
        ]);
    }
    table.print()
}

fn list_links(session: &Session, links: &[PersonalLink]) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({"links": links}));
    }
    if links.is_empty() {
        return print::line("No links that work.");
    }
    let mut table = Table::new(&["FOR", "SENT TO", "UNTIL", "LINK"]);
    for link in links {
        table.row(vec![link.purpose.clone(), or_dash(link.email.as_ref()), link.expires_at.clone(), link.url.clone()]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn ada() -> UserInfo {
        let user = json!({
            "id": "user-0198c0de000070008000000000000001", "username": "ada", "email": "ada@example.org",
            "email_confirmed": true, "role": "user", "tenant": "acme", "active": true, "has_password": true,
            "second_factor": false, "language": "en", "created_at": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(user).unwrap()
    }

    #[test]
    fn a_person_is_called_by_the_whole_username_or_address() {
        assert!(["ada", "Ada", "ADA@example.org"].iter().all(|who| is_called(&ada(), who)));
        assert!(!["ad", "ada@example.or", "example.org"].iter().any(|who| is_called(&ada(), who)));
    }

    #[test]
    fn the_state_says_what_keeps_a_person_out() {
        let invited = UserInfo { has_password: false, email_confirmed: false, ..ada() };
        let unconfirmed = UserInfo { email_confirmed: false, ..ada() };
        let gone = UserInfo { active: false, has_password: false, ..ada() };
        let states = [ada(), invited, unconfirmed, gone].map(|user| state(&user));
        assert_eq!(states, ["active", "invited", "unconfirmed", "deactivated"]);
    }

    #[test]
    fn the_words_of_people_are_read_or_refused_at_once() {
        let parse = |words: &[&str]| Arguments::try_parse_from([&["fourmi", "users"], words].concat());
        let invite = ["invite", "ada@example.org", "--role", "admin", "--language", "fr"];
        let Command::Users(UsersCommand::Invite(read)) = parse(&invite).unwrap().command else {
            panic!("no invitation")
        };
        assert_eq!((read.role, read.language), (Role::Admin, Some(Language::French)));
        let Command::Users(UsersCommand::Invite(read)) = parse(&invite[..2]).unwrap().command else { panic!("none") };
        assert_eq!((read.role, read.language), (Role::User, None));
        for words in [
            &["list", "--active", "--inactive"][..],
            &["list", "--role", "king"],
            &["invite", "ada@example.org", "--language", "de"],
            &["invite"],
            &["show", ""],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        for words in [["remove-second-factor", "ada"], ["send-link", "ada"], ["import", "-"]] {
            assert!(parse(&words).is_ok(), "{words:?}");
        }
    }
}
