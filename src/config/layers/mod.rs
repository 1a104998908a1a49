//! What holds when several speak: the admins' file, the user's, one that the caller names, and the request. Nothing is read here.
//!
//! A later layer goes over an earlier one, key by key: all `[defaults]`, the keys outside of tables of a named file, the request. A
//! profile goes over every `[defaults]`, and over whatever stands below the layer that names it; what stands beside its name, or
//! above, goes over the profile. `null` says nothing; an empty string in a file or a flag takes back what is said below it.

mod amount;
mod file;
mod limits;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

pub use self::file::{ConfigFile, Entry, Role, Table, is_profile_name, parse};
pub use self::limits::{Clamped, Limits};
use super::value::{Complaint, Reader};
use super::{Settings, login_host};
use crate::config::login_host::LoginHost;
use crate::failure::{Failure, Kind};

/// The admins' file, on the machine where Slurm's commands run. It is the same everywhere: a path that a caller could choose would
/// be no admin's.
pub const ADMIN_FILE: &str = "/etc/slurm-sandbox/config.toml";

/// Longest config file.
pub const MAX_BYTES: u64 = 256 * 1024;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `external.config` of a request.
    Request,
    /// The command line.
    Flag,
    /// A table of a file; nothing where the key stands outside of all.
    File { file: String, table: Option<String>, line: Option<usize> },
    /// A limit, which has taken the place of what was asked for.
    Limit { by: String, from: Option<String> },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Request => f.write_str("the request"),
            Origin::Flag => f.write_str("a flag"),
            Origin::File { file, table, line } => {
                table.iter().try_for_each(|table| write!(f, "[{table}] of "))?;
                f.write_str(file)?;
                line.iter().try_for_each(|line| write!(f, ", line {line}"))
            }
            Origin::Limit { by, from: Some(from) } => write!(f, "limit of {by}; asked for was {from}"),
            Origin::Limit { by, from: None } => write!(f, "limit of {by}"),
        }
    }
}

/// All layers as one configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Merged {
    pub config: Map<String, Value>,
    /// Of every key that some layer has, also where the last one takes it back.
    pub origins: BTreeMap<String, Origin>,
    /// The profile that was named, and where.
    pub profile: Option<(String, Origin)>,
}

impl Merged {
    fn set(&mut self, key: &str, value: &Value, origin: Origin) {
        match (value, &origin) {
            (Value::Null, _) => return,
            // Platforms send what is not set as an empty string.
            (Value::String(text), Origin::Request) if text.is_empty() => return,
            (Value::String(text), _) if text.is_empty() => drop(self.config.remove(key)),
            _ => drop(self.config.insert(key.to_owned(), value.clone())),
        }
        self.origins.insert(key.to_owned(), origin);
    }

    fn put(&mut self, layer: &Layer) {
        for (key, value, origin) in &layer.keys {
            self.set(key, value, origin.clone());
        }
    }

    /// The login host that it names, as far as that can be understood.
    pub fn login_host(&self) -> Option<LoginHost> {
        login_host::read(&mut Reader::new(&self.config))
    }

    /// Checks it; what is wrong is told with the files that it comes from.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn check(&self) -> Result<Settings, Failure> {
        super::check(&self.config).map_err(|complaints| {
            let elsewhere =
                complaints.iter().flat_map(|complaint| &complaint.keys).any(|key| self.of_a_file(key).is_some());
            let texts: Vec<_> = complaints.iter().map(|complaint| self.explained(complaint)).collect();
            let failure = super::mistakes(&texts);
            if elsewhere { failure.remedy("correct the configuration where it says so") } else { failure }
        })
    }

    fn of_a_file(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key).filter(|origin| matches!(origin, Origin::File { .. }))
    }

    fn explained(&self, complaint: &Complaint) -> String {
        let from = complaint.keys.iter().filter_map(|key| Some(format!("{key} is from {}", self.of_a_file(key)?)));
        let from: Vec<_> = from.collect();
        match from.is_empty() {
            true => complaint.text.clone(),
            false => format!("{} ({})", complaint.text, from.join(", ")),
        }
    }

    /// Holds it to the limits of these files.
    ///
    /// # Errors
    /// What no limit can be put in the place of.
    pub fn limit(&mut self, files: &[ConfigFile]) -> Result<Vec<Clamped>, Failure> {
        let (mut all, mut refused) = (Vec::new(), Vec::new());
        for file in files {
            let (clamped, complaints) = file.limits.apply(&mut self.config);
            refused.extend(complaints);
            for Clamped { key, from, by, .. } in &clamped {
                let origin = Origin::Limit { by: by.clone(), from: from.clone() };
                self.origins.insert((*key).to_owned(), origin);
            }
            all.extend(clamped);
        }
        if refused.is_empty() {
            return Ok(all);
        }
        Err(Failure::new(Kind::BadConfig, "the limits of this site do not allow what is asked for")
            .remedy("ask for what they allow, or ask the site's admins")
            .causes(&refused))
    }
}

/// One layer, flat.
#[derive(Debug, Default)]
struct Layer {
    keys: Vec<(String, Value, Origin)>,
    /// Whether a profile goes over it wherever it is named.
    defaults: bool,
}

fn layer(file: &ConfigFile, table: &Table, name: Option<&str>) -> Layer {
    let origin =
        |entry: &Entry| Origin::File { file: file.name.clone(), table: name.map(str::to_owned), line: entry.line };
    let keys = table.iter().map(|(key, entry)| (key.clone(), entry.value.clone(), origin(entry)));
    Layer { keys: keys.collect(), defaults: name.is_some() }
}

/// Puts the layers over each other: files from the lowest up, then a request, whose keys have this origin. A profile that no file
/// has stands for nothing, see [`known_profile`].
pub fn merge(files: &[ConfigFile], request: &Map<String, Value>, asked: &Origin) -> Merged {
    let mut layers: Vec<_> = files.iter().map(|file| layer(file, &file.defaults, Some("defaults"))).collect();
    layers.extend(files.iter().map(|file| layer(file, &file.bare, None)));
    let keys = request.iter().map(|(key, value)| (key.clone(), value.clone(), asked.clone()));
    layers.push(Layer { keys: keys.collect(), defaults: false });
    let mut named = Merged::default();
    let mut at = 0;
    for (index, layer) in layers.iter().enumerate() {
        let before = named.origins.get("profile").cloned();
        named.put(layer);
        if named.origins.get("profile") != before.as_ref() {
            at = index;
        }
    }
    let mut merged = Merged::default();
    let profile = named.config.get("profile").and_then(Value::as_str).map(str::to_owned);
    let at = at.max(layers.iter().take_while(|layer| layer.defaults).count());
    for (index, layer) in layers.iter().enumerate() {
        if index == at
            && let Some(name) = &profile
        {
            let tables = files.iter().filter_map(|file| Some((file, file.profiles.get(name)?)));
            tables.for_each(|(file, table)| merged.put(&self::layer(file, table, Some(&format!("profiles.{name}")))));
        }
        merged.put(layer);
    }
    merged.profile = profile.and_then(|name| Some((name, merged.origins.get("profile")?.clone())));
    merged
}

/// The names of all profiles.
pub fn profiles(files: &[ConfigFile]) -> Vec<String> {
    let names: BTreeSet<_> = files.iter().flat_map(|file| file.profiles.keys().cloned()).collect();
    names.into_iter().collect()
}

/// Refuses a profile that no file has.
///
/// # Errors
/// With the names of those that there are.
pub fn known_profile(files: &[ConfigFile], merged: &Merged) -> Result<(), Failure> {
    let Some((name, origin)) = &merged.profile else { return Ok(()) };
    let known = profiles(files);
    if known.contains(name) {
        return Ok(());
    }
    let (known, remedy) = match known.is_empty() {
        true => ("there are no profiles".to_owned(), "write one below [profiles.NAME] of a config file, or name none"),
        false => (format!("known are {}", known.join(", ")), "name one that is known"),
    };
    let what = format!("the profile {:?} of {origin} is not known; {known}", shorten(name));
    Err(Failure::new(Kind::BadConfig, what).remedy(remedy))
}

fn shorten(name: &str) -> String {
    const SHOWN_CHARS: usize = 80;
    name.chars().take(SHOWN_CHARS).collect()
}

/// Whether the admins' file of this machine has a say: where Slurm's commands run here, and where it is the file itself that sends
/// them to a login host. With a login host of the user's own it is about another cluster than the one that is asked.
pub fn is_about_this_cluster(admin: &ConfigFile, merged: &Merged) -> bool {
    let profile = merged.config.get("profile").map(|name| ("profile".to_owned(), name.clone()));
    let alone = merge(std::slice::from_ref(admin), &profile.into_iter().collect(), &Origin::Request);
    alone.config.get("submitHost") == merged.config.get("submitHost")
}

#[cfg(test)]
mod tests;
