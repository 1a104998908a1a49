//! Where Slurm's commands run and the shared dir is seen: on this machine, or on a login host over SSH.
//!
//! A call opens at most one session on a login host and keeps it to its end (see [`remote`]). That the login host could
//! not be reached, or was lost in the middle, is never an answer: callers are told so and change nothing.

pub(crate) mod caller;
pub mod command;
pub(crate) mod relay;
pub(crate) mod remote;
pub(crate) mod signals;
pub(crate) mod terminal;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use caller::Caller;
pub use command::{Command, End, Output, find_program, on_path};
pub use remote::Login;

use crate::config::login_host::LoginHost;
use remote::LoginError;

/// A place where commands run.
#[derive(Debug, Clone)]
pub enum Host {
    Here,
    Login(Arc<Login>),
}

/// Why a command was not run; certainly nothing came of it. As [`LoginError`] it is no error of the standard library.
#[derive(Debug)]
pub enum NotRun {
    /// There is no such program there.
    Missing(String),
    /// This machine could not start it.
    Here(io::Error),
    Login(LoginError),
}

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRun::Missing(said) => f.write_str(said),
            NotRun::Here(error) => error.fmt(f),
            NotRun::Login(error) => error.fmt(f),
        }
    }
}

/// The user as whom commands run at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    /// The name that sshd knows this user by.
    pub name: Option<String>,
    pub home: Option<String>,
}

impl Host {
    /// The place that a configuration or a record names. Nothing is connected yet.
    pub fn of(submit: Option<&LoginHost>) -> Host {
        match submit {
            None => Host::Here,
            Some(target) => Host::Login(Login::of(target)),
        }
    }

    /// What commands there see of this process's environment, but for the terminal, which makes no difference to a job. A login host
    /// has its own.
    pub fn handed_on(&self) -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        let mut variables: Vec<_> = match self {
            Host::Here => command::passed_on(std::env::vars_os()).filter(|(name, _)| name != "TERM").collect(),
            Host::Login(_) => vec![],
        };
        variables.sort();
        variables
    }

    /// Runs a command there to its end or its deadline.
    ///
    /// # Errors
    /// Only when it was certainly not started.
    pub fn run(&self, command: &Command) -> Result<Output, NotRun> {
        match self {
            Host::Here => command.run().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => NotRun::Missing(error.to_string()),
                _ => NotRun::Here(error),
            }),
            Host::Login(login) => match login.run(command).map_err(NotRun::Login)? {
                // The shell's own code for a program that is not on PATH.
                output if output.end == End::Exit(127) => {
                    let (program, to) = (command.program(), login.target().destination());
                    Err(NotRun::Missing(format!("{program} is not on PATH of a login shell on {to}")))
                }
                output => Ok(output),
            },
        }
    }

    /// Who we are there.
    ///
    /// # Errors
    /// When the login host cannot be reached.
    pub fn user(&self) -> Result<User, LoginError> {
        match self {
            Host::Here => Ok(User {
                uid: nix::unistd::getuid().as_raw(),
                name: own_name().map(str::to_owned),
                home: std::env::var("HOME").ok().filter(|home| home.starts_with('/')),
            }),
            Host::Login(login) => login.user(),
        }
    }

    /// Lets nothing that is asked there, and nothing in the cluster's directories, take longer than until then, for as long
    /// as the answer lives. A bound within another never lengthens it.
    pub fn end_by(&self, end: Instant) -> Bound {
        let before = self.bound();
        self.set_bound(Some(before.map_or(end, |before| before.min(end))));
        Bound { host: self.clone(), before }
    }

    /// How long what is asked there now may take.
    pub fn left(&self) -> Duration {
        self.bound().map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    fn bound(&self) -> Option<Instant> {
        match self {
            Host::Here => END_HERE.get(),
            Host::Login(login) => login.bound(),
        }
    }

    fn set_bound(&self, end: Option<Instant>) {
        match self {
            Host::Here => END_HERE.set(end),
            Host::Login(login) => login.end_by(end),
        }
    }

    /// Names the place in files that processes share.
    pub fn key(&self) -> String {
        match self {
            Host::Here => "here".to_owned(),
            Host::Login(login) => login.key().to_owned(),
        }
    }

    /// The end of a sentence that says where: empty for this machine.
    pub fn shown(&self) -> String {
        match self {
            Host::Here => String::new(),
            Host::Login(login) => format!(" on {}", login.target().destination()),
        }
    }
}

thread_local! {
    /// When whatever is asked of this machine has to be over; a call is one thread.
    static END_HERE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// While it lives, nothing at a place takes longer than was said.
#[derive(Debug)]
#[must_use]
pub struct Bound {
    host: Host,
    before: Option<Instant>,
}

impl Drop for Bound {
    fn drop(&mut self) {
        self.host.set_bound(self.before);
    }
}

/// The name of this process's user, asked for once: a directory service may be slow.
pub fn own_name() -> Option<&'static str> {
    static NAME: OnceLock<Option<String>> = OnceLock::new();
    let ask = || {
        let by_uid = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
        by_uid.or_else(|| std::env::var("USER").ok()).filter(|name| crate::config::value::is_user_name(name))
    };
    NAME.get_or_init(ask).as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_ends_with_its_value_and_is_never_lengthened() {
        let seconds = |seconds| Instant::now() + Duration::from_secs(seconds);
        let left = || Host::Here.left().as_secs();
        assert_eq!(Host::Here.left(), Duration::MAX);
        let outer = Host::Here.end_by(seconds(100));
        assert!((98..100).contains(&left()));
        let inner = Host::Here.end_by(seconds(1000));
        assert!(left() < 100);
        drop(inner);
        let inner = Host::Here.end_by(seconds(10));
        assert!(left() < 10);
        drop(inner);
        assert!(left() > 90);
        drop(outer);
        assert_eq!(Host::Here.left(), Duration::MAX);
    }
}
