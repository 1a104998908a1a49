//! The shared dir as a login host sees it: one script, which runs there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{
    ASIDE, AttemptDir, Error, Marked, Notice, Permit, Removed, Snapshot, Swept, TREE_FORMAT, aside_name, clearing,
    in_parts,
};
use crate::failure::one_line;
use crate::files::Part;
use crate::host::command::{End, quoted};
use crate::host::remote::LoginError;
use crate::host::{Host, Login, Output};
use crate::lease::{LeaseId, Nonce};

/// What runs there.
const SCRIPT: &str = include_str!("remote.sh");

/// A healthy file system answers in milliseconds, a loaded one in seconds.
const PATIENCE: Duration = Duration::from_secs(6);

/// How long the script there may take to tell that its file system does not answer. The session is given up after that.
const TO_TELL: Duration = Duration::from_secs(2);

/// A file system that did not answer is not asked again sooner: each time costs as much.
const HUNG_PAUSE: Duration = Duration::from_secs(30);

/// How often the login host looks while a call waits: bash's own `read` is the pause, so a look costs no process.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Where the script runs.
#[derive(Debug, Clone)]
pub enum Bash {
    Remote(Arc<Login>),
    /// For tests of the script: with these lines before it.
    #[cfg(test)]
    Here(&'static str),
}

impl From<&Arc<Login>> for Bash {
    fn from(login: &Arc<Login>) -> Bash {
        Bash::Remote(Arc::clone(login))
    }
}

impl Bash {
    fn script(&self, text: &str, input: &[u8], deadline: Duration) -> Result<Output, LoginError> {
        match self {
            Bash::Remote(login) => login.script(text, input, deadline),
            #[cfg(test)]
            Bash::Here(lines) => {
                let text = format!("{lines}\n{text}");
                let command = crate::host::Command::new("bash", deadline).args(["--noprofile", "--norc", "-c", &text]);
                command.input(input.to_vec()).run().map_err(|error| LoginError::Unreachable(error.to_string()))
            }
        }
    }

    fn host(&self) -> Host {
        match self {
            Bash::Remote(login) => Host::Login(Arc::clone(login)),
            #[cfg(test)]
            Bash::Here(_) => Host::Here,
        }
    }
}

/// What the script said when it came to its end.
struct Said {
    code: i32,
    stdout: Vec<u8>,
    stderr: String,
}

/// The script's own codes, see remote.sh.
const AWAY: i32 = 4;
const UNFINISHED: i32 = 3;

/// File systems of login hosts that did not answer, and until when they are taken to be so.
static HUNG: Mutex<BTreeMap<(String, PathBuf), Instant>> = Mutex::new(BTreeMap::new());

/// Runs a task of the script, see there; `longer` than a file system needs where the task keeps a time of its own.
fn run(bash: &Bash, root: &Path, words: &[&str], input: &[u8], longer: Duration) -> Result<Said, Error> {
    let place = bash.host();
    let key = (place.key(), root.to_owned());
    let hung = || HUNG.lock().unwrap_or_else(PoisonError::into_inner);
    if hung().get(&key).is_some_and(|until| Instant::now() < *until) {
        return Err(Error::Hung(root.to_owned()));
    }
    let left = place.left().saturating_sub(TO_TELL);
    let patience = (PATIENCE + longer).min(left).max(Duration::from_secs(1));
    let root_word = root.to_string_lossy();
    let seconds = patience.as_secs().to_string();
    let (task, more) = words.split_first().unwrap_or((&"", &[]));
    let all = [*task, seconds.as_str(), &*root_word].into_iter().chain(more.iter().copied());
    let all: Vec<_> = all.map(quoted).collect();
    let text = format!("set -- {}\n{SCRIPT}", all.join(" "));
    let output =
        bash.script(&text, input, patience + TO_TELL).map_err(|error| Error::Unreachable(error.to_string()))?;
    if output.end == End::ConnectionLost {
        return Err(Error::Unreachable(output.said()));
    }
    let stderr = one_line(&output.stderr_text());
    // The last line is the script's word that it came to its end.
    let ended = output.stdout.strip_suffix(b"\n").and_then(|text| {
        let at = text.iter().rposition(|byte| *byte == b'\n')?;
        let code = std::str::from_utf8(&text[at + 1..]).ok()?.strip_prefix("ended ")?.parse().ok()?;
        Some((code, text[..at].to_vec()))
    });
    match ended {
        Some((AWAY, _)) => Err(Error::Away(root.to_owned())),
        Some((code, stdout)) => Ok(Said { code, stdout, stderr }),
        None if output.end == End::Exit(124) => {
            hung().insert(key, Instant::now() + HUNG_PAUSE);
            Err(Error::Hung(root.to_owned()))
        }
        None => Err(Error::Unreachable(output.said())),
    }
}

impl Said {
    fn done(self) -> Result<Said, Error> {
        match self.code {
            0 | UNFINISHED => Ok(self),
            code if self.stderr.is_empty() => Err(Error::Failed(format!("exit {code}"))),
            _ => Err(Error::Failed(self.stderr)),
        }
    }

    fn removed(self) -> Result<Removed, Error> {
        self.done().map(|said| if said.code == UNFINISHED { Removed::AsideUnfinished } else { Removed::Gone })
    }

    fn swept(self) -> Result<Swept, Error> {
        let said = self.done()?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let values =
            |name: &'static str| text.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix(' '));
        let number = |name| values(name).find_map(|value| value.parse().ok()).unwrap_or_default();
        let stuck = values("stuck").map(one_line).collect();
        Ok(Swept { removed: number("removed"), unfinished: number("unfinished"), stuck })
    }
}

/// The shared dir of one lease on a cluster.
#[derive(Debug)]
pub struct Remote {
    pub attempt: AttemptDir,
    bash: Bash,
}

impl Remote {
    pub fn new(attempt: AttemptDir, login: Arc<Login>) -> Remote {
        Remote { attempt, bash: Bash::Remote(login) }
    }

    /// The same script in a bash of this machine, after these lines.
    #[cfg(test)]
    pub fn here(attempt: AttemptDir, lines: &'static str) -> Remote {
        Remote { attempt, bash: Bash::Here(lines) }
    }

    fn run(&self, task: &str, more: &[&str], input: &[u8], longer: Duration) -> Result<Said, Error> {
        let AttemptDir { root, lease, nonce, .. } = &self.attempt;
        let words = [task, lease.as_str(), nonce.as_str()].into_iter().chain(more.iter().copied());
        run(&self.bash, root, &words.collect::<Vec<_>>(), input, longer)
    }

    pub fn grant(&self, public_key: &[u8]) -> Result<(), Error> {
        self.run("grant", &[&TREE_FORMAT.to_string()], public_key, Duration::ZERO)?.done().map(|_| ())
    }

    pub fn revoke(&self) -> Result<(), Error> {
        let aside = aside_name(&self.attempt.lease)?;
        clearing(|time| self.run("revoke", &self.ending_words(&aside, &seconds(time)), &[], time))?.done().map(|_| ())
    }

    pub fn remove(&self) -> Result<Removed, Error> {
        let aside = aside_name(&self.attempt.lease)?;
        clearing(|time| self.run("remove", &self.ending_words(&aside, &seconds(time)), &[], time))?.removed()
    }

    fn ending_words<'a>(&'a self, aside: &'a str, seconds: &'a str) -> Vec<&'a str> {
        [aside, seconds].into_iter().chain(self.attempt.own_nonces().map(Nonce::as_str)).collect()
    }

    pub fn sweep(&self, time: Duration) -> Result<Swept, Error> {
        sweep(self.bash.clone(), &self.attempt.root, time)
    }

    pub fn put(&self, name: &str, text: &str) -> Result<(), Error> {
        self.run("put", &[name], text.as_bytes(), Duration::ZERO)?.done().map(|_| ())
    }

    pub fn ending(&self) -> Option<Vec<u8>> {
        self.read("ending", &[])
    }

    pub fn part(&self, name: &str, start: Option<u64>, max: u64) -> Option<Part> {
        let start = start.map_or("last".to_owned(), |start| start.to_string());
        let mut bytes = self.read("part", &[name, &start, &max.to_string()])?;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let start = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
        bytes.drain(..=end);
        Some(Part { start, bytes })
    }

    fn read(&self, task: &str, more: &[&str]) -> Option<Vec<u8>> {
        Some(self.run(task, more, &[], Duration::ZERO).ok()?.done().ok()?.stdout)
    }

    /// All that a wait looks for. While there is nothing to see, the login host goes on looking for as long as `patience` and
    /// answers at once when there is.
    pub fn snapshot(&self, patience: Duration) -> Snapshot {
        let looks = patience.as_millis() / LOOK_INTERVAL.as_millis() + 1;
        let more = [&looks.to_string(), &LOOK_INTERVAL.as_secs_f64().to_string()];
        match self.run("snapshot", &more.map(|text| text as &str), &[], patience) {
            Err(Error::Unreachable(why)) => Snapshot { unreachable: Some(why), ..Snapshot::empty() },
            Err(Error::Away(_)) => Snapshot::empty(),
            Err(error) => Snapshot { notice: Err(error), ..Snapshot::empty() },
            Ok(said) => {
                parse(&said).unwrap_or_else(|| Snapshot { unreachable: Some(said.stderr), ..Snapshot::empty() })
            }
        }
    }
}

/// What timeout(1) takes there; the script counts in whole seconds.
fn seconds(time: Duration) -> String {
    time.as_secs().max(1).to_string()
}

/// Reads what a snapshot printed.
fn parse(said: &Said) -> Option<Snapshot> {
    let mut rest = said.stdout.as_slice();
    let mut line = |name: &str| {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let line = std::str::from_utf8(&rest[..end]).ok()?.strip_prefix(name)?.strip_prefix(' ')?.to_owned();
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(line)
    };
    let (permit, answered, notice) = (line("permit")?, line("answered")?, line("notice")?);
    let permit = match permit.as_str() {
        "held" => Permit::Held,
        "lost" => Permit::Lost,
        _ => Permit::Unknown,
    };
    let notice = match notice.as_str() {
        "nothing" => Ok(Notice::Nothing),
        "ending" => Ok(Notice::Ending),
        "endpoint" if said.code == 0 => Ok(Notice::Endpoint(Ok(rest.to_vec()))),
        "endpoint" => Ok(Notice::Endpoint(Err(said.stderr.clone()))),
        _ => Err(Error::Failed("a directory of the lease cannot be entered, or is something else".to_owned())),
    };
    Some(Snapshot { permit, answered: answered == "yes", begun: false, notice, unreachable: None })
}

/// Removes what earlier calls had to leave.
pub fn sweep(bash: impl Into<Bash>, root: &Path, time: Duration) -> Result<Swept, Error> {
    let bash = bash.into();
    in_parts(time, |part| match run(&bash, root, &["sweep", "", "", &seconds(part)], &[], part) {
        Err(Error::Away(_)) => Ok(Swept::default()),
        said => said?.swept(),
    })
}

/// What a work root holds of leases.
pub fn list_work_root(bash: impl Into<Bash>, root: &Path) -> Result<Vec<String>, Error> {
    let said = match run(&bash.into(), root, &["list-work", "", ""], &[], Duration::ZERO) {
        Err(Error::Away(_)) => return Ok(vec![]),
        said => said?.done()?,
    };
    let names = String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    Ok(names.into_iter().filter(|name| super::work_entry(name).is_some()).collect())
}

/// Removes these entries of a work root.
pub fn clear_work_root(
    bash: impl Into<Bash>,
    root: &Path,
    mut names: Vec<String>,
    time: Duration,
) -> Result<Swept, Error> {
    let bash = bash.into();
    in_parts(time, |part| {
        let aside = |name: &String| match super::work_entry(name) {
            Some(lease) if !name.starts_with(ASIDE) => aside_name(&lease).ok(),
            _ => Some(name.clone()),
        };
        let asides: Vec<_> = names.iter().filter_map(aside).collect();
        let seconds = seconds(part);
        let mut words = vec!["clear-work", "", "", &seconds];
        words.extend(names.iter().zip(&asides).flat_map(|(name, aside)| [name.as_str(), aside.as_str()]));
        let swept = run(&bash, root, &words, &[], part)?.swept()?;
        // What could be moved aside lies there now.
        names = asides;
        Ok(swept)
    })
}

/// Whether a shared dir says that an attempt was handed out, for a lease whose record is lost.
pub fn marked(bash: impl Into<Bash>, root: &Path, lease: &LeaseId, nonce: &Nonce) -> Marked {
    match run(&bash.into(), root, &["marked", lease.as_str(), nonce.as_str()], &[], Duration::ZERO) {
        Ok(said) if said.stdout == b"answered yes\n" => Marked::Yes,
        Ok(said) if said.stdout == b"answered no\n" => Marked::No,
        _ => Marked::Unknown,
    }
}

/// The permit that a shared dir holds for a lease, for a lease whose record is lost.
pub fn permitted(bash: impl Into<Bash>, root: &Path, lease: &LeaseId) -> Result<Option<Nonce>, Error> {
    let said = run(&bash.into(), root, &["permitted", lease.as_str(), ""], &[], Duration::ZERO)?;
    Ok(Nonce::parse(String::from_utf8_lossy(&said.done()?.stdout).trim_end()))
}

/// Removes what the client keeps of a lease in a home, see [`super::client_files`].
pub fn clear_client(bash: impl Into<Bash>, home: &Path, lease: &LeaseId, key: &str) -> Result<(), Error> {
    run(&bash.into(), home, &["clear-client", lease.as_str(), "", key], &[], Duration::ZERO)?.done().map(|_| ())
}

/// Absolute paths without links and `..`, as far as they exist there.
pub fn resolve(bash: impl Into<Bash>, paths: &[&Path]) -> Result<Vec<PathBuf>, Error> {
    let texts: Vec<_> = paths.iter().map(|path| path.to_string_lossy()).collect();
    let words: Vec<_> = ["resolve", "", ""].into_iter().chain(texts.iter().skip(1).map(|text| &**text)).collect();
    let Some(root) = paths.first() else { return Ok(vec![]) };
    let said = run(&bash.into(), root, &words, &[], Duration::ZERO)?.done()?;
    let resolved: Vec<_> = String::from_utf8_lossy(&said.stdout).lines().map(PathBuf::from).collect();
    if resolved.len() == paths.len() { Ok(resolved) } else { Err(Error::Failed(said.stderr)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_hangs_there_is_told_and_not_asked_again() {
        let temp = tempfile::tempdir().unwrap();
        let record = crate::lease::record::tests::record();
        let (lease, nonce) = (record.lease_id().clone(), record.attempt.nonce.clone());
        let attempt = AttemptDir { root: temp.path().join("shared"), lease, nonce, given_up: vec![] };
        Remote::here(attempt.clone(), "").grant(b"k").unwrap();
        let remote = Remote::here(attempt.clone(), "sync() { sleep 300; }");
        let _bound = Host::Here.end_by(Instant::now() + TO_TELL + Duration::from_secs(2));
        let began = Instant::now();
        assert_eq!(remote.revoke(), Err(Error::Hung(attempt.root.clone())));
        assert!(began.elapsed() < Duration::from_secs(60));
        let began = Instant::now();
        for _ in 0..1000 {
            assert_eq!(remote.remove(), Err(Error::Hung(attempt.root.clone())));
        }
        assert!(began.elapsed() < Duration::from_secs(60));
        assert_eq!(remote.snapshot(Duration::ZERO).permit, Permit::Unknown);
    }

    fn said(code: i32, stdout: &str, stderr: &str) -> Said {
        Said { code, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn a_snapshot_is_read_whole_or_not_at_all() {
        let snapshot = parse(&said(0, "permit held\nanswered yes\nnotice endpoint\n{}\n", "")).unwrap();
        assert!(snapshot.permit == Permit::Held && snapshot.answered);
        assert_eq!(snapshot.notice.unwrap(), Notice::Endpoint(Ok(b"{}\n".to_vec())));
        let strange =
            parse(&said(1, "permit held\nanswered no\nnotice endpoint\n", "endpoint.json is a link")).unwrap();
        assert!(matches!(strange.notice, Ok(Notice::Endpoint(Err(_)))));
        assert!(parse(&said(0, "permit lost\nanswered no\nnotice strange\n", "")).unwrap().notice.is_err());
        assert!(parse(&said(0, "permit lost\nansw", "")).is_none());
        assert!(parse(&said(1, "", "bash: error")).is_none());
    }
}
