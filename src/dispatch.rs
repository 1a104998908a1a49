//! One request to one operation.

use anyhow::Result;

use crate::doctor;
use crate::operation::context::Options;
use crate::operation::{acquire, cleanup, list, release, resolve, touch};
use crate::protocol::{Answer, Operation, Request};

/// Carries out a request.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    match request.operation {
        Operation::Doctor => doctor::run(options, request),
        Operation::Acquire => acquire::run(options, request),
        Operation::Resolve => resolve::run(options, request),
        Operation::List => list::run(options, request),
        Operation::Release => release::run(options, request),
        Operation::Touch => touch::run(options, request),
        Operation::Cleanup => cleanup::run(options, request),
    }
}
