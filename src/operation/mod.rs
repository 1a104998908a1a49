//! The seven operations. Only this module joins leases with Slurm.

pub mod acquire;
pub mod adopt;
pub mod answer;
pub mod cleanup;
pub mod connect;
pub mod context;
pub mod forget;
pub mod inventory;
pub mod list;
pub mod logs;
pub mod lookup;
mod orphans;
pub mod places;
pub mod recover;
pub mod release;
pub mod resolve;
pub mod session;
pub mod settle;
pub mod status;
pub mod touch;
mod wait;
