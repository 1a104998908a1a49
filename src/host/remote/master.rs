//! The one connection to a login host, shared by all processes of a user: an OpenSSH master at a stable place.
//!
//! ```text
//! /tmp/slurm-sandbox-<uid>/   0700, see socket.rs
//!   <hash>[-N]        the master's control socket; further ones only where the login host takes no more sessions
//!   <hash>.lock       held while one is made
//!   <hash>.failed     the last login that failed: when, why, and how often in a row it was refused
//! ```
//! Whoever finds no live master makes one under the lock; ssh itself puts it into a session of its own, so that it
//! survives when a client kills our process group. It leaves ten minutes after the last use.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use openssh::Session;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::command_line::{SESSION, ssh};
use super::error::LoginError;
use super::shell::Shell;
use super::socket;
use crate::clock::epoch;
use crate::config::login_host::LoginHost;
use crate::failure::one_line;
use crate::files::Dir;
use crate::host::command::{Command, End};

/// How long an unused master stays.
const IDLE_EXPIRY_SECONDS: u32 = 600;

/// A login takes 0.2 s, through VPN and directory services some seconds.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A client with ten leases at once waits for the first to have made the master.
const LOCK_PATIENCE: Duration = Duration::from_secs(25);

/// sshd allows ten sessions a connection by default (sshd_config(5), MaxSessions), so a hundred calls at once need
/// this many connections.
const MOST_MASTERS: u32 = 16;

/// A master may be gone before its first session, with a killed client of OpenSSH 8.4; each costs a login.
const MOST_LOGINS: u32 = 3;

/// How long a full connection is waited for where no second one may be made.
const FULL_PATIENCE: Duration = Duration::from_secs(10);

/// The first pause after a refused login; it doubles with each further one, up to the longest. Sites lock accounts that
/// are refused often (docs/facts/openssh.md, "One login for many calls").
const FIRST_PAUSE_SECONDS: i64 = 2;
const LONGEST_PAUSE_SECONDS: i64 = 300;

/// What a login that failed leaves behind for the next call.
#[derive(Debug, Serialize, Deserialize)]
struct Failed {
    at: i64,
    /// How often the login host has said no; 0: it was not reached.
    refused: u32,
    /// It did not answer in time.
    #[serde(default)]
    silent: bool,
    said: String,
}

/// Why no session could be had.
enum Problem {
    NoMaster,
    Full(String),
    Silent,
    Other(String),
}

/// ssh that uses the live master at `path`, and that alone unless the master goes away.
pub fn through(target: &LoginHost, path: &Path, deadline: Duration) -> Command {
    let command = ssh(target, deadline).args([SESSION, "-oControlMaster=no", "-oLogLevel=ERROR"]).arg("-S").arg(path);
    if target.require_existing_master { command.arg("-oProxyCommand=false") } else { command }
}

/// A login host answers the request for a session at once; one that does not has been lost.
const OPEN_PATIENCE: Duration = Duration::from_secs(6);

/// Opens a session, making the master first where there is none. It takes `most` at the longest.
pub fn session(target: &LoginHost, key: impl FnOnce() -> String, most: Duration) -> Result<Shell, LoginError> {
    let first = socket::path(target, key)?;
    let alone = target.has_one_connection();
    let started = Instant::now();
    let (mut number, mut logins) = (0, 0);
    loop {
        let path = if number == 0 { first.clone() } else { PathBuf::from(format!("{}-{number}", first.display())) };
        let left = most.saturating_sub(started.elapsed());
        match open(&path, left) {
            Ok(shell) => return Ok(shell),
            Err(Problem::NoMaster) if logins < MOST_LOGINS => {
                logins += 1;
                if let Some(shell) = make(target, &path, left)? {
                    return Ok(shell);
                }
            }
            Err(Problem::NoMaster) => {
                return Err(LoginError::Lost(format!("connections to {} go away at once", target.destination())));
            }
            Err(Problem::Full(said)) if alone || number + 1 == MOST_MASTERS => {
                if started.elapsed() >= FULL_PATIENCE.min(most) {
                    return Err(unopened(target, Problem::Full(said)));
                }
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(Problem::Full(_)) => (number, logins) = (number + 1, 0),
            Err(other) => return Err(unopened(target, other)),
        }
    }
}

/// Sees to it that a master lives; where its socket is.
pub fn ensure(target: &LoginHost) -> Result<PathBuf, LoginError> {
    let path = socket::path(target, || socket::key(target))?;
    ensure_within(target, &path, START_DEADLINE)?;
    Ok(path)
}

/// Sees to it, in no more time than this, that a master lives at `path`; whether it had to be made.
pub fn ensure_within(target: &LoginHost, path: &Path, most: Duration) -> Result<bool, LoginError> {
    let live = answers(path);
    if !live {
        make(target, path, most)?;
    }
    Ok(!live)
}

/// One more session through the master that lives at `path`; `None` when the login host takes no more on it.
pub fn another(target: &LoginHost, path: &Path) -> Result<Option<Shell>, LoginError> {
    match open(path, OPEN_PATIENCE) {
        Ok(shell) => Ok(Some(shell)),
        Err(Problem::Full(_)) => Ok(None),
        Err(problem) => Err(unopened(target, problem)),
    }
}

/// Why a connection that was there gave no session.
fn unopened(target: &LoginHost, problem: Problem) -> LoginError {
    let to = target.destination();
    match problem {
        Problem::NoMaster => LoginError::Lost(format!("the connection to {to} was closed")),
        Problem::Full(said) => LoginError::Full(format!("{to} takes no more sessions: {said}")),
        Problem::Silent => {
            LoginError::Silent(format!("no session on {to}: it does not answer over the open connection"))
        }
        Problem::Other(said) => LoginError::Unreachable(format!("no session on {to}: {said}")),
    }
}

fn runtime() -> Result<Runtime, Problem> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Problem::Other(error.to_string()))
}

fn open(path: &Path, most: Duration) -> Result<Shell, Problem> {
    let session = Session::resume_mux(path.into(), None);
    Shell::open(runtime()?, session, OPEN_PATIENCE.min(most)).map_err(|error| problem(&error))
}

/// Whether a master answers there.
pub fn answers(path: &Path) -> bool {
    let Ok(runtime) = runtime() else { return false };
    let session = Session::resume_mux(path.into(), None);
    let check = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), session.check()).await });
    matches!(check, Ok(Ok(())))
}

fn problem(error: &openssh::Error) -> Problem {
    // The crate's word for a socket that nobody listens at.
    if matches!(error, openssh::Error::Disconnected) {
        return Problem::NoMaster;
    }
    let mut text = Vec::new();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
                    | io::ErrorKind::UnexpectedEof
            )
        {
            return Problem::NoMaster;
        }
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Problem::Silent;
        }
        text.push(error.to_string());
        cause = error.source();
    }
    let text = text.join(": ");
    if text.contains("refused") { Problem::Full(text) } else { Problem::Other(text) }
}

/// Makes a master, unless another process was faster; a session through it, or `None` when it is gone again.
fn make(target: &LoginHost, path: &Path, most: Duration) -> Result<Option<Shell>, LoginError> {
    if target.require_existing_master {
        return Err(LoginError::NotOpen { to: target.destination(), command: opening(target, path) });
    }
    let place = socket::beside(target, path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (lock, failed) = (format!("{name}.lock"), format!("{name}.failed"));
    let began = epoch();
    let waited = Instant::now();
    let held = place.lock(&lock, LOCK_PATIENCE.min(most)).map_err(|error| {
        let lock = place.path().join(&lock);
        LoginError::NoPlace(format!("locking {}: {error}", lock.display()))
    })?;
    let Some(_lock) = held else {
        let what = format!(
            "another process has been logging in to {} for so long that this call gave up",
            target.destination()
        );
        return Err(LoginError::Silent(what));
    };
    match open(path, most) {
        Ok(shell) => return Ok(Some(shell)),
        Err(Problem::NoMaster) => {}
        // Others have taken all of its sessions meanwhile.
        Err(Problem::Full(_)) => return Ok(None),
        Err(problem) => return Err(unopened(target, problem)),
    }
    let before = place.read(&failed, 4096).ok().flatten();
    let before = before.and_then(|bytes| serde_json::from_slice::<Failed>(&bytes).ok());
    let now = epoch();
    if let Some(before) = &before {
        // A process that we have waited for has tried it for us; one after the other they would wait for minutes.
        if waited.elapsed() >= Duration::from_secs(1) && before.at >= began {
            return Err(before.error(before.said.clone()));
        }
        let pause = pause_after(before.refused);
        let since = now.saturating_sub(before.at);
        if before.at <= now && since < pause {
            let (host, left) = (target.destination(), pause - since);
            return Err(before.error(format!(
                "{host} refused the login {since} s ago, the next try is in {left} s: {}",
                before.said
            )));
        }
    }
    match start(target, path, &place, &name, START_DEADLINE.min(most)) {
        Ok(()) => {
            place.unlink(&failed).ok();
            match open(path, OPEN_PATIENCE) {
                Ok(shell) => Ok(Some(shell)),
                Err(Problem::NoMaster | Problem::Full(_)) => Ok(None),
                Err(problem) => Err(unopened(target, problem)),
            }
        }
        Err(error) => {
            let silent = matches!(error, LoginError::Silent(_));
            let refused = matches!(error, LoginError::Refused(_));
            let refused = if refused { before.map_or(0, |before| before.refused) + 1 } else { 0 };
            let note = Failed { at: epoch(), refused, silent, said: error.to_string() };
            if let Ok(bytes) = serde_json::to_vec(&note) {
                place.put(&failed, &bytes).ok();
            }
            Err(error)
        }
    }
}

impl Failed {
    fn error(&self, said: String) -> LoginError {
        match self {
            Failed { refused: 1.., .. } => LoginError::Refused(said),
            Failed { silent: true, .. } => LoginError::Silent(said),
            _ => LoginError::Unreachable(said),
        }
    }
}

fn pause_after(times: u32) -> i64 {
    if times == 0 {
        return 0;
    }
    // Far beyond the longest pause, and no overflow.
    let doublings = (times - 1).min(16);
    (FIRST_PAUSE_SECONDS << doublings).min(LONGEST_PAUSE_SECONDS)
}

/// A host that cannot be reached may be asked again at once; one that has said no may not.
fn is_refusal(said: &str) -> bool {
    ["Permission denied", "Too many authentication", "verification failed", "Connection closed", "Connection reset"]
        .iter()
        .any(|text| said.contains(text))
}

fn start(target: &LoginHost, path: &Path, place: &Dir, name: &str, deadline: Duration) -> Result<(), LoginError> {
    let name = format!("{name}.log");
    let log = place.path().join(&name);
    place.put(&name, b"").map_err(|error| LoginError::NoPlace(format!("making {}: {error}", log.display())))?;
    // Nobody listens there any more; ssh would refuse to replace it.
    if let (Some(parent), Some(file)) = (path.parent(), path.file_name().and_then(|file| file.to_str())) {
        Dir::open_root(parent).and_then(|dir| dir.unlink(file)).ok();
    }
    let end = ssh(target, deadline)
        .arg("-E")
        .arg(&log)
        .args(["-fMN", "-oLogLevel=ERROR", "-oServerAliveInterval=10", "-oServerAliveCountMax=3"])
        .arg(format!("-oControlPersist={IDLE_EXPIRY_SECONDS}"))
        .arg(format!("-oControlPath={}", path.display()))
        .args(["--", &target.destination()])
        .launch()
        .map_err(|error| LoginError::NoSsh(format!("ssh could not be started: {error}")))?;
    let said = place.read(&name, 64 * 1024).ok().flatten().unwrap_or_default();
    place.unlink(&name).ok();
    let to = target.destination();
    match end {
        End::Exit(0) => Ok(()),
        End::DeadlinePassed => {
            Err(LoginError::Silent(format!("logging in to {to} took longer than {} s", deadline.as_secs())))
        }
        _ => {
            let said = format!("logging in to {to} failed: {}", one_line(&String::from_utf8_lossy(&said)));
            Err(if is_refusal(&said) { LoginError::Refused(said) } else { LoginError::Unreachable(said) })
        }
    }
}

/// The command by which a user opens the connection by hand. `auto`, since with `yes` ssh leaves the socket of a dead
/// master alone and goes on without one of its own.
pub fn opening(target: &LoginHost, path: &Path) -> String {
    let config = target.ssh_config.as_ref().map(|path| format!("-F {} ", path.display())).unwrap_or_default();
    format!(
        "ssh {config}-fN -o ControlMaster=auto -o ControlPath={} -o ControlPersist=8h -o ServerAliveInterval=10 {}",
        path.display(),
        target.destination()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> LoginHost {
        LoginHost { host: "login.example".into(), user: Some("alice".into()), ..LoginHost::default() }
    }

    #[test]
    fn pauses_after_refusals_grow_and_end() {
        assert_eq!([0, 1, 2, 3, 8, 60, u32::MAX].map(pause_after), [0, 2, 4, 8, 256, 300, 300]);
    }

    #[test]
    fn where_only_the_user_may_log_in_the_command_is_told() {
        let target = LoginHost { require_existing_master: true, ..target() };
        let said = session(&target, || socket::key(&target), START_DEADLINE).unwrap_err().to_string();
        assert!(
            said.contains("ssh -fN -o ControlMaster=auto -o ControlPath=") && said.ends_with("alice@login.example"),
            "{said}"
        );
    }
}
