pub mod config;
pub mod failure;
pub mod files;
pub mod host;
pub mod lease;
pub mod protocol;
pub mod slurm;
