//! The two verbs that only people use: what a job wrote, and a session inside it.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::Outcome;
use crate::dispatch;
use crate::failure::{Failure, Kind};
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup;
use crate::operation::lookup::Found;
use crate::protocol::{Request, Ssh};
use crate::shared_dir::SharedDir;
use crate::ssh;

/// Longest part of one file that is shown.
const SHOWN_BYTES: u64 = 16 * 1024;

/// The lease that a word means, or a failure.
pub fn found(options: &Options, word: &str) -> Result<Found> {
    let store = Store::open(&options.state_dir)?;
    match lookup::find(&store, word)? {
        Some(found) => Ok(found),
        None => {
            Err(Failure::new(Kind::NotFound, format!("no lease answers to {}", crate::protocol::shown(&word.into())))
                .into())
        }
    }
}

/// The lease's history, its end, its job's output and its sshd's log.
pub fn logs(options: &Options, word: &str) -> Result<String> {
    let found = found(options, word)?;
    let mut text = String::new();
    let mut part = |title: &str, body: Option<String>| {
        let body = body.filter(|body| !body.trim().is_empty());
        text.push_str(&format!("== {title}\n{}\n", body.as_deref().map_or("(nothing)", str::trim_end)));
    };
    part("history", found.dir.history(SHOWN_BYTES));
    match found.record() {
        None => part("record", Some("damaged; release the lease, its job is found by name".to_owned())),
        Some(record) => {
            let shared = SharedDir::of(record);
            let ended = record.ended.as_ref();
            let ended = ended.map(|ended| {
                format!("{} {} exit {}", ended.state, ended.reason, ended.exit.as_deref().unwrap_or("unknown"))
            });
            part("how the job ended, says Slurm", ended);
            part(
                "how the job ended, says the runner",
                shared.ending().map(|note| format!("{}: {}", note.reason, note.detail)),
            );
            if let Some(job) = &record.job {
                let name = format!("slurm-{}.out", job.id);
                part(&format!("output of job {job} ({name})"), shared.tail(&name, SHOWN_BYTES));
            }
            part("sshd.log", shared.tail("sshd.log", SHOWN_BYTES));
        }
    }
    Ok(text)
}

/// Replaces this process by a session in the lease.
pub fn ssh(options: &Options, request: Request, word: &str, command: &[String]) -> Result<Outcome> {
    let answer = dispatch::run(options, &Request { id: word.to_owned(), ..request })?;
    let Some(ssh) = answer.lease.and_then(|lease| lease.ssh) else {
        return Err(Failure::new(
            Kind::NotFound,
            format!("no lease answers to {}", crate::protocol::shown(&word.into())),
        )
        .into());
    };
    let error = session(&ssh).args(command).exec();
    Err(Failure::new(Kind::EndpointUnusable, "starting ssh")
        .remedy("install OpenSSH's client")
        .cause(error.to_string())
        .into())
}

fn session(ssh: &Ssh) -> crate::host::Command {
    debug_assert!(Path::new(&ssh.key).is_absolute());
    ssh::lease::command(ssh, Duration::MAX, "yes")
}
