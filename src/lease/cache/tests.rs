//! Each change of a lease's files is seen through the cache, and what a cache may be found like.
#![expect(clippy::disallowed_methods, reason = "tests change files as others do")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::lease::record::Record;
use crate::lease::record::tests::record;
use crate::lease::store::tests::store;

/// A state dir with one lease, and the lease's directory.
fn one_lease() -> (tempfile::TempDir, Store, PathBuf) {
    let (temp, store) = store();
    make(&store, 0);
    let dir = temp.path().join("state/leases").join(id(0).as_str());
    std::fs::write(dir.join("limits.json"), r#"{"ttl":600}"#).unwrap();
    (temp, store, dir)
}

fn id(n: usize) -> LeaseId {
    LeaseId::parse(&format!("cbx_{n:012x}")).unwrap()
}

fn make(store: &Store, n: usize) {
    let mut record = record();
    record.identity.lease_id = id(n);
    store.create(&record.identity, |_, _| Ok(record.clone())).unwrap();
}

/// Everything that is read of a lease.
fn seen(files: &CachedFiles<'_>, id: &LeaseId) -> String {
    files.lease(id, |lease| {
        let loaded = lease.load().map_err(|error| error.to_string());
        format!("{loaded:?} {:?} {:?}", lease.limits(), lease.read(acquirer::PLACE).ok())
    })
}

fn plainly(store: &Store, id: &LeaseId) -> String {
    seen(&CachedFiles::open(store, 0), id)
}

/// What a call with the cache sees of a lease, and of how many leases it has read something.
fn through(store: &Store, id: &LeaseId) -> (String, usize) {
    let files = CachedFiles::open(store, FEWEST);
    let seen = seen(&files, id);
    (seen, files.fresh.into_inner().unwrap().len())
}

/// Puts all leases into the cache, with no more distrust of young files than the clock's tick needs.
fn keep(store: &Store) {
    tick(store);
    let ids = store.ids().unwrap();
    let files = CachedFiles::open(store, FEWEST);
    ids.iter().for_each(|id| drop(seen(&files, id)));
    files.keep_settled(&ids, Duration::ZERO);
    tick(store);
}

fn tick(store: &Store) {
    let dir = store.cache().unwrap();
    let began = dir.clock().unwrap();
    while dir.clock().unwrap() < began + Duration::from_millis(20) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn cache_file(store: &Store) -> PathBuf {
    store.path().join("cache").join(FILE)
}

fn rewrite(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, text.replace("1000", "2000")).unwrap();
}

fn replace(path: &Path) {
    let beside = path.with_extension("new");
    std::fs::copy(path, &beside).unwrap();
    rewrite(&beside);
    std::fs::rename(beside, path).unwrap();
}

#[rstest]
#[case::the_record_rewritten_as_long_as_before(|dir: &Path| rewrite(&dir.join("record.json")))]
#[case::the_record_rewritten_and_its_time_put_back(|dir: &Path| {
    let path = dir.join("record.json");
    let written = std::fs::metadata(&path).unwrap().modified().unwrap();
    rewrite(&path);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
})]
#[case::the_record_replaced(|dir: &Path| replace(&dir.join("record.json")))]
#[case::the_record_removed(|dir: &Path| std::fs::remove_file(dir.join("record.json")).unwrap())]
#[case::the_record_damaged(|dir: &Path| std::fs::write(dir.join("record.json"), "{").unwrap())]
#[case::the_record_of_a_newer_program(|dir: &Path| std::fs::write(dir.join("record.json"), "{\"format\": 9}").unwrap())]
#[case::a_link_for_the_record(|dir: &Path| {
    std::fs::rename(dir.join("record.json"), dir.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.join("record.json")).unwrap();
})]
#[case::other_limits(|dir: &Path| std::fs::write(dir.join("limits.json"), "{\"ttl\":700}").unwrap())]
#[case::no_limits(|dir: &Path| std::fs::remove_file(dir.join("limits.json")).unwrap())]
#[case::a_first_denial(|dir: &Path| std::fs::write(dir.join("denied"), "other 00112233445566ff 50\n").unwrap())]
#[case::a_first_acquirer(|dir: &Path| std::fs::write(dir.join(acquirer::PLACE), "several\n").unwrap())]
#[case::a_link_for_the_directory(|dir: &Path| {
    std::fs::rename(dir, dir.with_file_name("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", dir).unwrap();
})]
#[case::no_lease(|dir: &Path| std::fs::rename(dir, dir.with_file_name("elsewhere")).unwrap())]
fn every_change_is_seen(#[case] change: fn(&Path)) {
    let (_temp, store, dir) = one_lease();
    keep(&store);
    let before = through(&store, &id(0));
    assert_eq!(before, (plainly(&store, &id(0)), 0), "nothing is read of what has not changed");
    change(&dir);
    let (now, _) = through(&store, &id(0));
    assert_eq!(now, plainly(&store, &id(0)));
    assert_ne!(now, before.0);
}

#[test]
fn what_has_changed_is_kept_again() {
    let (_temp, store, dir) = one_lease();
    keep(&store);
    replace(&dir.join("record.json"));
    assert_eq!(through(&store, &id(0)).1, 1);
    keep(&store);
    assert_eq!(through(&store, &id(0)), (plainly(&store, &id(0)), 0));
}

#[test]
fn what_is_young_is_not_kept() {
    let (_temp, store, dir) = one_lease();
    let files = CachedFiles::open(&store, FEWEST);
    seen(&files, &id(0));
    files.keep(&[id(0)]);
    assert!(!cache_file(&store).exists());
    // Without the distrust: two changes within one tick, of which the second leaves no trace.
    keep(&store);
    let before = plainly(&store, &id(0));
    rewrite(&dir.join("record.json"));
    let mut entry = Kept::parse(std::fs::read_to_string(cache_file(&store)).unwrap()).entry(&id(0)).unwrap();
    for file in &mut entry.files {
        if let Some((stamp, _)) = &mut file.content {
            *stamp = store.stamp(&id(0), Some(&file.name)).unwrap();
        }
    }
    let mut text = format!("{TITLE}{FORMAT}\n");
    push(&mut text, &id(0), &serde_json::to_string(&entry).unwrap());
    std::fs::write(cache_file(&store), text).unwrap();
    assert_eq!(through(&store, &id(0)).0, before, "the case is one that only the distrust tells");
}

#[rstest]
#[case::before(-1, true)]
#[case::at_once(0, true)]
#[case::after(1, false)]
fn what_is_settled(#[case] nanoseconds: i64, #[case] expected: bool) {
    let stamp = |nanoseconds: i64| Stamp::from((7, 1000, nanoseconds, 3));
    let file = |stamp| File { name: "a".into(), content: Some((stamp, "one".into())) };
    let missing = || File { name: "b".into(), content: None };
    let (young, old) = (stamp(500 + nanoseconds), stamp(0));
    for (directory, of_file) in [(young, old), (old, young)] {
        let entry = Entry { directory, files: vec![missing(), file(of_file)] };
        assert_eq!(entry.is_settled(Duration::new(1000, 500)), expected);
    }
}

#[test]
fn a_damaged_cache_is_as_none() {
    let (_temp, store, _dir) = one_lease();
    keep(&store);
    let (path, plain) = (cache_file(&store), plainly(&store, &id(0)));
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(through(&store, &id(0)).0, plain, "byte {at}");
        std::fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(through(&store, &id(0)), (plain.clone(), 1), "cut at {at}");
    }
    for text in ["", "\n", "\u{0}\u{0}", "cbx_000000000000 0 18446744073709551615\n"] {
        for title in [format!("{TITLE}{FORMAT}\n"), String::new()] {
            std::fs::write(&path, format!("{title}{text}")).unwrap();
            assert_eq!(through(&store, &id(0)), (plain.clone(), 1), "{title}{text}");
        }
    }
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert_eq!(through(&store, &id(0)), (plain, 1));
}

/// One of an older format is written anew; that of a newer program is left to it.
#[rstest]
#[case::older("0", true)]
#[case::newer("2", false)]
#[case::no_number("x", true)]
fn another_format_is_as_none(#[case] format: &str, #[case] replaced: bool) {
    let (_temp, store, _dir) = one_lease();
    keep(&store);
    let whole = std::fs::read_to_string(cache_file(&store)).unwrap();
    let other = whole.replacen(&format!("{TITLE}{FORMAT}"), &format!("{TITLE}{format}"), 1);
    assert_ne!(other, whole);
    std::fs::write(cache_file(&store), &other).unwrap();
    assert_eq!(through(&store, &id(0)).0, plainly(&store, &id(0)));
    keep(&store);
    assert_eq!(std::fs::read_to_string(cache_file(&store)).unwrap() != other, replaced);
}

#[test]
fn it_is_written_only_when_enough_was_not_in_it() {
    let (temp, store) = store();
    (0..ONE_IN + 2).for_each(|n| make(&store, n));
    keep(&store);
    let written = |store: &Store| std::fs::metadata(cache_file(store)).unwrap().modified().unwrap();
    let first = written(&store);
    let change = |n: usize| replace(&temp.path().join("state/leases").join(id(n).as_str()).join("record.json"));
    change(0);
    keep(&store);
    assert_eq!(written(&store), first, "one in twelve");
    change(1);
    keep(&store);
    assert!(written(&store) > first, "two in twelve");
    assert_eq!(through(&store, &id(0)).1 + through(&store, &id(1)).1 + through(&store, &id(2)).1, 0);
}

#[test]
fn of_two_that_write_one_does_and_of_few_leases_there_is_none() {
    let (_temp, store, _dir) = one_lease();
    tick(&store);
    let read = || {
        let files = CachedFiles::open(&store, FEWEST);
        seen(&files, &id(0));
        files
    };
    let lock = store.cache().unwrap().lock(LOCK, Duration::ZERO).unwrap();
    read().keep_settled(&[id(0)], Duration::ZERO);
    assert!(!cache_file(&store).exists());
    drop(lock);
    let (one, two) = (read(), read());
    one.keep_settled(&[id(0)], Duration::ZERO);
    two.keep_settled(&[id(0)], Duration::ZERO);
    assert_eq!(through(&store, &id(0)), (plainly(&store, &id(0)), 0));
    std::fs::remove_file(cache_file(&store)).unwrap();
    let few = CachedFiles::open(&store, FEWEST - 1);
    seen(&few, &id(0));
    few.keep_settled(&[id(0)], Duration::ZERO);
    assert!(!cache_file(&store).exists());
}

/// What may happen to the files of leases.
fn change(state: &Path, store: &Store, kind: u8, n: usize) {
    let dir = state.join("leases").join(id(n).as_str());
    let file = |name: &str| dir.join(name);
    // What is not there cannot be changed.
    match kind {
        0 => drop(std::fs::write(file("record.json"), "damaged")),
        1 => drop(std::fs::remove_file(file("record.json"))),
        2 => drop(std::fs::write(file("limits.json"), format!("{{\"ttl\":{}}}", n + 100))),
        3 => drop(std::fs::remove_file(file("limits.json"))),
        4 => drop(std::fs::write(file("denied"), "other 00112233445566ff 50\n")),
        5 => drop(std::fs::remove_file(file("denied"))),
        6 => drop(std::fs::remove_dir_all(&dir)),
        7 => make(store, n),
        8 => {
            if let Some(dir) = store.lease(&id(n)).unwrap() {
                let mut record = Record { created: 3000, ..record() };
                record.identity.lease_id = id(n);
                dir.lock(Duration::ZERO).unwrap().held().save(&record).unwrap();
            }
        }
        _ => keep(store),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn what_is_seen_with_the_cache_is_what_is_there(changes in prop::collection::vec((0u8..12, 0usize..3), 1..12)) {
        let (temp, store) = store();
        (0..3).for_each(|n| make(&store, n));
        keep(&store);
        for (kind, n) in changes {
            change(&temp.path().join("state"), &store, kind, n);
            for id in [id(0), id(1), id(2)] {
                prop_assert_eq!(through(&store, &id).0, plainly(&store, &id));
            }
        }
    }
}
