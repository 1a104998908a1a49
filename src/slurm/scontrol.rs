//! scontrol: what squeue does not tell of a job while the controller still knows it. The job's owner writes some of that
//! text himself (name, comment), so a value counts only where it stands once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::job::JobId;
use super::{on_clusters, silence};
use crate::host::{Command, Host};

/// The code is a detail of a message; a hung controller is not waited for.
const DEADLINE: Duration = Duration::from_secs(5);

/// A question to scontrol, of one cluster.
pub fn command(deadline: Duration, cluster: Option<&str>) -> Command {
    on_clusters(Command::new("scontrol", deadline).env("LC_ALL", "C"), cluster)
}

/// A job's `ExitCode` as `code:signal`.
pub fn exit_code(host: &Host, job: &JobId) -> Option<String> {
    only(&show(host, job)?, "ExitCode")
}

/// How often a job was requeued; `None` where Slurm does not tell it, or tells it in two ways.
pub fn restarts(host: &Host, job: &JobId) -> Option<u64> {
    only(&show(host, job)?, "Restarts")?.parse().ok()
}

fn show(host: &Host, job: &JobId) -> Option<String> {
    let command = command(DEADLINE, job.cluster.as_deref()).args(["--oneliner", "show", "job", &job.id.to_string()]);
    let output = silence::ask(host, job.cluster.as_deref(), &command).ok()?;
    output.success().then(|| output.stdout_text())
}

/// The value of the only word `name=value`.
fn only(text: &str, name: &str) -> Option<String> {
    let mut values = text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().filter(|_| values.next().is_none())?;
    crate::config::value::is_word(value, ":").then(|| value.to_owned())
}

/// The version in text such as `slurm-wlm 22.05.8`, whole and as year and month.
pub fn parse_version(text: &str) -> Option<(String, (u32, u32))> {
    text.split_whitespace().find_map(|word| {
        let mut numbers = word.split(['.', '-']).map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(year)), Some(Ok(month))) => Some((word.to_owned(), (year, month))),
            _ => None,
        }
    })
}

/// `Key = Value` lines of `scontrol show config`.
pub fn parse_settings(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("slurm-wlm 22.05.8\n", Some(("22.05.8", (22, 5))))]
    #[case("slurm 23.11.4\n", Some(("23.11.4", (23, 11))))]
    #[case("slurm 21.08.8-2\n", Some(("21.08.8-2", (21, 8))))]
    #[case("slurm 19.05.5\n", Some(("19.05.5", (19, 5))))]
    #[case("Welcome to the cluster\nslurm 24.05.0-0rc1\n", Some(("24.05.0-0rc1", (24, 5))))]
    #[case("sbatch: not here\n", None)]
    fn versions(#[case] text: &str, #[case] expected: Option<(&str, (u32, u32))>) {
        assert_eq!(parse_version(text), expected.map(|(text, number)| (text.to_owned(), number)));
    }

    #[rstest]
    #[case("JobId=1 JobName=wrap Reboot=0 ExitCode=3:0 RunTime=00:00:01", "ExitCode", Some("3:0"))]
    #[case("JobId=1 JobName=wrap Requeue=0 Restarts=2 BatchFlag=1", "Restarts", Some("2"))]
    #[case("JobId=1 JobName=x Restarts=0 Requeue=0 Restarts=2 BatchFlag=1", "Restarts", None)]
    #[case("JobId=1 JobName=x XRestarts=0 Restarts=2", "Restarts", Some("2"))]
    #[case("slurm_load_jobs error", "ExitCode", None)]
    fn a_value_counts_where_it_stands_once(#[case] text: &str, #[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(only(text, name).as_deref(), expected);
    }
}
