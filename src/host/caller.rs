//! Who started this process, and who reads its answer: a lease that nobody can be told of has no owner.

use std::os::fd::AsFd;
use std::os::linux::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, getppid};

/// How often the parent is looked for while nothing else happens.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Whether somebody has asked this call to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Has every watch say from now on that nobody wants what this call makes.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether [`interrupt`] was called.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// The caller of this process, as it was when the watch began.
#[derive(Debug)]
pub struct Caller {
    /// `None`: it is this process itself.
    parent: Option<Pid>,
}

impl Caller {
    /// Begins to watch.
    pub fn watch() -> Caller {
        Caller { parent: Some(getppid()) }
    }

    /// For what this process itself makes use of, whoever started it: only an interruption counts.
    pub fn own() -> Caller {
        Caller { parent: None }
    }

    fn has_lost_parent(&self) -> bool {
        self.parent.is_some_and(|parent| getppid() != parent)
    }

    /// Why the caller is taken for dead; `None` while it lives.
    pub fn gone(&self) -> Option<&'static str> {
        if is_interrupted() {
            Some("it was interrupted")
        } else if self.has_lost_parent() {
            Some("the process that started this call has ended")
        } else if self.parent.is_some() && nobody_reads(Duration::ZERO) {
            Some("nobody reads this call's standard output any more")
        } else {
            None
        }
    }

    /// Sleeps, and ends early when the caller has gone.
    pub fn sleep(&self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || is_interrupted() || self.has_lost_parent() {
                return;
            }
            let began = Instant::now();
            let slice = left.min(LOOK_INTERVAL);
            if self.parent.is_some() && nobody_reads(slice) {
                return;
            }
            // What cannot be polled is slept through.
            std::thread::sleep(slice.saturating_sub(began.elapsed()));
        }
    }
}

/// Whether the reader of a pipe, a socket or a terminal is gone, or goes within the patience.
fn nobody_reads(patience: Duration) -> bool {
    let stdout = stdout();
    let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    poll(&mut fds, timeout).is_ok_and(|ready| ready > 0) && fds[0].revents().is_some_and(|seen| seen.intersects(gone))
}

/// Whether this process was started with a closed standard output: Rust's runtime then opens /dev/null in its place, for
/// reading and writing, which a redirection to it does not.
pub fn stdout_was_closed() -> bool {
    /// Device 1:3.
    const NULL_DEVICE: u64 = 0x103;
    let stdout = stdout();
    let flags = fcntl(stdout.as_fd(), FcntlArg::F_GETFL).map(OFlag::from_bits_retain);
    let null = std::fs::metadata("/proc/self/fd/1").is_ok_and(|meta| meta.st_rdev() == NULL_DEVICE);
    null && flags.is_ok_and(|flags| flags & OFlag::O_ACCMODE == OFlag::O_RDWR)
}

#[expect(clippy::disallowed_methods, reason = "it is looked at or handed on, and no answer is written to it")]
pub(super) fn stdout() -> std::io::Stdout {
    std::io::stdout()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_lives_is_slept_with() {
        let caller = Caller::watch();
        let began = Instant::now();
        caller.sleep(Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30) || caller.gone().is_some());
        assert!(Caller { parent: Some(Pid::from_raw(-1)) }.gone().is_some());
    }
}
