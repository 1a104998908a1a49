//! A login host: its commands and its view of the shared dir, through one session of a call.

pub mod master;
mod shell;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::User;
use super::command::{Command, End, Output};
use crate::config::login::LoginHost;
use shell::Shell;
pub use shell::{Greeting, piped};

/// After a session was lost or refused, this call tries again no sooner: what asks in a loop must not log in in one.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The same after a silence that was waited for in vain: a release asks several times and is killed after 30 s.
const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(12);

/// A login host, connected when it is first asked.
#[derive(Debug)]
pub struct Login {
    target: LoginHost,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    shell: Option<Shell>,
    greeting: Option<Greeting>,
    /// Until when no session is tried for, and why.
    failed: Option<(Instant, String)>,
    /// When whatever is asked has to be over.
    end_by: Option<Instant>,
}

impl State {
    fn left(&self) -> Duration {
        self.end_by.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    /// No session could be had, or none was left; it took from `began` to find out.
    fn fail(&mut self, began: Instant, said: &str) {
        let pause = (2 * began.elapsed()).clamp(RETRY_PAUSE, LONGEST_RETRY_PAUSE);
        self.failed = Some((Instant::now() + pause, said.to_owned()));
    }
}

/// The login hosts of this process, so that everything that a call does there goes through one session.
static OPEN: Mutex<BTreeMap<LoginHost, Arc<Login>>> = Mutex::new(BTreeMap::new());

impl Login {
    pub(super) fn of(target: &LoginHost) -> Arc<Login> {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let login = open.entry(target.clone()).or_insert_with(|| Login::apart(target));
        Arc::clone(login)
    }

    /// A login host with a session of its own, for what runs side by side.
    pub fn apart(target: &LoginHost) -> Arc<Login> {
        Arc::new(Login { target: target.clone(), state: Mutex::default() })
    }

    /// One more session through the master at `path`, which lives; `None` when the login host takes no more on it.
    ///
    /// # Errors
    /// When the master takes no session at all.
    pub fn beside(target: &LoginHost, path: &Path) -> Result<Option<Arc<Login>>, String> {
        let state = |shell| State { shell: Some(shell), ..State::default() };
        let login = |shell| Arc::new(Login { target: target.clone(), state: Mutex::new(state(shell)) });
        Ok(master::another(path)?.map(login))
    }

    /// Whether the session is still there; one that was lost is opened anew by the next question.
    pub fn is_connected(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).shell.is_some()
    }

    pub fn target(&self) -> &LoginHost {
        &self.target
    }

    /// Runs a command there.
    ///
    /// # Errors
    /// When it was certainly not started; after that, what is lost is told by [`End::ConnectionLost`].
    pub fn run(&self, command: &Command) -> io::Result<Output> {
        let output = self.script(&command.line(), command.prepared_input(), command.deadline())?;
        if output.end == End::Exit(127) {
            let program = command.shown();
            let program = program.split(' ').next().unwrap_or_default();
            let what = format!("{program} is not on PATH of a login shell on {}", self.target.destination());
            return Err(io::Error::new(io::ErrorKind::NotFound, what));
        }
        Ok(output)
    }

    /// Runs a bash script there; it has to end by itself within `deadline`.
    ///
    /// # Errors
    /// When it was certainly not started.
    pub fn script(&self, text: &str, input: &[u8], deadline: Duration) -> io::Result<Output> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shell = match state.shell.take() {
            Some(shell) => shell,
            None => self.connect(&mut state)?,
        };
        let began = Instant::now();
        match shell.run(text, input, deadline, state.left()) {
            Ok(output) => {
                if state.greeting.is_none() {
                    state.greeting = shell.greeting().cloned();
                }
                state.shell = Some(shell);
                Ok(output)
            }
            Err(shell::Lost(why)) => {
                let said = format!("the session on {} was lost: {why}", self.target.destination());
                state.fail(began, &said);
                Ok(Output { end: End::ConnectionLost, stdout: vec![], stderr: said.into_bytes(), took: Duration::ZERO })
            }
        }
    }

    /// Lets nothing take longer from now on; what is not over by then counts as lost.
    pub(super) fn end_by(&self, end: Option<Instant>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).end_by = end;
    }

    pub(super) fn bound(&self) -> Option<Instant> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).end_by
    }

    fn connect(&self, state: &mut State) -> io::Result<Shell> {
        if let Some((until, said)) = &state.failed
            && Instant::now() < *until
        {
            return Err(io::Error::other(said.clone()));
        }
        let began = Instant::now();
        master::session(&self.target, state.left()).map_err(|said| {
            state.fail(began, &said);
            io::Error::other(said)
        })
    }

    /// Who answers there; asked for once.
    ///
    /// # Errors
    /// When the login host cannot be reached.
    pub fn user(&self) -> io::Result<User> {
        self.greeting().map(|greeting| greeting.user)
    }

    /// What the far end told of itself; asked for once.
    ///
    /// # Errors
    /// When the login host cannot be reached.
    pub fn greeting(&self) -> io::Result<Greeting> {
        let known = || self.state.lock().unwrap_or_else(PoisonError::into_inner).greeting.clone();
        if let Some(greeting) = known() {
            return Ok(greeting);
        }
        let output = self.script("", &[], Duration::from_secs(5))?;
        known().ok_or_else(|| io::Error::other(output.said()))
    }
}
