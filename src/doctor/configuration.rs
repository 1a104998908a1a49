//! The configuration that the other checks look at: all layers, held to the limits, or what of them can be used.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::{self, Settings};
use crate::doctor::check::CheckId;
use crate::doctor::finding::{Category, Finding};
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::failure::Failure;
use crate::host::remote::Greeting;
use crate::operation::context::Options;
use crate::operation::settings::{Effective, Local, lowering};
use crate::protocol::Request;

/// What all layers of the configuration come to.
pub struct Configured {
    pub config: Map<String, Value>,
    /// Nothing where they cannot be used at all.
    pub settings: Option<Settings>,
    pub place: Place,
    pub findings: Vec<Finding>,
}

/// One mistake must not hide what the other checks have to say: where the layers cannot be used together, what of them can is.
pub fn configured(options: &Options, request: &Request, clock: Clock) -> Configured {
    let local = match Local::read(options, &request.config) {
        Ok(local) => local,
        Err(failure) => return reduced(&request.config, &failure),
    };
    let place = Place::of(local.submit.as_ref());
    let known = match local.with(greeting(&place, clock).as_ref()) {
        Ok(known) => known,
        Err(failure) => return reduced(&local.merged.config, &failure),
    };
    let (known, findings) = match known.clone().limited() {
        Ok(limited) => {
            let findings = usable_findings(&limited);
            (limited, findings)
        }
        Err(failure) => (known, vec![Finding::of_failure(CheckId::Config, Category::Config, &failure)]),
    };
    Configured { config: known.merged.config, settings: Some(known.settings), place, findings }
}

/// What is said of a configuration without mistakes.
fn usable_findings(known: &Effective) -> Vec<Finding> {
    let files: Vec<_> = known.files.iter().map(|file| file.name.as_str()).collect();
    let from = if files.is_empty() { String::new() } else { format!("; of the request and {}", files.join(", ")) };
    let seen = format!("{} key(s), all good{from}", known.merged.config.len());
    let lowered = known.clamped.iter().filter_map(lowering);
    let lowered = lowered.map(|text| Finding::warning(CheckId::Config, text, "ask for no more than that"));
    std::iter::once(Finding::ok(CheckId::Config, seen)).chain(lowered).collect()
}

/// How long the config file of a login host is waited for. What hangs there is found by the checks, which have the rest of the time.
const FILE_PATIENCE: Duration = Duration::from_secs(5);

/// What a login host tells of itself, if it does so in time.
fn greeting(place: &Place, clock: Clock) -> Option<Greeting> {
    let Place::Remote(there) = place else { return None };
    let (there, (sender, receiver)) = (Arc::clone(there), std::sync::mpsc::channel());
    let ask = move || {
        // Nobody listens any more when it took too long.
        let _ = sender.send(there.greet(clock).ok().map(|greeted| greeted.greeting.clone()));
    };
    std::thread::Builder::new().name("greeting".to_owned()).spawn(ask).ok()?;
    receiver.recv_timeout(FILE_PATIENCE).ok().flatten()
}

/// A configuration reduced to what of it can be used, and what is wrong.
fn reduced(config: &Map<String, Value>, failure: &Failure) -> Configured {
    let config = usable(config);
    let settings = config::parse(&config).ok();
    let place = Place::of(settings.as_ref().and_then(|settings| settings.submit.as_ref()));
    let findings = vec![Finding::of_failure(CheckId::Config, Category::Config, failure)];
    Configured { config, settings, place, findings }
}

fn usable(config: &Map<String, Value>) -> Map<String, Value> {
    let mut usable = Map::new();
    for (key, value) in config {
        usable.insert(key.clone(), value.clone());
        if config::parse(&usable).is_err() {
            usable.remove(key);
        }
    }
    usable
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus;
    use serde_json::json;

    #[test]
    fn one_mistake_leaves_the_other_keys_usable() {
        let value = json!({"partition": "a b", "loginHost": "login", "sshMode": "proxy-through-login", "cpuz": 1, "account": "lab"});
        let failure = config::parse(value.as_object().unwrap()).unwrap_err();
        let Configured { config, settings, findings, .. } = reduced(value.as_object().unwrap(), &failure);
        assert_eq!(config.keys().collect::<Vec<_>>(), ["account", "loginHost", "sshMode"]);
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert!(finding.is(CheckStatus::Red));
        assert!(finding.seen.contains("cpuz") && finding.seen.contains("\"partition\""), "{finding:?}");
        assert!(settings.is_some());
    }
}
