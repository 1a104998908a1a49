//! The command line: the same requests as the protocol's, for people and for the client's declarative mode.
//!
//! Without a verb one protocol request is read from stdin. With a verb the flags make the same request, and the same
//! answer is rendered as text or, with `--json`, as the bare value that the declarative mode reads
//! (docs/facts/client.md, "Declarative lifecycle"). There a failure is an exit code and one line on stderr.

mod arguments;
mod config_flags;
mod config_show;
mod init;
mod list;
mod logs;
mod machine;
mod names;
mod pool;
mod render;
mod run;
mod stream;
mod submission;

use std::io::{IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::value::expand_home;
use crate::dispatch;
use crate::doctor;
use crate::failure::{self, Failure, Kind};
use crate::host::caller;
use crate::lease::store::Store;
use crate::lease::{LeaseId, required_lease_id};
use crate::operation;
use crate::operation::config_files::ConfigFiles;
use crate::operation::context::{AskedBy, Options};
use crate::operation::lookup;
use crate::operation::settings::effective;
use crate::progress;
use crate::protocol::{self, Answer, Check, CheckStatus, Desired, Operation, Request, SentLease};
use crate::screen::Screen;
use crate::text;
use anyhow::Result;
use arguments::{AnyVerb, Arguments, StateVerb, Verb};
use clap::{CommandFactory, Parser};
use config_show::ConfigVerb;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;
use stream::Stream;

/// What the process edge writes and exits with.
#[derive(Debug, Default)]
pub struct Outcome {
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub exit: u8,
    /// Why nobody can read the answer, where that is known already.
    pub unread: Option<&'static str>,
    /// What comes after that, as long as it is read.
    pub stream: Option<Stream>,
    /// The lease that is nobody's unless the answer is delivered.
    unowned: Option<(Options, LeaseId)>,
}

impl Outcome {
    /// The answer could not be written: says so on stderr, and takes back what nobody was told of.
    pub fn undelivered(&mut self, error: &std::io::Error) {
        let failure = match self.unowned.take() {
            _ if self.stdout.is_empty() => return,
            None => Failure::new(Kind::Storage, "the answer could not be written to standard output")
                .remedy("repeat the call with a standard output that takes it")
                .cause(error.to_string()),
            Some((options, id)) => {
                let what = format!("acquiring lease {id}: the answer could not be written to standard output");
                let failure = Failure::new(Kind::Storage, what).cause(error.to_string());
                match operation::acquire::take_back(&options, &id) {
                    Ok(_) => failure.remedy("the lease was taken back; acquire it anew"),
                    Err(problem) => failure
                        .remedy(format!("end the lease with `{}`", options.ending(id.as_str(), &id)))
                        .and_then(&failure::of(&problem)),
                }
            }
        };
        self.stderr = format!("slurm-sandbox: {failure}");
    }
}

/// The answer when a bug cut a call short.
pub fn after_panic() -> Outcome {
    let failure = Failure::new(Kind::Internal, "slurm-sandbox failed over a bug of its own");
    let protocol = std::env::args_os().skip(1).all(|word| word.to_string_lossy().starts_with('-'));
    if protocol { Outcome { stdout: protocol::render(&Err(failure)), ..Outcome::default() } } else { refused(&failure) }
}

/// Reads the command line, does what it says, and tells what to write.
pub fn run() -> Outcome {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let said = error.render().to_string();
            return match error.exit_code() {
                0 => Outcome { stdout: said.into_bytes(), ..Outcome::default() },
                code => Outcome { stderr: text::block(said.trim_end()), exit: code as u8, ..Outcome::default() },
            };
        }
    };
    match &arguments.verb {
        None => serve(&arguments),
        Some(AnyVerb::Site(verb)) => match command(&arguments, verb) {
            Ok(outcome) => outcome,
            Err(error) => refused(&failure::of(&error)),
        },
        Some(AnyVerb::Program(verb)) => match machine::run(verb, Arguments::command()) {
            Ok(stdout) => Outcome { stdout, ..Outcome::default() },
            Err(failure) => refused(&failure),
        },
    }
}

fn refused(failure: &Failure) -> Outcome {
    Outcome { stderr: format!("slurm-sandbox: {failure}"), exit: failure.kind.row().exit, ..Outcome::default() }
}

/// Standard input as it comes, with a bound on silence.
struct Stdin;

/// A client writes its request at once.
const STDIN_PATIENCE: Duration = Duration::from_secs(60);

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let stdin = std::io::stdin();
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(STDIN_PATIENCE).unwrap_or(PollTimeout::NONE))? {
            0 => {
                let what = format!("no whole JSON value came within {} s", STDIN_PATIENCE.as_secs());
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, what))
            }
            _ => Ok(nix::unistd::read(stdin.as_fd(), buffer)?),
        }
    }
}

/// One protocol request from stdin; an error is an answer too, with exit 0 (docs/facts/client.md, "Errors").
fn serve(arguments: &Arguments) -> Outcome {
    if std::io::stdin().is_terminal() {
        let stderr =
            "slurm-sandbox: without a verb one JSON request is read from stdin; `slurm-sandbox --help` lists the verbs";
        return Outcome { stderr: stderr.to_owned(), exit: Kind::BadRequest.row().exit, ..Outcome::default() };
    }
    let answer = || -> Result<_> {
        let request = protocol::read(Stdin)?;
        let options = options(arguments)?;
        let answer = dispatch::run(&options, &request)?;
        Ok((unowned(&options, &answer), answer))
    };
    let unread = caller::stdout_was_closed().then_some("it is closed");
    match answer() {
        Ok((unowned, answer)) => {
            Outcome { stdout: protocol::render(&Ok(answer)), unowned, unread, ..Outcome::default() }
        }
        Err(error) => Outcome { stdout: protocol::render(&Err(failure::of(&error))), unread, ..Outcome::default() },
    }
}

/// The lease of an answer that makes it somebody's.
fn unowned(options: &Options, answer: &Answer) -> Option<(Options, LeaseId)> {
    let lease = answer.lease.as_ref().filter(|_| answer.unowned)?;
    Some((options.clone(), LeaseId::parse(&lease.lease_id)?))
}

fn options(arguments: &Arguments) -> Result<Options, Failure> {
    let path = |flag: &str, text: &str| -> Result<PathBuf, Failure> {
        let bad = |why: &str| Failure::new(Kind::BadConfig, format!("{flag} {text:?} cannot be used: {why}"));
        let expanded =
            expand_home(text).filter(|text| !text.is_empty()).ok_or_else(|| bad("the home directory is not known"))?;
        std::path::absolute(expanded).map_err(|error| bad(&error.to_string()))
    };
    let state_dir = match &arguments.state_dir {
        Some(text) => path("--state-dir", text)?,
        None => operation::context::default_state_dir().ok_or_else(|| {
            Failure::new(Kind::BadConfig, "there is no home directory to keep state in").remedy("pass --state-dir")
        })?,
    };
    let runner_script = arguments.runner_script.as_deref().filter(|text| !text.is_empty());
    Ok(Options {
        state_dir,
        runner_script: runner_script.map(|text| path("--runner-script", text)).transpose()?,
        poll_interval: Duration::from_secs_f64(arguments.poll_interval),
        asked_by: if arguments.verb.is_none() { AskedBy::Client } else { AskedBy::CommandLine },
        config_files: ConfigFiles::of_caller(arguments.config.as_deref())?,
    })
}

fn command(arguments: &Arguments, verb: &Verb) -> Result<Outcome> {
    let options = options(arguments)?;
    // Bare JSON has its own way to say what a character is; all else is for a terminal, or may come to one.
    let bytes = |stdout: String| Outcome { stdout: stdout.into_bytes(), ..Outcome::default() };
    let text = |stdout: String| bytes(text::block(&stdout));
    let shown = |json: String, shown: &dyn Fn() -> String| match arguments.json {
        true => bytes(json),
        false => text(shown()),
    };
    let said = |message: &str| match arguments.json {
        true => bytes(render::json(&json!({"message": message}))),
        false => text(format!("{message}\n")),
    };
    let done = |answer: &Answer| said(answer.message.as_deref().unwrap_or("done"));
    match verb {
        Verb::Doctor(flags) => {
            let request = Request::new(Operation::Doctor);
            let earlier = flags.max_age.and_then(|age| doctor::earlier(&options, &request, flags.live, age));
            let checks = earlier.unwrap_or_else(|| doctor::examine(&options, &request, flags.live));
            // What a check says is clean already.
            Ok(Outcome {
                exit: exit_of(&checks),
                ..bytes(match arguments.json {
                    true => render::json(&checks),
                    false => render::checks(&checks, &Screen::stdout(), flags.verbose, flags.live),
                })
            })
        }
        Verb::Acquire(flags) => {
            let (desired, config) = (desired(&flags.identity)?, flags.settings.config()?);
            let request =
                Request { desired: Some(desired), keep: flags.keep, config, ..Request::new(Operation::Acquire) };
            let line = progress::live("preparing the job");
            let answer = dispatch::run(&options, &request)?;
            drop(line);
            let outcome = shown(render::json(&answer.lease), &|| render::acquired(&answer));
            Ok(Outcome { unowned: unowned(&options, &answer), ..outcome })
        }
        Verb::Resolve(flags) => {
            let desired = Desired {
                lease_id: flags.identity.lease_id.clone().unwrap_or_default(),
                slug: flags.identity.slug.clone().unwrap_or_default(),
                name: flags.identity.name.clone().unwrap_or_default(),
            };
            let id = flags.lease.clone().unwrap_or_default();
            let request = Request {
                desired: Some(desired),
                id: id.clone(),
                release_only: flags.release_only,
                ..Request::new(Operation::Resolve)
            };
            let line = progress::live("looking at the job");
            let answer = dispatch::run(&options, &request)?;
            drop(line);
            if answer.lease.is_none() {
                return Err(Failure::new(Kind::NotFound, answer.message.unwrap_or_default()).into());
            }
            Ok(shown(render::json(&answer.lease), &|| render::acquired(&answer)))
        }
        Verb::List(flags) => list::run(&options, flags, arguments.json),
        Verb::Release(flags) => {
            let lease = named(&options, flags.lease.as_deref(), &flags.identity)?;
            let lease = SentLease { cloud_id: flags.cloud_id.clone().unwrap_or_default(), ..lease };
            Ok(done(&dispatch::run(&options, &Request { lease: Some(lease), ..Request::new(Operation::Release) })?))
        }
        Verb::Touch(flags) => {
            let mut lease = named(&options, flags.lease.as_deref(), &flags.identity)?;
            for (label, value) in [("ttl_secs", &flags.ttl), ("idle_timeout_secs", &flags.idle_timeout)] {
                if let Some(value) = value {
                    lease.labels.insert(label.to_owned(), value.clone());
                }
            }
            let state = flags.state.clone().unwrap_or_default();
            Ok(done(&dispatch::run(
                &options,
                &Request { lease: Some(lease), state, ..Request::new(Operation::Touch) },
            )?))
        }
        Verb::Cleanup(flags) => {
            let request = Request { dry_run: flags.dry_run, ..Request::new(Operation::Cleanup) };
            Ok(done(&dispatch::run(&options, &request)?))
        }
        Verb::Pool(flags) => flags.run(&options).map(|done| match done {
            pool::Said::Pools(pools) => shown(render::json(&pools), &|| pool::table(&pools)),
            pool::Said::Done(done) => said(&done),
        }),
        Verb::Forget(flags) => operation::forget::run(&options, &flags.lease, &flags.because).map(|done| said(&done)),
        Verb::State { what: StateVerb::Adopt } => operation::adopt::run(&options).map(|done| said(&done)),
        Verb::Connect(flags) => flags.run(&options).map(|()| Outcome::default()),
        Verb::Logs(flags) => logs::run(&options, flags, arguments.json),
        Verb::Render(flags) => {
            let (desired, config) = (desired(&flags.identity)?, flags.settings.config()?);
            let request = Request { desired: Some(desired), config, ..Request::new(Operation::Acquire) };
            let rendered = operation::acquire::render(&options, &request)?;
            // To the byte, whatever is in it.
            Ok(Outcome { stdout: flags.text(&rendered, arguments.json), ..Outcome::default() })
        }
        Verb::Ssh(flags) => match flags.run(&options)? {},
        Verb::SshConfig(flags) => flags.run(&options, arguments.config.as_deref()).map(text),
        Verb::Run(flags) => flags.run(&options),
        Verb::Wait(flags) => flags.run(&options),
        Verb::Extend(flags) => flags.run(&options).map(text),
        Verb::Init(flags) => {
            let proposed = crate::init::run(&options, &flags.wishes())?;
            let examine = || doctor::examine(&options, &Request::new(Operation::Doctor), false);
            let checks = if proposed.written { examine() } else { Vec::new() };
            let outcome = shown(render::json(&init::written(&proposed, &checks)), &|| init::text(&proposed, &checks));
            Ok(Outcome { exit: exit_of(&checks), ..outcome })
        }
        Verb::Config { what: ConfigVerb::Show(flags) } => {
            let known = effective(&options, &flags.settings.config()?, "showing the configuration")?;
            let known = config_show::shown(&known);
            Ok(shown(render::json(&known), &|| config_show::table(&known)))
        }
    }
}

/// The exit code that tells what doctor has found.
fn exit_of(checks: &[Check]) -> u8 {
    let red = checks.iter().any(|check| check.status == CheckStatus::Red);
    if red { Kind::DoctorRed.row().exit } else { 0 }
}

/// The lease that is to be acquired; what is not said of it is made up.
fn desired(identity: &arguments::IdentityFlags) -> Result<Desired> {
    let id = match identity.lease_id.as_deref() {
        Some(id) => required_lease_id(id)?,
        None => LeaseId::random()?,
    };
    let made_up = operation::acquire::desired(&id, identity.slug.clone().unwrap_or_else(|| box_slug(&id)));
    Ok(Desired { name: identity.name.clone().unwrap_or(made_up.name), ..made_up })
}

/// The short name of a lease that nobody has named.
fn box_slug(id: &LeaseId) -> String {
    format!("box-{}", &id.as_str()[12..])
}

/// The lease that a person or the declarative mode names.
fn named(options: &Options, word: Option<&str>, identity: &arguments::IdentityFlags) -> Result<SentLease> {
    let mut lease = SentLease {
        lease_id: identity.lease_id.clone().unwrap_or_default(),
        slug: identity.slug.clone().unwrap_or_default(),
        name: identity.name.clone().unwrap_or_default(),
        ..SentLease::default()
    };
    if lease.lease_id.is_empty() {
        let Some(word) = word else {
            return Err(Failure::new(Kind::BadRequest, "no lease is named")
                .remedy("give a lease, or --lease-id")
                .into());
        };
        lease.lease_id = lookup::required(&Store::open(&options.state_dir)?, word)?.dir.id.to_string();
    }
    Ok(lease)
}
