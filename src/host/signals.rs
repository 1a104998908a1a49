//! Signals that end a process, held back while it has something to take back first.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::caller;

/// The first one that came; 0: none.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// The child that is told of each; 0: none.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Whether this process goes on after a signal.
static HELD: AtomicBool = AtomicBool::new(false);

/// While it lives no signal ends this process.
#[derive(Debug)]
#[must_use]
pub struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        HELD.store(false, Ordering::SeqCst);
    }
}

/// From now on a signal ends what waits here, and the child that was started last, but not this process. What its caller has it ignore,
/// as nohup does, stays ignored.
///
/// # Errors
/// When signals cannot be caught.
pub fn hold() -> io::Result<Held> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(&status, *signal));
    let mut signals = Signals::new(wanted)?;
    HELD.store(true, Ordering::SeqCst);
    let wait = move || {
        for signal in signals.forever() {
            if !HELD.load(Ordering::SeqCst) {
                std::process::exit(128 + signal);
            }
            if received().is_none() {
                RECEIVED.store(signal, Ordering::SeqCst);
            }
            caller::interrupt();
            forward();
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(|_| Held)
}

/// By the mask of proc_pid_status(5), whose lowest bit is signal 1.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// The number of the first signal that came.
pub fn received() -> Option<i32> {
    Some(RECEIVED.load(Ordering::SeqCst)).filter(|signal| *signal != 0)
}

/// Names the child, as long as the answer lives. One that starts after a signal is told at once.
pub(super) fn forward_to(child: u32) -> Forwarding {
    CHILD.store(i32::try_from(child).unwrap_or(0), Ordering::SeqCst);
    if received().is_some() {
        forward();
    }
    Forwarding
}

/// While it lives the child has not been waited for, so that its number is its own.
#[derive(Debug)]
pub(super) struct Forwarding;

impl Drop for Forwarding {
    fn drop(&mut self) {
        CHILD.store(0, Ordering::SeqCst);
    }
}

fn forward() {
    let (child, signal) = (CHILD.load(Ordering::SeqCst), received().and_then(|signal| Signal::try_from(signal).ok()));
    if child > 0 {
        kill(Pid::from_raw(child), signal).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::none("SigBlk:\t0000000000000003\nSigIgn:\t0000000000001000\n", [false, false, false])]
    #[case::nohup("SigIgn:\t0000000000000001\n", [true, false, false])]
    #[case::in_the_background("SigIgn:\t0000000000000006\n", [false, true, false])]
    #[case::unknown("", [false, false, false])]
    fn what_is_ignored_stays_so(#[case] status: &str, #[case] expected: [bool; 3]) {
        assert_eq!([SIGHUP, SIGINT, SIGTERM].map(|signal| is_ignored(status, signal)), expected);
    }
}
