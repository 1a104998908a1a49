//! A session inside a lease, for people: the client's ssh in this process's place.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::operation::context::Options;
use crate::operation::resolve;
use crate::protocol::{Request, Ssh};
use crate::ssh::lease::command;

/// Replaces this process by a session in the lease.
pub fn run(options: &Options, request: Request, word: &str, words: &[String]) -> Result<Infallible> {
    let answer = resolve::run(options, &Request { id: word.to_owned(), ..request })?;
    let Some(ssh) = answer.lease.and_then(|lease| lease.ssh) else {
        return Err(Failure::new(Kind::NotFound, answer.message.unwrap_or_default()).into());
    };
    let error = session(&ssh).args(words).exec();
    Err(Failure::new(Kind::EndpointUnusable, "starting ssh")
        .remedy("install OpenSSH's client")
        .cause(error.to_string())
        .into())
}

fn session(ssh: &Ssh) -> crate::host::Command {
    debug_assert!(Path::new(&ssh.key).is_absolute());
    command(ssh, Duration::MAX, "yes")
}
