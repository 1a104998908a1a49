//! What a call works with: the command line's options, the settings of its request, the user, the runner, the directories.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use crate::allocation::Runner;
use crate::config::Settings;
use crate::config::login_host::LoginHost;
use crate::failure::{Failure, Kind};
use crate::host::{Host, User};

/// What the command line says once for all operations.
#[derive(Debug, Clone)]
pub struct Options {
    pub state_dir: PathBuf,
    /// Used where the config names no `runnerScript`.
    pub runner_script: Option<PathBuf>,
    /// The site's floor: no two questions to Slurm of one call come closer together.
    pub poll_interval: Duration,
}

/// The state dir when none is named: `$XDG_STATE_HOME/slurm-sandbox`, else below the home directory.
pub fn default_state_dir() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("slurm-sandbox"))
}

/// Who we are where Slurm's commands run; `what` is being done.
pub fn user(host: &Host, what: &str) -> Result<User, Failure> {
    host.user().map_err(|error| {
        let what = match host {
            Host::Here => format!("{what}: the user is not known"),
            Host::Login(login) => format!("{what}: the login host {} cannot be asked", login.target().destination()),
        };
        error.failure(what)
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
pub fn default_shared_dir(submit: Option<&LoginHost>, store: &Path, user: &User) -> PathBuf {
    match (submit, &user.home) {
        (Some(_), Some(home)) => Path::new(home).join(".slurm-sandbox"),
        _ => store.join("shared"),
    }
}

/// Settings of a config that an operation can do without: an old lease must be releasable after its config's keys
/// have changed their meaning.
pub fn lenient(config: &Map<String, Value>) -> Option<Settings> {
    crate::config::parse(config).ok()
}
