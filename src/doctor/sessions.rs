//! Where Slurm's checks ask: here, or on the login host through a few sessions of one connection.
//!
//! Checks run side by side and a session answers one question at a time, so each takes a session of its own, as long as
//! the login host gives them: sshd allows ten a connection by default, other calls need some too, and where it
//! gives fewer the checks take turns. Nobody waits here for longer than the checks' deadline.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::config::login_host::LoginHost;
use crate::doctor::remote::{self, RemoteFacts};
use crate::doctor::run::Clock;
use crate::host::remote::{Greeting, Login, LoginError, master, socket};
use crate::host::{Command, Host, Output, User};

/// Most sessions at a time: of ten, four are left to others.
const MOST_SESSIONS: usize = 6;

/// The login is given up so long before everything else is, so that the reason can be told.
const LAST_WORDS: Duration = Duration::from_millis(400);

/// Where Slurm's commands are asked.
#[derive(Debug, Clone)]
pub enum Place {
    Here,
    Remote(Arc<RemoteHost>),
}

impl Place {
    pub fn of(submit: Option<&LoginHost>) -> Place {
        match submit {
            None => Place::Here,
            Some(target) => Place::Remote(Arc::new(RemoteHost::new(target))),
        }
    }

    /// Asks there. A deadline that `ask` reads from the clock begins when somebody listens.
    ///
    /// # Errors
    /// When nobody could be asked.
    pub fn with<T>(&self, clock: Clock, ask: impl FnOnce(&Host) -> T) -> Result<T, String> {
        match self {
            Place::Here => Ok(ask(&Host::Here)),
            Place::Remote(there) => there.with(clock, |login| ask(&Host::Login(Arc::clone(login)))),
        }
    }

    /// Who we are there.
    ///
    /// # Errors
    /// When nobody could be asked.
    pub fn user(&self, clock: Clock) -> Result<User, String> {
        match self {
            Place::Here => Host::Here.user().map_err(|error| error.to_string()),
            Place::Remote(there) => {
                there.greet(clock).map(|greeted| greeted.greeting.user.clone()).map_err(|error| error.to_string())
            }
        }
    }

    /// The names of this user's groups there.
    pub fn groups(&self, clock: Clock) -> Vec<String> {
        use nix::unistd::{Group, getgid, getgroups};
        if let Place::Remote(there) = self {
            return there.facts(clock).map(|facts| facts.all("group").to_vec()).unwrap_or_default();
        }
        let mut ids = getgroups().unwrap_or_default();
        ids.push(getgid());
        ids.into_iter().filter_map(|id| Group::from_gid(id).ok().flatten()).map(|group| group.name).collect()
    }

    /// What this place is called in a sentence.
    pub fn name(&self) -> &'static str {
        match self {
            Place::Here => "this host",
            Place::Remote(_) => "the login host",
        }
    }

    /// The host's own name.
    pub fn hostname(&self, clock: Clock) -> Option<String> {
        match self {
            Place::Here => nix::unistd::gethostname().ok()?.into_string().ok(),
            Place::Remote(there) => there.greet(clock).ok().map(|greeted| greeted.greeting.hostname.clone()),
        }
    }
}

/// The connection, once it is there.
#[derive(Debug, Clone)]
pub struct MasterConnection {
    pub path: PathBuf,
    /// Whether it had to be made.
    pub made: bool,
    pub took: Duration,
}

/// The first answer of the login host.
#[derive(Debug, Clone)]
pub struct Greeted {
    pub connection: MasterConnection,
    pub greeting: Greeting,
    /// What a session takes from its start to its first answer.
    pub took: Duration,
    /// By how many seconds its clock is ahead of ours.
    pub ahead: i64,
}

#[derive(Debug, Default)]
struct Sessions {
    idle: Vec<Arc<Login>>,
    open: usize,
    /// How many could be had, once one more was refused.
    most: Option<usize>,
}

/// A login host and what is known of it.
#[derive(Debug)]
pub struct RemoteHost {
    target: LoginHost,
    connection: OnceLock<Result<MasterConnection, LoginError>>,
    greeted: OnceLock<Result<Greeted, LoginError>>,
    facts: OnceLock<Result<RemoteFacts, String>>,
    sessions: Mutex<Sessions>,
    freed: Condvar,
}

impl RemoteHost {
    fn new(target: &LoginHost) -> RemoteHost {
        RemoteHost {
            target: target.clone(),
            connection: OnceLock::new(),
            greeted: OnceLock::new(),
            facts: OnceLock::new(),
            sessions: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    pub fn target(&self) -> &LoginHost {
        &self.target
    }

    /// The connection, made by whoever comes first.
    pub fn connection(&self, clock: Clock) -> Result<&MasterConnection, LoginError> {
        let make = || {
            let path = socket::path(&self.target, || socket::key(&self.target))?;
            let started = Instant::now();
            let made = master::ensure_within(&self.target, &path, clock.left().saturating_sub(LAST_WORDS))?;
            Ok(MasterConnection { path, made, took: started.elapsed() })
        };
        self.connection.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    /// Where the connection's socket lies, or is to lie.
    pub fn path(&self) -> String {
        socket::path(&self.target, || socket::key(&self.target))
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    }

    /// The connection if there is one by now.
    pub fn open_connection(&self) -> Option<&MasterConnection> {
        self.connection.get()?.as_ref().ok()
    }

    /// Who answers, found out by whoever comes first.
    pub fn greet(&self, clock: Clock) -> Result<&Greeted, LoginError> {
        let greet = || {
            let connection = self.connection(clock)?.clone();
            let started = Instant::now();
            let login = self.take(clock)?;
            let greeting = login.greeting();
            let (took, now) = (started.elapsed(), crate::clock::epoch());
            self.give_back(login);
            let greeting = greeting?;
            let ahead = greeting.time - now;
            Ok(Greeted { connection, greeting, took, ahead })
        };
        self.greeted.get_or_init(greet).as_ref().map_err(Clone::clone)
    }

    /// What the login host tells of itself, asked by whoever comes first.
    pub fn facts(&self, clock: Clock) -> Result<&RemoteFacts, String> {
        let ask = || self.with(clock, |login| remote::ask(login, clock, &["facts"]))?;
        self.facts.get_or_init(ask).as_ref().map_err(Clone::clone)
    }

    /// How many sessions the connection takes at once, if that was found out.
    pub fn most_sessions(&self) -> Option<usize> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).most
    }

    /// Asks through a session that nobody else uses meanwhile.
    pub fn with<T>(&self, clock: Clock, ask: impl FnOnce(&Arc<Login>) -> T) -> Result<T, String> {
        let login = self.take(clock).map_err(|error| error.to_string())?;
        // The account's profiles run first; deadlines of commands must not begin before they are through.
        let greeting = login.greeting().map_err(|error| error.to_string());
        let answer = greeting.map(|_| ask(&login));
        self.give_back(login);
        answer
    }

    fn take(&self, clock: Clock) -> Result<Arc<Login>, LoginError> {
        let path = self.connection(clock)?.path.clone();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(login) = sessions.idle.pop() {
                return Ok(login);
            }
            if sessions.open < sessions.most.unwrap_or(MOST_SESSIONS) {
                sessions.open += 1;
                let first = sessions.open == 1;
                drop(sessions);
                let opened = self.open(&path, first);
                sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
                match opened {
                    Ok(Some(login)) => return Ok(login),
                    Ok(None) => {
                        sessions.open -= 1;
                        sessions.most = Some(sessions.open.max(1));
                    }
                    Err(said) => {
                        sessions.open -= 1;
                        // Whoever waits for this one finds out the same.
                        self.freed.notify_all();
                        return Err(said);
                    }
                }
                continue;
            }
            let (again, timeout) =
                self.freed.wait_timeout(sessions, clock.left()).unwrap_or_else(PoisonError::into_inner);
            sessions = again;
            if timeout.timed_out() {
                let what = format!("no session on {} became free in time", self.target.destination());
                return Err(LoginError::Full(what));
            }
        }
    }

    fn open(&self, path: &std::path::Path, first: bool) -> Result<Option<Arc<Login>>, LoginError> {
        let opened = match Login::beside(&self.target, path) {
            // The connection was closed since it was met: one that asks opens another.
            Err(LoginError::Lost(_)) => return Ok(Some(Login::apart(&self.target))),
            opened => opened?,
        };
        let alone = self.target.has_one_connection();
        match opened {
            // All that the connection takes are in use by others: do as every call does then.
            None if first && !alone => Ok(Some(Login::apart(&self.target))),
            None if first => Err(LoginError::Full(format!(
                "{} takes no more sessions on the connection {}",
                self.target.destination(),
                path.display()
            ))),
            opened => Ok(opened),
        }
    }

    fn give_back(&self, login: Arc<Login>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if login.is_connected() {
            sessions.idle.push(login);
        } else {
            sessions.open = sessions.open.saturating_sub(1);
        }
        self.freed.notify_one();
    }
}

/// What a command answered, or why it did not.
pub fn answer(place: &Place, clock: Clock, command: impl FnOnce() -> Command) -> Result<Output, String> {
    match place.with(clock, |host| host.run(&command()))? {
        Ok(output) if output.success() => Ok(output),
        Ok(output) => Err(output.said()),
        Err(error) => Err(format!("could not be started: {error}")),
    }
}

/// It only refines what another check says, which must not wait for a controller that is gone.
const IS_NODE_DEADLINE: Duration = Duration::from_secs(3);

/// Whether the host where Slurm is asked is a node of the cluster; `None` when Slurm did not say.
pub fn is_node(place: &Place, clock: Clock) -> Option<bool> {
    let name = place.hostname(clock)?;
    let short = name.split('.').next().filter(|name| crate::config::value::is_word(name, "-_"))?;
    let command = || Command::new("scontrol", clock.left().min(IS_NODE_DEADLINE)).env("LC_ALL", "C");
    let output = place.with(clock, |host| host.run(&command().args(["--oneliner", "show", "node", short])));
    let output = output.ok()?.ok()?;
    if output.success() && output.stdout_text().contains("NodeName=") {
        return Some(true);
    }
    let denied = |text: String| text.contains("not found");
    (denied(output.stdout_text()) || denied(output.stderr_text())).then_some(false)
}
