//! Slurm's commands, one file each: what is asked, and a parser that runs nothing. This module never reads a lease.
//!
//! Three outcomes, never two: *yes*, *no*, and *could not ask*; only the first two may change anything.

use crate::host::Command;

pub(crate) mod cache;
pub mod job;
pub(crate) mod partition;
pub(crate) mod ping;
pub(crate) mod reason;
pub(crate) mod refusal;
pub(crate) mod reservation;
pub mod sacct;
pub(crate) mod sacctmgr;
pub mod sbatch;
pub(crate) mod scancel;
pub(crate) mod scontrol;
pub(crate) mod silence;
pub(crate) mod sinfo;
pub mod squeue;
pub(crate) mod sstat;
pub(crate) mod tres;

/// The clusters of a list with commas, each to be asked by itself: none where the list names none, Slurm's own choice without a list.
pub(crate) fn each_cluster(names: Option<&str>) -> Vec<Option<String>> {
    match names {
        None => vec![None],
        Some(names) => names.split(',').filter(|name| !name.is_empty()).map(|name| Some(name.to_owned())).collect(),
    }
}

/// The command for this cluster or these, separated by commas; without one it is Slurm's own choice.
fn on_clusters(command: Command, clusters: Option<&str>) -> Command {
    command.args(clusters.map(|clusters| format!("--clusters={clusters}")))
}
