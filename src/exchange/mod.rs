//! The shared dir: what this program and the runner tell each other, by files that both can see.
//!
//! ```text
//! <shared-dir>/ 0700
//!   format                        version of this tree; in a newer one no lease is made, its leases are released
//!   <leaseId>/permit              the one nonce that may run; without it a job ends by itself
//!   <leaseId>/<nonce>/            one attempt; the job's directory and, for the reference adapter's runners, its
//!                                 CBX_STATE_DIR, with jobs/<leaseId>/ below it
//!     authorized_keys answered kept deadline          written by this program
//!     endpoint.json ending.json taken warning sshd.log slurm-<job>.out    written by the runner
//! ```
//! Everything here can be rewritten by sandboxed code: nothing read here is trusted.

mod far;
mod near;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;

use crate::failure::{Failure, Kind, one_line};
use crate::host::Host;
use crate::lease::record::Record;
use crate::lease::{LeaseId, Nonce};
use crate::slurm::job::JobId;
use far::Far;
use near::Near;

/// Format of the tree. 1: the first.
const TREE_FORMAT: u32 = 1;

/// Longest part of the job's output that goes into a message.
const TAIL_BYTES: u64 = 2048;

/// Starts the names of what could not be removed yet.
const ASIDE: &str = ".gone-";

/// One attempt's place in a shared dir.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    lease: LeaseId,
    nonce: Nonce,
}

impl Place {
    fn attempt_path(&self) -> PathBuf {
        self.root.join(self.lease.as_str()).join(self.nonce.as_str())
    }
}

/// The shared dir of one lease.
#[derive(Debug)]
pub struct Exchange(Side);

#[derive(Debug)]
enum Side {
    Near(Near),
    Far(Far),
}

/// What an attempt's directory shows without asking Slurm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Nothing,
    /// A runner published an endpoint: its bytes, or why they could not be read.
    Endpoint(Result<Vec<u8>, String>),
    /// The runner wrote why it ended.
    Ending,
}

/// All that a wait looks for in a shared dir.
#[derive(Debug)]
pub struct Glance {
    /// The lease's directory is readable, and the permit in it is missing or names another attempt: its job ends by
    /// itself. A release that was killed leaves a lease like this.
    pub lost_permit: bool,
    /// The marker is there.
    pub answered: bool,
    /// The job's output is there, so it has started; never told by a login host, which answers at once by itself.
    pub begun: bool,
    pub look: Result<Look>,
    /// Why the login host could not be asked; nothing else says anything then.
    pub unasked: Option<String>,
}

impl Glance {
    fn unasked(why: String) -> Glance {
        Glance { lost_permit: false, answered: false, begun: false, look: Ok(Look::Nothing), unasked: Some(why) }
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

impl Exchange {
    pub fn of(record: &Record) -> Exchange {
        let place = Place {
            root: record.shared_dir.clone(),
            lease: record.lease_id().clone(),
            nonce: record.attempt.nonce.clone(),
        };
        Exchange(match Host::of(record.submit.as_ref()) {
            Host::Here => Side::Near(Near(place)),
            Host::Login(login) => Side::Far(Far { place, login }),
        })
    }

    fn place(&self) -> &Place {
        match &self.0 {
            Side::Near(near) => &near.0,
            Side::Far(far) => &far.place,
        }
    }

    /// The attempt's directory, as the job is told it.
    pub fn attempt_path(&self) -> PathBuf {
        self.place().attempt_path()
    }

    /// The permit's path, as the job is told it.
    pub fn permit_path(&self) -> PathBuf {
        let place = self.place();
        place.root.join(place.lease.as_str()).join("permit")
    }

    /// Makes the attempt's directory and gives it the permit, which takes it from every earlier attempt.
    pub fn grant(&self, public_key: &[u8]) -> Result<()> {
        let granted = match &self.0 {
            Side::Near(near) => near.grant(public_key).map_err(anyhow::Error::from),
            Side::Far(far) => far.grant(public_key),
        };
        granted.map_err(|error| {
            let Place { root, lease, .. } = self.place();
            Failure::new(Kind::Storage, format!("preparing the shared dir {} for lease {lease}", root.display()))
                .remedy(
                    "it must be a directory of your own with mode 0700, with space left, visible on login host and nodes, and not of a newer version",
                )
                .cause(format!("{error:#}"))
                .into()
        })
    }

    /// Takes the permit away: jobs of this lease end by themselves, whenever they start. What sandboxed code put in
    /// the place of the permit or of the whole directory is moved away, never followed.
    pub fn revoke(&self) -> Result<()> {
        match &self.0 {
            Side::Near(near) => near.revoke(),
            Side::Far(far) => far.revoke(),
        }
    }

    /// All that a wait looks for. A login host goes on looking for as long as `patience` while there is nothing to see; here,
    /// a look costs nothing and the caller looks again.
    pub fn glance(&self, patience: Duration) -> Glance {
        match &self.0 {
            Side::Near(near) => near.glance(),
            Side::Far(far) => far.glance(patience),
        }
    }

    /// Whether this attempt has lost its permit.
    pub fn has_lost_permit(&self) -> bool {
        match &self.0 {
            Side::Near(near) => near.has_lost_permit(),
            Side::Far(far) => far.glance(Duration::ZERO).lost_permit,
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
            Side::Near(near) => near.ending(),
            Side::Far(far) => far.ending(),
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
        let bytes = match &self.0 {
            Side::Near(near) => near.tail(name, max),
            Side::Far(far) => far.tail(name, max),
        };
        let text = String::from_utf8_lossy(&bytes?).into_owned();
        (!text.trim().is_empty()).then_some(text)
    }

    /// Sets a marker for the runner: `answered` or `kept`.
    pub fn mark(&self, marker: &str, now: i64) -> Result<()> {
        self.put(marker, &format!("{now}\n"))
    }

    /// Tells the runner when to end and after how much idleness; `None` leaves its own setting.
    pub fn set_deadline(&self, ttl: Option<Lifetime>, idle: Option<u64>, state: &str) -> Result<()> {
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

    fn put(&self, name: &str, text: &str) -> Result<()> {
        match &self.0 {
            Side::Near(near) => near.put(name, text),
            Side::Far(far) => far.put(name, text),
        }
    }

    /// Removes all that is shared of this lease; only once its jobs have ended, or they would run into a void. What a
    /// file system does not let go yet (NFS keeps open files as `.nfs…`) is moved aside for [`sweep`].
    pub fn remove(&self) -> Result<()> {
        match &self.0 {
            Side::Near(near) => near.remove(),
            Side::Far(far) => far.remove(),
        }
    }
}

/// Removes what earlier removals had to leave.
pub fn sweep(host: &Host, root: &Path) {
    match host {
        Host::Here => near::sweep(root),
        Host::Login(login) => far::sweep(login, root),
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
pub fn answered(host: &Host, root: &Path, lease: &LeaseId, nonce: &Nonce) -> bool {
    match host {
        Host::Here => near::answered(root, lease, nonce),
        Host::Login(login) => far::answered(login, root, lease, nonce),
    }
}

/// The permit that a shared dir holds for a lease, for a lease whose record is lost.
pub fn permitted(host: &Host, root: &Path, lease: &LeaseId) -> Option<Nonce> {
    match host {
        Host::Here => near::permitted(root, lease),
        Host::Login(login) => far::permitted(login, root, lease),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the runner and the sandboxed code")]
mod tests {
    use super::*;
    use crate::lease::record::tests::record;

    fn exchange() -> (tempfile::TempDir, Exchange) {
        let temp = tempfile::tempdir().unwrap();
        let record = Record { shared_dir: temp.path().join("shared"), ..record() };
        (temp, Exchange::of(&record))
    }

    fn look(exchange: &Exchange) -> Look {
        exchange.glance(Duration::ZERO).look.unwrap()
    }

    #[test]
    fn an_attempt_from_permit_to_removal() {
        let (_temp, exchange) = exchange();
        exchange.revoke().unwrap();
        exchange.grant(b"ssh-ed25519 AAAA").unwrap();
        assert_eq!(std::fs::read_to_string(exchange.place().root.join("format")).unwrap(), "1\n");
        assert_eq!(std::fs::read_to_string(exchange.permit_path()).unwrap(), "00112233445566ff\n");
        assert_eq!(
            permitted(&Host::Here, &exchange.place().root, &exchange.place().lease),
            Some(exchange.place().nonce.clone())
        );
        assert_eq!(look(&exchange), Look::Nothing);
        let reference = exchange.attempt_path().join("jobs").join(exchange.place().lease.as_str());
        std::fs::write(reference.join("endpoint.json"), "{}").unwrap();
        assert_eq!(look(&exchange), Look::Endpoint(Ok(b"{}".to_vec())));
        exchange.mark("answered", 5).unwrap();
        assert!(exchange.glance(Duration::ZERO).answered && !exchange.attempt_path().join("kept").exists());
        for (ttl, text) in [
            (Some(Lifetime::Ends { left: 5, at: 9 }), "ttl=9\nttl_left=5\nidle=0\nstate=running\n"),
            (Some(Lifetime::Unlimited), "ttl=0\nttl_left=never\nidle=0\nstate=running\n"),
            (None, "idle=0\nstate=running\n"),
        ] {
            exchange.set_deadline(ttl, Some(0), "running").unwrap();
            assert_eq!(std::fs::read_to_string(exchange.attempt_path().join("deadline")).unwrap(), text);
        }
        let begun = || exchange.glance(Duration::ZERO).begun;
        assert!(!begun());
        std::fs::write(exchange.attempt_path().join("slurm-7.out"), "").unwrap();
        assert!(begun() && !exchange.has_lost_permit());
        exchange.revoke().unwrap();
        assert!(!exchange.permit_path().exists() && exchange.has_lost_permit());
        exchange.remove().unwrap();
        assert!(!exchange.has_lost_permit());
        assert_eq!(look(&exchange), Look::Nothing);
    }

    #[test]
    fn a_newer_tree_gets_no_lease_and_lets_one_go() {
        let (_temp, exchange) = exchange();
        exchange.grant(b"k").unwrap();
        std::fs::write(exchange.place().root.join("format"), "2\n").unwrap();
        let error = crate::failure::of(&exchange.grant(b"k").unwrap_err());
        assert_eq!(error.kind, Kind::Storage);
        assert!(error.to_string().contains("newer"), "{error}");
        exchange.revoke().unwrap();
        exchange.remove().unwrap();
        assert!(!exchange.permit_path().exists());
    }

    #[test]
    fn strange_files_are_refused_not_read() {
        let (temp, exchange) = exchange();
        exchange.grant(b"k").unwrap();
        let path = exchange.attempt_path().join("endpoint.json");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(look(&exchange), Look::Endpoint(Err(_))));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        assert!(matches!(look(&exchange), Look::Endpoint(Err(_))));
        std::fs::remove_dir_all(exchange.attempt_path()).unwrap();
        std::os::unix::fs::symlink(temp.path(), exchange.attempt_path()).unwrap();
        assert!(exchange.glance(Duration::ZERO).look.is_err());
    }

    #[test]
    fn a_permit_is_taken_away_whatever_lies_in_its_place() {
        let (temp, exchange) = exchange();
        let outside = temp.path().join("thesis");
        std::fs::write(&outside, "words").unwrap();
        exchange.grant(b"k").unwrap();
        std::fs::remove_file(exchange.permit_path()).unwrap();
        std::fs::create_dir_all(exchange.permit_path().join("deeper")).unwrap();
        exchange.revoke().unwrap();
        assert!(!exchange.permit_path().exists());
        exchange.remove().unwrap();
        let lease = exchange.place().root.join(exchange.place().lease.as_str());
        std::os::unix::fs::symlink(temp.path(), &lease).unwrap();
        exchange.revoke().unwrap();
        assert!(!lease.exists());
        assert_eq!(std::fs::read_to_string(outside).unwrap(), "words");
    }

    #[test]
    fn a_jobs_directory_tells_the_shared_dir() {
        let record = record();
        let root = |directory: &str| root_of(directory, record.lease_id(), &record.attempt.nonce);
        assert_eq!(root("/scratch/x/cbx_4b38f35d4e31/00112233445566ff"), Some(PathBuf::from("/scratch/x")));
        assert_eq!(root("/scratch/x/other/00112233445566ff"), None);
        assert_eq!(root("/"), None);
        assert_eq!(root(""), None);
    }

    #[test]
    fn an_ending_is_cleaned_for_a_message() {
        let (_temp, exchange) = exchange();
        exchange.grant(b"k").unwrap();
        let text = r#"{"reason":"idle\u001b[31m","detail":"no use\nfor 1800 s"}"#;
        std::fs::write(exchange.attempt_path().join("ending.json"), text).unwrap();
        assert_eq!(look(&exchange), Look::Ending);
        assert_eq!(exchange.ending(), Some(Ending { reason: "idle[31m".into(), detail: "no use / for 1800 s".into() }));
    }
}
