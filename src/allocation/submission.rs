//! The runner, what it is told, and the submission of an attempt.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::config::Settings;
use crate::config::connection::Route;
use crate::exchange::Exchange;
use crate::lease::record::{Phase, Record};
use crate::lease::store::{Guard, Store};
use crate::slurm::sbatch::{self, Outcome};

/// The batch script that turns an allocation into an endpoint.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Where it was read from; `None` for our own, which is part of this program.
    pub path: Option<PathBuf>,
    pub script: Vec<u8>,
}

/// Our own runner.
const OUR_RUNNER: &[u8] = include_bytes!("../../runner/unprivileged-sshd.sh");

/// A runner with this line checks its permit and ends by itself (docs/slurm-sandbox.md).
const CONTRACT_MARK: &str = "# slurm-sandbox runner contract: 1";

impl Runner {
    /// Our own runner.
    pub fn ours() -> Runner {
        Runner { path: None, script: OUR_RUNNER.to_vec() }
    }

    /// Reads a site's runner; what sbatch would refuse is refused here, before anything is created.
    pub fn read(path: &Path) -> Result<Runner, String> {
        let script = std::fs::read(path).map_err(|error| error.to_string())?;
        if !script.starts_with(b"#!") {
            return Err("its first line does not start with #!".to_owned());
        }
        if script.windows(2).any(|pair| pair == b"\r\n") {
            return Err("it has DOS line ends, which sbatch refuses".to_owned());
        }
        Ok(Runner { path: Some(path.to_owned()), script })
    }

    /// Whether it keeps our contract, or only the reference adapter's.
    pub fn keeps_contract(&self) -> bool {
        String::from_utf8_lossy(&self.script).lines().any(|line| line == CONTRACT_MARK)
    }
}

/// The variables that the runner finds (docs/slurm-sandbox.md).
fn environment(record: &Record, exchange: &Exchange, settings: &Settings) -> Vec<(&'static str, OsString)> {
    let attempt = exchange.attempt_path();
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("CBX_LEASE_ID", record.lease_id().as_str().into()),
        ("CBX_SLUG", record.identity.slug.clone().into()),
        ("CBX_NAME", record.identity.name.clone().into()),
        ("CBX_STATE_DIR", attempt.clone().into()),
        ("CBX_WORK_ROOT", settings.work_root.clone().into()),
        ("CBX_LISTEN", if record.route == Some(Route::Stdio) { "no" } else { "yes" }.into()),
        ("CBX_SSH_PUBLIC_KEY_FILE", attempt.join("authorized_keys").into()),
        ("CBX_SSH_USER", settings.ssh_user.clone().unwrap_or_default().into()),
        ("CBX_READY_CHECK", settings.ready_check.clone().into()),
        ("CBX_NONCE", record.attempt.nonce.as_str().into()),
        ("CBX_PERMIT_FILE", exchange.permit_path().into()),
        ("CBX_BIND_ADDRESS", settings.bind_address.clone().into()),
        ("CBX_TAKEN_GRACE_SECONDS", settings.taken_grace.to_string().into()),
        ("CBX_IDLE_TIMEOUT_SECONDS", settings.idle_timeout.to_string().into()),
        ("CBX_TTL_SECONDS", settings.ttl.to_string().into()),
    ];
    for (name, value) in [
        ("CBX_PREAMBLE", &settings.preamble),
        ("CBX_LAUNCHER", &settings.launcher),
        ("CBX_ON_ENDING", &settings.on_ending),
    ] {
        if !value.is_empty() {
            variables.push((name, value.clone().into()));
        }
    }
    variables
}

/// Submits the record's attempt: permit first, then the intent, then sbatch, then its answer. The record is saved
/// whatever comes of it; the outcome is for the caller.
pub fn submit(
    store: &Store,
    guard: &Guard<'_>,
    record: &mut Record,
    settings: &Settings,
    runner: &Runner,
    now: i64,
) -> Result<Outcome> {
    let exchange = Exchange::of(record);
    exchange.grant(&guard.lease.public_key(record)?)?;
    record.phase = Phase::Submitting;
    record.attempt.sent = Some(now);
    record.denied = None;
    guard.save(record)?;
    let comment = match &settings.comment {
        Some(text) => format!("{} {text}", record.comment_word(store.instance())),
        None => record.comment_word(store.instance()),
    };
    let submission = sbatch::Submission {
        job_name: &record.lease_id().job_name(),
        comment: &comment,
        directory: &exchange.attempt_path(),
        clusters: settings.clusters.as_deref(),
        resources: &settings.resources.options,
        environment: &environment(record, &exchange, settings),
        script: &runner.script,
    };
    let outcome = match super::host(record).run(&submission.command()) {
        Ok(output) => sbatch::outcome(&output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Outcome::NoSbatch { said: format!("sbatch could not be started: {error}") }
        }
        Err(error) => Outcome::NotSent { said: format!("sbatch was not run: {error}") },
    };
    match &outcome {
        Outcome::Submitted(job) => {
            record.phase = Phase::Queued;
            record.job = Some(job.clone());
            guard.lease.note(now, "submitted", &job.to_string());
        }
        Outcome::Refused { said, .. }
        | Outcome::Limit { said }
        | Outcome::Closed { said }
        | Outcome::NotSent { said }
        | Outcome::NoSbatch { said } => {
            record.phase = Phase::Prepared;
            record.attempt.sent = None;
            guard.lease.note(now, "not submitted", said);
        }
        Outcome::Unknown { said, .. } => {
            guard.lease.note(now, "submission unknown", said);
            return Ok(outcome);
        }
    }
    guard.save(record)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_runner_keeps_the_contract() {
        assert!(Runner::ours().keeps_contract());
        assert!(!Runner { path: None, script: b"#!/bin/sh\nexec sshd\n".to_vec() }.keeps_contract());
    }
}
