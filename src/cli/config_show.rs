//! `config show`: which settings hold, and where each comes from.

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::config_flags::ConfigFlags;
use crate::config::keys::KEYS;
use crate::config::layers::{self, Origin};
use crate::operation::settings::{Effective, lowering};
use crate::text;

/// The configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Show the settings that a lease would get, and where each of them comes from
    Show(ConfigShow),
}

#[derive(Debug, Args)]
pub struct ConfigShow {
    #[command(flatten)]
    pub settings: ConfigFlags,
}

/// What programs get.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown<'a> {
    profile: Option<&'a str>,
    profiles: Vec<String>,
    files: Vec<File<'a>>,
    settings: Vec<Setting<'a>>,
    /// What the limits have changed, in words.
    lowered: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    name: &'a str,
    limits: serde_json::Map<String, Value>,
    messages: &'a [String],
    /// Keys that are not taken from another machine.
    left_out: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Setting<'a> {
    key: &'static str,
    /// Nothing where nobody says it.
    value: Option<&'a Value>,
    /// `default`, `file`, `request`, `flag` or `limit`.
    source: &'static str,
    /// The same for people: which file, table and line, or what the default is.
    from: String,
}

/// Everything about the settings of a call.
pub fn shown(known: &Effective) -> Shown<'_> {
    let setting = |key: &'static str, default: &str| {
        let origin = known.merged.origins.get(key);
        let source = match origin {
            None => "default",
            Some(Origin::Request) => "request",
            Some(Origin::Flag) => "flag",
            Some(Origin::File { .. }) => "file",
            Some(Origin::Limit { .. }) => "limit",
        };
        let from = origin.map_or_else(|| format!("default: {}", default.replace('`', "")), Origin::to_string);
        Setting { key, value: known.merged.config.get(key), source, from }
    };
    Shown {
        profile: known.merged.profile.as_ref().map(|(name, _)| name.as_str()),
        profiles: layers::profiles(&known.files),
        files: known
            .files
            .iter()
            .map(|file| File {
                name: &file.name,
                limits: file.limits.shown().into_iter().map(|(key, value)| (key, value.into())).collect(),
                messages: &file.messages,
                left_out: &file.left_out,
            })
            .collect(),
        settings: KEYS.iter().map(|key| setting(key.name, key.default)).collect(),
        lowered: known.clamped.iter().filter_map(lowering).collect(),
    }
}

/// Longest value in the table; a preamble has many lines.
const VALUE_CHARS: usize = 40;

/// What people get.
pub fn table(shown: &Shown<'_>) -> String {
    let value = |setting: &Setting<'_>| match setting.value {
        None => "-".to_owned(),
        Some(Value::String(text)) => cut(&text::line(text)),
        Some(value) => cut(&value.to_string()),
    };
    let rows: Vec<_> = shown.settings.iter().map(|setting| (setting.key, value(setting), &setting.from)).collect();
    let width = |cells: &mut dyn Iterator<Item = usize>| cells.max().unwrap_or(0);
    let first = width(&mut rows.iter().map(|row| row.0.len()));
    let second = width(&mut rows.iter().map(|row| row.1.chars().count()));
    let mut text = String::new();
    for (key, value, from) in &rows {
        text.push_str(&format!("{key:first$}  {value:second$}  {from}\n"));
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    text.push('\n');
    for file in &shown.files {
        text.push_str(&format!("file: {}\n", file.name));
        for (key, value) in &file.limits {
            text.push_str(&format!("  limit {key}: {}\n", value.as_str().unwrap_or_default()));
        }
        if !file.left_out.is_empty() {
            text.push_str(&format!("  not taken from another machine: {}\n", list(file.left_out)));
        }
    }
    if shown.files.is_empty() {
        text.push_str("file: none; `slurm-sandbox init` writes one\n");
    }
    text.push_str(&format!("profiles: {}\n", list(&shown.profiles)));
    for lowered in &shown.lowered {
        text.push_str(&format!("{lowered}\n"));
    }
    text
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
