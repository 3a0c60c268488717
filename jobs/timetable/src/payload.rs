//! What the job of a tick is told.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

/// A tick for which a job is made.
#[derive(Debug, Clone)]
pub struct Tick {
    /// When it is.
    pub at: Timestamp,
    /// The tick before it that made a job; of the first, the tick itself.
    pub window_start: Timestamp,
    /// Where `tick_local` is told.
    pub zone: TimeZone,
}

impl Tick {
    fn word(&self, name: &str) -> Option<Value> {
        Some(match name {
            "tick" | "window_end" => self.at.to_string().into(),
            "tick_local" => {
                let local = self.at.to_zoned(self.zone.clone());
                format!("{}", local.strftime("%Y-%m-%dT%H:%M:%S%:z")).into()
            }
            "tick_ms" => self.at.as_millisecond().into(),
            "window_start" => self.window_start.to_string().into(),
            _ => return None,
        })
    }
}

/// The payload of the job of a tick: in each text `{{tick}}` and its like are replaced. A text that is `{{tick_ms}}` and
/// nothing else becomes a number. Keys stay.
///
/// # Errors
/// The first name in `{{…}}` that stands for nothing.
pub fn fill(payload: &Value, tick: &Tick) -> Result<Value, String> {
    Ok(match payload {
        Value::String(text) => fill_text(text, tick)?,
        Value::Array(values) => Value::Array(values.iter().map(|value| fill(value, tick)).collect::<Result<_, _>>()?),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(name, value)| Ok((name.clone(), fill(value, tick)?)));
            Value::Object(filled.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

fn fill_text(text: &str, tick: &Tick) -> Result<Value, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else { break };
        let value = tick.word(name.trim()).ok_or_else(|| name.trim().chars().take(40).collect::<String>())?;
        if before.is_empty() && after.is_empty() && filled.is_empty() {
            return Ok(value);
        }
        filled.push_str(before);
        match &value {
            Value::String(text) => filled.push_str(text),
            other => filled.push_str(&other.to_string()),
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tick() -> Tick {
        Tick {
            at: "2026-07-01T00:30:00Z".parse().unwrap(),
            window_start: "2026-06-30T00:30:00Z".parse().unwrap(),
            zone: TimeZone::get("Europe/Paris").unwrap(),
        }
    }

    #[test]
    fn the_tick_is_told_wherever_it_is_named() {
        let payload = json!({
            "from": "{{window_start}}", "to": "{{ window_end }}", "since": ["{{tick_ms}}", 7, null, true],
            "title": "report of {{tick_local}} ({{tick_ms}})", "{{tick}}": "{{", "as is": "{ {tick} } {{tick",
        });
        let expected = json!({
            "from": "2026-06-30T00:30:00Z", "to": "2026-07-01T00:30:00Z", "since": [1_782_865_800_000_i64, 7, null, true],
            "title": "report of 2026-07-01T02:30:00+02:00 (1782865800000)", "{{tick}}": "{{", "as is": "{ {tick} } {{tick",
        });
        assert_eq!(fill(&payload, &tick()), Ok(expected));
    }

    #[test]
    fn a_name_that_stands_for_nothing_is_said() {
        assert_eq!(fill(&json!({ "a": ["{{tock}}"] }), &tick()), Err("tock".to_owned()));
    }
}
