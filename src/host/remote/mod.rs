//! A login host: its commands and its view of the shared dir, through one session of a call.

pub mod command_line;
mod error;
pub mod master;
mod shell;
pub mod socket;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::User;
use super::command::{Command, End, Output};
use crate::config::login_host::LoginHost;
pub use error::LoginError;
pub use shell::{Greeting, piped};
use shell::{Lost, Shell};

/// After a session was lost or refused, this call tries again no sooner: what asks in a loop must not log in in one.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// The same after a silence that was waited for in vain: a release asks several times and is killed after 30 s.
const LONGEST_RETRY_PAUSE: Duration = Duration::from_secs(12);

/// What the empty script may take, by which a session tells who answers.
const GREETING_DEADLINE: Duration = Duration::from_secs(5);

/// A login host, connected when it is first asked.
#[derive(Debug)]
pub struct Login {
    target: LoginHost,
    key: OnceLock<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    shell: Option<Shell>,
    greeting: Option<Greeting>,
    /// Until when no session is tried for, and why.
    failed: Option<(Instant, LoginError)>,
    /// When whatever is asked has to be over.
    end_by: Option<Instant>,
}

impl State {
    fn left(&self) -> Duration {
        self.end_by.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    /// No session could be had, or none was left; it took from `began` to find out.
    fn fail(&mut self, began: Instant, error: &LoginError) {
        let pause = (2 * began.elapsed()).clamp(RETRY_PAUSE, LONGEST_RETRY_PAUSE);
        self.failed = Some((Instant::now() + pause, error.clone()));
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
        Login::with(target, None)
    }

    /// One more session through the master at `path`, which lives; `None` when the login host takes no more on it.
    ///
    /// # Errors
    /// When the master takes no session at all.
    pub fn beside(target: &LoginHost, path: &Path) -> Result<Option<Arc<Login>>, LoginError> {
        Ok(master::another(target, path)?.map(|shell| Login::with(target, Some(shell))))
    }

    fn with(target: &LoginHost, shell: Option<Shell>) -> Arc<Login> {
        let state = Mutex::new(State { shell, ..State::default() });
        Arc::new(Login { target: target.clone(), key: OnceLock::new(), state })
    }

    /// Whether the session is still there; one that was lost is opened anew by the next question.
    pub fn is_connected(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).shell.is_some()
    }

    pub fn target(&self) -> &LoginHost {
        &self.target
    }

    /// Names the account there in files that processes share, see [`socket::key`].
    pub fn key(&self) -> &str {
        self.key.get_or_init(|| socket::key(&self.target))
    }

    /// Runs a command there; again on a new session when the first ended before the answer, unless it may run only once.
    /// One that is not found there ends with 127.
    ///
    /// # Errors
    /// When it was certainly not started; after that, what is lost is told by [`End::ConnectionLost`].
    pub fn run(&self, command: &Command) -> Result<Output, LoginError> {
        let ran = self.ask(&command.line(), command.prepared_input(), command.deadline(), command.is_once());
        let place = self.target().destination();
        match &ran {
            Ok(output) => output.trace(&place, &command.shown()),
            Err(error) => tracing::debug!(place, command = command.shown(), %error, "not run"),
        }
        ran
    }

    /// Runs a bash script there, and again as a command is; it has to end by itself within `deadline`.
    ///
    /// # Errors
    /// When it was certainly not started.
    pub fn script(&self, text: &str, input: &[u8], deadline: Duration) -> Result<Output, LoginError> {
        self.ask(text, input, deadline, false)
    }

    fn ask(&self, text: &str, input: &[u8], deadline: Duration, once: bool) -> Result<Output, LoginError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shell = self.shell(&mut state, once)?;
        let began = Instant::now();
        let mut answer = shell.run(text, input, deadline, state.left());
        // The connection may have ended alone, as that of OpenSSH 8.4 does with a client that is killed.
        if matches!(answer, Err(Lost::Ended(_))) && !once {
            shell = match self.shell(&mut state, once) {
                Ok(new) => new,
                Err(error) => return Ok(unanswered(&error)),
            };
            answer = shell.run(text, input, deadline, state.left());
        }
        match answer {
            Ok(output) => {
                state.keep(shell);
                Ok(output)
            }
            Err(lost) => {
                let error = self.lost(lost);
                state.fail(began, &error);
                Ok(unanswered(&error))
            }
        }
    }

    /// The open session, or a new one.
    fn shell(&self, state: &mut State, once: bool) -> Result<Shell, LoginError> {
        if let Some(mut shell) = state.shell.take()
            && (!once || shell.is_open())
        {
            return Ok(shell);
        }
        if let Some((until, error)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let began = Instant::now();
        let shell = self.connect(state);
        shell.inspect_err(|error| state.fail(began, error))
    }

    /// A new session. Where this call has had one before, it is of the same account: what was learned there holds here.
    fn connect(&self, state: &State) -> Result<Shell, LoginError> {
        let mut shell = master::session(&self.target, || self.key().to_owned(), state.left())?;
        if let Some(before) = &state.greeting {
            shell.run("", &[], GREETING_DEADLINE, state.left()).map_err(|lost| self.lost(lost))?;
            same_account(before, shell.greeting(), &self.target)?;
        }
        Ok(shell)
    }

    fn lost(&self, lost: Lost) -> LoginError {
        let said = |why: String| format!("the session on {} was lost: {why}", self.target.destination());
        match lost {
            Lost::Silent(why) => LoginError::Silent(said(why)),
            Lost::Ended(why) | Lost::Garbled(why) => LoginError::Lost(said(why)),
        }
    }

    /// Lets nothing take longer from now on; what is not over by then counts as lost.
    pub(super) fn end_by(&self, end: Option<Instant>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).end_by = end;
    }

    pub(super) fn bound(&self) -> Option<Instant> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).end_by
    }

    /// Who answers there; asked for once.
    ///
    /// # Errors
    /// When the login host cannot be reached.
    pub fn user(&self) -> Result<User, LoginError> {
        self.greeting().map(|greeting| greeting.user)
    }

    /// What the far end has told of itself, if it was asked anything yet.
    pub fn greeted(&self) -> Option<Greeting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).greeting.clone()
    }

    /// What the far end told of itself; asked for once.
    ///
    /// # Errors
    /// When the login host cannot be reached.
    pub fn greeting(&self) -> Result<Greeting, LoginError> {
        if let Some(greeting) = self.greeted() {
            return Ok(greeting);
        }
        let output = self.script("", &[], GREETING_DEADLINE)?;
        let failed = || self.state.lock().unwrap_or_else(PoisonError::into_inner).failed.clone();
        self.greeted().ok_or_else(|| failed().map_or_else(|| LoginError::Lost(output.said()), |(_, error)| error))
    }
}

/// What is known of a command whose answer was lost.
fn unanswered(error: &LoginError) -> Output {
    let stderr = error.to_string().into_bytes();
    Output { end: End::ConnectionLost, stdout: vec![], stderr, took: Duration::ZERO }
}

impl State {
    /// Keeps a session that has answered.
    fn keep(&mut self, shell: Shell) {
        if self.greeting.is_none() {
            self.greeting = shell.greeting().cloned();
        }
        self.failed = None;
        self.shell = Some(shell);
    }
}

/// The name of a login host may lead to another account from one moment to the next, where what is asked would mean
/// something else and a denial would prove nothing.
fn same_account(before: &Greeting, now: Option<&Greeting>, target: &LoginHost) -> Result<(), LoginError> {
    let uid = now.map(|greeting| greeting.user.uid);
    if uid == Some(before.user.uid) {
        return Ok(());
    }
    let to = target.destination();
    Err(match uid {
        Some(uid) => LoginError::OtherAccount(format!(
            "{to} led to user id {} when this call began, and leads to user id {uid} now",
            before.user.uid
        )),
        None => LoginError::Lost(format!("{to} does not tell whose account it is")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(uid: u32) -> Greeting {
        let user = User { uid, name: None, home: None };
        Greeting { user, hostname: "login1".into(), time: 0, admin_file: None }
    }

    #[test]
    fn a_call_goes_on_with_the_account_that_it_began_with() {
        let target = LoginHost { host: "cluster".into(), ..LoginHost::default() };
        let again = |now: Option<u32>| same_account(&greeting(1001), now.map(greeting).as_ref(), &target);
        assert_eq!(again(Some(1001)), Ok(()));
        assert!(matches!(again(Some(1002)), Err(LoginError::OtherAccount(said)) if said.contains("user id 1002")));
        assert!(matches!(again(None), Err(LoginError::Lost(_))));
    }

    #[test]
    fn what_is_known_to_fail_is_not_tried_again_at_once() {
        let mut state = State::default();
        state.fail(Instant::now(), &LoginError::Silent("hung".into()));
        let (until, error) = state.failed.unwrap();
        assert!(until > Instant::now() && error == LoginError::Silent("hung".into()));
    }
}
