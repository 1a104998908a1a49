//! What the client keeps of a lease in the home of its user, and never removes: environments of its actions, which may hold
//! secrets, and marks of who works in a workspace (docs/facts/client.md, "Files of the client"). Only plain names of the lease's
//! own are removed, never through a link. Their directories stay, empty ones too: the client may just have made one for another
//! lease, and is about to write there.

use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::remote::Bash;
use super::{Error, guarded, remote};
use crate::files::{Dir, hex};
use crate::host::Host;
use crate::lease::LeaseId;

/// The client's directory in a home.
const CLIENT: &str = ".crabbox";

/// Directories below it, the first for a lease's id and the second for its key.
const ACTIONS: &str = "actions";
const OWNERS: &str = "workspace-owners";

/// Most files of one lease; the client makes five or so.
const MOST: usize = 1000;

/// The name by which the client marks a lease's workspace.
fn key(lease: &LeaseId) -> String {
    let digest = Sha256::digest(format!("crabbox-workspace-owner-v1\0{lease}"));
    hex(&digest)
}

/// Removes a lease's files from a home.
///
/// # Errors
/// When the file system does not answer, or something could not be removed.
pub fn remove(host: &Host, home: &Path, lease: &LeaseId) -> Result<(), Error> {
    match host {
        Host::Here => local(home, lease),
        Host::Login(login) => script(login, home, lease),
    }
}

fn script(bash: impl Into<Bash>, home: &Path, lease: &LeaseId) -> Result<(), Error> {
    remote::clear_client(bash, home, lease, &key(lease))
}

fn local(home: &Path, lease: &LeaseId) -> Result<(), Error> {
    let (place, starts) = (home.to_owned(), [(ACTIONS, lease.to_string()), (OWNERS, key(lease))]);
    guarded::run(home, Duration::ZERO, move || {
        let home = Dir::open_root(&place)?;
        // Something else in their place is not the client's.
        let Ok(Some(client)) = home.subdir(CLIENT) else { return Ok(()) };
        let mut failed = None;
        for (name, start) in &starts {
            let Ok(Some(dir)) = client.subdir(name) else { continue };
            let own = |name: &str| name.strip_prefix(start.as_str()).is_some_and(|rest| rest.starts_with('.'));
            for file in dir.some_names(MOST, own)? {
                if let Err(error) = dir.unlink(&file)
                    && !dir.has_own_dir(&file)
                {
                    failed = Some(format!("removing {}: {error}", dir.path().join(file).display()));
                }
            }
        }
        failed.map_or(Ok(()), |why| Err(Error::Failed(why)))
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests play the client and the user")]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::fs;
    use std::os::unix::fs::symlink;

    const LEASE: &str = "cbx_4b38f35d4e31";
    const KEY: &str = "8100bc3fc6e60fc9c2c51245b903c6197e50f54fe724edf6e767abfedd46c2b9";

    type Remove = fn(&Path, &LeaseId) -> Result<(), Error>;

    fn by_script(home: &Path, lease: &LeaseId) -> Result<(), Error> {
        script(Bash::Here(""), home, lease)
    }

    fn home(files: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for file in files {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        home
    }

    fn left(home: &Path) -> Vec<String> {
        let mut found = vec![];
        let mut open = vec![home.to_owned()];
        while let Some(dir) = open.pop() {
            let entries: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
            if entries.is_empty() {
                found.push(format!("{}/", dir.strip_prefix(home).unwrap().display()));
            }
            for path in entries {
                match path.symlink_metadata().unwrap().is_dir() {
                    true => open.push(path),
                    false => found.push(path.strip_prefix(home).unwrap().display().to_string()),
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_workspace_is_marked_by_the_clients_key() {
        assert_eq!(key(&LeaseId::parse(LEASE).unwrap()), KEY);
    }

    #[rstest]
    fn a_lease_leaves_nothing_and_takes_nothing_of_others(#[values(local, by_script)] remove: Remove) {
        let lease = LeaseId::parse(LEASE).unwrap();
        let own = [
            format!(".crabbox/actions/{LEASE}.env"),
            format!(".crabbox/actions/{LEASE}.env.sh"),
            format!(".crabbox/actions/{LEASE}.stop"),
            format!(".crabbox/workspace-owners/{KEY}.gate"),
            format!(".crabbox/workspace-owners/{KEY}.owner"),
            format!(".crabbox/workspace-owners/{KEY}.-a b\n*"),
        ];
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let whole = home(&own);
        assert_eq!(remove(whole.path(), &lease), Ok(()));
        let directories = [".crabbox/actions/", ".crabbox/workspace-owners/"];
        assert_eq!(left(whole.path()), directories, "another lease's files may be on their way there");
        assert_eq!(remove(whole.path(), &lease), Ok(()), "there is none");

        let others = [
            ".crabbox/actions/cbx_000000000000.env".to_owned(),
            format!(".crabbox/actions/{LEASE}"),
            format!(".crabbox/actions/{LEASE}0.env"),
            format!(".crabbox/actions/{LEASE}.d/file"),
            format!(".crabbox/workspace-owners/{LEASE}.owner"),
            ".crabbox/config".to_owned(),
        ];
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        let shared = home(&[own.as_slice(), &others].concat());
        assert_eq!(remove(shared.path(), &lease), Ok(()));
        let mut expected = others.clone();
        expected.sort_unstable();
        assert_eq!(left(shared.path()), expected);
    }

    #[rstest]
    #[case::the_clients_directory(".crabbox", "")]
    #[case::one_below(".crabbox/actions", "actions")]
    fn links_are_left_alone(#[case] link: &str, #[case] below: &str, #[values(local, by_script)] remove: Remove) {
        let lease = LeaseId::parse(LEASE).unwrap();
        let file = format!(".crabbox/actions/{LEASE}.env");
        let victim = home(&[&file]);
        let home = home(&[]);
        let path = home.path().join(link);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(victim.path().join(".crabbox").join(below), &path).unwrap();
        assert_eq!(remove(home.path(), &lease), Ok(()));
        assert_eq!(left(victim.path()), [file]);
        assert!(path.is_symlink());
    }

    #[rstest]
    fn a_file_that_is_a_link_goes_and_what_it_names_stays(#[values(local, by_script)] remove: Remove) {
        let lease = LeaseId::parse(LEASE).unwrap();
        let home = home(&["precious", ".crabbox/actions/x"]);
        fs::remove_file(home.path().join(".crabbox/actions/x")).unwrap();
        symlink(home.path().join("precious"), home.path().join(format!(".crabbox/actions/{LEASE}.env"))).unwrap();
        assert_eq!(remove(home.path(), &lease), Ok(()));
        assert_eq!(left(home.path()), [".crabbox/actions/", "precious"]);
    }
}
