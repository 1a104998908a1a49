//! A site on the fake scheduler: a directory, a scheduler and a home of its own for one test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{self, Output};
use super::site::Setup;

/// What takes longer than this in the fake hangs.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Fake {
    dir: TempDir,
}

/// Where the fake scheduler's commands are.
pub fn commands() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake-slurm")
}

impl Fake {
    pub fn new(setup: &Setup) -> Fake {
        let dir = tempfile::Builder::new().prefix("slurm-sandbox-it.").tempdir_in("/tmp").expect("a directory in /tmp");
        let fake = Fake { dir };
        std::fs::create_dir(fake.path().join("home")).expect("a home");
        let accounting = if setup.accounting { "on" } else { "off" };
        fake.control(&["conf", &format!("Accounting={accounting}"), "KillWait=5", "Clusters=annex"]).ok();
        fake
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The control command of this site's scheduler.
    #[track_caller]
    pub fn control(&self, args: &[&str]) -> Output {
        let mut command = self.bare("fake-slurm");
        command.args(args);
        process::run(command, Vec::new(), LIMIT)
    }

    /// A shell that finds what a user finds after logging in.
    pub fn shell(&self, env: &[(String, String)], script: &str) -> Command {
        let mut command = self.bare("bash");
        command.envs(env.iter().map(|(name, value)| (name, value))).args(["-c", script]);
        command
    }

    fn bare(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let fake = commands();
        let program = if program == "fake-slurm" { fake.join(program) } else { PathBuf::from(program) };
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", fake.display()))
            .env("HOME", self.path().join("home"))
            .env("USER", user())
            .env("LOGNAME", user())
            .env("SHELL", "/bin/bash")
            .env("SLURM_CONF", self.path().join("fake-slurm.conf"))
            .current_dir(self.path().join("home"));
        command
    }
}

/// The user that runs the tests, and so the fake's jobs.
pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map_or_else(|| "nobody".into(), |user| user.name)
}

impl Drop for Fake {
    fn drop(&mut self) {
        let mut command = self.bare("fake-slurm");
        // A failing test leaves without this; a second panic would hide its text.
        let _ = command.arg("down").status();
    }
}
