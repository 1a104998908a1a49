//! Whether the runner can be submitted, and what its contract promises.

use std::path::Path;

use crate::allocation::Runner;
use crate::doctor::check::CheckId;
use crate::doctor::check::filesystem::{FileSystem, Reach, nearest_existing};
use crate::doctor::finding::{Category, Finding, tail};
use crate::doctor::run::Clock;
use crate::failure::Failure;
use crate::host::Command;

/// Slurm refuses a batch script that is longer (slurm.conf, max_script_size).
const MAX_SCRIPT_BYTES: usize = 4 << 20;

/// Looks at the runner that would be submitted.
pub fn check(clock: Clock, runner: &Result<Runner, Failure>) -> Vec<Finding> {
    let runner = match runner {
        Ok(runner) => runner,
        Err(failure) => return vec![Finding::of_failure(CheckId::Runner, Category::Config, failure)],
    };
    vec![syntax(clock, runner), contract(runner)]
}

fn shown(runner: &Runner) -> String {
    runner.path.as_deref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string())
}

fn syntax(clock: Clock, runner: &Runner) -> Finding {
    let shown = shown(runner);
    let fact = runner.path.as_deref().map_or("built-in", |path| path.to_str().unwrap_or("own"));
    let red = |seen: String, remedy: &str| Finding::red(CheckId::Runner, Category::Config, seen, remedy);
    if runner.script.len() > MAX_SCRIPT_BYTES {
        return red(
            format!("{shown} is {} bytes long, Slurm takes 4 MiB", runner.script.len()),
            "set runnerScript to a shorter one",
        );
    }
    if !is_for_bash(&runner.script) {
        return Finding::ok(CheckId::Runner, format!("{shown}; not a bash script, so its syntax was not looked at"))
            .fact("runner", fact);
    }
    match Command::new("bash", clock.left()).arg("-n").input(runner.script.clone()).run() {
        Err(error) => red(
            format!("bash could not be started: {error}"),
            "install bash: runner and sandbox need it, on the nodes too",
        ),
        Ok(output) if !output.success() => red(
            format!("{shown}: bash -n says {}", tail(&output.said(), 300)),
            "correct the script, or remove runnerScript to use the built-in one",
        ),
        Ok(_) => Finding::ok(CheckId::Runner, format!("{shown}; bash -n is content")).fact("runner", fact),
    }
}

/// Whether the first line names bash or the plain shell.
fn is_for_bash(script: &[u8]) -> bool {
    let line = String::from_utf8_lossy(script.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    let text = line.trim_start_matches("#!").split_whitespace();
    text.filter_map(|word| Path::new(word).file_name()).any(|name| name == "bash" || name == "sh")
}

fn contract(runner: &Runner) -> Finding {
    if runner.keeps_contract() {
        return Finding::ok(
            CheckId::RunnerContract,
            "checks its permit, ends by itself, publishes its host key, cleans up",
        );
    }
    let seen = format!(
        "{} has no line `# slurm-sandbox runner contract: 1`, so these are not promised: that a job which starts late or twice finds its \
         permit gone and ends, that a lease which is idle, past its time or never taken ends, that the host key is pinned before the first \
         login, that the job's files and processes go with it",
        shown(runner)
    );
    Finding::warning(
        CheckId::RunnerContract,
        seen,
        "use the built-in runner, or bring yours to its contract (docs/runner.md)",
    )
}

/// Where the work directories of leases are made, as far as it shows from this host.
pub fn work_root(path: &Path) -> Vec<Finding> {
    let there = nearest_existing(path);
    let nearest = Nearest {
        path: &there,
        is_dir: there.is_dir(),
        writable: nix::unistd::access(&there, nix::unistd::AccessFlags::W_OK).is_ok(),
    };
    vec![judge_work_root(path, nearest, FileSystem::of(&there).ok().as_ref())]
}

/// The nearest path above, or the path itself, that exists where we look from.
#[derive(Debug, Clone, Copy)]
pub struct Nearest<'a> {
    pub path: &'a Path,
    pub is_dir: bool,
    pub writable: bool,
}

pub fn judge_work_root(path: &Path, nearest: Nearest<'_>, system: Option<&FileSystem>) -> Finding {
    const REMEDY: &str = "set runnerWorkRoot to a directory that you can make and write to on the nodes";
    let shown = path.display();
    let there = nearest.path.display();
    let advice = format!("{shown}; set the client's external.workRoot to it, so that its files go with the lease");
    if ["/proc", "/sys"].iter().any(|kernel| path.starts_with(kernel)) {
        let seen = format!("{shown}: it is the kernel's, and no directory can be made there on any node");
        return Finding::red(CheckId::WorkRoot, Category::Config, seen, REMEDY);
    }
    if !nearest.is_dir {
        let seen = format!("{shown}: {there} is a file and no directory; unless nodes differ, the job fails");
        return Finding::warning(CheckId::WorkRoot, seen, REMEDY);
    }
    let Some(system) = system else {
        return Finding::ok(CheckId::WorkRoot, format!("{advice}; it cannot be looked at from here"));
    };
    let elsewhere = nearest.path == Path::new("/") || nearest.path.components().count() <= 2;
    match (system.reach, nearest.writable) {
        (Reach::Network, false) if !elsewhere => Finding::warning(
            CheckId::WorkRoot,
            format!("{shown}: {there} is on {} and you cannot write to it", system.name),
            REMEDY,
        ),
        (_, false) if nearest.path == path => Finding::warning(
            CheckId::WorkRoot,
            format!("{shown}: you cannot write to it here, unless it is another on nodes"),
            REMEDY,
        ),
        (_, false) => Finding::ok(
            CheckId::WorkRoot,
            format!("{advice}; it does not exist here and has to be one that you can make on the nodes"),
        ),
        (_, true) => Finding::ok(CheckId::WorkRoot, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::run::Clock;
    use crate::protocol::CheckStatus::{Ok as Green, Red, Warning};
    use rstest::rstest;

    fn runner(script: &str) -> Runner {
        Runner { path: Some("/opt/r.sh".into()), script: script.into() }
    }

    #[test]
    fn ours_is_green() {
        let findings = check(Clock::start(), &Ok(Runner::ours()));
        assert!(findings.iter().all(|finding| finding.is(Green)), "{findings:?}");
        assert_eq!(findings[0].facts, [("runner", "built-in".to_owned())]);
    }

    #[rstest]
    #[case("#!/bin/bash\nif\n", Red, "bash -n says")]
    #[case("#!/usr/bin/env bash\ntrue\n", Green, "content")]
    #[case("#!/bin/bash -l\nif\n", Red, "bash -n says")]
    #[case("#!/usr/bin/python3\nif\n", Green, "not a bash script")]
    fn syntaxes(#[case] script: &str, #[case] status: crate::protocol::CheckStatus, #[case] text: &str) {
        let findings = check(Clock::start(), &Ok(runner(script)));
        assert!(findings[0].is(status) && findings[0].seen.contains(text), "{findings:?}");
        assert!(findings[1].is(Warning));
    }

    #[rstest]
    #[case("/home/a/w", "/home/a", true, true, "nfs", Reach::Network, Green)]
    #[case("/home/a/w", "/home/a", true, false, "nfs", Reach::Network, Warning)]
    #[case("/scratch/a/w", "/", true, false, "ext4", Reach::Local, Green)]
    #[case("/opt/w", "/opt/w", true, false, "ext4", Reach::Local, Warning)]
    #[case("/etc/passwd/x", "/etc/passwd", false, true, "ext4", Reach::Local, Warning)]
    #[case("/proc/x", "/proc", true, true, "unknown kind 0x9fa0", Reach::Unclear, Red)]
    #[case("/sys/x", "/sys", true, true, "unknown kind 0x62656572", Reach::Unclear, Red)]
    fn work_roots(
        #[case] path: &str,
        #[case] nearest: &str,
        #[case] is_dir: bool,
        #[case] writable: bool,
        #[case] name: &str,
        #[case] reach: Reach,
        #[case] status: crate::protocol::CheckStatus,
    ) {
        let space = crate::doctor::check::filesystem::Space { free_bytes: 1 << 40, inodes: 0, free_inodes: 0 };
        let system = FileSystem { name: name.into(), reach, device: 1, space };
        let nearest = Nearest { path: Path::new(nearest), is_dir, writable };
        let finding = judge_work_root(Path::new(path), nearest, Some(&system));
        assert!(finding.is(status), "{finding:?}");
        assert_eq!(finding.remedy.contains("runnerWorkRoot"), status != Green);
    }
}
