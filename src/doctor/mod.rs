//! doctor: whether this site is fit for leases, told in under nine seconds even when everything hangs.
//!
//! It submits nothing, but for [`live`], which makes a lease and ends it. Every check runs by itself in a thread ([`mod@run`]) and tells what it saw and what to do. What a check rests on,
//! and what is said when it hangs, stands in one table (`check/table.rs`), so that one trouble is told once ([`settle`]): when no
//! controller answers, what could not be asked is no trouble of its own. One file a subject; each has its decisions as functions of
//! what was seen.
//!
//! What is Slurm's and the cluster's is asked where Slurm's commands run (`sessions.rs`), with a `submitHost` through a few
//! sessions on it; what is the client's stays here: the state dir, keys, the runner's script, ssh.

mod check;
mod finding;
mod jobs;
mod live;
mod remote;
mod report;
mod run;
mod sessions;
mod settle;
mod site;
mod ssh_error;
mod tcp_probe;

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value};

pub use self::check::CheckId;
pub use self::check::table::{Need, Row, Silence, TABLE};
use self::finding::{Category, Finding};
use self::run::{Clock, LIMIT, run_all};
use self::site::Site;
use crate::config;
use crate::operation::context::Options;
use crate::protocol::{Answer, Check, Request};

/// Carries out a doctor: a message when nothing is red, an error that names all that is when something is.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let findings = findings(options, request);
    if let Some(failure) = report::failure(&findings) {
        return Err(failure.into());
    }
    let message = Some(report::message(&findings));
    Ok(Answer { message, checks: Some(checks(findings)), ..Answer::default() })
}

/// Every check with what it saw, red ones too. `live`: a lease is made and ended as well.
pub fn examine(options: &Options, request: &Request, live: bool) -> Vec<Check> {
    if !live {
        return checks(findings(options, request));
    }
    live::hold_signals();
    let mut findings = findings(options, request);
    let more = live::run(options, request, &findings);
    findings.extend(more);
    checks(findings)
}

fn checks(findings: Vec<Finding>) -> Vec<Check> {
    findings.into_iter().map(Finding::check).collect()
}

fn findings(options: &Options, request: &Request) -> Vec<Finding> {
    let clock = Clock::start();
    let (config, config_finding) = read_config(&request.config);
    let mut findings = vec![config_finding];
    if let Ok(settings) = config::parse(&config) {
        let site = Arc::new(Site::new(options, config, settings));
        findings.extend(run_all(jobs::all(&site), clock, LIMIT));
    }
    settle::all(&mut findings);
    findings
}

/// The config, reduced to what of it can be used, and what is wrong with the rest: one mistake must not hide what
/// the other checks have to say.
fn read_config(config: &Map<String, Value>) -> (Map<String, Value>, Finding) {
    let failure = match config::parse(config) {
        Ok(_) => {
            return (config.clone(), Finding::ok(CheckId::Config, format!("{} key(s), all good", config.len())));
        }
        Err(failure) => failure,
    };
    let mut usable = Map::new();
    for (key, value) in config {
        usable.insert(key.clone(), value.clone());
        if config::parse(&usable).is_err() {
            usable.remove(key);
        }
    }
    (usable, Finding::of_failure(CheckId::Config, Category::Config, &failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus;
    use serde_json::json;

    #[test]
    fn one_mistake_leaves_the_other_keys_usable() {
        let value = json!({"partition": "a b", "loginHost": "login", "sshMode": "proxy-through-login", "cpuz": 1, "account": "lab"});
        let (usable, finding) = read_config(value.as_object().unwrap());
        assert_eq!(usable.keys().collect::<Vec<_>>(), ["account", "loginHost", "sshMode"]);
        assert!(finding.is(CheckStatus::Red));
        assert!(finding.seen.contains("cpuz") && finding.seen.contains("\"partition\""), "{finding:?}");
        assert!(config::parse(&usable).is_ok());
    }
}
