//! What OpenSSH needs for a lease: its keys and pinned host keys, the login that proves it, and how a client reaches it.

pub(crate) mod banner;
pub(crate) mod config_file;
pub(crate) mod effective;
pub(crate) mod lease;
pub(crate) mod public_key;
pub mod target;
