//! What holds for every input, shown by inputs that nobody thought of: `check` makes them up from a fixed seed, so that
//! a run is the same everywhere. More of them, or others: `PROPTEST_CASES=10000 PROPTEST_RNG_SEED=1 cargo test --test properties`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "these are tests, in functions that clippy does not take for such"
)]

mod cases;
mod config_files;
mod known;
mod lease;
mod lifecycle;
mod oracle;
mod schema;
mod shell;
mod site;
mod slurm;
mod wire;

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// Where made-up inputs start from unless PROPTEST_RNG_SEED says otherwise.
const SEED: u64 = 20_260_101;

/// Runs `test` on `cases` made-up inputs; a failure tells the smallest input that fails and the seed.
fn check<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let said = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = said("PROPTEST_RNG_SEED").unwrap_or(SEED);
    let cases = said("PROPTEST_CASES").and_then(|n| u32::try_from(n).ok()).unwrap_or(cases);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_shrink_time: 10_000,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&strategy, |input| {
        test(input);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}\nto repeat: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases}");
    }
}
