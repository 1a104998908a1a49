//! The seven operations. Only this module joins leases with Slurm.

pub(crate) mod acquire;
pub(crate) mod adopt;
pub mod answer;
pub(crate) mod cleanup;
pub(crate) mod config_files;
pub(crate) mod connect;
pub(crate) mod context;
pub(crate) mod forget;
pub(crate) mod inventory;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod lookup;
mod orphans;
pub(crate) mod places;
mod polls;
pub(crate) mod recover;
pub(crate) mod release;
pub(crate) mod resolve;
pub(crate) mod session;
pub(crate) mod settings;
pub mod settle;
pub(crate) mod site_options;
pub mod status;
pub(crate) mod touch;
mod wait;
