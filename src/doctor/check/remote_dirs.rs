//! The cluster's directories as a login host sees them.

use std::path::Path;
use std::time::Duration;

use crate::doctor::check::CheckId;
use crate::doctor::check::filesystem::{FileSystem, free, scarcity};
use crate::doctor::check::runner;
use crate::doctor::check::storage;
use crate::doctor::finding::{Category, Finding, cut};
use crate::doctor::remote::{RemoteFacts, ask};
use crate::doctor::run::Clock;
use crate::doctor::sessions::{Place, RemoteHost, is_node};
use crate::protocol::CheckStatus;

/// Tries the shared dir as the login host sees it, and judges whether nodes see it too.
pub fn shared_dir(there: &RemoteHost, place: &Place, path: &Path, clock: Clock) -> Result<Vec<Finding>, String> {
    let shown = path.to_string_lossy();
    let facts = there.with(clock, |login| ask(login, clock, &["shared", &shown]))??;
    let tried = judge_shared(&facts, &shown);
    let Some(system) = facts.get("file-system").and_then(FileSystem::parse) else {
        return Ok(vec![tried]);
    };
    if !tried.is(CheckStatus::Ok) {
        return Ok(vec![tried]);
    }
    let is_node = if system.is_for_all() { None } else { is_node(place, clock) };
    Ok(vec![storage::visibility(tried, path, &system, is_node, place.name())])
}

fn judge_shared(facts: &RemoteFacts, shown: &str) -> Finding {
    let red = |seen: String, remedy: &str| {
        Finding::red(CheckId::SharedDir, Category::Config, format!("{shown} on the login host: {seen}"), remedy)
    };
    let mode = facts.get("mode").unwrap_or_default();
    if facts.get("foreign").is_some() {
        let owner = facts.get("trouble").unwrap_or_default();
        return red(owner.to_owned(), "set sharedDir to a directory of your own there");
    }
    if let Some(trouble) = facts.get("trouble") {
        let remedy = "check space, quota and permissions there, or set sharedDir to another directory of the cluster";
        return red(cut(trouble, 300), remedy);
    }
    if !mode.ends_with("00") {
        return red(format!("mode {mode}: others can enter it"), &format!("on the login host: chmod 700 {shown}"));
    }
    let took = facts.get("took").and_then(|text| text.parse().ok()).map(Duration::from_millis).unwrap_or_default();
    let system = facts.get("file-system").and_then(FileSystem::parse);
    let place = system.as_ref().map(|system| format!("{}, {}, ", system.name, free(system.space)));
    let place = place.unwrap_or_default();
    let seen = format!(
        "{shown} on the login host: mode 0{mode}, {place}wrote, read and removed a file in {} ms",
        took.as_millis()
    );
    match system.as_ref().and_then(|system| scarcity(system.space)) {
        Some((true, what)) => red(what, "make room there, or set sharedDir to another directory of the cluster"),
        Some((false, what)) => Finding::warning(
            CheckId::SharedDir,
            format!("{shown} on the login host: only {what}"),
            "make room before leases fail",
        ),
        None if took > storage::SLOW_WRITE => Finding::warning(
            CheckId::SharedDir,
            seen,
            "every step of a lease waits for this file system: set sharedDir to a faster one",
        ),
        None => Finding::ok(CheckId::SharedDir, seen),
    }
}

/// Where the work directories of leases are made, as far as it shows from the login host.
pub fn work_root(there: &RemoteHost, path: &Path, clock: Clock) -> Result<Vec<Finding>, String> {
    let facts = there.with(clock, |login| ask(login, clock, &["place", &path.to_string_lossy()]))??;
    let nearest = Path::new(facts.get("nearest").unwrap_or("/"));
    let system = facts.get("file-system").and_then(FileSystem::parse);
    let is = |key: &str| facts.get(key) == Some("yes");
    let nearest = runner::Nearest { path: nearest, is_dir: is("directory"), writable: is("writable") };
    Ok(vec![runner::judge_work_root(path, nearest, system.as_ref())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{Ok as Green, Red, Warning};
    use rstest::rstest;

    #[rstest]
    #[case("mode\t700\nfile-system\t6969 1000000 1048576 0 0\ntook\t12\n", Green, "nfs, 976 GiB free, wrote")]
    #[case("mode\t755\nfile-system\t6969 1000000 1048576 0 0\ntook\t12\n", Red, "others can enter")]
    #[case("mode\t700\nfile-system\t6969 1000000 1048576 0 0\ntook\t4012\n", Warning, "4012 ms")]
    #[case("mode\t700\nfile-system\t6969 1 1048576 0 0\ntook\t2\n", Red, "1 MiB free")]
    #[case("mode\t700\ntrouble\tDisk quota exceeded\n", Red, "quota")]
    #[case("trouble\tmkdir: cannot create directory '/x': Permission denied\n", Red, "Permission denied")]
    #[case("mode\t777\ntrouble\tit belongs to root\nforeign\tyes\n", Red, "belongs to root")]
    fn shared_dirs(#[case] text: &str, #[case] status: CheckStatus, #[case] seen: &str) {
        let finding = judge_shared(&RemoteFacts::parse(text), "/home/a/.slurm-sandbox");
        assert!(finding.is(status) && finding.seen.contains(seen), "{finding:?}");
    }
}
