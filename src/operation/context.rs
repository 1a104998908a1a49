//! What a call works with: the command line's options, the settings of its request, the user, the runner, the directories.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::allocation::Runner;
use crate::config::Settings;
use crate::config::login_host::LoginHost;
use crate::failure::{Failure, Kind};
use crate::host::{Host, User};
use crate::lease::{Identity, LeaseId};
use crate::operation::config_files::ConfigFiles;

/// What the command line says once for all operations.
#[derive(Debug, Clone)]
pub struct Options {
    pub state_dir: PathBuf,
    /// Used where the config names no `runnerScript`.
    pub runner_script: Option<PathBuf>,
    /// The site's floor: no two questions to Slurm of one call come closer together.
    pub poll_interval: Duration,
    pub asked_by: AskedBy,
    /// What is said beside the request.
    pub config_files: ConfigFiles,
}

/// Whose commands its user types, and so whose commands are advised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedBy {
    /// The client, by a request.
    Client,
    CommandLine,
}

impl Options {
    /// The command that ends a lease; a client finds it by the word that its user knows it by.
    pub fn ending(&self, word: &str, id: &LeaseId) -> String {
        match self.asked_by {
            AskedBy::Client => format!("crabbox stop {word}"),
            AskedBy::CommandLine => format!("slurm-sandbox {}release {id}", self.state_dir_flag()),
        }
    }

    /// The command that goes on with a lease which is kept.
    pub fn going_on(&self, Identity { lease_id, slug, .. }: &Identity) -> String {
        match self.asked_by {
            AskedBy::Client => format!("crabbox warmup --slug {slug} --lease-id {lease_id}"),
            AskedBy::CommandLine => {
                format!("slurm-sandbox {}acquire --lease-id {lease_id} --slug {slug}", self.state_dir_flag())
            }
        }
    }

    /// The words that name a state dir other than the default one.
    fn state_dir_flag(&self) -> String {
        match default_state_dir() {
            Some(default) if default == self.state_dir => String::new(),
            _ => format!("--state-dir {} ", self.state_dir.display()),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::a_client(AskedBy::Client, "crabbox stop smoke", "crabbox warmup --slug smoke --lease-id cbx_4b38f35d4e31")]
    #[case::a_person(
        AskedBy::CommandLine,
        "slurm-sandbox --state-dir /s release cbx_4b38f35d4e31",
        "slurm-sandbox --state-dir /s acquire --lease-id cbx_4b38f35d4e31 --slug smoke"
    )]
    fn advice_is_in_the_askers_words(#[case] asked_by: AskedBy, #[case] ending: &str, #[case] going_on: &str) {
        let identity = Identity::parse("cbx_4b38f35d4e31", "smoke", "crabbox-smoke-42b80a31").unwrap();
        let options = Options {
            state_dir: "/s".into(),
            runner_script: None,
            poll_interval: Duration::ZERO,
            asked_by,
            config_files: ConfigFiles::default(),
        };
        assert_eq!(options.ending(&identity.slug, &identity.lease_id), ending);
        assert_eq!(options.going_on(&identity), going_on);
    }
}
