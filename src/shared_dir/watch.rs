//! The looks of one wait at its attempt. What a look opens stays open for the next one, so that the many looks of a long wait cost a file
//! system little. Only good news is taken from what was open before: that a permit or a directory is missing is told by a path that
//! is walked anew, and every [`BY_NAME`] each path is.

use std::io;
use std::time::Instant;

use super::endpoint_file;
use super::{AttemptDir, Error, Notice, Permit, Snapshot};
use crate::files::{BY_NAME, Dir, KeptFiles};

/// What is open between two looks.
#[derive(Debug, Default)]
pub struct Watch(Option<Open>);

#[derive(Debug)]
struct Open {
    of: AttemptDir,
    since: Instant,
    lease: Dir,
    permit: KeptFiles,
    attempt: Dir,
    /// Where runners of the reference adapter publish, and whether it was listed since it is open.
    jobs: Option<Dir>,
    jobs_listed: bool,
}

impl Watch {
    /// Looks once.
    pub(super) fn poll(&mut self, attempt: &AttemptDir) -> Snapshot {
        if let Some(open) = self.0.as_mut().filter(|open| open.is_current(attempt)) {
            let snapshot = open.snapshot();
            if snapshot.permit == Permit::Held && snapshot.notice.is_ok() {
                return snapshot;
            }
        }
        self.0 = None;
        match Open::by_path(attempt) {
            Ok(Lookup::Attempt(mut open)) => {
                let snapshot = open.snapshot();
                self.0 = Some(*open);
                snapshot
            }
            Ok(Lookup::Lease(lease, why)) => {
                let permit = attempt.permit_in(&lease).unwrap_or(Permit::Unknown);
                Snapshot { permit, notice: why.map_or(Ok(Notice::Nothing), Err), ..Snapshot::empty() }
            }
            Ok(Lookup::Nothing) => Snapshot::empty(),
            Err(error) => Snapshot { notice: Err(error.into()), ..Snapshot::empty() },
        }
    }
}

/// How far the path to an attempt leads.
#[derive(Debug)]
enum Lookup {
    Nothing,
    /// Not to the attempt; why, if that is more than its absence.
    Lease(Dir, Option<Error>),
    Attempt(Box<Open>),
}

impl Open {
    fn by_path(attempt: &AttemptDir) -> io::Result<Lookup> {
        let lease = match Dir::open_root(&attempt.root) {
            Ok(root) => root.subdir(attempt.lease.as_str())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let Some(lease) = lease else { return Ok(Lookup::Nothing) };
        Ok(match lease.subdir(attempt.nonce.as_str()) {
            Ok(Some(dir)) => Lookup::Attempt(Box::new(Open {
                of: attempt.clone(),
                since: Instant::now(),
                lease,
                permit: KeptFiles::default(),
                attempt: dir,
                jobs: None,
                jobs_listed: false,
            })),
            Ok(None) => Lookup::Lease(lease, None),
            Err(error) => Lookup::Lease(lease, Some(error.into())),
        })
    }

    /// Whether the paths still lead to what is open, as far as that can be told without walking them anew.
    fn is_current(&self, attempt: &AttemptDir) -> bool {
        self.of == *attempt
            && self.since.elapsed() < BY_NAME
            && self.attempt.is_in_place()
            && self.jobs.as_ref().is_none_or(Dir::is_in_place)
    }

    fn snapshot(&mut self) -> Snapshot {
        let mut snapshot = Snapshot { permit: self.permit(), ..Snapshot::empty() };
        snapshot.answered = self.attempt.modified("answered").is_some();
        snapshot.notice = self.notice(&mut snapshot.begun).map_err(Error::from);
        snapshot
    }

    fn permit(&mut self) -> Permit {
        let text = self.of.permit_text();
        // One byte more than a permit has.
        match self.permit.read(&self.lease, "permit", text.len() as u64 + 1) {
            Ok(Some(bytes)) if bytes == text.as_bytes() => Permit::Held,
            _ => self.of.permit_in(&self.lease).unwrap_or(Permit::Unknown),
        }
    }

    /// Looks for an endpoint by reading the directory, never by opening a name that may be missing: NFS remembers
    /// for half a minute that a file was not there (docs/facts/files.md, "Names that show up late"). `begun` is set when the job's output is there.
    fn notice(&mut self, begun: &mut bool) -> io::Result<Notice> {
        let names = self.attempt.names()?;
        *begun = names.iter().any(|name| name.starts_with("slurm-") && name.ends_with(".out"));
        let has = |name: &str| names.iter().any(|found| found == name);
        if has(endpoint_file::FILE) {
            return Ok(Notice::Endpoint(read(&self.attempt)));
        }
        if has("ending.json") {
            return Ok(Notice::Ending);
        }
        // Before its job runs a runner publishes nothing. Where its output goes elsewhere the first look has to do.
        if !*begun && std::mem::replace(&mut self.jobs_listed, true) {
            return Ok(Notice::Nothing);
        }
        if self.jobs.is_none()
            && let Some(jobs) = self.attempt.subdir("jobs")?
        {
            self.jobs = jobs.subdir(self.of.lease.as_str())?;
        }
        if let Some(theirs) = &self.jobs
            && theirs.names()?.iter().any(|name| name == endpoint_file::FILE)
        {
            return Ok(Notice::Endpoint(read(theirs)));
        }
        Ok(Notice::Nothing)
    }
}

fn read(dir: &Dir) -> Result<Vec<u8>, String> {
    match dir.read(endpoint_file::FILE, endpoint_file::MAX_BYTES) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err("it went away".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the runner and the sandboxed code")]
mod tests {
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::tests::attempt;
    use super::*;

    fn granted() -> (tempfile::TempDir, AttemptDir) {
        let (temp, attempt) = attempt();
        fs::create_dir_all(theirs(&attempt)).unwrap();
        fs::write(permit(&attempt), attempt.permit_text()).unwrap();
        (temp, attempt)
    }

    fn permit(attempt: &AttemptDir) -> PathBuf {
        attempt.root.join(attempt.lease.as_str()).join("permit")
    }

    fn theirs(attempt: &AttemptDir) -> PathBuf {
        attempt.attempt_path().join("jobs").join(attempt.lease.as_str())
    }

    /// What a second look sees after a change; the first one has seen the permit, and nothing else of a job that has started.
    fn second(change: impl Fn(&AttemptDir, &mut Watch)) -> (Permit, Notice) {
        let (_temp, attempt) = granted();
        fs::write(attempt.attempt_path().join("slurm-7.out"), "").unwrap();
        let mut watch = Watch::default();
        let first = watch.poll(&attempt);
        assert_eq!((first.permit, first.notice), (Permit::Held, Ok(Notice::Nothing)));
        assert!(watch.0.is_some());
        change(&attempt, &mut watch);
        let second = watch.poll(&attempt);
        (second.permit, second.notice.unwrap())
    }

    #[test]
    fn a_second_look_sees_what_a_first_would() {
        let endpoint = |path: PathBuf| fs::write(path.join("endpoint.json"), "{}").unwrap();
        let published = (Permit::Held, Notice::Endpoint(Ok(b"{}".to_vec())));
        assert_eq!(second(|_, _| {}), (Permit::Held, Notice::Nothing));
        assert_eq!(second(|attempt, _| endpoint(attempt.attempt_path())), published);
        assert_eq!(second(|attempt, _| endpoint(theirs(attempt))), published);
        let ending = |attempt: &AttemptDir, _: &mut Watch| {
            fs::write(attempt.attempt_path().join("ending.json"), "{}").unwrap();
        };
        assert_eq!(second(ending), (Permit::Held, Notice::Ending));
        let revoked = |attempt: &AttemptDir, _: &mut Watch| fs::remove_file(permit(attempt)).unwrap();
        assert_eq!(second(revoked), (Permit::Lost, Notice::Nothing));
        let another = |attempt: &AttemptDir, _: &mut Watch| fs::write(permit(attempt), "ffeeddccbbaa0011\n").unwrap();
        assert_eq!(second(another), (Permit::Lost, Notice::Nothing));
    }

    /// Without the look whether what is open lies where it was, all these would show the permit and no endpoint.
    #[test]
    fn directories_that_others_took_the_place_of_are_not_believed() {
        let aside = |path: PathBuf| fs::rename(&path, path.with_extension("aside")).unwrap();
        assert_eq!(second(|attempt, _| aside(attempt.root.clone())), (Permit::Unknown, Notice::Nothing));
        let lease = |attempt: &AttemptDir| attempt.root.join(attempt.lease.as_str());
        assert_eq!(second(|attempt, _| aside(lease(attempt))), (Permit::Unknown, Notice::Nothing));
        assert_eq!(second(|attempt, _| aside(attempt.attempt_path())), (Permit::Held, Notice::Nothing));
        let replaced = |attempt: &AttemptDir, _: &mut Watch| {
            aside(theirs(attempt));
            fs::create_dir(theirs(attempt)).unwrap();
            fs::write(theirs(attempt).join("endpoint.json"), "{}").unwrap();
        };
        assert_eq!(second(replaced).1, Notice::Endpoint(Ok(b"{}".to_vec())));
        assert_eq!(
            second(|attempt, _| fs::remove_dir_all(lease(attempt)).unwrap()),
            (Permit::Unknown, Notice::Nothing)
        );
    }

    /// Without the first look of each watch at both directories, a job whose output goes elsewhere would never be seen to publish.
    #[test]
    fn where_no_output_shows_a_runner_of_the_reference_adapter_is_seen_all_the_same() {
        let (_temp, attempt) = granted();
        let mut watch = Watch::default();
        watch.poll(&attempt);
        fs::write(theirs(&attempt).join("endpoint.json"), "{}").unwrap();
        assert_eq!(watch.poll(&attempt).notice, Ok(Notice::Nothing));
        watch.0.as_mut().unwrap().since -= BY_NAME;
        assert_eq!(watch.poll(&attempt).notice, Ok(Notice::Endpoint(Ok(b"{}".to_vec()))));
    }

    /// A record that has gone on to another attempt is looked at by its own.
    #[test]
    fn a_watch_serves_one_attempt() {
        let other = |attempt: &AttemptDir, watch: &mut Watch| {
            let other = AttemptDir { given_up: vec![attempt.nonce.clone()], ..attempt.clone() };
            assert!(!watch.0.as_ref().unwrap().is_current(&other));
        };
        assert_eq!(second(other).0, Permit::Held);
    }

    /// What another host does may show in nothing that is open.
    #[test]
    fn paths_are_walked_anew_from_time_to_time() {
        let (_temp, attempt) = granted();
        let mut watch = Watch::default();
        watch.poll(&attempt);
        let open = watch.0.as_mut().unwrap();
        assert!(open.is_current(&attempt));
        open.since -= BY_NAME - Duration::from_millis(1);
        std::thread::sleep(Duration::from_millis(2));
        assert!(!open.is_current(&attempt));
    }
}
