//! What may be said on the command line. Flags that the client's declarative mode fills from placeholders take
//! `true`, `false` or nothing (`--keep={{keep}}`).

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

use super::config_flags::ConfigFlags;
use super::config_show::ConfigVerb;
use super::init::Init;
use super::machine;
use super::names::{Connect, Ssh, SshConfig};
use super::pool::PoolFlags;
use super::run::{Extend, Run, Wait};
use crate::operation::touch;

/// Turns a Slurm cluster into a sandbox provider: each lease is a batch job with its own sshd.
///
/// Without a verb, one request of the external-provider protocol is read from stdin as JSON and answered on stdout.
#[derive(Debug, Parser)]
#[command(name = "slurm-sandbox", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Arguments {
    /// Private directory for records, keys and locks [default: $XDG_STATE_HOME/slurm-sandbox, else ~/.local/state/slurm-sandbox]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<String>,

    /// Batch script to use where the config names no runnerScript [default: the one inside this program]
    #[arg(long, global = true, value_name = "FILE")]
    pub runner_script: Option<String>,

    /// Least seconds between two questions to Slurm in one call
    #[arg(long, global = true, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub poll_interval: f64,

    /// TOML file of defaults and profiles, or JSON object with the keys of external.config; goes over the user's own file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Answer as bare JSON in place of text; what comes in pieces, as a line of JSON a piece
    #[arg(long, global = true)]
    pub json: bool,

    #[command(subcommand)]
    pub verb: Option<AnyVerb>,
}

/// A verb, and whom it asks.
#[derive(Debug, Subcommand)]
pub enum AnyVerb {
    #[command(flatten)]
    Site(Box<Verb>),
    #[command(flatten)]
    Program(machine::Verb),
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check everything that a lease needs, without submitting a job unless --live is given
    Doctor(Doctor),
    /// Submit a job, wait until its sshd lets us in, and say how to reach it
    Acquire(Acquire),
    /// Find a lease and prove that it can be used
    Resolve(Resolve),
    /// Show all leases and how their jobs stand
    List(List),
    /// End a lease: cancel its job, and remove its files once it has ended
    Release(Release),
    /// Tell a lease's job how long it may live and be idle
    Touch(Touch),
    /// Remove leases whose jobs have ended, finish releases, end orphaned jobs
    Cleanup(Cleanup),
    /// Show the spares, jobs that are ready before anybody asks: how they stand, and what they have cost
    Pool(PoolFlags),
    /// Give up a lease whose end can never be proven; refused while Slurm shows its job alive
    Forget(Forget),
    /// Look after the state dir itself
    State {
        #[command(subcommand)]
        what: StateVerb,
    },
    /// Connect standard input and output with a lease's sshd: the proxy command of leases behind a login host
    Connect(Connect),
    /// Show what a lease's job and sshd have written, and how it ended
    Logs(Logs),
    /// Log in to a lease, or run a command in it
    Ssh(Ssh),
    /// Show or install what makes `ssh NAME.sandbox` reach lease NAME, or acquire a lease of profile NAME
    SshConfig(SshConfig),
    /// Acquire a lease, run a command in it, and release it, whatever happens
    Run(Run),
    /// Wait for the end of a lease's detached command, or of the lease; exit with the command's code
    Wait(Wait),
    /// Let a lease live for some time from now, as far as its job's time limit allows
    Extend(Extend),
    /// Write a first config file from what the cluster has, and see whether it will do
    Init(Init),
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        what: ConfigVerb,
    },
    /// Show what an acquire would submit, without submitting it
    Render(super::submission::Render),
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Make one short lease as well, look around on its node, and end it: takes a minute or two, and longer to end where a queue is long
    #[arg(long)]
    pub live: bool,

    /// Answer from a green result of the same configuration and version that is not older: seconds, or 24h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub max_age: Option<u64>,

    /// At a terminal, show the checks that are ok too
    #[arg(long)]
    pub verbose: bool,
}

#[derive(Debug, Args)]
pub struct IdentityFlags {
    /// The lease's id: cbx_ and 12 lower-case hex digits
    #[arg(long, value_name = "ID")]
    pub lease_id: Option<String>,

    /// The lease's short name of a-z, 0-9 and hyphens
    #[arg(long)]
    pub slug: Option<String>,

    /// The lease's long name
    #[arg(long)]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct Acquire {
    #[command(flatten)]
    pub identity: IdentityFlags,

    /// Keep the job when the wait times out
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    pub keep: bool,

    #[command(flatten)]
    pub settings: ConfigFlags,
}

#[derive(Debug, Args)]
pub struct Resolve {
    /// Lease id, slug, name, cloud id or job id
    pub lease: Option<String>,

    #[command(flatten)]
    pub identity: IdentityFlags,

    /// Only tell the identity, for a release: asks nobody, waits for nothing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    pub release_only: bool,
}

#[derive(Debug, Args)]
pub struct List {
    /// Accepted for the client; every lease is always listed
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    pub all: bool,

    /// Accepted for the client; Slurm is always asked
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    pub refresh: bool,

    /// Show the table anew every so many seconds, 2 to 3600, until Ctrl-C; not at a terminal, once for each change
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5",
          value_parser = clap::value_parser!(u64).range(2..=3600))]
    pub watch: Option<u64>,

    /// Show what the jobs use of what they were given: CPUs, memory, GPUs
    #[arg(long, conflicts_with = "watch")]
    pub stats: bool,
}

#[derive(Debug, Args)]
pub struct Release {
    /// Lease id, slug, name, cloud id or job id
    pub lease: Option<String>,

    #[command(flatten)]
    pub identity: IdentityFlags,

    /// Refuse unless the lease has this cloud id
    #[arg(long, value_name = "ID")]
    pub cloud_id: Option<String>,

    /// Accepted for the client; a release always does all it can
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false,
          default_missing_value = "true", action = ArgAction::Set)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct Touch {
    /// Lease id, slug, name, cloud id or job id
    pub lease: Option<String>,

    #[command(flatten)]
    pub identity: IdentityFlags,

    /// Accepted for the client; a touch names its lease by id
    #[arg(long, value_name = "ID")]
    pub cloud_id: Option<String>,

    /// What the client does with the lease: running, ready, …
    #[arg(long)]
    pub state: Option<String>,

    /// End the job this long after the lease was made: seconds, or 1h30m; 0 leaves it to the wall time
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<String>,

    /// End the job after this long without use: seconds, or 30m; 0 never
    #[arg(long, value_name = "DURATION")]
    pub idle_timeout: Option<String>,
}

#[derive(Debug, Args)]
pub struct Cleanup {
    /// Only say what would be removed or cancelled, and why
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct Forget {
    /// Lease id, slug, name, cloud id or job id
    pub lease: String,

    /// Why; it is written down with the lease's last record
    #[arg(long, value_name = "TEXT")]
    pub because: String,
}

#[derive(Debug, Subcommand)]
pub enum StateVerb {
    /// Take over the leases of the state dir that this one is a copy of; the other copy must not be used any more
    Adopt,
}

#[derive(Debug, Args)]
pub struct Logs {
    /// Lease id, slug, name, cloud id or job id
    pub lease: String,

    /// Go on with what is added, until the lease is gone or its job has ended
    #[arg(long)]
    pub follow: bool,
}

fn duration(text: &str) -> Result<u64, String> {
    touch::duration(text).ok_or_else(|| "a duration: seconds, or a form such as 24h or 1h30m".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    const MOST: f64 = 86_400.0;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=MOST).contains(&seconds) => Ok(seconds),
        _ => Err(format!("a number of seconds from 0 to {MOST}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn placeholders_of_the_declarative_mode_fit() {
        let words = [
            "slurm-sandbox",
            "acquire",
            "--lease-id=cbx_4b38f35d4e31",
            "--slug=a",
            "--name=b",
            "--keep=false",
            "--json",
        ];
        let Some(AnyVerb::Site(verb)) = Arguments::try_parse_from(words).unwrap().verb else { panic!("no verb") };
        let Verb::Acquire(flags) = *verb else { panic!("no acquire") };
        assert!(!flags.keep);
        assert!(Arguments::try_parse_from(["slurm-sandbox", "--poll-interval", "-1"]).is_err());
        assert!(Arguments::try_parse_from(["slurm-sandbox", "--poll-interval", "nan"]).is_err());
    }
}
