//! The binary as its users meet it, on the fake scheduler: every scenario of tests/scenarios, and what only a fake can do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    dead_code,
    reason = "these are tests, in functions that clippy does not take for such"
)]

mod acquirer;
mod answers;
mod cli;
mod dialects;
mod doctor;
mod hanging;
mod locks;
mod loss;
mod lost;
mod many;
mod opens;
mod orphans;
mod silent;
mod spares;

#[path = "../scenarios/mod.rs"]
mod scenarios;

/// On the fake nothing is ever skipped.
fn never(_scenario: &str) -> bool {
    false
}

mod shared {
    crate::shared!(crate::scenarios::site::Site::fake, crate::never);
}
