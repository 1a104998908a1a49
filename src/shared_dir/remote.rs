//! The shared dir as a login host sees it: one script, which runs there.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{AttemptDir, Notice, Snapshot, TREE_FORMAT};
use crate::host::command::{End, quoted};
use crate::host::{Login, Output};
use crate::lease::{LeaseId, Nonce};

/// What runs there.
const SCRIPT: &str = include_str!("remote.sh");

/// A healthy file system answers in milliseconds, a loaded one in seconds.
const DEADLINE: Duration = Duration::from_secs(8);

/// How often the login host looks while a call waits: bash's own `read` is the pause, so a look costs no process.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The shared dir of one lease on a cluster.
#[derive(Debug)]
pub struct Remote {
    pub attempt: AttemptDir,
    pub login: Arc<Login>,
}

impl Remote {
    fn run(&self, what: &str, more: &[&str], input: &[u8], deadline: Duration) -> io::Result<Output> {
        let (lease, nonce) = (self.attempt.lease.as_str(), self.attempt.nonce.as_str());
        run(&self.login, what, &self.attempt.root, lease, nonce, more, input, deadline)
    }

    fn done(&self, what: &str, more: &[&str], input: &[u8]) -> Result<()> {
        let output = self.run(what, more, input, DEADLINE)?;
        if output.success() { Ok(()) } else { Err(anyhow::anyhow!("{}", output.said())) }
    }

    pub fn grant(&self, public_key: &[u8]) -> Result<()> {
        self.done("grant", &[&TREE_FORMAT.to_string()], public_key)
    }

    pub fn revoke(&self) -> Result<()> {
        self.done("revoke", &[], &[]).context("removing the permit")
    }

    pub fn remove(&self) -> Result<()> {
        self.done("remove", &[], &[]).context("removing the lease's shared files")
    }

    pub fn put(&self, name: &str, text: &str) -> Result<()> {
        self.done("put", &[name], text.as_bytes()).with_context(|| format!("writing {name}"))
    }

    pub fn ending(&self) -> Option<Vec<u8>> {
        self.read("ending", &[])
    }

    pub fn tail(&self, name: &str, max: u64) -> Option<Vec<u8>> {
        self.read("tail", &[name, &max.to_string()])
    }

    fn read(&self, what: &str, more: &[&str]) -> Option<Vec<u8>> {
        let output = self.run(what, more, &[], DEADLINE).ok().filter(Output::success)?;
        Some(output.stdout)
    }

    /// All that a wait looks for. While there is nothing to see, the login host goes on looking for as long as `patience` and
    /// answers at once when there is.
    pub fn snapshot(&self, patience: Duration) -> Snapshot {
        let looks = patience.as_millis() / LOOK_INTERVAL.as_millis() + 1;
        let more = [&looks.to_string(), &LOOK_INTERVAL.as_secs_f64().to_string()];
        match self.run("snapshot", &more.map(|text| text as &str), &[], DEADLINE + patience) {
            Err(error) => Snapshot::unasked(error.to_string()),
            Ok(output) if output.end == End::ConnectionLost => Snapshot::unasked(output.said()),
            Ok(output) => parse(&output).unwrap_or_else(|| Snapshot::unasked(output.said())),
        }
    }
}

/// Reads what a snapshot printed.
fn parse(output: &Output) -> Option<Snapshot> {
    let mut rest = output.stdout.as_slice();
    let mut line = |name: &str| {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&rest[..end]).ok()?.strip_prefix(name)?.strip_prefix(' ')?.to_owned();
        rest = &rest[end + 1..];
        Some(line)
    };
    let (permit, answered, notice) = (line("permit")?, line("answered")?, line("notice")?);
    let notice = match notice.as_str() {
        "nothing" => Ok(Notice::Nothing),
        "ending" => Ok(Notice::Ending),
        "endpoint" if output.success() => Ok(Notice::Endpoint(Ok(rest.to_vec()))),
        "endpoint" => Ok(Notice::Endpoint(Err(crate::failure::one_line(&output.stderr_text())))),
        _ => Err(anyhow::anyhow!("a directory of the lease was replaced by something else")),
    };
    Some(Snapshot { lost_permit: permit == "lost", answered: answered == "yes", begun: false, notice, unasked: None })
}

#[expect(clippy::too_many_arguments, reason = "the words of one command line")]
fn run(
    login: &Login,
    what: &str,
    root: &Path,
    lease: &str,
    nonce: &str,
    more: &[&str],
    input: &[u8],
    deadline: Duration,
) -> io::Result<Output> {
    let root = root.to_string_lossy();
    let words = [what, &root, lease, nonce].into_iter().chain(more.iter().copied());
    let words: Vec<_> = words.map(quoted).collect();
    login.script(&format!("set -- {}\n{SCRIPT}", words.join(" ")), input, deadline)
}

/// Removes what earlier removals had to leave.
pub fn sweep(login: &Login, root: &Path) {
    run(login, "sweep", root, "", "", &[], &[], DEADLINE).ok();
}

/// Whether a shared dir says that an attempt was handed out, for a lease whose record is lost; yes, when in doubt.
pub fn answered(login: &Login, root: &Path, lease: &LeaseId, nonce: &Nonce) -> bool {
    match run(login, "answered", root, lease.as_str(), nonce.as_str(), &[], &[], DEADLINE) {
        Ok(output) => output.end != End::Exit(1),
        Err(_) => true,
    }
}

/// The permit that a shared dir holds for a lease, for a lease whose record is lost.
pub fn permitted(login: &Login, root: &Path, lease: &LeaseId) -> Option<Nonce> {
    let output = run(login, "permitted", root, lease.as_str(), "", &[], &[], DEADLINE).ok().filter(Output::success)?;
    Nonce::parse(output.stdout_text().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { end: End::Exit(code), stdout: stdout.into(), stderr: stderr.into(), took: Duration::ZERO }
    }

    #[test]
    fn a_snapshot_is_read_whole_or_not_at_all() {
        let snapshot = parse(&output(0, "permit held\nanswered yes\nnotice endpoint\n{}\n", "")).unwrap();
        assert!(!snapshot.lost_permit && snapshot.answered);
        assert_eq!(snapshot.notice.unwrap(), Notice::Endpoint(Ok(b"{}\n".to_vec())));
        let strange =
            parse(&output(1, "permit held\nanswered no\nnotice endpoint\n", "endpoint.json is a link\n")).unwrap();
        assert!(matches!(strange.notice, Ok(Notice::Endpoint(Err(_)))));
        assert!(parse(&output(0, "permit lost\nanswered no\nnotice strange\n", "")).unwrap().notice.is_err());
        assert!(parse(&output(0, "permit lost\nansw", "")).is_none());
        assert!(parse(&output(1, "", "bash: error")).is_none());
    }
}
