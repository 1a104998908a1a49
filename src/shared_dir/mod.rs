//! The shared dir: what this program and the runner tell each other, by files that both can see.
//!
//! ```text
//! <shared-dir>/ 0700
//!   format                        version of this tree; in a newer one no lease is made, its leases are released
//!   seats/                        the same tree again, for the seats of spares in the place of leases
//!   <leaseId>/permit              the one nonce that may run; without it a job ends by itself
//!   <leaseId>/<nonce>/            one attempt; the job's directory and, for the reference adapter's runners, its
//!                                 CBX_STATE_DIR, with jobs/<leaseId>/ below it
//!     authorized_keys answered kept deadline          written by this program
//!     endpoint.json ending.json taken warning sshd.log slurm-<job>.out    written by the runner
//! ```
//! Everything here can be rewritten by sandboxed code: nothing read here is trusted.

pub mod client_files;
pub mod endpoint_file;
mod guarded;
mod local;
mod remote;
mod watch;

use std::cell::Cell;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Deserialize;

use crate::failure::{Failure, Kind, one_line};
use crate::files::{Part, random_hex};
use crate::host::Host;
use crate::lease::record::Record;
use crate::lease::{LeaseId, Nonce};
use crate::slurm::job::JobId;
pub use guarded::look_ahead;
use local::Local;
use remote::Remote;
pub use watch::Watch;

/// Format of the tree. 1: the first.
pub(crate) const TREE_FORMAT: u32 = 1;

/// Longest part of the job's output that goes into a message.
const TAIL_BYTES: u64 = 2048;

/// The tree of the seats.
pub const SEATS: &str = "seats";

/// Starts the names of what was moved aside to be removed.
const ASIDE: &str = ".gone-";

/// What one call spends on the removal of what it moved aside, for all its leases together; cleanup does the rest. A client
/// waits for these calls.
const CLEARING: Duration = Duration::from_secs(2);

/// What a killed call has left is removed after this: no call takes so long, and the clocks of file servers differ by less.
const OLD_ENOUGH: Duration = Duration::from_secs(3600);

/// Why something in the cluster's directories was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The file system does not answer. What was asked may be done later all the same.
    Hung(PathBuf),
    /// There is no such directory: it was never made, or its file system is not mounted.
    Away(PathBuf),
    /// The login host could not be asked, or was lost before it answered.
    Unreachable(String),
    /// The file system refused it.
    Failed(String),
}

impl Error {
    /// The failure of a call that could not do without it; `what` was being done, to which lease.
    pub fn failure(&self, what: impl Into<String>) -> Failure {
        let (kind, remedy) = match self {
            Error::Hung(_) => {
                (Kind::Storage, "wait until the file system answers, or have its admins look; then repeat the call")
            }
            Error::Away(_) => {
                (Kind::Storage, "mount its file system; if it was removed for good, make an empty one with mode 0700")
            }
            Error::Unreachable(_) => (Kind::SlurmUnavailable, "see `slurm-sandbox doctor`; then repeat the call"),
            Error::Failed(_) => (
                Kind::Storage,
                "it must be a directory of your own with mode 0700, with space left, visible on login host and nodes, and not of a newer version",
            ),
        };
        Failure::new(kind, what).remedy(remedy).cause(self.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Hung(root) => write!(f, "the file system of {} does not answer", root.display()),
            Error::Away(root) => write!(f, "{} is not there: is its file system mounted?", root.display()),
            Error::Unreachable(why) | Error::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Failed(error.to_string())
    }
}

/// One attempt's directory in a shared dir.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AttemptDir {
    root: PathBuf,
    lease: LeaseId,
    nonce: Nonce,
    /// Nonces of attempts of the same lease before this one.
    given_up: Vec<Nonce>,
}

impl AttemptDir {
    /// The nonces that are this lease's own. A permit with another one is that of another state dir, which has a lease of the
    /// same id; it is not ours to take.
    fn own_nonces(&self) -> impl Iterator<Item = &Nonce> {
        std::iter::once(&self.nonce).chain(&self.given_up)
    }

    fn attempt_path(&self) -> PathBuf {
        self.root.join(self.lease.as_str()).join(self.nonce.as_str())
    }

    /// What the permit holds that lets this attempt run, to the byte.
    fn permit_text(&self) -> String {
        format!("{}\n", self.nonce)
    }
}

/// The shared dir of one lease.
#[derive(Debug)]
pub struct SharedDir(Side);

#[derive(Debug)]
enum Side {
    Local(Local),
    Remote(Remote),
}

/// Whether an attempt may run. The runner judges by the same table (tests/fixtures/permit-cases).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permit {
    /// The permit names this attempt and nothing else.
    Held,
    /// The lease's directory can be read, and what lies there is no permit of this attempt: its job ends by itself. A release
    /// that was killed leaves a lease like this.
    Lost,
    /// Nobody can say; it moves nothing.
    Unknown,
}

/// How much of a lease is left in its shared dir. Its names are gone either way, durably: no job finds a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Gone,
    /// Files of it lie aside, for [`sweep`].
    AsideUnfinished,
}

/// What a sweep has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Directories that are gone.
    pub removed: usize,
    /// Directories for which there was no time; the next sweep goes on.
    pub unfinished: usize,
    /// Directories that do not go: which entry, and why.
    pub stuck: Vec<String>,
}

impl Swept {
    /// What was removed, as a line for people.
    pub fn done(&self, root: &Path) -> Option<String> {
        let count = self.removed;
        (count > 0).then(|| format!("in {}: removed what {count} release(s) had left", root.display()))
    }

    /// What is left and why, as a line for people.
    pub fn left(&self, root: &Path) -> Option<String> {
        let count = self.unfinished + self.stuck.len();
        let why = self.stuck.first().map_or("the next cleanup goes on", String::as_str);
        let left = format!("in {}: of {count} released lease(s) files are left: {why}", root.display());
        (count > 0).then_some(left)
    }
}

/// Whether the marker of a lease that was handed out is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    Yes,
    No,
    Unknown,
}

/// What an attempt's directory shows without asking Slurm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    Nothing,
    /// A runner published an endpoint: its bytes, or why they could not be read.
    Endpoint(Result<Vec<u8>, String>),
    /// The runner wrote why it ended.
    Ending,
}

/// All that a wait looks for in a shared dir.
#[derive(Debug)]
pub struct Snapshot {
    pub permit: Permit,
    /// The marker is there.
    pub answered: bool,
    /// The job's output is there, so it has started; never told by a login host, which answers at once by itself.
    pub begun: bool,
    pub notice: Result<Notice, Error>,
    /// Why the login host could not be asked; nothing else says anything then.
    pub unreachable: Option<String>,
}

impl Snapshot {
    fn empty() -> Snapshot {
        Snapshot {
            permit: Permit::Unknown,
            answered: false,
            begun: false,
            notice: Ok(Notice::Nothing),
            unreachable: None,
        }
    }
}

/// How long a lease may live, as its job is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    Unlimited,
    /// The seconds that are left, which the job counts by its own clock, and the end by the clock of this machine, for
    /// runners of older versions.
    Ends {
        left: u64,
        at: i64,
    },
}

/// The runner's note about its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub reason: String,
    pub detail: String,
}

impl SharedDir {
    /// That of its job: where a lease has taken a seat, the seat's.
    pub fn of(record: &Record) -> SharedDir {
        let root = if record.seat.is_some() { record.shared_dir.join(SEATS) } else { record.shared_dir.clone() };
        SharedDir::at(record, root, record.job_owner(), record.attempt.nonce.clone())
    }

    /// What attempts of its own have left of a lease that has taken a seat since.
    pub fn before_its_seat(record: &Record) -> Option<SharedDir> {
        let nonce = record.given_up.last().filter(|_| record.seat.is_some())?;
        Some(SharedDir::at(record, record.shared_dir.clone(), record.lease_id(), nonce.clone()))
    }

    fn at(record: &Record, root: PathBuf, lease: &LeaseId, nonce: Nonce) -> SharedDir {
        let attempt = AttemptDir { root, lease: lease.clone(), nonce, given_up: record.given_up.clone() };
        SharedDir(match Host::of(record.submit.as_ref()) {
            Host::Here => Side::Local(Local(attempt)),
            Host::Login(login) => Side::Remote(Remote::new(attempt, login)),
        })
    }

    fn attempt(&self) -> &AttemptDir {
        match &self.0 {
            Side::Local(local) => &local.0,
            Side::Remote(remote) => &remote.attempt,
        }
    }

    /// The attempt's directory, as the job is told it.
    pub fn attempt_path(&self) -> PathBuf {
        self.attempt().attempt_path()
    }

    /// The permit's path, as the job is told it.
    pub fn permit_path(&self) -> PathBuf {
        let attempt = self.attempt();
        attempt.root.join(attempt.lease.as_str()).join("permit")
    }

    /// Makes the attempt's directory and gives it the permit, which takes it from every earlier attempt.
    pub fn grant(&self, public_key: &[u8]) -> Result<()> {
        let granted = match &self.0 {
            Side::Local(local) => local.grant(public_key),
            Side::Remote(remote) => remote.grant(public_key),
        };
        granted.map_err(|error| {
            let AttemptDir { root, lease, .. } = self.attempt();
            error.failure(format!("preparing the shared dir {} for lease {lease}", root.display())).into()
        })
    }

    /// Takes the permit away, durably: jobs of this lease end by themselves, whenever they start. What sandboxed code put in
    /// the place of the permit or of the whole directory is moved away, never followed.
    ///
    /// # Errors
    /// The permit may still be there.
    pub fn revoke(&self) -> Result<(), Error> {
        match &self.0 {
            Side::Local(local) => local.revoke(),
            Side::Remote(remote) => remote.revoke(),
        }
    }

    /// All that a wait looks for. A login host goes on looking for as long as `patience` while there is nothing to see; here,
    /// a look costs little and the caller looks again with the same watch.
    pub fn snapshot(&self, watch: &mut Watch, patience: Duration) -> Snapshot {
        match &self.0 {
            Side::Local(local) => local.snapshot(watch),
            Side::Remote(remote) => remote.snapshot(patience),
        }
    }

    /// Whether this attempt may run.
    pub fn permit(&self) -> Permit {
        match &self.0 {
            Side::Local(local) => local.permit(),
            Side::Remote(remote) => remote.snapshot(Duration::ZERO).permit,
        }
    }

    /// The runner's note about its end.
    pub fn ending(&self) -> Option<Ending> {
        #[derive(Deserialize)]
        struct Note {
            reason: String,
            #[serde(default)]
            detail: String,
        }
        let bytes = match &self.0 {
            Side::Local(local) => local.ending(),
            Side::Remote(remote) => remote.ending(),
        };
        let note: Note = serde_json::from_slice(&bytes?).ok()?;
        let clean = |text: String| one_line(&text).chars().take(300).collect::<String>();
        Some(Ending { reason: clean(note.reason), detail: clean(note.detail) })
    }

    /// The last lines of the job's output.
    pub fn output_tail(&self, job: &JobId) -> Option<String> {
        self.tail(&format!("slurm-{}.out", job.id), TAIL_BYTES)
    }

    /// The last bytes of a file of the attempt, as text.
    pub fn tail(&self, name: &str, max: u64) -> Option<String> {
        let text = String::from_utf8_lossy(&self.part(name, None, max)?.bytes).into_owned();
        (!text.trim().is_empty()).then_some(text)
    }

    /// At most `max` bytes of a file of the attempt from `start` on; without it, its last ones.
    pub fn part(&self, name: &str, start: Option<u64>, max: u64) -> Option<Part> {
        match &self.0 {
            Side::Local(local) => local.part(name, start, max),
            Side::Remote(remote) => remote.part(name, start, max),
        }
    }

    /// Sets a marker for the runner: `answered` or `kept`.
    pub fn mark(&self, marker: &str, now: i64) -> Result<(), Error> {
        self.put(marker, &format!("{now}\n"))
    }

    /// Tells the runner when to end and after how much idleness; `None` leaves its own setting.
    pub fn set_deadline(&self, ttl: Option<Lifetime>, idle: Option<u64>, state: &str) -> Result<(), Error> {
        let mut text = match ttl {
            Some(Lifetime::Ends { left, at }) => format!("ttl={at}\nttl_left={left}\n"),
            Some(Lifetime::Unlimited) => "ttl=0\nttl_left=never\n".to_owned(),
            None => String::new(),
        };
        if let Some(idle) = idle {
            text.push_str(&format!("idle={idle}\n"));
        }
        if !state.is_empty() && state.len() <= 32 && state.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            text.push_str(&format!("state={state}\n"));
        }
        self.put("deadline", &text)
    }

    fn put(&self, name: &str, text: &str) -> Result<(), Error> {
        match &self.0 {
            Side::Local(local) => local.put(name, text),
            Side::Remote(remote) => remote.put(name, text),
        }
    }

    /// Takes all that is shared of this lease away by one rename, durably, and removes what there is time for; only once its
    /// jobs have ended, or they would run into a void. The rest, and what a file system does not let go yet (NFS keeps open
    /// files as `.nfs…`), is for [`sweep`].
    ///
    /// # Errors
    /// The lease's directory, and its permit, may still be there.
    pub fn remove(&self) -> Result<Removed, Error> {
        let removed = match &self.0 {
            Side::Local(local) => local.remove(),
            Side::Remote(remote) => remote.remove(),
        };
        // What earlier calls have left goes by the way, where there is time.
        if removed == Ok(Removed::Gone) && !SWEPT.replace(true) {
            clearing(|time| match &self.0 {
                Side::Local(local) => local::sweep(&local.0.root, time),
                Side::Remote(remote) => remote.sweep(time),
            })
            .ok();
        }
        removed
    }
}

thread_local! {
    /// What this call, which is one thread, has spent of [`CLEARING`].
    static SPENT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// Whether this call has swept a shared dir by the way.
    static SWEPT: Cell<bool> = const { Cell::new(false) };
}

/// Removes within what is left of [`CLEARING`]. What a lease has by itself is removed in less than the time that does not count.
fn clearing<T>(remove: impl FnOnce(Duration) -> T) -> T {
    const UNCOUNTED: Duration = Duration::from_millis(100);
    let began = Instant::now();
    let removed = remove(CLEARING.saturating_sub(SPENT.get()).max(UNCOUNTED));
    SPENT.set(SPENT.get() + began.elapsed().saturating_sub(UNCOUNTED));
    removed
}

fn aside_name(lease: &LeaseId) -> io::Result<String> {
    Ok(format!("{ASIDE}{lease}-{}", random_hex(4)?))
}

/// Files that a killed call has left in a shared dir itself: of a write, or of doctor.
fn is_leftover(name: &str) -> bool {
    [".format.", "doctor-", ".doctor-"].iter().any(|start| name.starts_with(start))
}

/// The lease whose work directory an entry of a work root was, before its runner moved it aside, or we did. One that has its
/// own name still is nobody's here to judge: its job may be another state dir's, on a cluster that is not asked. The next runner
/// on its node knows.
fn work_entry(name: &str) -> Option<LeaseId> {
    let rest = match name.strip_prefix(ASIDE).and_then(|rest| rest.rsplit_once('-')) {
        Some((lease, _)) => lease,
        None => {
            let (lease, nonce) = name.strip_prefix('.')?.split_once('.')?;
            Nonce::parse(nonce).map(|_| lease)?
        }
    };
    LeaseId::parse(rest)
}

/// Removes in small parts, so that a file system which hangs is told from much to do.
fn in_parts(time: Duration, mut part: impl FnMut(Duration) -> Result<Swept, Error>) -> Result<Swept, Error> {
    let until = Instant::now() + time;
    let mut removed = 0;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let swept = part(left.min(CLEARING))?;
        removed += swept.removed;
        if swept.unfinished == 0 || left <= CLEARING {
            return Ok(Swept { removed, ..swept });
        }
    }
}

/// What we moved aside is nobody's any more, whoever has the lease now.
fn is_to_go(name: &str, is_known: impl Fn(&LeaseId) -> bool) -> bool {
    name.starts_with(ASIDE) || work_entry(name).is_some_and(|lease| !is_known(&lease))
}

/// Removes what earlier calls had to leave in a shared dir, as far as the time allows.
pub fn sweep(host: &Host, root: &Path, time: Duration) -> Result<Swept, Error> {
    match host {
        Host::Here => local::sweep(root, time),
        Host::Login(login) => remote::sweep(login, root, time),
    }
}

/// Removes the work directories that nobody is left to remove: the runner was killed, or had no time. `is_known` is asked of
/// each lease that has one, after they were listed; it says yes of a lease with a record or a job, and when it cannot tell. Only
/// directories of this user are removed, never through a link or on another mount.
pub fn sweep_work_root(
    host: &Host,
    root: &Path,
    is_known: impl Fn(&LeaseId) -> bool,
    time: Duration,
) -> Result<Swept, Error> {
    let names = match host {
        Host::Here => local::list_work_root(root)?,
        Host::Login(login) => remote::list_work_root(login, root)?,
    };
    let names: Vec<_> = names.into_iter().filter(|name| is_to_go(name, &is_known)).collect();
    if names.is_empty() {
        return Ok(Swept::default());
    }
    match host {
        Host::Here => local::clear_work_root(root, names, time),
        Host::Login(login) => remote::clear_work_root(login, root, names, time),
    }
}

/// Absolute paths without links and `..`, as far as they exist there.
pub fn resolve(host: &Host, paths: &[&Path]) -> Result<Vec<PathBuf>, Error> {
    match host {
        Host::Here => paths.iter().map(|path| local::resolve(path)).collect(),
        Host::Login(login) => remote::resolve(login, paths),
    }
}

/// The shared dir of a job that started in an attempt's directory, for a lease whose record is lost.
pub fn root_of(directory: &str, lease: &LeaseId, nonce: &Nonce) -> Option<PathBuf> {
    let attempt = Path::new(directory);
    let root = attempt.parent()?.parent()?;
    let whole = root.is_absolute() && root.join(lease.as_str()).join(nonce.as_str()) == attempt;
    whole.then(|| root.to_owned())
}

/// Whether a shared dir says that an attempt was handed out, for a lease whose record is lost.
pub fn marked(host: &Host, root: &Path, lease: &LeaseId, nonce: &Nonce) -> Marked {
    match host {
        Host::Here => local::marked(root, lease, nonce),
        Host::Login(login) => remote::marked(login, root, lease, nonce),
    }
}

/// The permit that a shared dir holds for a lease, for a lease whose record is lost.
pub fn permitted(host: &Host, root: &Path, lease: &LeaseId) -> Result<Option<Nonce>, Error> {
    match host {
        Host::Here => local::permitted(root, lease),
        Host::Login(login) => remote::permitted(login, root, lease),
    }
}

#[cfg(test)]
mod tests;
