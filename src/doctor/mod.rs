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
mod configuration;
mod earlier;
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
use self::configuration::{Configured, configured};
use self::finding::Finding;
use self::run::{Clock, LIMIT, run_all};
use self::site::Site;
use crate::operation::config_files::ConfigFiles;
use crate::operation::context::Options;
use crate::protocol::{Answer, Check, CheckStatus, Request};

/// Carries out a doctor: a message when nothing is red, an error that names all that is when something is.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let (findings, config) = findings(options, request);
    if let Some(failure) = report::failure(&findings) {
        return Err(failure.into());
    }
    let message = Some(report::message(&findings));
    let checks = checks(findings);
    earlier::keep(options, earlier::subject(options, &config), false, &checks);
    Ok(Answer { message, checks: Some(checks), ..Answer::default() })
}

/// A green result of the same configuration and version that is at most `max_age` seconds old, if there is one.
pub fn earlier(options: &Options, request: &Request, live: bool, max_age: u64) -> Option<Vec<Check>> {
    let Configured { config, findings, .. } = configured(options, request, Clock::start());
    // What is left of a configuration with mistakes is another one.
    let usable = !findings.iter().any(|finding| finding.is(CheckStatus::Red));
    usable.then(|| earlier::find(options, &earlier::subject(options, &config), live, max_age)).flatten()
}

/// Every check with what it saw, red ones too. `live`: a lease is made and ended as well.
pub fn examine(options: &Options, request: &Request, live: bool) -> Vec<Check> {
    if live {
        live::hold_signals();
    }
    let (mut findings, config) = findings(options, request);
    let subject = earlier::subject(options, &config);
    if live {
        // It is made of what was looked at: all layers are in it.
        let options = Options { config_files: ConfigFiles::default(), ..options.clone() };
        let more = live::run(&options, &Request { config, ..request.clone() }, &findings);
        findings.extend(more);
    }
    let checks = checks(findings);
    earlier::keep(options, subject, live, &checks);
    checks
}

fn checks(findings: Vec<Finding>) -> Vec<Check> {
    findings.into_iter().map(Finding::check).collect()
}

/// What was found, and the configuration that was looked at.
fn findings(options: &Options, request: &Request) -> (Vec<Finding>, Map<String, Value>) {
    let clock = Clock::start();
    let Configured { config, settings, place, mut findings } = configured(options, request, clock);
    if let Some(settings) = settings {
        let site = Arc::new(Site::new(options, config.clone(), settings, place));
        findings.extend(run_all(jobs::all(&site), clock, LIMIT));
    }
    settle::all(&mut findings);
    (findings, config)
}
