//! scancel: asks for an end. Its exit code proves nothing: 0 for jobs that never were and for jobs it left alone,
//! 140 for a cancellation that takes effect a moment later (docs/facts/slurm.md, "Exit codes of scancel").

use std::time::Duration;

use super::on_clusters;
use crate::host::{Command, Host};

/// scancel gives up on a hung controller after 10 s, on an unplugged one after 20 s.
const DEADLINE: Duration = Duration::from_secs(12);

/// Asks for the end of jobs of one cluster whose ownership was just proven; what it said if it complained.
pub fn cancel(host: &Host, cluster: Option<&str>, ids: &[u64], deadline: Duration) -> Result<(), String> {
    let command = on_clusters(Command::new("scancel", deadline.min(DEADLINE)).env("LC_ALL", "C"), cluster);
    match host.run(&command.args(ids.iter().map(u64::to_string))) {
        Ok(output) if output.success() => Ok(()),
        Ok(output) => Err(format!("scancel failed: {}", output.said())),
        Err(error) => Err(format!("scancel could not be started: {error}")),
    }
}
