//! Slurm's commands, one file each: what is asked, and a parser that runs nothing. This module never reads a lease.
//!
//! Three outcomes, never two: *yes*, *no*, and *could not ask*; only the first two may change anything.

pub mod cache;
pub mod job;
pub mod partition;
pub mod ping;
pub mod refusal;
pub mod sacct;
pub mod sbatch;
pub mod scancel;
pub mod scontrol;
pub mod squeue;
