//! slurm-sandbox turns a Slurm cluster into a sandbox provider: a lease is a batch job with an sshd of its own.
//!
//! The map, from the top down; a room imports only rooms below it:
//!
//! - [`cli`] and [`dispatch`] turn a command line or a protocol request into a call of one operation; [`doctor`] tells whether a site is
//!   fit for them, and [`init`] writes a first config file for one; [`schema`] tells what configuration and wire may hold.
//! - [`operation`] does what is asked with leases, and is the only room that joins them with Slurm.
//! - [`allocation`] knows which job a lease lives in; [`shared_dir`] what program and runner tell each other by files; [`ssh`] how a
//!   lease is reached.
//! - [`lease`] holds records and the state dir, and proves what an observation means; [`slurm`] asks Slurm's commands and reads what they
//!   print. Neither knows the other, but for the types of a job.
//! - [`host`] runs commands, here or on a login host; [`config`] is what a site may say; [`protocol`] is the wire.
//! - [`clock`], [`progress`], [`screen`], [`failure`], [`files`] and [`text`] are used by all.
//!
//! A module is public only where the program, its tests or its fuzz targets need it; nothing here is an interface for other programs.

pub mod allocation;
pub mod cli;
pub mod clock;
pub mod config;
mod dispatch;
pub mod doctor;
pub mod failure;
mod files;
pub mod host;
mod init;
pub mod lease;
pub mod operation;
mod progress;
pub mod protocol;
pub mod schema;
mod screen;
pub mod shared_dir;
pub mod slurm;
pub mod ssh;
mod text;
