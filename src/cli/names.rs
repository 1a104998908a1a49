//! The verbs behind `ssh NAME.sandbox`, and the session that slurm-sandbox opens by itself.

use std::convert::Infallible;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use serde_json::{Map, Value};

use super::box_slug;
use super::config_flags::ConfigFlags;
use crate::failure::{Failure, Kind};
use crate::lease::LeaseId;
use crate::operation::context::Options;
use crate::operation::ssh_config::{self, Action};
use crate::operation::{acquire, by_name, connect, session};
use crate::progress::{live, progress};
use crate::protocol::{Lease, Operation, Request};

#[derive(Debug, Args)]
pub struct SshConfig {
    /// Write it, and include it in ~/.ssh/config
    #[arg(long, conflicts_with = "remove")]
    pub install: bool,

    /// Take that back
    #[arg(long)]
    pub remove: bool,
}

impl SshConfig {
    pub fn run(&self, options: &Options, config: Option<&Path>) -> Result<String> {
        let action = match (self.install, self.remove) {
            (true, _) => Action::Install,
            (_, true) => Action::Remove,
            _ => Action::Show,
        };
        ssh_config::run(options, &global_flags(options, config)?, action)
    }
}

/// What a connection needs of this command line, as absolute paths.
fn global_flags(options: &Options, config: Option<&Path>) -> Result<Vec<String>> {
    let mut flags = vec!["--state-dir".to_owned(), options.state_dir.to_string_lossy().into_owned()];
    if let Some(script) = &options.runner_script {
        flags.extend(["--runner-script".to_owned(), script.to_string_lossy().into_owned()]);
    }
    if let Some(config) = config {
        flags.extend(["--config".to_owned(), std::path::absolute(config)?.to_string_lossy().into_owned()]);
    }
    Ok(flags)
}

#[derive(Debug, Args)]
pub struct Connect {
    /// Lease id, slug, name, cloud id or job id; with --acquire also NAME.sandbox, and the name of a profile
    pub lease: String,

    /// Acquire the lease of profile LEASE where no lease answers, and put its keys where ssh-config has ssh look for them
    #[arg(long)]
    pub acquire: bool,

    /// Refuse a lease that lets in another user
    #[arg(long, requires = "acquire", value_name = "USER")]
    pub user: Option<String>,
}

impl Connect {
    pub fn run(&self, options: &Options) -> Result<()> {
        match self.acquire {
            true => connect::by_name(options, &self.lease, self.user.as_deref(), &Map::new()),
            false => connect::run(options, &self.lease),
        }
    }
}

#[derive(Debug, Args)]
pub struct Ssh {
    /// Lease id, slug, name, cloud id or job id; with --acquire also the name of a profile
    #[arg(required_unless_present = "acquire")]
    pub lease: Option<String>,

    /// Acquire the lease of profile LEASE where no lease answers; without LEASE a new lease, of the flags
    #[arg(long)]
    pub acquire: bool,

    /// Begin in the home directory in place of the work directory
    #[arg(long)]
    pub home: bool,

    /// Enter by a step of the job in place of its sshd, where that is of no use; begins in the home directory
    #[arg(long, conflicts_with_all = ["acquire", "home"])]
    pub via_step: bool,

    #[command(flatten)]
    pub settings: ConfigFlags,

    /// Command to run inside; without one, an interactive shell
    #[arg(last = true)]
    pub command: Vec<String>,
}

impl Ssh {
    pub fn run(&self, options: &Options) -> Result<Infallible> {
        let config = self.settings.config()?;
        let wish = session::Wish { home: self.home, words: &self.command };
        match &self.lease {
            Some(name) if self.acquire => {
                let wished = by_name::Wish { name, config: &config, attended: true };
                session::enter(options, &by_name::ready(options, &wished)?.lease, wish)
            }
            Some(word) if self.via_step => session::by_step(options, word, &self.command),
            Some(word) => session::run(options, Request { config, ..Request::new(Operation::Resolve) }, word, wish),
            None => session::enter(options, &new_lease(options, config)?, wish),
        }
    }
}

/// A lease of its own, which stays when the session ends, until it is idle.
fn new_lease(options: &Options, config: Map<String, Value>) -> Result<Lease> {
    let id = LeaseId::random()?;
    let request =
        Request { desired: Some(acquire::desired(&id, box_slug(&id))), config, ..Request::new(Operation::Acquire) };
    let line = live("preparing the job");
    let lease = acquire::run(options, &request)?.lease;
    drop(line);
    let lease = lease.ok_or_else(|| Failure::new(Kind::Internal, format!("acquiring lease {id}: no answer")))?;
    progress(&format!(
        "lease {id} ({}) stays after the session; to end it: {}",
        lease.slug,
        options.ending(&lease.slug, &id)
    ));
    Ok(lease)
}
