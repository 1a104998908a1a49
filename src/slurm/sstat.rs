//! sstat: what running jobs use now. It asks the controller where each job's steps run, and then their nodes; so it is for people who
//! ask for it, never for what is asked again and again. It knows the cluster of its own slurm.conf alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::job::QueryFailed;
use super::silence;
use super::tres::Tres;
use crate::host::{Command, Host};

/// A node that does not answer is waited for by sstat itself, for as long as MessageTimeout says: 10 s by default.
const DEADLINE: Duration = Duration::from_secs(25);

/// What each of these jobs uses, all its steps together. A job without a running step is left out.
///
/// # Errors
/// When nothing is known of any of them: sstat failed, or the site measures nothing (docs/facts/slurm.md, "sstat").
pub fn usage(host: &Host, jobs: &[u64]) -> Result<BTreeMap<u64, Tres>, QueryFailed> {
    let ids: Vec<String> = jobs.iter().map(u64::to_string).collect();
    let command = Command::new("sstat", DEADLINE)
        .args(["--allsteps", "--noheader", "--parsable2", "--noconvert", "--format=JobID,TRESUsageInTot"])
        .arg(format!("--jobs={}", ids.join(",")))
        .env("LC_ALL", "C");
    let output = silence::ask(host, None, &command)?;
    let usage = parse(&output.stdout_text());
    if usage.values().all(|used| *used == Tres::default()) {
        Err(QueryFailed(format!("sstat told nothing: {}", output.said())))
    } else {
        Ok(usage)
    }
}

/// Reads lines such as `12.batch|cpu=00:00:05,mem=4096`.
fn parse(text: &str) -> BTreeMap<u64, Tres> {
    let mut usage = BTreeMap::<u64, Tres>::new();
    for (step, used) in text.lines().filter_map(|line| line.split_once('|')) {
        let Some(job) = step.split(['.', '+']).next().and_then(|id| id.parse().ok()) else { continue };
        let sum = usage.entry(job).or_default();
        *sum = sum.plus(Tres::parse(used));
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_job_are_added_up() {
        let text =
            "7.extern|cpu=00:00:00,mem=1024\n7.batch|cpu=00:00:05,mem=4096\n8.batch|cpu=00:01:00\nsstat: noise\n";
        let usage = parse(text);
        assert_eq!(usage.keys().copied().collect::<Vec<_>>(), [7, 8]);
        assert_eq!((usage[&7].cpu, usage[&7].mem, usage[&8].cpu), (Some(5.0), Some(5120), Some(60.0)));
    }
}
