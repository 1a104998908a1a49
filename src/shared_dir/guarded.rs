//! A file system may hang: a dead server, a network that is away. What touches the cluster's directories from this machine
//! therefore runs on a thread of its own and is waited for only so long. What has not come back makes all that follows on the
//! same directory fail at once, until it does come back: a call over a thousand leases waits once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use crate::host::{Command, End, Host};

/// A healthy file system answers in milliseconds, a loaded one in seconds. A release has 20 s in all, a list 30.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a directory that has answered is trusted to do so.
const TRUST: Duration = Duration::from_secs(10);

/// What is known of a directory.
#[derive(Debug, Default)]
struct Known {
    /// When another process has seen it answer.
    answered: Option<Instant>,
    /// How many that were waited for in vain are still out.
    out: u32,
}

static ROOTS: Mutex<BTreeMap<PathBuf, Known>> = Mutex::new(BTreeMap::new());

fn known<T>(root: &Path, look: impl FnOnce(&mut Known) -> T) -> T {
    let mut roots = ROOTS.lock().unwrap_or_else(PoisonError::into_inner);
    look(roots.entry(root.to_owned()).or_default())
}

/// Does `work` in or below `root`, waiting for it `longer` than a file system needs where the work keeps a time of its own.
///
/// # Errors
/// That of the work, or that the file system has not answered in time. What it does after that nobody hears of.
pub fn run<T: Send + 'static>(
    root: &Path,
    longer: Duration,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    within(root, (PATIENCE + longer).min(Host::Here.left()), work)
}

fn within<T: Send + 'static>(
    root: &Path,
    patience: Duration,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if known(root, |known| known.out > 0) || patience.is_zero() {
        return Err(Error::Hung(root.to_owned()));
    }
    let (done, wait) = channel();
    let place = root.to_owned();
    let began = Instant::now();
    let thread = std::thread::Builder::new().name("shared dir".to_owned()).spawn(move || {
        let result = if answers(&place, patience) { work() } else { Err(Error::Hung(place.clone())) };
        // Told under the lock, so that nobody gives up at the same moment.
        known(&place, |known| {
            if done.send(result).is_err() {
                known.out = known.out.saturating_sub(1);
            }
        });
    });
    if let Err(error) = thread {
        return Err(Error::Failed(format!("no thread could be started: {error}")));
    }
    match wait.recv_timeout(patience.saturating_sub(began.elapsed())) {
        Ok(result) => result,
        Err(RecvTimeoutError::Disconnected) => Err(Error::Failed("the look at it broke off".to_owned())),
        Err(RecvTimeoutError::Timeout) => known(root, |known| match wait.try_recv() {
            Ok(result) => result,
            Err(_) => {
                known.out += 1;
                known.answered = None;
                drop(wait);
                Err(Error::Hung(root.to_owned()))
            }
        }),
    }
}

/// Finds out whether directories answer while the caller waits for something else; who comes to them within [`TRUST`] is not held up.
pub fn look_ahead(roots: impl IntoIterator<Item = PathBuf>) {
    for root in roots {
        let look = move || {
            answers(&root, PATIENCE);
        };
        // Without a thread it is found out when it matters.
        std::thread::Builder::new().name("shared dir".to_owned()).spawn(look).ok();
    }
}

/// Lets another process look first, unless one has lately. A process does not end before its threads have left the kernel, and
/// some file systems let none of them go: such a one has to keep the other process, not us.
fn answers(root: &Path, patience: Duration) -> bool {
    if known(root, |known| known.answered.is_some_and(|at| at.elapsed() < TRUST)) {
        return true;
    }
    // Any file will do, also one that is not there: it is looked for, opened and read.
    let file = root.join("format");
    let mut from = std::ffi::OsString::from("if=");
    from.push(&file);
    let words = ["of=/dev/null", "count=1", "iflag=nonblock", "status=none"];
    let looked = Command::new("dd", patience).arg(from).args(words).launch();
    let answered = !matches!(looked, Ok(End::DeadlinePassed));
    known(root, |known| known.answered = answered.then(Instant::now));
    answered
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::channel;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn one_that_hangs_is_waited_for_once_and_comes_back() {
        let temp = tempfile::tempdir().unwrap();
        let (release, held) = channel::<()>();
        let hung = within(temp.path(), SHORT, move || {
            held.recv().ok();
            Ok(1)
        });
        assert!(matches!(hung, Err(Error::Hung(root)) if root == temp.path()));
        let began = Instant::now();
        for _ in 0..1000 {
            assert!(matches!(within(temp.path(), LONG, || Ok(2)), Err(Error::Hung(_))));
        }
        assert!(began.elapsed() < LONG / 2);
        let other = tempfile::tempdir().unwrap();
        assert!(matches!(within(other.path(), LONG, || Ok(3)), Ok(3)));
        drop(release);
        let until = Instant::now() + LONG;
        while within(temp.path(), LONG, || Ok(4)).is_err() {
            assert!(Instant::now() < until, "it stays lost");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_calls_bound_holds() {
        let temp = tempfile::tempdir().unwrap();
        let _bound = Host::Here.end_by(Instant::now());
        assert!(matches!(run(temp.path(), Duration::ZERO, || Ok(1)), Err(Error::Hung(_))));
    }

    #[test]
    fn an_error_of_the_work_is_its_own() {
        let temp = tempfile::tempdir().unwrap();
        let failed = within(temp.path(), LONG, || Err::<(), _>(io::Error::other("no space").into()));
        assert!(matches!(failed, Err(Error::Failed(why)) if why == "no space"));
    }
}
