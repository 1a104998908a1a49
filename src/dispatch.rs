//! One request to one operation.

use anyhow::Result;

use crate::doctor;
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::pool::upkeep;
use crate::operation::{acquire, cleanup, list, release, resolve, touch};
use crate::protocol::{Answer, Operation, Request};

/// Carries out a request.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    match request.operation {
        Operation::Doctor => doctor::run(options, request),
        Operation::Acquire => acquire::run(options, request),
        Operation::Resolve => resolve::run(options, request),
        Operation::List => list::run(options, request),
        Operation::Release => with_spares(options, release::run(options, request), false),
        Operation::Touch => touch::run(options, request),
        Operation::Cleanup => with_spares(options, cleanup::run(options, request), request.dry_run),
    }
}

/// What has just ended may have made room for a spare. Its answer is as it is, whatever comes of that.
fn with_spares(options: &Options, answer: Result<Answer>, dry_run: bool) -> Result<Answer> {
    if answer.is_ok()
        && !dry_run
        && let Ok(store) = Store::open(&options.state_dir)
    {
        upkeep::look_after(options, &store, None);
    }
    answer
}
