//! Whether the two directories do what leases need of them: the state dir private, durable and lockable, the shared
//! dir visible to the nodes, and the private keys better not.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::doctor::check::CheckId;
use crate::doctor::check::filesystem::{FileSystem, Reach, free, scarcity};
use crate::doctor::finding::{Category, Finding};
use crate::doctor::run::Clock;
use crate::doctor::sessions::{Place, is_node};
use crate::failure;
use crate::files::{Dir, random_hex};
use crate::lease::store::{Loaded, Store};
use crate::protocol::CheckStatus;

/// A write with its syncs takes some milliseconds; what takes longer makes every step of a lease slow.
pub const SLOW_WRITE: Duration = Duration::from_secs(1);

/// Opens the state dir, and tries in it what leases do in it.
pub fn state_dir(path: &Path) -> Vec<Finding> {
    let store = match Store::open(path) {
        Ok(store) => store,
        Err(error) => return vec![Finding::of_failure(CheckId::StateDir, Category::Config, &failure::of(&error))],
    };
    if !store.is_writable() {
        let seen = format!(
            "{}: a newer slurm-sandbox wrote it; its leases are listed and released, none is made",
            path.display()
        );
        return vec![Finding::red(
            CheckId::StateDir,
            Category::Config,
            seen,
            "use that version, or another --state-dir",
        )];
    }
    let mut findings = vec![tried(CheckId::StateDir, store.path(), "--state-dir", Some("trash"))];
    if let Some(finding) = records(&store) {
        findings.push(finding);
    }
    findings.iter_mut().take(1).for_each(|finding| finding.facts.push(("state", path.display().to_string())));
    findings
}

/// How many leases there are, if any of them is damaged.
fn records(store: &Store) -> Option<Finding> {
    let ids = store.ids().ok()?;
    let damaged = |id: &&crate::lease::LeaseId| {
        let lease = store.lease(id).ok().flatten();
        lease.is_some_and(|lease| matches!(lease.load(), Loaded::Damaged { .. }))
    };
    let damaged: Vec<_> = ids.iter().filter(damaged).map(ToString::to_string).collect();
    let seen = format!("{} of {} records damaged: {}", damaged.len(), ids.len(), damaged.join(", "));
    let remedy = "release these leases: their jobs are found by name";
    (!damaged.is_empty()).then(|| Finding::warning(CheckId::LeaseRecords, seen, remedy))
}

/// Opens the shared dir, tries it, and judges whether nodes can see it.
pub fn shared_dir(place: &Place, path: &Path, clock: Clock) -> Vec<Finding> {
    if let Err(error) = Dir::private_root(path) {
        let seen = format!("{}: {error}", path.display());
        let remedy = "it must be a directory of your own with mode 0700: `chmod 700` it, or set sharedDir";
        return vec![Finding::red(CheckId::SharedDir, Category::Config, seen, remedy)];
    }
    let tried = tried(CheckId::SharedDir, path, "sharedDir", None);
    if !tried.is(CheckStatus::Ok) {
        return vec![tried];
    }
    let Ok(system) = FileSystem::of(path) else {
        return vec![tried];
    };
    let here_is_a_node = if system.is_for_all() { None } else { is_node(place, clock) };
    vec![visibility(tried, path, &system, here_is_a_node, place.name())]
}

/// What a directory's place says about who sees it; `host` is what the host that looked is called.
pub fn visibility(
    tried: Finding,
    path: &Path,
    system: &FileSystem,
    here_is_a_node: Option<bool>,
    host: &str,
) -> Finding {
    let remedy = format!("set sharedDir to a directory on a file system that {host} and all nodes share");
    let shown = path.display();
    let name = &system.name;
    // Each host has its own of these, whatever they are on.
    let temporary = ["/tmp", "/var/tmp", "/dev/shm", "/run"].iter().any(|root| path.starts_with(root));
    match (system.reach, temporary, here_is_a_node) {
        (Reach::Network, false, _) => tried,
        (Reach::Memory, _, Some(false)) => {
            let seen = format!("{shown} is on {name}, in the memory of {host}, which is no node: no job can read it");
            Finding::red(CheckId::SharedDir, Category::Config, seen, remedy)
        }
        (Reach::Memory | Reach::Local, _, Some(true)) | (_, true, Some(true)) => {
            let seen = format!("{shown} is on {name} of {host}, which is a node: jobs on other nodes cannot see it");
            Finding::warning(CheckId::SharedDir, seen, format!("with more nodes than this one, {remedy}"))
        }
        (Reach::Memory, _, None) | (_, true, _) => {
            let seen = format!(
                "{shown} is on {name}, in a place that each host has of its own: nodes most likely cannot see it"
            );
            Finding::warning(CheckId::SharedDir, seen, remedy)
        }
        (Reach::Local, ..) => {
            let seen = format!("{}; {name} is a local file system: nodes see it only if {host} exports it", tried.seen);
            Finding::warning(CheckId::SharedDir, seen, format!("make sure that nodes see {shown}, or {remedy}"))
        }
        (Reach::Unclear, ..) => tried,
    }
}

/// With a login host the keys never leave this machine.
pub fn private_keys_stay(state: &Path) -> Vec<Finding> {
    let seen = format!("they stay on this machine, in {}: no node and no code in a lease sees them", state.display());
    vec![Finding::ok(CheckId::PrivateKeys, seen)]
}

/// Whether nodes, and so code inside a lease, can read the private keys.
pub fn private_keys(state: &Path, shared: &Path) -> Vec<Finding> {
    // The directories are made by the other checks; where they are missing, what they are made in tells.
    let system = |path: &Path| FileSystem::of(&super::filesystem::nearest_existing(path));
    vec![match (system(state), system(shared)) {
        (Ok(state_system), Ok(shared_system)) => exposure(state, shared, &state_system, &shared_system),
        (Err(error), _) | (_, Err(error)) => Finding::warning(
            CheckId::PrivateKeys,
            format!("file systems cannot be told apart: {error}"),
            "see the state dir and shared dir",
        ),
    }]
}

fn exposure(state: &Path, shared: &Path, state_system: &FileSystem, shared_system: &FileSystem) -> Finding {
    const REMEDY: &str = "put --state-dir on a local disk of this host and sharedDir on the shared file system; otherwise run in leases only what may use your other leases";
    let because = if shared.starts_with(state) {
        format!("the shared dir {} lies in the state dir", shared.display())
    } else if state_system.reach == Reach::Network {
        format!("the state dir is on {}, a network file system", state_system.name)
    } else if state_system.device == shared_system.device && state_system.reach != Reach::Memory {
        "the state dir is on the file system of the shared dir, which nodes see".to_owned()
    } else {
        let seen = format!("the state dir is on {}, apart from the shared dir", state_system.name);
        return Finding::ok(CheckId::PrivateKeys, seen);
    };
    let seen =
        format!("code inside a lease runs as the same user and most likely can read the keys of all leases: {because}");
    Finding::warning(CheckId::PrivateKeys, seen, REMEDY)
}

/// Writes, reads, locks and removes a file, and looks at the space.
fn tried(id: CheckId, path: &Path, key: &str, below: Option<&str>) -> Finding {
    let shown = path.display();
    let started = Instant::now();
    let red = |seen: String, remedy: &str| Finding::red(id, Category::Config, format!("{shown}: {seen}"), remedy);
    if let Err((what, error)) = try_file(path, below) {
        let remedy = match what {
            Trouble::Locking => format!(
                "locks are needed: set {key} to a directory on a file system that has them (Lustre: mount with flock)"
            ),
            Trouble::Writing => format!("check space, quota and permissions, or set {key} to another directory"),
        };
        return red(error.to_string(), &remedy);
    }
    let took = started.elapsed();
    let system = match FileSystem::of(path) {
        Ok(system) => system,
        Err(error) => return red(error.to_string(), &format!("set {key} to another directory")),
    };
    let seen = format!(
        "{shown}: mode 0700, {}, {}, written, locked and removed a file in {} ms",
        system.name,
        free(system.space),
        took.as_millis()
    );
    match scarcity(system.space) {
        Some((true, what)) => {
            red(format!("{what} on {}", system.name), &format!("make room, or set {key} to another directory"))
        }
        Some((false, what)) => {
            Finding::warning(id, format!("{shown}: only {what} on {}", system.name), "make room before leases fail")
        }
        None if took > SLOW_WRITE => Finding::warning(
            id,
            seen,
            format!("every step of a lease waits for this file system: set {key} to a faster one"),
        ),
        None => Finding::ok(id, seen),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Writing,
    Locking,
}

/// The test file lies `below` where there is a directory that cleanup empties, should this process be killed now.
fn try_file(path: &Path, below: Option<&str>) -> Result<(), (Trouble, std::io::Error)> {
    let writing = |error| (Trouble::Writing, error);
    let locking = |error| (Trouble::Locking, error);
    let root = Dir::open_root(path).map_err(writing)?;
    let dir = match below {
        Some(name) => root.make_subdir(name).map_err(writing)?,
        None => root,
    };
    let name = format!("doctor-{}", random_hex(8).map_err(writing)?);
    let tried = (|| {
        dir.write(&name, name.as_bytes()).map_err(writing)?;
        if dir.read(&name, 64).map_err(writing)?.as_deref() != Some(name.as_bytes()) {
            return Err(writing(std::io::Error::other("a file does not read as it was written")));
        }
        let held = dir.lock(&name, Duration::ZERO).map_err(locking)?;
        if held.is_none() || dir.lock(&name, Duration::ZERO).map_err(locking)?.is_some() {
            return Err(locking(std::io::Error::other("a lock here excludes nobody")));
        }
        Ok(())
    })();
    let removed = dir.unlink(&name).map_err(writing);
    tried.and(removed.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::filesystem::Space;
    use crate::protocol::CheckStatus::{Ok as Green, Red, Warning};
    use rstest::rstest;

    fn system(name: &str, reach: Reach, device: u64) -> FileSystem {
        FileSystem { name: name.into(), reach, device, space: Space { free_bytes: 1 << 40, inodes: 0, free_inodes: 0 } }
    }

    #[rstest]
    #[case("/home/a/s", "nfs", Reach::Network, None, Green)]
    #[case("/home/a/s", "fuse", Reach::Unclear, Some(false), Green)]
    #[case("/dev/shm/s", "tmpfs", Reach::Memory, Some(false), Red)]
    #[case("/dev/shm/s", "tmpfs", Reach::Memory, None, Warning)]
    #[case("/tmp/s", "ext4", Reach::Local, Some(true), Warning)]
    #[case("/tmp/s", "ext4", Reach::Local, Some(false), Warning)]
    #[case("/tmp/s", "nfs", Reach::Network, Some(false), Warning)]
    #[case("/home/a/s", "ext4", Reach::Local, Some(false), Warning)]
    fn who_sees_the_shared_dir(
        #[case] path: &str,
        #[case] name: &str,
        #[case] reach: Reach,
        #[case] node: Option<bool>,
        #[case] expected: CheckStatus,
    ) {
        let finding = visibility(
            Finding::ok(CheckId::SharedDir, "fine"),
            Path::new(path),
            &system(name, reach, 1),
            node,
            "this host",
        );
        assert_eq!(finding.status, expected, "{finding:?}");
        assert_eq!(finding.remedy.is_empty(), expected == Green);
    }

    #[rstest]
    #[case::below("/s", "/s/shared", Reach::Local, 1, 1, Warning)]
    #[case::network("/home/a/s", "/scratch/s", Reach::Network, 1, 2, Warning)]
    #[case::same_disk("/home/a/s", "/home/a/t", Reach::Local, 1, 1, Warning)]
    #[case::apart("/var/lib/s", "/scratch/s", Reach::Local, 1, 2, Green)]
    fn who_sees_the_keys(
        #[case] state: &str,
        #[case] shared: &str,
        #[case] reach: Reach,
        #[case] a: u64,
        #[case] b: u64,
        #[case] expected: CheckStatus,
    ) {
        let finding =
            exposure(Path::new(state), Path::new(shared), &system("x", reach, a), &system("y", Reach::Network, b));
        assert_eq!(finding.status, expected, "{finding:?}");
    }

    #[test]
    fn a_good_directory_is_tried_and_left_clean() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        let findings = state_dir(&path);
        assert_eq!(findings.len(), 1);
        assert!(!findings[0].is(Red), "{findings:?}");
        assert!(Dir::open_root(&path.join("trash")).unwrap().names().unwrap().is_empty());
    }

    #[test]
    fn a_newer_tree_is_red() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        state_dir(&path);
        Dir::open_root(&path).unwrap().write("format", b"2\n").unwrap();
        let findings = state_dir(&path);
        assert!(findings[0].is(Red) && findings[0].seen.contains("newer"), "{findings:?}");
    }

    #[test]
    fn an_open_directory_is_red() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("state");
        state_dir(&path);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let findings = state_dir(&path);
        assert!(findings[0].is(Red) && findings[0].seen.contains("mode 0755"), "{findings:?}");
        assert!(findings[0].remedy.contains("chmod 700"));
    }
}
