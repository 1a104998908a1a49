//! The runner, what it is told, and the submission of an attempt.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::clock::{BootTime, Now};
use crate::config::Settings;
use crate::config::proxy::Route;
use crate::host::NotRun;
use crate::lease::limits::Limits;
use crate::lease::record::{Denials, Phase, Record};
use crate::lease::store::{Guard, Store};
use crate::shared_dir::SharedDir;
use crate::slurm::sbatch::{self, NoJob, Outcome};

/// The batch script that turns an allocation into an endpoint.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Where it was read from; `None` for our own, which is part of this program.
    pub path: Option<PathBuf>,
    pub script: Vec<u8>,
}

/// Our own runner.
const OUR_RUNNER: &[u8] = include_bytes!("../../runner/unprivileged-sshd.sh");

/// A runner with this line checks its permit and ends by itself (docs/runner.md).
const CONTRACT_MARK: &str = "# slurm-sandbox runner contract: 1";

/// A runner with this line waits as a spare, and is claimed by a login (docs/runner.md).
const CLAIMS_MARK: &str = "# slurm-sandbox runner claims: 1";

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
        if let Some(line) = asks_for_several(&script) {
            return Err(format!("its line `{line}` asks for several jobs, and a lease is one: remove that line"));
        }
        Ok(Runner { path: Some(path.to_owned()), script })
    }

    /// Whether it keeps our contract, or only the reference adapter's.
    pub fn keeps_contract(&self) -> bool {
        self.says(CONTRACT_MARK)
    }

    /// Whether it can be a spare.
    pub fn takes_claims(&self) -> bool {
        self.keeps_contract() && self.says(CLAIMS_MARK)
    }

    fn says(&self, mark: &str) -> bool {
        String::from_utf8_lossy(&self.script).lines().any(|line| line == mark)
    }
}

/// The line with which a script asks sbatch for an array or for a heterogeneous job, whose parts would all find the one
/// permit. sbatch reads such lines up to the first command and a line up to `#`; it takes abbreviations of long options,
/// short ones behind letters without a value, and PBS's own lines.
fn asks_for_several(script: &[u8]) -> Option<String> {
    const WITHOUT_VALUE: &str = "hHIkOQsvVWX";
    let text = String::from_utf8_lossy(script);
    let mut head = text.lines().take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let line = head.find(|line| {
        let words = |magic| {
            let options: &str = line.strip_prefix(magic)?;
            Some(options.split_whitespace().take_while(|word| !word.starts_with('#')))
        };
        if let Some(mut words) = words("#SBATCH") {
            return words.clone().next().is_some_and(|word| word == "hetjob" || word == "packjob")
                || words.any(|word| match word.strip_prefix("--") {
                    Some(long) => {
                        let name = long.split('=').next().unwrap_or(long);
                        name.starts_with("ar") && "array".starts_with(name)
                    }
                    None => word.strip_prefix('-').is_some_and(|short| {
                        short.trim_start_matches(|letter| WITHOUT_VALUE.contains(letter)).starts_with('a')
                    }),
                });
        }
        words("#PBS").is_some_and(|mut words| words.any(|word| word.starts_with("-t") || word.starts_with("-J")))
    })?;
    Some(line.chars().take(100).collect())
}

/// A spare is submitted beside what a caller waits for. What sbatch has not said by then is found by name later.
const SPARE_DEADLINE: Duration = Duration::from_secs(2);

/// The variables that the runner finds (docs/runner.md).
fn environment(record: &Record, shared: &SharedDir, settings: &Settings) -> Vec<(&'static str, OsString)> {
    let attempt = shared.attempt_path();
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("CBX_LEASE_ID", record.job_owner().as_str().into()),
        ("CBX_SLUG", record.identity.slug.clone().into()),
        ("CBX_NAME", record.identity.name.clone().into()),
        ("CBX_STATE_DIR", attempt.clone().into()),
        ("CBX_WORK_ROOT", settings.work_root.clone().into()),
        ("CBX_LISTEN", if record.route == Some(Route::Stdio) { "no" } else { "yes" }.into()),
        ("CBX_SSH_PUBLIC_KEY_FILE", attempt.join("authorized_keys").into()),
        ("CBX_SSH_USER", settings.ssh_user.clone().unwrap_or_default().into()),
        ("CBX_READY_CHECK", settings.ready_check.clone().into()),
        ("CBX_NONCE", record.attempt.nonce.as_str().into()),
        ("CBX_PERMIT_FILE", shared.permit_path().into()),
        ("CBX_BIND_ADDRESS", settings.bind_address.clone().into()),
        ("CBX_TAKEN_GRACE_SECONDS", settings.taken_grace.to_string().into()),
        ("CBX_IDLE_TIMEOUT_SECONDS", settings.idle_timeout.to_string().into()),
        ("CBX_TTL_SECONDS", settings.ttl.to_string().into()),
    ];
    if record.is_spare() {
        variables.push(("CBX_SPARE_SECONDS", settings.spares.seconds.to_string().into()));
    }
    let port = settings.ssh_port.clone().unwrap_or_default();
    for (name, value) in [
        ("CBX_SSH_PORT", &port),
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

/// What the record's attempt is submitted with: the same for a submission, and for who only wants to see one.
pub fn submission<'a>(
    store: &Store,
    record: &Record,
    settings: &'a Settings,
    runner: &'a Runner,
) -> sbatch::Submission<'a> {
    let shared = SharedDir::of(record);
    let word = record.comment_word(&store.instance().name);
    sbatch::Submission {
        job_name: record.job_owner().job_name(),
        comment: settings.comment.as_ref().map_or_else(|| word.clone(), |text| format!("{word} {text}")),
        directory: shared.attempt_path(),
        clusters: settings.clusters.as_deref(),
        resources: &settings.resources.options,
        environment: environment(record, &shared, settings),
        deadline: if record.is_spare() { SPARE_DEADLINE } else { sbatch::DEADLINE },
        script: &runner.script,
    }
}

/// Submits the record's attempt: permit first, then the intent, then sbatch, then its answer. The record is saved
/// whatever comes of it; the outcome is for the caller.
pub fn submit(
    store: &Store,
    guard: &Guard<'_>,
    record: &mut Record,
    settings: &Settings,
    runner: &Runner,
    now: Now,
) -> Result<Outcome> {
    let shared = SharedDir::of(record);
    shared.grant(&guard.lease.public_key(record)?)?;
    record.phase = Phase::Submitting;
    record.attempt.sent = Some(now.epoch);
    record.attempt.sent_at = BootTime::of(now);
    record.instance = Some(store.instance().name.clone());
    record.denied = Denials::default();
    guard.save(record)?;
    let (ttl, idle, most_idle) = (Some(settings.ttl), Some(settings.idle_timeout), settings.most_idle);
    let limits = Limits { ttl, idle, most_idle, touched: None };
    guard.lease.keep_limits(&limits);
    let submission = submission(store, record, settings, runner);
    let outcome = match super::host(record).run(&submission.command()) {
        Ok(output) => sbatch::outcome(&output),
        Err(NotRun::Missing(said)) => {
            Outcome::NoJob { why: NoJob::NoSbatch, said: format!("sbatch could not be started: {said}") }
        }
        Err(error) => Outcome::NotSent { said: format!("sbatch was not run: {error}") },
    };
    match &outcome {
        Outcome::Submitted(job) => {
            record.phase = Phase::Queued;
            record.job = Some(job.clone());
            guard.lease.note(now.epoch, "submitted", &job.to_string());
        }
        Outcome::NoJob { said, .. } | Outcome::NotSent { said } => {
            record.phase = Phase::Prepared;
            record.attempt.sent = None;
            record.attempt.sent_at = None;
            guard.lease.note(now.epoch, "not submitted", said);
        }
        Outcome::Unknown { said, .. } => {
            guard.lease.note(now.epoch, "submission unknown", said);
            return Ok(outcome);
        }
    }
    guard.save(record)?;
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn our_runner_keeps_the_contract() {
        assert!(Runner::ours().keeps_contract());
        assert!(!Runner { path: None, script: b"#!/bin/sh\nexec sshd\n".to_vec() }.keeps_contract());
    }

    #[rstest]
    #[case("#SBATCH --array=0-1", true)]
    #[case("#SBATCH --array 0-1%1", true)]
    #[case("#SBATCH --time=5 --arr=1", true)]
    #[case("#SBATCH -a 0-1", true)]
    #[case("#SBATCH -a0-1", true)]
    #[case("#SBATCH -Ha0-1", true)]
    #[case("#SBATCH\t-c 2\t--array=1", true)]
    #[case("# words\n\n#SBATCH --array=1", true)]
    #[case("#SBATCH -c 2\n#SBATCH hetjob\n#SBATCH -c 4", true)]
    #[case("#SBATCH packjob", true)]
    #[case("#PBS -t 1-2", true)]
    #[case("#PBS -J 1-2", true)]
    #[case("#SBATCH --account=a -A array -c 2", false)]
    #[case("#SBATCH --time=5 # not --array=1", false)]
    #[case("#SBATCH -J hetjob", false)]
    #[case("##SBATCH --array=1", false)]
    #[case("set -e\n#SBATCH --array=1", false)]
    #[case("", false)]
    fn several_jobs_for_one_lease_are_seen(#[case] lines: &str, #[case] several: bool) {
        let script = format!("#!/bin/bash\n{lines}\nexec sshd\n");
        assert_eq!(asks_for_several(script.as_bytes()).is_some(), several);
        let temp = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut temp.as_file(), script.as_bytes()).unwrap();
        assert_eq!(Runner::read(temp.path()).is_err(), several);
    }
}
