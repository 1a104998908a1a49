//! The scenarios of tests/scenarios on a real Slurm: the campus, which needs root on Debian 12. See scripts/test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    dead_code,
    reason = "these are tests, in functions that clippy does not take for such"
)]

mod contract;
mod scenarios;

mod shared {
    crate::shared!(crate::scenarios::site::Site::campus, crate::scenarios::campus::skipped);
}

#[test]
fn login_shells_that_talk() {
    if !scenarios::campus::skipped() {
        scenarios::runners::login_shells_that_talk(scenarios::site::Site::campus, &["carol", "zoe", "dave"]);
    }
}
