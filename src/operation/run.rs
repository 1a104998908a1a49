//! run: a lease for one command. It is acquired, the command runs in it on our own standard streams, and the lease is released whatever
//! happens: the command's end, a signal, a terminal that is lost, an error, a bug of ours.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Map, Value};

use super::recover::Recovery;
use super::settle::{self, Released};
use super::wait::failure_of_end;
use super::{acquire, detached, release};
use crate::allocation;
use crate::clock::Now;
use crate::failure::{self, Failure, Kind};
use crate::host::command::{End, quoted};
use crate::host::signals::{self, Held};
use crate::host::{Caller, terminal};
use crate::lease::LeaseId;
use crate::lease::record::Record;
use crate::lease::store::Store;
use crate::operation::acquire::Terms;
use crate::operation::context::Options;
use crate::operation::lookup::{load, whole};
use crate::operation::session::in_work_dir;
use crate::progress::{live, progress};
use crate::protocol::{Operation, Request, Ssh};
use crate::shared_dir::SharedDir;
use crate::ssh::lease::command as ssh_command;

/// What the search for the reason of a lost connection may take; the lease is released then anyway.
const REASON_DEADLINE: Duration = Duration::from_secs(5);

/// What ssh exits with over troubles of its own.
const SSH_FAILED: i32 = 255;

/// What is to be run, and how.
#[derive(Debug)]
pub struct Wish<'a> {
    /// A request's config, of flags.
    pub config: Map<String, Value>,
    /// One word is a line for a shell, several are a command and its arguments.
    pub words: &'a [String],
    pub home: bool,
    /// The lease stays after the command.
    pub keep: bool,
}

/// Runs the command and gives its exit code.
pub fn run(options: &Options, wish: Wish<'_>) -> Result<u8> {
    let _held = held()?;
    let id = LeaseId::random()?;
    let mut lease = Taken { options, id: id.clone(), given_back: false };
    let (ssh, record) = match acquired(options, &id, wish.config, wish.keep) {
        Ok(acquired) => acquired,
        Err(error) => {
            // An acquire that failed has taken back what it made.
            lease.given_back = true;
            let Some(code) = interrupted() else { return Err(error) };
            progress(&failure::of(&error).to_string());
            return Ok(code);
        }
    };
    let line = shell_line(wish.words);
    let at_work = !wish.home && record.contract;
    let line = if at_work { in_work_dir(&line) } else { line };
    let session = ssh_command(&ssh, Duration::MAX, "yes").arg(if terminal::is_interactive() { "-t" } else { "-T" });
    let ended = session.arg(line).attached();
    let code = match ended {
        Ok(End::Exit(code)) => {
            if code == SSH_FAILED && interrupted().is_none() {
                tell_reason(&record);
            }
            u8::try_from(code).unwrap_or(u8::MAX)
        }
        Ok(End::Signal(signal)) => of_signal(signal),
        Ok(_) => u8::MAX,
        Err(error) => {
            let failure = Failure::new(Kind::EndpointUnusable, "starting ssh").remedy("install OpenSSH's client");
            return Err(failure.cause(error.to_string()).into());
        }
    };
    if wish.keep {
        lease.given_back = true;
        progress(&format!("{} stays; to end it: {}", record.shown(), options.ending(&record.identity.slug, &id)));
    } else {
        lease.give_back();
    }
    Ok(interrupted().unwrap_or(code))
}

/// Starts the command in a lease of its own and leaves it there: the lease. Its job ends with the command unless it is to stay.
pub fn detach(options: &Options, wish: Wish<'_>) -> Result<LeaseId> {
    let _held = held()?;
    let id = LeaseId::random()?;
    let (ssh, record) = acquired(options, &id, wish.config, wish.keep)?;
    let mut lease = Taken { options, id: id.clone(), given_back: false };
    detached::announce(&record)?;
    // A command that waits for something is no idle lease: it is what the lease is for.
    if !wish.keep {
        let shared = SharedDir::of(&record);
        shared.set_deadline(None, Some(0), "").map_err(|error| {
            error.failure(format!("starting a command in {}: its idle time could not be set", record.shown()))
        })?;
    }
    let line = detached::line(&record, &shell_line(wish.words), wish.keep, !wish.home);
    let started = ssh_command(&ssh, START_DEADLINE, "yes").args(["-T", &line]).run();
    let said = match started {
        Ok(output) if output.success() && interrupted().is_none() => {
            lease.given_back = true;
            return Ok(id);
        }
        Ok(output) => output.said(),
        Err(error) => error.to_string(),
    };
    lease.give_back();
    let what = format!("starting a command in {}: its session failed", record.shown());
    Err(Failure::new(Kind::EndpointUnusable, what).remedy("its lease is released; repeat the call").cause(said).into())
}

/// A session that starts a command and ends: a login takes 0.2 s, over a WAN some seconds.
const START_DEADLINE: Duration = Duration::from_secs(30);

fn acquired(options: &Options, id: &LeaseId, config: Map<String, Value>, keep: bool) -> Result<(Ssh, Record)> {
    let slug = format!("run-{}", &id.as_str()[id.as_str().len() - 6..]);
    let request =
        Request { desired: Some(acquire::desired(id, slug)), keep, config, ..Request::new(Operation::Acquire) };
    let line = live("preparing the job");
    let answer = acquire::run_for(options, &request, Terms { caller: Some(Caller::own()), existing: false })?;
    drop(line);
    let gone = || Failure::new(Kind::NotFound, format!("running in lease {id}: it was released meanwhile"));
    let ssh = answer.lease.and_then(|lease| lease.ssh).ok_or_else(gone)?;
    let found = load(&Store::open(&options.state_dir)?, id)?.ok_or_else(gone)?;
    Ok((ssh, whole("running in", &found.loaded)?.clone()))
}

fn held() -> Result<Held, Failure> {
    signals::hold().map_err(|error| Failure::new(Kind::Internal, "catching signals").cause(error.to_string()))
}

/// A lease that is released at the latest when this value goes.
struct Taken<'a> {
    options: &'a Options,
    id: LeaseId,
    given_back: bool,
}

impl Taken<'_> {
    fn give_back(&mut self) {
        self.given_back = true;
        match self.release() {
            Ok(Released::Gone) => {}
            Ok(Released::Ending) => progress(&format!("lease {} is released; its job is ending", self.id)),
            Err(error) => progress(&failure::of(&error).to_string()),
        }
    }

    fn release(&self) -> Result<Released> {
        let store = Store::open(&self.options.state_dir)?;
        let Some(found) = load(&store, &self.id)? else { return Ok(Released::Gone) };
        release::release(&store, &found, &Recovery::default(), Instant::now() + release::BOUND, "its command has ended")
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.given_back {
            self.give_back();
        }
    }
}

/// The exit code of a call that a signal has ended.
fn interrupted() -> Option<u8> {
    signals::received().map(of_signal)
}

fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// A command as a line of a shell.
fn shell_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// Why the connection was lost, where the job's end tells. The command itself may have exited with the same code.
fn tell_reason(record: &Record) {
    let host = allocation::host(record);
    let _bound = host.end_by(Instant::now() + 2 * REASON_DEADLINE);
    let mut record = record.clone();
    let view = allocation::ask(&record, REASON_DEADLINE);
    settle::apply(&mut record, &view, Now::read());
    if let Some(ended) = &record.ended {
        progress(&failure_of_end("running in", &record, ended, &SharedDir::of(&record)).to_string());
    } else if let Some(note) = SharedDir::of(&record).ending() {
        progress(&format!("the job of {} is ending: {}: {}", record.shown(), note.reason, note.detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&["echo $X | wc"], "echo $X | wc")]
    #[case(&["echo", "a b", "$X"], "echo 'a b' '$X'")]
    #[case(&["printf", ""], "printf ''")]
    fn lines_of_a_shell(#[case] words: &[&str], #[case] expected: &str) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(shell_line(&words), expected);
    }
}
