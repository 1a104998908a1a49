//! What doctor checks: the table of checks, and one file a subject. Each has its decisions as functions of what was seen.

pub mod authentication;
pub mod client_ssh;
pub mod controller;
pub mod filesystem;
pub mod id;
pub mod job;
pub mod login_host;
pub mod node;
pub mod node_names;
pub mod partition;
pub mod preamble;
pub mod proxy_config;
pub mod proxy_host;
pub mod remote_dirs;
pub mod runner;
pub mod slurm;
pub mod spares;
pub mod ssh_keys;
pub mod storage;
pub mod submission;
pub mod table;

pub use self::id::CheckId;
