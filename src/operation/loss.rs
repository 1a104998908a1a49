//! onLost: a command of the user's own, run for a lease that was handed out and whose job has ended without a release. The next call
//! that sees the end runs it, until it has succeeded once; the lease's history keeps what came of it.
//!
//! Nothing runs between the calls, so nobody is told before somebody asks. The command comes from the user's own config file alone:
//! a request, which may come from elsewhere, starts no program here.

use std::time::{Duration, Instant};

use crate::clock::epoch;
use crate::failure::{self, Failure, Kind};
use crate::host::Command;
use crate::lease::LeaseId;
use crate::lease::record::{Ended, Phase, Record};
use crate::lease::store::{LeaseDir, Loaded, Store};
use crate::operation::context::Options;
use crate::operation::inventory::Entry;
use crate::progress::progress;

/// What a call spends on hooks in all: somebody waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Words of a lease's history.
const SUCCEEDED: &str = "onLost succeeded";
const FAILED: &str = "onLost failed";

/// The user's command, and how long this call has for it.
#[derive(Debug)]
pub struct Hook {
    argv: Vec<String>,
    until: Instant,
}

/// Whether an end was told.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing to tell, or it was told, now or before.
    Settled,
    /// A later call has to; why.
    Open(String),
}

/// How a lease was lost: it was handed out, nobody has released it, and its job has ended.
fn loss(record: &Record) -> Option<&Ended> {
    record.ended.as_ref().filter(|_| record.phase == Phase::Answered)
}

/// What the command is told.
fn variables(record: &Record, ended: &Ended) -> [(&'static str, String); 8] {
    let identity = &record.identity;
    [
        ("CBX_LEASE_ID", identity.lease_id.to_string()),
        ("CBX_SLUG", identity.slug.clone()),
        ("CBX_NAME", identity.name.clone()),
        ("CBX_CLOUD_ID", record.cloud_id().to_string()),
        ("CBX_JOB_ID", record.job.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("CBX_ENDED_STATE", ended.state.clone()),
        ("CBX_ENDED_REASON", ended.why().to_owned()),
        ("CBX_ENDED_AT", ended.at.to_string()),
    ]
}

impl Hook {
    /// The hook of the user's file, if it has one that can be used.
    pub fn of(options: &Options) -> Option<Hook> {
        let argv = options.config_files.on_lost()?;
        Some(Hook { argv, until: Instant::now() + PATIENCE })
    }

    /// Runs it for a lease that is lost and of which nobody was told.
    pub fn tell(&self, store: &Store, dir: &LeaseDir, record: &Record) -> Outcome {
        let Some(ended) = loss(record).filter(|_| store.instance().owns(record.instance.as_deref())) else {
            return Outcome::Settled;
        };
        // Of ten calls that see it at once one runs it.
        let Ok(Some(_held)) = dir.lock_hook() else { return Outcome::Open("another call runs onLost".to_owned()) };
        if dir.has_noted(SUCCEEDED) {
            return Outcome::Settled;
        }
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Outcome::Open("onLost took this call's time for other leases".to_owned());
        }
        match self.run(record, ended, left) {
            Ok(said) => {
                dir.note(epoch(), SUCCEEDED, &said);
                Outcome::Settled
            }
            Err(said) => {
                dir.note(epoch(), FAILED, &said);
                let what = format!("{}: its job has ended, and onLost failed", record.shown());
                progress(
                    &Failure::new(Kind::BadConfig, what)
                        .remedy("correct it; the next call runs it again")
                        .cause(&said)
                        .to_string(),
                );
                Outcome::Open(format!("onLost failed: {said}"))
            }
        }
    }

    /// What it said.
    fn run(&self, record: &Record, ended: &Ended, left: Duration) -> Result<String, String> {
        let (program, args) = self.argv.split_first().ok_or("it names no program")?;
        let command = Command::new(program, left).args(args);
        let command =
            variables(record, ended).into_iter().fold(command, |command, (name, value)| command.env(name, value));
        let output = command.run().map_err(|error| format!("{program}: {error}"))?;
        match output.success() {
            true => Ok(failure::one_line(&format!("{}{}", output.stdout_text(), output.stderr_text()))),
            false => Err(failure::one_line(&output.said())),
        }
    }
}

impl Hook {
    /// The same for one whose directory is not open.
    pub fn tell_one(&self, store: &Store, id: &LeaseId, record: &Record) -> Outcome {
        match store.lease(id) {
            _ if loss(record).is_none() => Outcome::Settled,
            Ok(Some(dir)) => self.tell(store, &dir, record),
            Ok(None) => Outcome::Settled,
            Err(error) => Outcome::Open(failure::of(&error).to_string()),
        }
    }
}

/// Runs the hook for all that are lost among these leases; the user's file is not opened where none is.
pub fn seen_among(options: &Options, store: &Store, leases: &[Entry]) {
    let known = leases.iter().filter_map(|entry| Some((&entry.id, entry.record()?)));
    let mut lost = known.filter(|(_, record)| loss(record).is_some()).peekable();
    let Some(hook) = lost.peek().and_then(|_| Hook::of(options)) else { return };
    for (id, record) in lost {
        hook.tell_one(store, id, record);
    }
}

/// Runs the hook for one lease, where a call has met its end.
pub fn seen(options: &Options, store: &Store, dir: &LeaseDir) {
    if let (Some(hook), Loaded::Whole(record)) = (Hook::of(options), dir.load()) {
        hook.tell(store, dir, &record);
    }
}
