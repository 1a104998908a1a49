//! The verbs about one command in a lease, and about how long a lease lives.

use anyhow::Result;
use clap::Args;

use super::Outcome;
use super::config_flags::ConfigFlags;
use crate::operation::context::Options;
use crate::operation::{detached, extend, run};
use crate::progress::progress;

#[derive(Debug, Args)]
pub struct Run {
    /// Leave the lease, and say how it is ended
    #[arg(long)]
    pub keep: bool,

    /// Start the command, print the lease, and leave both; the job ends with the command, unless --keep is given
    #[arg(long)]
    pub detach: bool,

    /// Begin in the home directory in place of the work directory
    #[arg(long)]
    pub home: bool,

    #[command(flatten)]
    pub settings: ConfigFlags,

    /// The command and its arguments; a single word is a line for a shell
    #[arg(last = true, required = true)]
    pub command: Vec<String>,
}

impl Run {
    pub fn run(&self, options: &Options) -> Result<Outcome> {
        let wish =
            run::Wish { config: self.settings.config()?, words: &self.command, home: self.home, keep: self.keep };
        match self.detach {
            false => Ok(Outcome { exit: run::run(options, wish)?, ..Outcome::default() }),
            true => {
                let id = run::detach(options, wish)?;
                progress(&format!("its output: slurm-sandbox logs --follow {id}; its end: slurm-sandbox wait {id}"));
                Ok(Outcome { stdout: format!("{id}\n").into_bytes(), ..Outcome::default() })
            }
        }
    }
}

#[derive(Debug, Args)]
pub struct Wait {
    /// Lease id, slug, name, cloud id or job id
    pub lease: String,
}

impl Wait {
    pub fn run(&self, options: &Options) -> Result<Outcome> {
        let (exit, how) = detached::wait(options, &self.lease)?;
        progress(&how);
        Ok(Outcome { exit, ..Outcome::default() })
    }
}

#[derive(Debug, Args)]
pub struct Extend {
    /// Lease id, slug, name, cloud id or job id
    pub lease: String,

    /// From now: seconds, or 1h30m
    pub duration: String,
}

impl Extend {
    pub fn run(&self, options: &Options) -> Result<String> {
        extend::run(options, &self.lease, &self.duration).map(|done| format!("{done}\n"))
    }
}
