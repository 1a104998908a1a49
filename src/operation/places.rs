//! The three directories of a lease must not lie in each other's way: the state dir with the private keys, the shared dir with
//! the permits, and the work root, which is the sandbox's to fill and to empty.

use std::path::{Component, Path};

use crate::config::Settings;
use crate::failure::{Failure, Kind};
use crate::host::{Host, User};
use crate::lease::LeaseId;
use crate::shared_dir::{self, Error};

/// What the state dir keeps for itself.
const ROOMS: [&str; 3] = ["leases", "trash", "cache"];

/// Where the directories are: absolute, without links and `..`.
#[derive(Debug, Clone, Copy)]
struct Places<'a> {
    /// `None` when it is on another machine than the others.
    state: Option<&'a Path>,
    shared: &'a Path,
    work: &'a Path,
}

/// Refuses settings whose directories lie in each other's way; nothing is made.
pub fn check(host: &Host, settings: &Settings, state_dir: &Path, user: &User) -> Result<(), Failure> {
    let mut settings = settings.clone();
    settings.at_home(user.home.as_deref());
    let shared = crate::operation::context::shared_dir(&settings, state_dir, user);
    let named = [shared.as_path(), &settings.work_root];
    let found = match shared_dir::resolve(host, &named) {
        Ok(found) => found,
        // A host without realpath: the names have to do.
        Err(Error::Failed(_)) => named.iter().map(|path| path.to_path_buf()).collect(),
        Err(error) => return Err(error.failure("looking where the shared dir and the work root are")),
    };
    let state = match host {
        Host::Here => Some(crate::files::resolve(state_dir)),
        Host::Login(_) => None,
    };
    let [shared, work] = &found[..] else { return Ok(()) };
    classify(Places { state: state.as_deref(), shared, work })
}

/// Whether the places can be used together.
fn classify(places: Places<'_>) -> Result<(), Failure> {
    let Places { state, shared, work } = places;
    let state = state.map(|state| {
        let others = [("sharedDir", shared), ("runnerWorkRoot", work)];
        others.into_iter().try_for_each(|(key, path)| beside_state(key, path, state))
    });
    state.unwrap_or(Ok(()))?;
    if shared == work {
        return Err(refused(
            "runnerWorkRoot",
            work,
            "is the shared dir: a session's files would lie beside its permit",
        ));
    }
    if in_a_leases_directory(work, shared) {
        return Err(refused("runnerWorkRoot", work, "lies in a lease's directory of the shared dir"));
    }
    if in_a_leases_directory(shared, work) {
        return Err(refused("sharedDir", shared, "lies in a lease's directory of the work root"));
    }
    Ok(())
}

fn beside_state(key: &str, path: &Path, state: &Path) -> Result<(), Failure> {
    if path == state {
        return Err(refused(key, path, "is the state dir"));
    }
    if let Some(room) = below(path, state).filter(|room| ROOMS.contains(room)) {
        return Err(refused(key, path, &format!("lies in the directory {room} of the state dir, which is its own")));
    }
    if in_a_leases_directory(state, path) {
        return Err(refused(key, path, &format!("has the state dir {} in a lease's directory", state.display())));
    }
    Ok(())
}

fn refused(key: &str, path: &Path, why: &str) -> Failure {
    Failure::new(Kind::BadConfig, format!("{key} {} {why}", path.display()))
        .remedy(format!("set {key} to a directory of its own"))
}

/// The name in `root` that leads to `path`.
fn below<'a>(path: &'a Path, root: &Path) -> Option<&'a str> {
    match path.strip_prefix(root).ok()?.components().next()? {
        Component::Normal(name) => name.to_str(),
        _ => None,
    }
}

fn in_a_leases_directory(path: &Path, root: &Path) -> bool {
    below(path, root).is_some_and(|name| LeaseId::parse(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::defaults("/h/s", "/h/s/shared", "/h/work", None)]
    #[case::apart("/h/s", "/scratch/a/shared", "/scratch/a/work", None)]
    #[case::work_below_shared("/h/s", "/scratch/a", "/scratch/a/work", None)]
    #[case::shared_below_work("/h/s", "/scratch/a/.shared", "/scratch/a", None)]
    #[case::work_below_state("/h/s", "/h/s/shared", "/h/s/work", None)]
    #[case::state_below_both("/scratch/a/state", "/scratch/a", "/scratch", None)]
    #[case::a_name_that_begins_alike("/h/s", "/h/s/leases2", "/h/s2", None)]
    #[case::shared_in_leases("/h/s", "/h/s/leases", "/h/work", Some("sharedDir"))]
    #[case::shared_below_leases("/h/s", "/h/s/leases/x/y", "/h/work", Some("sharedDir"))]
    #[case::shared_in_trash("/h/s", "/h/s/trash", "/h/work", Some("sharedDir"))]
    #[case::shared_in_cache("/h/s", "/h/s/cache", "/h/work", Some("sharedDir"))]
    #[case::shared_is_state("/h/s", "/h/s", "/h/work", Some("sharedDir"))]
    #[case::work_is_state("/h/s", "/h/t", "/h/s", Some("runnerWorkRoot"))]
    #[case::work_in_leases("/h/s", "/h/t", "/h/s/leases", Some("runnerWorkRoot"))]
    #[case::work_is_shared("/h/s", "/scratch/a", "/scratch/a", Some("runnerWorkRoot"))]
    #[case::work_is_default_shared("/h/s", "/h/s/shared", "/h/s/shared", Some("runnerWorkRoot"))]
    #[case::work_in_a_lease("/h/s", "/scratch", "/scratch/cbx_4b38f35d4e31/w", Some("runnerWorkRoot"))]
    #[case::shared_in_a_lease("/h/s", "/w/cbx_4b38f35d4e31", "/w", Some("sharedDir"))]
    #[case::state_in_a_lease("/w/cbx_4b38f35d4e31/s", "/h/t", "/w", Some("runnerWorkRoot"))]
    fn places(#[case] state: &str, #[case] shared: &str, #[case] work: &str, #[case] refused: Option<&str>) {
        let places = Places { state: Some(Path::new(state)), shared: Path::new(shared), work: Path::new(work) };
        let failure = classify(places).err().map(|failure| failure.to_string());
        assert_eq!(failure.is_some(), refused.is_some(), "{failure:?}");
        assert!(failure.is_none_or(|text| refused.is_some_and(|key| text.starts_with(key))));
    }

    #[test]
    fn a_state_dir_of_another_machine_is_in_nobodys_way() {
        let places = |shared| Places { state: None, shared: Path::new(shared), work: Path::new("/scratch/a") };
        assert!(classify(places("/h/s/leases")).is_ok());
        assert!(classify(places("/scratch/a")).is_err());
    }
}
