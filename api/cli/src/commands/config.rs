//! `fourmi config`: the settings in effect and where they come from.

use fourmi_settings::table;
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    print::{self, Table},
    session::Session,
};

pub(crate) fn run(session: &Session) -> anyhow::Result<Exit> {
    let environment = session.environment();
    let rows = table::ALL.iter().map(|setting| {
        let (value, set) = environment.effective(setting);
        let source = match (session.is_option(setting.name), set) {
            (true, _) => "option",
            (false, true) => "environment",
            (false, false) => "default",
        };
        (*setting, value, source)
    });
    if session.json() {
        let settings: Vec<_> = rows
            .map(|(setting, value, source)| {
                json!({"name": setting.name, "value": value, "source": source, "default": setting.default, "meaning": setting.meaning})
            })
            .collect();
        print::json(&json!({"settings": settings}))?;
    } else {
        let mut table = Table::new(&["NAME", "VALUE", "FROM"]);
        for (setting, value, source) in rows {
            let value = if value.is_empty() { "-".to_owned() } else { value };
            table.row(vec![setting.name.to_owned(), value, source.to_owned()]);
        }
        table.print()?;
    }
    let mistakes: Vec<_> = environment.mistakes().iter().map(ToString::to_string).collect();
    if mistakes.is_empty() { Ok(Exit::Done) } else { Err(Stop::usage(mistakes.join("\n"))) }
}
