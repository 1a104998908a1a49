//! scontrol: a job's exit code while the controller still knows it.

use std::time::Duration;

use super::job::JobId;
use crate::host::{Command, Host};

/// The code is a detail of a message; a hung controller is not waited for.
const DEADLINE: Duration = Duration::from_secs(5);

/// A job's `ExitCode` as `code:signal`.
pub fn exit_code(host: &Host, job: &JobId) -> Option<String> {
    let mut command = Command::new("scontrol", DEADLINE).arg("--oneliner").env("LC_ALL", "C");
    if let Some(cluster) = &job.cluster {
        command = command.arg(format!("--clusters={cluster}"));
    }
    let output = host.run(&command.args(["show", "job", &job.id.to_string()])).ok()?;
    field(&output.stdout_text(), "ExitCode")
}

fn field(text: &str, name: &str) -> Option<String> {
    let value = text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    crate::config::value::is_word(value, ":").then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_found() {
        assert_eq!(
            field("JobId=1 JobName=wrap Reboot=0 ExitCode=3:0 RunTime=00:00:01", "ExitCode"),
            Some("3:0".into())
        );
        assert_eq!(field("slurm_load_jobs error", "ExitCode"), None);
    }
}
