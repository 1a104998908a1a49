//! scontrol: what squeue does not tell of a job while the controller still knows it. The job's owner writes some of that
//! text himself (name, comment), so a value counts only where it stands once.

use std::time::Duration;

use super::job::JobId;
use crate::host::{Command, Host};

/// The code is a detail of a message; a hung controller is not waited for.
const DEADLINE: Duration = Duration::from_secs(5);

/// A job's `ExitCode` as `code:signal`.
pub fn exit_code(host: &Host, job: &JobId) -> Option<String> {
    only(&show(host, job)?, "ExitCode")
}

/// How often a job was requeued; `None` where Slurm does not tell it, or tells it in two ways.
pub fn restarts(host: &Host, job: &JobId) -> Option<u64> {
    only(&show(host, job)?, "Restarts")?.parse().ok()
}

fn show(host: &Host, job: &JobId) -> Option<String> {
    let mut command = Command::new("scontrol", DEADLINE).arg("--oneliner").env("LC_ALL", "C");
    if let Some(cluster) = &job.cluster {
        command = command.arg(format!("--clusters={cluster}"));
    }
    let output = host.run(&command.args(["show", "job", &job.id.to_string()])).ok()?;
    output.success().then(|| output.stdout_text())
}

/// The value of the only word `name=value`.
fn only(text: &str, name: &str) -> Option<String> {
    let mut values = text.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().filter(|_| values.next().is_none())?;
    crate::config::value::is_word(value, ":").then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

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
