//! The shared dir: what this program and the runner tell each other, by files that both can see.
//!
//! ```text
//! <shared-dir>/ 0700
//!   <leaseId>/permit              the one nonce that may run; without it a job ends by itself
//!   <leaseId>/<nonce>/            one attempt; the job's directory and, for the reference adapter's runners, its
//!                                 CBX_STATE_DIR, with jobs/<leaseId>/ below it
//!     authorized_keys answered kept deadline          written by this program
//!     endpoint.json ending.json taken warning sshd.log slurm-<job>.out    written by the runner
//! ```
//! Everything here can be rewritten by sandboxed code: nothing read here is trusted.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::endpoint;
use crate::failure::{Failure, Kind, one_line};
use crate::files::{Dir, random_hex};
use crate::lease::record::Record;
use crate::lease::{LeaseId, Nonce};
use crate::slurm::job::JobId;

/// Longest part of the job's output that goes into a message.
const TAIL_BYTES: u64 = 2048;

/// The shared dir of one lease.
#[derive(Debug)]
pub struct Exchange {
    root: PathBuf,
    lease: LeaseId,
    nonce: Nonce,
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

/// The runner's note about its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    pub reason: String,
    pub detail: String,
}

impl Exchange {
    pub fn of(record: &Record) -> Exchange {
        Exchange {
            root: record.shared_dir.clone(),
            lease: record.lease_id().clone(),
            nonce: record.attempt.nonce.clone(),
        }
    }

    /// The attempt's directory, as the job is told it.
    pub fn attempt_path(&self) -> PathBuf {
        self.root.join(self.lease.as_str()).join(self.nonce.as_str())
    }

    /// The permit's path, as the job is told it.
    pub fn permit_path(&self) -> PathBuf {
        self.root.join(self.lease.as_str()).join("permit")
    }

    /// Makes the attempt's directory and gives it the permit, which takes it from every earlier attempt.
    pub fn grant(&self, public_key: &[u8]) -> Result<()> {
        let grant = || -> io::Result<()> {
            let lease = Dir::private_root(&self.root)?.make_subdir(self.lease.as_str())?;
            let attempt = lease.make_subdir(self.nonce.as_str())?;
            attempt.make_subdir("jobs")?.make_subdir(self.lease.as_str())?;
            attempt.put("authorized_keys", public_key)?;
            lease.write("permit", format!("{}\n", self.nonce).as_bytes())
        };
        grant().map_err(|error| {
            Failure::new(
                Kind::Storage,
                format!("preparing the shared dir {} for lease {}", self.root.display(), self.lease),
            )
            .remedy(
                "it must be a directory of your own with mode 0700, with space left, visible on login host and nodes",
            )
            .cause(error.to_string())
            .into()
        })
    }

    /// Takes the permit away: jobs of this lease end by themselves, whenever they start. What sandboxed code put in
    /// the place of the permit or of the whole directory is moved away, never followed.
    pub fn revoke(&self) -> Result<()> {
        let Some(root) = self.root_dir()? else { return Ok(()) };
        match root.subdir(self.lease.as_str()) {
            Ok(None) => Ok(()),
            // A removal that could not be synced is done all the same, and another place would not be synced either.
            Ok(Some(lease)) => match lease.remove_tree("permit") {
                Ok(()) => lease.sync(),
                Err(_) => self.move_aside(&root),
            },
            Err(_) => self.move_aside(&root),
        }
        .context("removing the permit")
    }

    /// Whether this attempt has lost its permit: the lease's directory is readable and the permit in it is missing or
    /// names another attempt. Its job ends by itself then; a release that was killed leaves a lease like this.
    pub fn has_lost_permit(&self) -> bool {
        let Ok(Some(lease)) = self.lease_dir() else { return false };
        match lease.read("permit", endpoint::MAX_BYTES) {
            Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).trim_end() != self.nonce.as_str(),
            Ok(None) => lease.names().is_ok_and(|names| !names.iter().any(|name| name == "permit")),
            Err(_) => false,
        }
    }

    fn root_dir(&self) -> Result<Option<Dir>> {
        match Dir::open_root(&self.root) {
            Ok(root) => Ok(Some(root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("opening the shared dir {}", self.root.display())),
        }
    }

    fn move_aside(&self, root: &Dir) -> io::Result<()> {
        let aside = format!("{ASIDE}{}-{}", self.lease, random_hex(4)?);
        root.rename(self.lease.as_str(), root, &aside)?;
        let synced = root.sync();
        // What cannot be removed now is left for the sweep.
        root.remove_tree(&aside).ok();
        synced
    }

    fn lease_dir(&self) -> Result<Option<Dir>> {
        Ok(match self.root_dir()? {
            Some(root) => root.subdir(self.lease.as_str())?,
            None => None,
        })
    }

    fn attempt_dir(&self) -> Result<Option<Dir>> {
        Ok(match self.lease_dir()? {
            Some(lease) => lease.subdir(self.nonce.as_str())?,
            None => None,
        })
    }

    /// Looks for an endpoint by reading the directory, never by opening a name that may be missing: NFS remembers
    /// for half a minute that a file was not there (hazards.md D1).
    pub fn look(&self) -> Result<Look> {
        let Some(attempt) = self.attempt_dir()? else {
            return Ok(Look::Nothing);
        };
        let names = attempt.names()?;
        let has = |name: &str| names.iter().any(|found| found == name);
        if has(endpoint::FILE) {
            return Ok(Look::Endpoint(read(&attempt)));
        }
        if has("ending.json") {
            return Ok(Look::Ending);
        }
        if let Some(jobs) = attempt.subdir("jobs")?
            && let Some(theirs) = jobs.subdir(self.lease.as_str())?
            && theirs.names()?.iter().any(|name| name == endpoint::FILE)
        {
            return Ok(Look::Endpoint(read(&theirs)));
        }
        Ok(Look::Nothing)
    }

    /// The runner's note about its end.
    pub fn ending(&self) -> Option<Ending> {
        #[derive(Deserialize)]
        struct Note {
            reason: String,
            #[serde(default)]
            detail: String,
        }
        let bytes = self.attempt_dir().ok()??.read("ending.json", endpoint::MAX_BYTES).ok()??;
        let note: Note = serde_json::from_slice(&bytes).ok()?;
        let clean = |text: String| one_line(&text).chars().take(300).collect::<String>();
        Some(Ending { reason: clean(note.reason), detail: clean(note.detail) })
    }

    /// The last lines of the job's output.
    pub fn output_tail(&self, job: &JobId) -> Option<String> {
        self.tail(&format!("slurm-{}.out", job.id), TAIL_BYTES)
    }

    /// The last bytes of a file of the attempt, as text.
    pub fn tail(&self, name: &str, max: u64) -> Option<String> {
        let bytes = self.attempt_dir().ok()??.read_tail(name, max).ok()??;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (!text.trim().is_empty()).then_some(text)
    }

    /// Sets a marker for the runner: `answered` or `kept`.
    pub fn mark(&self, marker: &str, now: i64) -> Result<()> {
        self.put(marker, &format!("{now}\n"))
    }

    /// Tells the runner when to end and after how much idleness; `None` leaves its own setting.
    pub fn set_deadline(&self, ttl: Option<i64>, idle: Option<u64>, state: &str) -> Result<()> {
        let mut text = String::new();
        if let Some(ttl) = ttl {
            text.push_str(&format!("ttl={ttl}\n"));
        }
        if let Some(idle) = idle {
            text.push_str(&format!("idle={idle}\n"));
        }
        if !state.is_empty() && state.len() <= 32 && state.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            text.push_str(&format!("state={state}\n"));
        }
        self.put("deadline", &text)
    }

    fn put(&self, name: &str, text: &str) -> Result<()> {
        let attempt =
            self.attempt_dir()?.with_context(|| format!("the directory {} is gone", self.attempt_path().display()))?;
        attempt.put(name, text.as_bytes()).with_context(|| format!("writing {name}"))
    }

    /// Whether a marker is there.
    pub fn has(&self, name: &str) -> bool {
        self.attempt_dir().ok().flatten().is_some_and(|dir| dir.modified(name).is_some())
    }

    /// Removes all that is shared of this lease; only once its jobs have ended, or they would run into a void. What a
    /// file system does not let go yet (NFS keeps open files as `.nfs…`) is moved aside for [`sweep`].
    pub fn remove(&self) -> Result<()> {
        let Some(root) = self.root_dir()? else { return Ok(()) };
        root.remove_tree(self.lease.as_str())
            .or_else(|_| self.move_aside(&root))
            .context("removing the lease's shared files")
    }
}

/// Starts the names of what could not be removed yet.
const ASIDE: &str = ".gone-";

/// Removes what earlier removals had to leave.
pub fn sweep(root: &Path) {
    let Ok(root) = Dir::open_root(root) else { return };
    for name in root.names().unwrap_or_default().iter().filter(|name| name.starts_with(ASIDE)) {
        root.remove_tree(name).ok();
    }
}

fn read(dir: &Dir) -> Result<Vec<u8>, String> {
    match dir.read(endpoint::FILE, endpoint::MAX_BYTES) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err("it went away".to_owned()),
        Err(error) => Err(error.to_string()),
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
pub fn answered(root: &Path, lease: &LeaseId, nonce: &Nonce) -> bool {
    let marker = || -> io::Result<bool> {
        let Some(lease) = Dir::open_root(root)?.subdir(lease.as_str())? else { return Ok(false) };
        Ok(lease.subdir(nonce.as_str())?.is_some_and(|attempt| attempt.modified("answered").is_some()))
    };
    marker().unwrap_or(false)
}

/// The permit that a shared dir holds for a lease, for a lease whose record is lost.
pub fn permitted(root: &Path, lease: &LeaseId) -> Option<Nonce> {
    let bytes = Dir::open_root(root).ok()?.subdir(lease.as_str()).ok()??.read("permit", 64).ok()??;
    Nonce::parse(String::from_utf8_lossy(&bytes).trim())
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

    #[test]
    fn an_attempt_from_permit_to_removal() {
        let (_temp, exchange) = exchange();
        exchange.revoke().unwrap();
        exchange.grant(b"ssh-ed25519 AAAA").unwrap();
        assert_eq!(std::fs::read_to_string(exchange.permit_path()).unwrap(), "00112233445566ff\n");
        assert_eq!(permitted(&exchange.root, &exchange.lease), Some(exchange.nonce.clone()));
        assert_eq!(exchange.look().unwrap(), Look::Nothing);
        let reference = exchange.attempt_path().join("jobs").join(exchange.lease.as_str());
        std::fs::write(reference.join("endpoint.json"), "{}").unwrap();
        assert_eq!(exchange.look().unwrap(), Look::Endpoint(Ok(b"{}".to_vec())));
        exchange.mark("answered", 5).unwrap();
        assert!(exchange.has("answered") && !exchange.has("kept"));
        exchange.set_deadline(Some(9), Some(0), "running").unwrap();
        assert_eq!(
            std::fs::read_to_string(exchange.attempt_path().join("deadline")).unwrap(),
            "ttl=9\nidle=0\nstate=running\n"
        );
        assert!(!exchange.has_lost_permit());
        exchange.revoke().unwrap();
        assert!(!exchange.permit_path().exists() && exchange.has_lost_permit());
        exchange.remove().unwrap();
        assert!(!exchange.has_lost_permit());
        assert_eq!(exchange.look().unwrap(), Look::Nothing);
    }

    #[test]
    fn strange_files_are_refused_not_read() {
        let (temp, exchange) = exchange();
        exchange.grant(b"k").unwrap();
        let path = exchange.attempt_path().join("endpoint.json");
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(exchange.look().unwrap(), Look::Endpoint(Err(_))));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, vec![b'x'; 70_000]).unwrap();
        assert!(matches!(exchange.look().unwrap(), Look::Endpoint(Err(_))));
        std::fs::remove_dir_all(exchange.attempt_path()).unwrap();
        std::os::unix::fs::symlink(temp.path(), exchange.attempt_path()).unwrap();
        assert!(exchange.look().is_err());
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
        let lease = exchange.root.join(exchange.lease.as_str());
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
        assert_eq!(exchange.look().unwrap(), Look::Ending);
        assert_eq!(exchange.ending(), Some(Ending { reason: "idle[31m".into(), detail: "no use / for 1800 s".into() }));
    }
}
