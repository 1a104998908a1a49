//! The shared dir as files of this machine.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::{ASIDE, AttemptDir, Notice, Snapshot, TREE_FORMAT};
use crate::endpoint;
use crate::files::{Dir, random_hex};
use crate::lease::{LeaseId, Nonce};

/// The shared dir of one lease on this machine.
#[derive(Debug)]
pub struct Local(pub AttemptDir);

impl Local {
    pub fn grant(&self, public_key: &[u8]) -> io::Result<()> {
        let root = Dir::private_root(&self.0.root)?;
        match root.read("format", 16)? {
            None => root.write("format", format!("{TREE_FORMAT}\n").as_bytes())?,
            Some(bytes) => match String::from_utf8_lossy(&bytes).trim().parse::<u32>() {
                Ok(format) if format <= TREE_FORMAT => {}
                _ => {
                    let file = root.path().join("format");
                    return Err(io::Error::other(format!("a newer slurm-sandbox wrote {}", file.display())));
                }
            },
        }
        let lease = root.make_subdir(self.0.lease.as_str())?;
        let attempt = lease.make_subdir(self.0.nonce.as_str())?;
        attempt.make_subdir("jobs")?.make_subdir(self.0.lease.as_str())?;
        attempt.put("authorized_keys", public_key)?;
        lease.write("permit", format!("{}\n", self.0.nonce).as_bytes())
    }

    /// Takes the permit away: jobs of this lease end by themselves, whenever they start. What sandboxed code put in
    /// the place of the permit or of the whole directory is moved away, never followed.
    pub fn revoke(&self) -> Result<()> {
        let Some(root) = self.root_dir()? else { return Ok(()) };
        match root.subdir(self.0.lease.as_str()) {
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
            Ok(Some(bytes)) => String::from_utf8_lossy(&bytes).trim_end() != self.0.nonce.as_str(),
            Ok(None) => lease.names().is_ok_and(|names| !names.iter().any(|name| name == "permit")),
            Err(_) => false,
        }
    }

    fn root_dir(&self) -> Result<Option<Dir>> {
        match Dir::open_root(&self.0.root) {
            Ok(root) => Ok(Some(root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("opening the shared dir {}", self.0.root.display())),
        }
    }

    fn move_aside(&self, root: &Dir) -> io::Result<()> {
        let aside = format!("{ASIDE}{}-{}", self.0.lease, random_hex(4)?);
        root.rename(self.0.lease.as_str(), root, &aside)?;
        let synced = root.sync();
        // What cannot be removed now is left for the sweep.
        root.remove_tree(&aside).ok();
        synced
    }

    fn lease_dir(&self) -> Result<Option<Dir>> {
        Ok(match self.root_dir()? {
            Some(root) => root.subdir(self.0.lease.as_str())?,
            None => None,
        })
    }

    fn attempt_dir(&self) -> Result<Option<Dir>> {
        Ok(match self.lease_dir()? {
            Some(lease) => lease.subdir(self.0.nonce.as_str())?,
            None => None,
        })
    }

    /// Looks for an endpoint by reading the directory, never by opening a name that may be missing: NFS remembers
    /// for half a minute that a file was not there (hazards.md D1). `begun` is set when the job's output is there.
    fn notice(&self, attempt: &Dir, begun: &mut bool) -> Result<Notice> {
        let names = attempt.names()?;
        *begun = names.iter().any(|name| name.starts_with("slurm-") && name.ends_with(".out"));
        let has = |name: &str| names.iter().any(|found| found == name);
        if has(endpoint::FILE) {
            return Ok(Notice::Endpoint(read(attempt)));
        }
        if has("ending.json") {
            return Ok(Notice::Ending);
        }
        if let Some(jobs) = attempt.subdir("jobs")?
            && let Some(theirs) = jobs.subdir(self.0.lease.as_str())?
            && theirs.names()?.iter().any(|name| name == endpoint::FILE)
        {
            return Ok(Notice::Endpoint(read(&theirs)));
        }
        Ok(Notice::Nothing)
    }

    pub fn ending(&self) -> Option<Vec<u8>> {
        self.attempt_dir().ok()??.read("ending.json", endpoint::MAX_BYTES).ok()?
    }

    pub fn tail(&self, name: &str, max: u64) -> Option<Vec<u8>> {
        self.attempt_dir().ok()??.read_tail(name, max).ok()?
    }

    pub fn put(&self, name: &str, text: &str) -> Result<()> {
        let attempt = self
            .attempt_dir()?
            .with_context(|| format!("the directory {} is gone", self.0.attempt_path().display()))?;
        attempt.put(name, text.as_bytes()).with_context(|| format!("writing {name}"))
    }

    /// All that a wait looks for.
    pub fn snapshot(&self) -> Snapshot {
        let (mut answered, mut begun) = (false, false);
        let notice = match self.attempt_dir() {
            Ok(Some(attempt)) => {
                answered = attempt.modified("answered").is_some();
                self.notice(&attempt, &mut begun)
            }
            Ok(None) => Ok(Notice::Nothing),
            Err(error) => Err(error),
        };
        Snapshot { lost_permit: self.has_lost_permit(), answered, begun, notice, unasked: None }
    }

    /// Removes all that is shared of this lease; only once its jobs have ended, or they would run into a void. What a
    /// file system does not let go yet (NFS keeps open files as `.nfs…`) is moved aside for [`sweep`].
    pub fn remove(&self) -> Result<()> {
        let Some(root) = self.root_dir()? else { return Ok(()) };
        root.remove_tree(self.0.lease.as_str())
            .or_else(|_| self.move_aside(&root))
            .context("removing the lease's shared files")
    }
}

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
