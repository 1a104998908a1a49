//! The seven operations. Only this module joins leases with Slurm.

pub mod acquire;
pub mod adopt;
pub mod answer;
pub mod cleanup;
pub mod connect;
pub mod doctor;
pub mod forget;
pub mod inventory;
pub mod list;
mod orphans;
pub mod places;
pub mod recover;
pub mod release;
pub mod resolve;
pub mod settle;
pub mod touch;
mod wait;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::allocation::Runner;
use crate::config::Settings;
use crate::config::login::LoginHost;
use crate::failure::{Failure, Kind};
use crate::host::{Host, User};
use crate::lease::record::Record;
use crate::lease::store::{LeaseDir, Loaded, Store};
use crate::lease::{Identity, LeaseId};
use crate::protocol::{Answer, Expected, Operation, Request};

/// What the command line says once for all operations.
#[derive(Debug, Clone)]
pub struct Options {
    pub state_dir: PathBuf,
    /// Used where the config names no `runnerScript`.
    pub runner_script: Option<PathBuf>,
    /// The site's floor: no two questions to Slurm of one call come closer together.
    pub poll_interval: Duration,
}

/// Carries out a request.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    match request.operation {
        Operation::Doctor => doctor::run(options, request),
        Operation::Acquire => acquire::run(options, request),
        Operation::Resolve => resolve::run(options, request),
        Operation::List => list::run(options, request),
        Operation::Release => release::run(options, request),
        Operation::Touch => touch::run(options, request),
        Operation::Cleanup => cleanup::run(options, request),
    }
}

/// The state dir when none is named: `$XDG_STATE_HOME/slurm-sandbox`, else below the home directory.
pub fn default_state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("slurm-sandbox"))
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    crate::clock::epoch()
}

/// Says something to the person or log behind stderr; the client passes it on byte for byte (protocol.md 3.5).
pub fn progress(text: &str) {
    // A closed stderr must not end us.
    let _ = writeln!(std::io::stderr(), "slurm-sandbox: {}", crate::failure::one_line(text));
}

/// Who we are where Slurm's commands run; `what` is being done.
fn user(host: &Host, what: &str) -> Result<User, Failure> {
    host.user().map_err(|error| {
        let what = match host {
            Host::Here => format!("{what}: the user is not known"),
            Host::Login(login) => format!("{what}: the login host {} cannot be asked", login.target().destination()),
        };
        Failure::new(Kind::SlurmUnavailable, what)
            .remedy("see `slurm-sandbox doctor`; then repeat the call")
            .cause(error.to_string())
    })
}

/// The runner of a request: its config's, the command line's, or ours.
pub fn runner(options: &Options, settings: &Settings) -> Result<Runner, Failure> {
    match settings.runner_script.as_deref().or(options.runner_script.as_deref()) {
        None => Ok(Runner::ours()),
        Some(path) => Runner::read(path).map_err(|why| {
            Failure::new(Kind::BadConfig, format!("the runner script {} cannot be used", path.display()))
                .remedy("correct runnerScript or --runner-script")
                .cause(why)
        }),
    }
}

/// Where the runner and we exchange files: below the state dir, or on a login host below the home directory.
pub fn shared_dir(settings: &Settings, store: &Path, user: &User) -> PathBuf {
    settings.shared_dir.clone().unwrap_or_else(|| default_shared_dir(settings.submit.as_ref(), store, user))
}

/// The same where no config says otherwise.
fn default_shared_dir(submit: Option<&LoginHost>, store: &Path, user: &User) -> PathBuf {
    match (submit, &user.home) {
        (Some(_), Some(home)) => Path::new(home).join(".slurm-sandbox"),
        _ => store.join("shared"),
    }
}

/// Settings of a config that an operation can do without: an old lease must be releasable after its config's keys
/// have changed their meaning.
fn lenient(config: &Map<String, Value>) -> Option<Settings> {
    crate::config::parse(config).ok()
}

/// A lease with what is on disk of it.
#[derive(Debug)]
pub struct Found {
    pub dir: LeaseDir,
    pub loaded: Loaded,
}

impl Found {
    pub fn identity(&self) -> &Identity {
        match &self.loaded {
            Loaded::Whole(record) => &record.identity,
            Loaded::Damaged { identity, .. } | Loaded::Newer { identity } => identity,
        }
    }

    pub fn record(&self) -> Option<&Record> {
        match &self.loaded {
            Loaded::Whole(record) => Some(record),
            Loaded::Damaged { .. } | Loaded::Newer { .. } => None,
        }
    }

    pub fn cloud_id(&self) -> String {
        match &self.loaded {
            Loaded::Whole(record) => record.cloud_id(),
            Loaded::Damaged { identity, .. } | Loaded::Newer { identity } => {
                format!("slurm/lost/{}", identity.lease_id)
            }
        }
    }
}

/// What is told of a lease that a newer program keeps.
fn newer(doing: &str, identity: &Identity) -> Failure {
    let what = format!("{doing} lease {}: a newer slurm-sandbox keeps it; nothing was touched", identity.lease_id);
    Failure::new(Kind::Storage, what).remedy("use that version")
}

/// Opens one lease.
pub fn load(store: &Store, id: &LeaseId) -> Result<Option<Found>> {
    Ok(store.lease(id)?.map(|dir| {
        let loaded = dir.load();
        Found { dir, loaded }
    }))
}

/// Finds the lease that a word means: its id before everything else; slug, name, cloud id and job id only when one
/// lease alone answers to it.
pub fn find(store: &Store, word: &str) -> Result<Option<Found>> {
    if let Some(id) = LeaseId::parse(word) {
        return load(store, &id);
    }
    let mut hits = Vec::new();
    for id in store.ids()? {
        let Some(found) = load(store, &id)? else { continue };
        let identity = found.identity();
        let job = found.record().and_then(|record| record.job.as_ref());
        let job = job.is_some_and(|job| job.to_string() == word || job.id.to_string() == word);
        if identity.slug == word || identity.name == word || found.cloud_id() == word || job {
            hits.push(found);
        }
    }
    if hits.len() > 1 {
        const NAMED: usize = 5;
        let mut ids: Vec<_> = hits.iter().take(NAMED).map(|hit| hit.dir.id.to_string()).collect();
        if hits.len() > NAMED {
            ids.push(format!("or one of {} more", hits.len() - NAMED));
        }
        let shown = crate::protocol::shown(&word.into());
        return Err(Failure::new(Kind::NotFound, format!("{shown} means more than one lease"))
            .remedy(format!("name one by its id: {}", ids.join(", ")))
            .into());
    }
    Ok(hits.pop())
}

/// What a request demands of a lease's identity; empty demands nothing.
#[derive(Debug, Default)]
struct Demands<'a> {
    lease_id: &'a str,
    slug: &'a str,
    name: &'a str,
    cloud_id: &'a str,
}

impl<'a> Demands<'a> {
    fn expected(expected: &'a Expected) -> [Demands<'a>; 2] {
        let all =
            Demands { lease_id: &expected.lease_id, slug: &expected.slug, name: "", cloud_id: &expected.cloud_id };
        [all, Demands { lease_id: &expected.attempt_lease_id, ..Demands::default() }]
    }

    /// Refuses when the lease is another than the caller means; nothing was touched then.
    fn check(&self, found: &Found) -> Result<(), Failure> {
        let identity = found.identity();
        let cloud_id = found.cloud_id();
        // The cloud id that a lease was handed out with is lost with its record.
        let asked = if found.record().is_some() { self.cloud_id } else { "" };
        let pairs = [
            ("leaseId", self.lease_id, identity.lease_id.as_str()),
            ("slug", self.slug, identity.slug.as_str()),
            ("name", self.name, identity.name.as_str()),
            ("cloudId", asked, cloud_id.as_str()),
        ];
        for (field, wanted, is) in pairs {
            if !wanted.is_empty() && wanted != is {
                let wanted = crate::protocol::shown(&wanted.into());
                let what =
                    format!("lease {} has the {field} {is:?}, not {wanted}; nothing was touched", identity.lease_id);
                return Err(Failure::new(Kind::IdentityMismatch, what));
            }
        }
        Ok(())
    }
}

fn check_expected(expected: Option<&Expected>, found: &Found) -> Result<(), Failure> {
    match expected {
        Some(expected) => Demands::expected(expected).iter().try_for_each(|demands| demands.check(found)),
        None => Ok(()),
    }
}
