//! Spares: jobs that are ready before anybody asks for a lease. Those that are interchangeable are one pool. An acquire takes one by
//! a rename and a login; the same call, and releases and cleanups, see to it that there is another one. Nothing else runs.

pub(crate) mod ending;
mod making;
pub mod spare;
pub mod spec;
pub(crate) mod upkeep;
pub mod verbs;
pub(crate) mod wanted;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value};

use self::spare::Note;
use self::spec::{Spec, spec};
use crate::allocation::Runner;
use crate::config::Settings;
use crate::config::spares::Spares;
use crate::files::Lock;
use crate::host::{Host, User};
use crate::lease::store::Store;
use crate::operation::context::{Options, runner, shared_dir, user};
use crate::operation::settings::{Effective, effective};

/// The name of the lock that the one call holds, in the cache of the state dir.
const LOCK: &str = "spares";

/// One call at a time looks after the spares of a state dir.
pub fn lock(store: &Store, patience: Duration) -> Option<Lock> {
    store.cache().ok()?.lock(LOCK, patience).ok().flatten()
}

/// What makes spares impossible for a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The runner does not know how a lease takes a spare.
    Runner,
    /// The preamble or the launcher asks for the lease's names, which a spare does not have yet.
    Names,
}

impl Obstacle {
    /// What it is, for people.
    pub fn shown(self) -> &'static str {
        match self {
            Obstacle::Runner => "the runner script does not say that it understands claims",
            Obstacle::Names => {
                "the preamble or launcher uses CBX_LEASE_ID, CBX_SLUG or CBX_NAME, which a spare has not yet"
            }
        }
    }
}

/// The spares that an acquire's configuration asks for.
#[derive(Debug)]
pub struct Pool {
    pub spec: Spec,
    pub spares: Spares,
    /// Those of a spare's own submission.
    settings: Settings,
    runner: Runner,
    user: User,
    /// The whole configuration, for the calls that will submit a spare without one of their own.
    config: Map<String, Value>,
    runner_script: Option<PathBuf>,
}

/// What keeps a configuration from having spares.
pub fn obstacle(settings: &Settings, runner: &Runner) -> Option<Obstacle> {
    const NAMES: [&str; 3] = ["CBX_LEASE_ID", "CBX_SLUG", "CBX_NAME"];
    let asks = |text: &str| NAMES.iter().any(|name| text.contains(name));
    match runner.takes_claims() {
        false => Some(Obstacle::Runner),
        true => (asks(&settings.preamble) || asks(&settings.launcher)).then_some(Obstacle::Names),
    }
}

impl Pool {
    /// The pool of a configuration that asks for spares and can have them; its settings with paths in the home directory there.
    pub fn of(
        options: &Options,
        store: &Store,
        settings: &Settings,
        config: &Map<String, Value>,
        runner: &Runner,
        user: &User,
    ) -> Option<Pool> {
        if settings.spares.count == 0 || obstacle(settings, runner).is_some() || !store.is_writable() {
            return None;
        }
        Some(Pool {
            spec: spec(settings, runner, user, &shared_dir(settings, store.path(), user)),
            spares: settings.spares.clone(),
            settings: settings.clone(),
            runner: runner.clone(),
            user: user.clone(),
            config: config.clone(),
            runner_script: options.runner_script.clone(),
        })
    }

    /// The same from a configuration, as an acquire of it would have it.
    ///
    /// # Errors
    /// When the configuration cannot be used, or its login host cannot be asked.
    pub fn configured(
        options: &Options,
        store: &Store,
        config: &Map<String, Value>,
        what: &str,
    ) -> Result<Option<Pool>> {
        let Effective { mut settings, merged, .. } = effective(options, config, what)?;
        let host = Host::of(settings.submit.as_ref());
        if settings.spares.count == 0 {
            return Ok(None);
        }
        let (runner, user) = (runner(options, &settings)?, user(&host, what)?);
        settings.at_home(user.home.as_deref());
        Ok(Pool::of(options, store, &settings, &merged.config, &runner, &user))
    }

    /// What is written beside each of its spares.
    fn note(&self) -> Note {
        Note { spec: self.spec.clone(), program: spec::PROGRAM.to_owned(), seconds: self.spares.seconds, proven: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case::plain("module load cuda", "", None)]
    #[case::names_in_the_preamble("mkdir /scratch/$CBX_SLUG", "", Some(Obstacle::Names))]
    #[case::names_in_the_launcher("", "apptainer exec --pwd /w/$CBX_LEASE_ID i.sif", Some(Obstacle::Names))]
    fn what_cannot_have_spares(#[case] preamble: &str, #[case] launcher: &str, #[case] expected: Option<Obstacle>) {
        let config = json!({"preamble": preamble, "launcher": launcher});
        let settings = crate::config::parse(config.as_object().unwrap()).unwrap();
        assert_eq!(obstacle(&settings, &Runner::ours()), expected);
        let sites = Runner { path: None, script: b"#!/bin/sh\nexec sshd\n".to_vec() };
        assert_eq!(obstacle(&settings, &sites), Some(Obstacle::Runner));
    }
}
