//! Which state dir this is: the name that its jobs bear in their comments, and the place where it had that name.
//!
//! ```text
//! instance        the name, 8 random hex digits
//! place.json      where the name was given, on which hosts it was used, and the names that it had elsewhere
//! ```
//! A copy (a restored backup, a home on a new laptop) has the name of its original and must not hurt it, so it gets a new name.
//! What tells a copy: neither is the file `instance` the one that was written then, by inode and time of its last change, which no
//! copy can keep; nor is it at the same path on a host that is known. Either alone is no proof: hosts that share a home have
//! different devices, a file server may be moved, and a directory may be reached by two paths.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::files::{Dir, FileId, random_hex};

/// Waits for another first call.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

const NAME: &str = "instance";
const PLACE: &str = "place.json";
const MAX_BYTES: u64 = 64 * 1024;

/// The names of a state dir.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What its jobs bear.
    pub name: String,
    /// Names that were adopted: leases made under them are treated like its own.
    adopted: BTreeSet<String>,
    /// Names that it had when it was copied, and that nobody adopted.
    former: BTreeSet<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Place {
    path: String,
    file: FileId,
    hosts: BTreeSet<String>,
    #[serde(default)]
    adopted: BTreeSet<String>,
    #[serde(default)]
    former: BTreeSet<String>,
    /// A copy was told, and its new name is not written yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    copied: bool,
}

/// What a look at the place says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Same,
    /// The same, and something about it has to be written down.
    Moved,
    Copied,
}

impl Place {
    fn compare(&self, here: &Place) -> Comparison {
        if self.copied {
            return Comparison::Copied;
        }
        let known = here.hosts.is_subset(&self.hosts);
        let same_file = self.file == here.file;
        let same_path = self.path == here.path;
        match (same_file, same_path) {
            (true, true) if known => Comparison::Same,
            (true, _) => Comparison::Moved,
            // The number alone says little, but a copy at the same path of another host hardly has it.
            (false, true) if known || self.file.inode == here.file.inode => Comparison::Moved,
            (false, _) => Comparison::Copied,
        }
    }
}

impl Instance {
    /// Reads the names of a tree, or gives it one. Where the tree may not be written, a copy is told all the same.
    ///
    /// # Errors
    /// When the files cannot be read, written or locked.
    pub fn open(root: &Dir, writable: bool) -> io::Result<Instance> {
        if let Some(instance) = Instance::unchanged(root)? {
            return Ok(instance);
        }
        let _lock = root.lock("lock", LOCK_PATIENCE)?;
        if let Some(instance) = Instance::unchanged(root)? {
            return Ok(instance);
        }
        let old = read_place(root)?;
        let known_before = read_name(root)?.is_some();
        let (name, mut place) = match (read_name(root)?, old) {
            (None, old) => (give_name(root)?, old.unwrap_or_default()),
            // The first call since this program writes the place down.
            (Some(name), None) => (name, Place::default()),
            (Some(name), Some(old)) if old.compare(&here(root)?) == Comparison::Copied => {
                if !writable {
                    return Ok(Instance::of(String::new(), Place { former: BTreeSet::from([name]), ..old }));
                }
                let mut former = old.former.clone();
                former.extend(old.adopted.iter().cloned());
                former.insert(name);
                // First, or a call that is killed here would leave the new name at a place that seems to be the old one.
                write_place(root, &Place { former: former.clone(), copied: true, ..old })?;
                (give_name(root)?, Place { former, ..Place::default() })
            }
            (Some(name), Some(old)) => (name, old),
        };
        let now = here(root)?;
        let hosts = place.hosts.union(&now.hosts).cloned().collect();
        place = Place { path: now.path, file: now.file, hosts, ..place };
        if writable && let Err(error) = write_place(root, &place) {
            // A new name without its place would be taken for a copy's; what was known before can wait for a disk with space.
            if place.former.is_empty() && known_before {
                return Ok(Instance::of(name, place));
            }
            return Err(error);
        }
        Ok(Instance::of(name, place))
    }

    /// The names, where all is as it was written down.
    fn unchanged(root: &Dir) -> io::Result<Option<Instance>> {
        let (Some(name), Some(place)) = (read_name(root)?, read_place(root)?) else { return Ok(None) };
        Ok((place.compare(&here(root)?) == Comparison::Same).then(|| Instance::of(name, place)))
    }

    fn of(name: String, place: Place) -> Instance {
        Instance { name, adopted: place.adopted, former: place.former }
    }

    /// Whether a lease that was made under a name is this state dir's to end by itself. A record that does not tell its name
    /// is of a time before copies were told, and counts as its own unless it is a copy.
    pub fn owns(&self, name: Option<&str>) -> bool {
        match name {
            Some(name) => name == self.name || self.adopted.contains(name),
            None => self.former.is_empty(),
        }
    }

    /// The names that nobody adopted yet.
    pub fn former(&self) -> impl Iterator<Item = &str> {
        self.former.iter().map(String::as_str)
    }

    /// Takes over what was made under former names, for good; which names those are.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub fn adopt(root: &Dir) -> io::Result<Vec<String>> {
        let _lock = root.lock("lock", LOCK_PATIENCE)?;
        let Some(mut place) = read_place(root)? else { return Ok(vec![]) };
        let former: Vec<String> = std::mem::take(&mut place.former).into_iter().collect();
        place.adopted.extend(former.iter().cloned());
        write_place(root, &place)?;
        Ok(former)
    }
}

/// Names this machine among those that share files.
pub fn host_id() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    // systemd's id stays when a laptop changes its name; a name may be that of many laptops.
    let id = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    format!("{name} {}", id.trim())
}

/// The place as it is now, without names.
fn here(root: &Dir) -> io::Result<Place> {
    let path = std::fs::canonicalize(root.path())?.to_string_lossy().into_owned();
    let file = root.file_id(NAME)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(Place { path, file, hosts: BTreeSet::from([host_id()]), ..Place::default() })
}

fn read_name(root: &Dir) -> io::Result<Option<String>> {
    let text = root.read(NAME, 64)?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    Ok(text.filter(|text| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit())))
}

fn read_place(root: &Dir) -> io::Result<Option<Place>> {
    Ok(root.read(PLACE, MAX_BYTES)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn write_place(root: &Dir, place: &Place) -> io::Result<()> {
    root.write(PLACE, &serde_json::to_vec_pretty(place)?)
}

fn give_name(root: &Dir) -> io::Result<String> {
    let name = random_hex(4)?;
    root.write(NAME, name.as_bytes())?;
    Ok(name)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests copy and move state dirs as people do")]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::path::Path;

    fn open(path: &Path) -> Instance {
        Instance::open(&Dir::private_root(path).unwrap(), true).unwrap()
    }

    fn copy(from: &Path, to: &Path) {
        Dir::private_root(to).unwrap();
        for name in [NAME, PLACE] {
            std::fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }

    #[test]
    fn a_copy_gets_a_name_of_its_own_until_it_adopts() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("a"), temp.path().join("b"));
        let original = open(&first);
        assert!(original.owns(Some(&original.name)) && original.owns(None));
        copy(&first, &second);
        let copied = open(&second);
        assert_ne!(copied.name, original.name);
        assert!(!copied.owns(Some(&original.name)) && !copied.owns(None));
        assert_eq!(open(&second), copied);
        assert_eq!(open(&first), original);
        assert_eq!(Instance::adopt(&Dir::open_root(&second).unwrap()).unwrap().concat(), original.name);
        let adopted = open(&second);
        assert!(adopted.owns(Some(&original.name)) && adopted.owns(None) && adopted.name == copied.name);
        assert_eq!(adopted.former().count(), 0);
    }

    #[test]
    fn a_copy_that_was_cut_short_is_a_copy_all_the_same() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("a"), temp.path().join("b"));
        let original = open(&first);
        copy(&first, &second);
        let root = Dir::private_root(&second).unwrap();
        let old = read_place(&root).unwrap().unwrap();
        let former = BTreeSet::from([original.name.clone()]);
        // Killed before the new name was written, and after it.
        write_place(&root, &Place { former, copied: true, ..old }).unwrap();
        let cut = std::fs::read(second.join(PLACE)).unwrap();
        for _ in 0..2 {
            let copied = open(&second);
            assert!(copied.name != original.name && !copied.owns(Some(&original.name)));
            assert!(copied.former().any(|name| name == original.name));
            assert_eq!(open(&second), copied);
            std::fs::write(second.join(PLACE), &cut).unwrap();
        }
    }

    #[test]
    fn a_directory_that_was_moved_or_restored_in_place_is_no_copy() {
        let temp = tempfile::tempdir().unwrap();
        let (first, second) = (temp.path().join("a"), temp.path().join("b"));
        let original = open(&first);
        std::fs::rename(&first, &second).unwrap();
        assert_eq!(open(&second), original);
        // The file server was moved: the same path, other files.
        copy(&second, &first);
        std::fs::remove_dir_all(&second).unwrap();
        std::fs::rename(&first, &second).unwrap();
        assert_eq!(open(&second), original);
    }

    fn place_at(path: &str, inode: u64, changed: i64, host: &str) -> Place {
        let file = FileId { inode, changed_seconds: changed, changed_nanoseconds: 5 };
        Place { path: path.into(), file, hosts: BTreeSet::from([host.to_owned()]), ..Place::default() }
    }

    #[rstest]
    #[case::the_same(place_at("/home/a", 7, 100, "login1"), Comparison::Same)]
    #[case::another_host_of_one_home(place_at("/home/a", 7, 100, "login2"), Comparison::Moved)]
    #[case::another_path_to_it(place_at("/nfs/a", 7, 100, "login2"), Comparison::Moved)]
    #[case::restored_in_place(place_at("/home/a", 8, 200, "login1"), Comparison::Moved)]
    #[case::touched_by_a_backup_and_seen_from_a_new_host(place_at("/home/a", 7, 200, "login2"), Comparison::Moved)]
    #[case::copied_beside_it(place_at("/home/b", 8, 200, "login1"), Comparison::Copied)]
    #[case::a_home_on_a_new_laptop(place_at("/home/a", 8, 200, "laptop"), Comparison::Copied)]
    fn places(#[case] here: Place, #[case] expected: Comparison) {
        assert_eq!(place_at("/home/a", 7, 100, "login1").compare(&here), expected);
    }
}
