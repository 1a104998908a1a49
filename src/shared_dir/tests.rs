//! The same cases for both sides: files of this machine, and the script of a login host in a bash of this machine.
#![expect(clippy::disallowed_methods, reason = "tests play the runner and the sandboxed code")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Instant;

use rstest::rstest;

use super::remote::Bash;
use super::*;
use crate::lease::record::tests::record;

#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Files,
    Script,
}
use By::{Files, Script};

/// An attempt of a lease, and nothing of it there yet.
pub fn attempt() -> (tempfile::TempDir, AttemptDir) {
    let temp = tempfile::tempdir().unwrap();
    let record = record();
    let attempt = AttemptDir {
        root: temp.path().join("shared"),
        lease: record.lease_id().clone(),
        nonce: record.attempt.nonce.clone(),
        given_up: vec![Nonce::parse("ffeeddccbbaa0011").unwrap()],
    };
    (temp, attempt)
}

fn shared(by: By) -> (tempfile::TempDir, SharedDir) {
    let (temp, attempt) = attempt();
    let side = match by {
        Files => Side::Local(Local(attempt)),
        Script => Side::Remote(Remote::here(attempt, "")),
    };
    (temp, SharedDir(side))
}

impl SharedDir {
    fn root(&self) -> &Path {
        &self.attempt().root
    }

    fn lease_path(&self) -> PathBuf {
        self.root().join(self.attempt().lease.as_str())
    }

    fn notice(&self) -> Notice {
        self.snapshot(&mut Watch::default(), Duration::ZERO).notice.unwrap()
    }

    fn asides(&self) -> usize {
        fs::read_dir(self.root())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(ASIDE))
            .count()
    }
}

/// A lease of the same id, made in another state dir with the same shared dir.
#[rstest]
fn what_another_state_dir_holds_stays(#[values(Files, Script)] by: By) {
    let (_temp, shared) = shared(by);
    shared.grant(b"k").unwrap();
    let other = shared.lease_path().join("0123456789abcdef");
    fs::create_dir(&other).unwrap();
    let given_up = shared.lease_path().join("ffeeddccbbaa0011");
    fs::create_dir(&given_up).unwrap();
    for (permit, kept) in [("0123456789abcdef\n", true), ("0123456789abcdef", false), ("ffeeddccbbaa0011\n", false)] {
        shared.grant(b"k").unwrap();
        fs::write(shared.permit_path(), permit).unwrap();
        shared.revoke().unwrap();
        assert_eq!(shared.permit_path().exists(), kept, "{permit:?}");
    }
    shared.grant(b"k").unwrap();
    fs::write(shared.permit_path(), "0123456789abcdef\n").unwrap();
    assert_eq!(shared.remove(), Ok(Removed::Gone));
    assert!(other.exists() && shared.permit_path().exists());
    assert!(!given_up.exists() && !shared.attempt_path().exists());
    // Its permit alone, without an attempt, is nobody's.
    fs::remove_dir(&other).unwrap();
    assert_eq!(shared.remove(), Ok(Removed::Gone));
    assert!(!shared.lease_path().exists());
}

#[rstest]
fn an_attempt_from_permit_to_removal(#[values(Files, Script)] by: By) {
    let (_temp, shared) = shared(by);
    assert_eq!(shared.revoke(), Err(Error::Away(shared.root().to_owned())));
    assert_eq!(shared.remove(), Err(Error::Away(shared.root().to_owned())));
    assert_eq!(shared.permit(), Permit::Unknown);
    shared.grant(b"ssh-ed25519 AAAA").unwrap();
    assert_eq!(fs::read_to_string(shared.root().join("format")).unwrap(), "1\n");
    assert_eq!(fs::read_to_string(shared.permit_path()).unwrap(), "00112233445566ff\n");
    assert_eq!(shared.notice(), Notice::Nothing);
    let reference = shared.attempt_path().join("jobs").join(shared.attempt().lease.as_str());
    fs::write(reference.join("endpoint.json"), "{}").unwrap();
    assert_eq!(shared.notice(), Notice::Endpoint(Ok(b"{}".to_vec())));
    shared.mark("answered", 5).unwrap();
    assert!(
        shared.snapshot(&mut Watch::default(), Duration::ZERO).answered && !shared.attempt_path().join("kept").exists()
    );
    for (ttl, text) in [
        (Some(Lifetime::Ends { left: 5, at: 9 }), "ttl=9\nttl_left=5\nidle=0\nstate=running\n"),
        (Some(Lifetime::Unlimited), "ttl=0\nttl_left=never\nidle=0\nstate=running\n"),
        (None, "idle=0\nstate=running\n"),
    ] {
        shared.set_deadline(ttl, Some(0), "running").unwrap();
        assert_eq!(fs::read_to_string(shared.attempt_path().join("deadline")).unwrap(), text);
    }
    fs::write(shared.attempt_path().join("slurm-7.out"), "one\ntwo\n").unwrap();
    assert_eq!(shared.tail("slurm-7.out", 4).as_deref(), Some("two\n"));
    let part = |start, max| shared.part("slurm-7.out", start, max).map(|part| (part.start, part.bytes));
    assert_eq!(part(Some(4), 2), Some((4, b"tw".to_vec())));
    assert_eq!(part(Some(8), 2), Some((8, vec![])));
    assert_eq!(shared.part("slurm-8.out", None, 2), None);
    assert_eq!(shared.permit(), Permit::Held);
    shared.revoke().unwrap();
    shared.revoke().unwrap();
    assert!(!shared.permit_path().exists());
    assert_eq!(shared.permit(), Permit::Lost);
    assert_eq!(shared.remove(), Ok(Removed::Gone));
    assert_eq!(shared.remove(), Ok(Removed::Gone));
    assert_eq!((shared.permit(), shared.revoke()), (Permit::Unknown, Ok(())));
    assert_eq!(shared.notice(), Notice::Nothing);
    assert_eq!(shared.asides(), 0);
    let gone = shared.mark("kept", 5).unwrap_err();
    assert!(matches!(gone, Error::Failed(_)), "{gone:?}");
}

#[test]
fn here_a_jobs_output_is_seen() {
    let (_temp, shared) = shared(Files);
    shared.grant(b"k").unwrap();
    assert!(!shared.snapshot(&mut Watch::default(), Duration::ZERO).begun);
    fs::write(shared.attempt_path().join("slurm-7.out"), "").unwrap();
    assert!(shared.snapshot(&mut Watch::default(), Duration::ZERO).begun);
}

#[rstest]
fn a_newer_tree_gets_no_lease_and_lets_one_go(#[values(Files, Script)] by: By) {
    let (_temp, shared) = shared(by);
    shared.grant(b"k").unwrap();
    fs::write(shared.root().join("format"), "2\n").unwrap();
    let error = crate::failure::of(&shared.grant(b"k").unwrap_err());
    assert_eq!(error.kind, Kind::Storage);
    assert!(error.to_string().contains("newer"), "{error}");
    shared.revoke().unwrap();
    shared.remove().unwrap();
    assert!(!shared.permit_path().exists());
}

#[rstest]
fn strange_files_are_refused_not_read(#[values(Files, Script)] by: By) {
    let (temp, shared) = shared(by);
    shared.grant(b"k").unwrap();
    let path = shared.attempt_path().join("endpoint.json");
    symlink("/etc/passwd", &path).unwrap();
    assert!(matches!(shared.notice(), Notice::Endpoint(Err(_))));
    fs::remove_file(&path).unwrap();
    fs::write(&path, vec![b'x'; 70_000]).unwrap();
    assert!(matches!(shared.notice(), Notice::Endpoint(Err(_))));
    fs::remove_dir_all(shared.attempt_path()).unwrap();
    symlink(temp.path(), shared.attempt_path()).unwrap();
    assert!(shared.snapshot(&mut Watch::default(), Duration::ZERO).notice.is_err());
}

#[rstest]
fn a_permit_is_taken_away_whatever_lies_in_its_place(#[values(Files, Script)] by: By) {
    let (temp, shared) = shared(by);
    let outside = temp.path().join("thesis");
    fs::write(&outside, "words").unwrap();
    shared.grant(b"k").unwrap();
    fs::remove_file(shared.permit_path()).unwrap();
    fs::create_dir_all(shared.permit_path().join("deeper")).unwrap();
    shared.revoke().unwrap();
    assert!(!shared.permit_path().exists() && shared.attempt_path().exists());
    shared.remove().unwrap();
    symlink(temp.path(), shared.lease_path()).unwrap();
    shared.revoke().unwrap();
    assert!(!shared.lease_path().is_symlink());
    assert_eq!(fs::read_to_string(outside).unwrap(), "words");
    assert_eq!(shared.asides(), 0);
}

#[rstest]
fn what_cannot_be_removed_is_no_longer_a_lease(#[values(Files, Script)] by: By) {
    let (_temp, shared) = shared(by);
    shared.grant(b"k").unwrap();
    let Some(_flag) = Immutable::set(&shared.attempt_path().join("authorized_keys")) else {
        say("skipped: chattr +i is not possible here");
        return;
    };
    assert_eq!(shared.remove(), Ok(Removed::AsideUnfinished));
    assert!(!shared.lease_path().exists());
    assert_eq!(shared.permit(), Permit::Unknown);
    let swept = sweep_by(by, shared.root());
    assert_eq!((swept.removed, swept.unfinished, swept.stuck.len()), (0, 0, 1));
    assert!(swept.left(shared.root()).unwrap().contains("authorized_keys"), "{swept:?}");
}

/// An immutable file below the root of a test, wherever it is moved.
struct Immutable(fs::File);

impl Immutable {
    fn set(path: &Path) -> Option<Immutable> {
        let file = fs::File::open(path).unwrap();
        let done = chattr("+i", &file);
        done.then_some(Immutable(file))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        chattr("-i", &self.0);
    }
}

fn chattr(flag: &str, file: &fs::File) -> bool {
    use std::os::fd::AsRawFd;
    let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
    let done = std::process::Command::new("chattr").arg(flag).arg(path).stderr(std::process::Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

fn sweep_by(by: By, root: &Path) -> Swept {
    const TIME: Duration = Duration::from_secs(60);
    match by {
        Files => local::sweep(root, TIME).unwrap(),
        Script => remote::sweep(Bash::Here(""), root, TIME).unwrap(),
    }
}

#[rstest]
fn a_sweep_takes_what_was_left_and_nothing_else(#[values(Files, Script)] by: By) {
    let (temp, shared) = shared(by);
    assert_eq!(sweep_by(by, shared.root()), Swept::default());
    shared.grant(b"k").unwrap();
    let root = shared.root();
    let outside = temp.path().join("outside");
    fs::create_dir_all(outside.join("thesis")).unwrap();
    fs::create_dir_all(root.join(".gone-cbx_4b38f35d4e31-00/a/b/c")).unwrap();
    fs::set_permissions(root.join(".gone-cbx_4b38f35d4e31-00/a"), Permissions::from_mode(0o000)).unwrap();
    symlink(&outside, root.join(".gone-link")).unwrap();
    fs::create_dir_all(root.join("mine")).unwrap();
    let old = std::time::SystemTime::now() - 2 * OLD_ENOUGH;
    for name in [".format.0123456789abcdef", "doctor-0123456789abcdef", ".doctor-12345", "note"] {
        fs::File::create(root.join(name)).unwrap().set_modified(old).unwrap();
    }
    fs::write(root.join(".format.fedcba9876543210"), "").unwrap();
    let swept = sweep_by(by, root);
    assert_eq!(swept, Swept { removed: 2, ..Swept::default() });
    let mut left: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".format.fedcba9876543210", "cbx_4b38f35d4e31", "format", "mine", "note"]);
    assert!(outside.join("thesis").exists() && shared.permit() == Permit::Held);
}

#[rstest]
fn a_work_root_is_swept_of_leases_that_nobody_knows(#[values(Files, Script)] by: By) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("work");
    let sweep = |known: &str| {
        let known = |lease: &LeaseId| lease.as_str() == known;
        match by {
            Files => sweep_work_root(&Host::Here, &root, known, Duration::from_secs(60)),
            Script => {
                let names = remote::list_work_root(Bash::Here(""), &root)?;
                let names: Vec<_> = names.into_iter().filter(|name| is_to_go(name, known)).collect();
                match names.is_empty() {
                    true => Ok(Swept::default()),
                    false => remote::clear_work_root(Bash::Here(""), &root, names, Duration::from_secs(60)),
                }
            }
        }
    };
    assert_eq!(sweep(""), Ok(Swept::default()));
    let outside = temp.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    for name in [
        "cbx_000000000001/a/b",
        ".cbx_000000000002.0123456789abcdef/a",
        ".cbx_000000000001.0123456789abcdef",
        ".gone-cbx_000000000003-0a0b0c0d/x",
        "cbx_000000000004x",
        "thesis",
        ".cbx_000000000001.notanonce",
    ] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join(".cbx_000000000005.0123456789abcdef"), "a file").unwrap();
    fs::write(root.join(".cbx_000000000001.owner"), "nonce=0123456789abcdef job=1 ").unwrap();
    fs::create_dir(root.join(".cbx_000000000008.0123456789abcdef")).unwrap();
    fs::write(root.join(".cbx_000000000008.owner"), "nonce=fedcba9876543210 job=2 ").unwrap();
    symlink(&outside, root.join(".cbx_000000000006.0123456789abcdef")).unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        fs::create_dir(root.join(".cbx_000000000007.0123456789abcdef")).unwrap();
        std::os::unix::fs::chown(root.join(".cbx_000000000007.0123456789abcdef"), Some(1), None).unwrap();
    }
    let swept = sweep("cbx_000000000002").unwrap();
    assert_eq!(swept, Swept { removed: 3, ..Swept::default() });
    let mut left: Vec<_> =
        fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    let mut kept = vec![
        ".cbx_000000000001.notanonce",
        ".cbx_000000000002.0123456789abcdef",
        ".cbx_000000000005.0123456789abcdef",
        ".cbx_000000000006.0123456789abcdef",
        ".cbx_000000000008.owner",
        "cbx_000000000001",
        "cbx_000000000004x",
        "thesis",
    ];
    if is_root {
        kept.insert(4, ".cbx_000000000007.0123456789abcdef");
    }
    assert_eq!(left, kept);
    assert!(outside.exists());
}

/// A bind mount is on the same device, so it is told by more than that. Mounts are made in a namespace of their own.
#[test]
fn nothing_is_removed_on_another_mount() {
    const NAME: &str = "shared_dir::tests::nothing_is_removed_on_another_mount";
    const INSIDE: &str = "SLURM_SANDBOX_TEST_INSIDE";
    let run = |words: &[&str]| std::process::Command::new(words[0]).args(&words[1..]).env(INSIDE, "1").output();
    if std::env::var_os(INSIDE).is_none() {
        let program = std::env::current_exe().unwrap();
        if !run(&["unshare", "--mount", "true"]).is_ok_and(|output| output.status.success()) {
            return say("skipped: mounts cannot be made here");
        }
        let output = run(&["unshare", "--mount", program.to_str().unwrap(), "--exact", NAME]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    for by in [Files, Script] {
        let (temp, shared) = shared(by);
        shared.grant(b"k").unwrap();
        let outside = temp.path().join("outside");
        fs::create_dir_all(outside.join("thesis/chapter")).unwrap();
        let inside = shared.attempt_path().join("deep/deeper/mounted");
        fs::create_dir_all(&inside).unwrap();
        assert!(
            run(&["mount", "--bind", outside.to_str().unwrap(), inside.to_str().unwrap()]).unwrap().status.success()
        );
        assert_eq!(shared.remove(), Ok(Removed::AsideUnfinished));
        let swept = sweep_by(by, shared.root());
        assert_eq!((swept.removed, swept.unfinished, swept.stuck.len()), (0, 0, 1), "{swept:?}");
        assert!(outside.join("thesis/chapter").exists() && !shared.lease_path().exists());
        let aside = fs::read_dir(shared.root()).unwrap().map(|entry| entry.unwrap().path());
        let aside = aside.into_iter().find(|path| path.to_string_lossy().contains(ASIDE)).unwrap();
        let script = format!("find {} -name mounted -exec umount {{}} +", aside.display());
        run(&["sh", "-c", &script]).unwrap();
        assert_eq!(sweep_by(by, shared.root()).removed, 1);
        assert!(outside.join("thesis/chapter").exists());
    }
}

#[rstest]
#[case("cbx_4b38f35d4e31", false)]
#[case(".cbx_4b38f35d4e31.00112233445566ff", true)]
#[case(".gone-cbx_4b38f35d4e31-0a1b2c3d", true)]
#[case(".cbx_4b38f35d4e31", false)]
#[case(".cbx_4b38f35d4e31.x", false)]
#[case("cbx_4b38f35d4e31.00112233445566ff", false)]
#[case("cbx_4B38F35D4E31", false)]
#[case("..", false)]
#[case(".gone-", false)]
fn entries_of_a_work_root(#[case] name: &str, #[case] is: bool) {
    assert_eq!(work_entry(name).map(|lease| lease.to_string()), is.then(|| "cbx_4b38f35d4e31".to_owned()));
}

#[test]
fn a_big_tree_is_away_at_once_and_removed_by_later_sweeps() {
    let (_temp, shared) = shared(Files);
    shared.grant(b"k").unwrap();
    for directory in 0..20 {
        let directory = shared.attempt_path().join(directory.to_string());
        fs::create_dir(&directory).unwrap();
        (0..50).for_each(|file| drop(fs::File::create(directory.join(file.to_string())).unwrap()));
    }
    let attempt = shared.attempt().clone();
    let root = crate::files::Dir::open_root(&attempt.root).unwrap();
    let removed = local::move_aside(&root, attempt.lease.as_str(), &root, &attempt.lease, Instant::now());
    assert_eq!(removed, Ok(Removed::AsideUnfinished));
    assert!(!shared.lease_path().exists() && shared.asides() == 1);
    assert_eq!(sweep_by(Files, shared.root()).removed, 1);
    assert_eq!(shared.asides(), 0);
}

#[rstest]
fn whether_a_lost_lease_was_handed_out(#[values(Files, Script)] by: By) {
    let (_temp, shared) = shared(by);
    let attempt = shared.attempt().clone();
    let marked = || match by {
        Files => local::marked(&attempt.root, &attempt.lease, &attempt.nonce),
        Script => remote::marked(Bash::Here(""), &attempt.root, &attempt.lease, &attempt.nonce),
    };
    assert_eq!(marked(), Marked::Unknown);
    shared.grant(b"k").unwrap();
    assert_eq!(marked(), Marked::No);
    shared.mark("answered", 5).unwrap();
    assert_eq!(marked(), Marked::Yes);
    fs::rename(shared.attempt_path(), shared.lease_path().join("elsewhere")).unwrap();
    assert_eq!(marked(), Marked::No);
    fs::write(shared.attempt_path(), "").unwrap();
    assert_eq!(marked(), Marked::Unknown);
    fs::remove_file(shared.attempt_path()).unwrap();
    fs::remove_file(shared.root().join("format")).unwrap();
    assert_eq!(marked(), Marked::Unknown);
}

#[test]
fn a_jobs_directory_tells_the_shared_dir() {
    let record = record();
    let root = |directory: &str| root_of(directory, record.lease_id(), &record.attempt.nonce);
    assert_eq!(root("/scratch/x/cbx_4b38f35d4e31/00112233445566ff"), Some(PathBuf::from("/scratch/x")));
    assert_eq!(root("/scratch/x/other/00112233445566ff"), None);
    assert_eq!(root("/"), None);
    assert_eq!(root(""), None);
}

#[rstest]
fn an_ending_is_cleaned_for_a_message(#[values(Files, Script)] by: By) {
    let (_temp, shared) = shared(by);
    shared.grant(b"k").unwrap();
    let text = r#"{"reason":"idle\u001b[31m","detail":"no use\nfor 1800 s"}"#;
    fs::write(shared.attempt_path().join("ending.json"), text).unwrap();
    assert_eq!(shared.notice(), Notice::Ending);
    assert_eq!(shared.ending(), Some(Ending { reason: "idle[31m".into(), detail: "no use / for 1800 s".into() }));
}

// ---- one permit, three readers: this is two of them, tests/runner/run has the third

const PERMIT_CASES: &str = include_str!("../../tests/fixtures/permit-cases");

#[rstest]
fn a_permit_is_judged_like_the_runner_does(#[values(Files, Script)] by: By) {
    let mut skipped = Vec::new();
    for line in PERMIT_CASES.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, made, meaning] = words[..] else { panic!("not a case: {line}") };
        let (temp, shared) = shared(by);
        shared.grant(b"k").unwrap();
        if made.contains("unreadable") && nix::unistd::geteuid().is_root() {
            skipped.push(name);
            continue;
        }
        make(made, &shared, temp.path());
        let expected = match meaning {
            "held" => Permit::Held,
            "lost" => Permit::Lost,
            "unknown" => Permit::Unknown,
            other => panic!("{other} is no meaning"),
        };
        assert_eq!((name, shared.permit()), (name, expected));
        fs::set_permissions(shared.root(), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(shared.lease_path(), Permissions::from_mode(0o700)).ok();
    }
    // Root can read everything, so somebody else has to try.
    if !skipped.is_empty() && !as_nobody("shared_dir::tests::a_permit_is_judged_like_the_runner_does") {
        say(&format!("skipped, since this is root: {}", skipped.join(" ")));
    }
}

/// Runs tests of this program as user nobody; whether that was possible.
fn as_nobody(tests: &str) -> bool {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program).arg(tests);
    let Ok(output) = command.current_dir("/").env("TMPDIR", "/tmp").output() else { return false };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() || !said.contains("running "), "as nobody: {said}");
    output.status.success()
}

/// Shown also where a test passes.
fn say(text: &str) {
    use std::io::Write;
    std::io::stderr().write_all(format!("{text}\n").as_bytes()).unwrap();
}

fn make(made: &str, shared: &SharedDir, elsewhere: &Path) {
    let (permit, lease) = (shared.permit_path(), shared.lease_path());
    let nonce = shared.attempt().nonce.as_str();
    let text = |text: &str| {
        let text = text.replace("NONCE", nonce).replace("OTHER", "ffeeddccbbaa0011").replace("SHORT", &nonce[..15]);
        let text = text.replace("UPPER", &nonce.to_uppercase());
        ["\\n", "\\r", "\\t", "\\s", "\\0"]
            .iter()
            .zip(["\n", "\r", "\t", " ", "\0"])
            .fold(text, |text, (from, to)| text.replace(from, to))
    };
    let aside = elsewhere.join("aside");
    if !made.starts_with("lease-") {
        fs::remove_file(&permit).unwrap();
    }
    let (what, more) = made.split_once(':').unwrap_or((made, ""));
    match what {
        "file" => fs::write(permit, text(more)).unwrap(),
        "zeros" => fs::File::create(permit).unwrap().set_len(more.parse().unwrap()).unwrap(),
        "link" => {
            if !more.is_empty() {
                fs::write(&aside, text(more)).unwrap();
            }
            symlink(&aside, permit).unwrap();
        }
        "fifo" => nix::unistd::mkfifo(&permit, nix::sys::stat::Mode::S_IRWXU).unwrap(),
        "directory" => fs::create_dir(permit).unwrap(),
        "missing" => {}
        "unreadable" => {
            fs::write(&permit, text("NONCE\\n")).unwrap();
            fs::set_permissions(permit, Permissions::from_mode(0o000)).unwrap();
        }
        "lease-unreadable" => fs::set_permissions(lease, Permissions::from_mode(0o000)).unwrap(),
        "lease-missing" => fs::rename(lease, aside).unwrap(),
        "lease-empty" => {
            fs::rename(&lease, aside).unwrap();
            fs::create_dir(lease).unwrap();
        }
        "lease-link" => {
            fs::rename(&lease, &aside).unwrap();
            symlink(aside, lease).unwrap();
        }
        "lease-file" => {
            fs::rename(&lease, aside).unwrap();
            fs::write(lease, "").unwrap();
        }
        other => panic!("{other} cannot be made"),
    }
}
