//! Logins that prove leases take turns: a login costs a quarter of a second of CPU, most of it where sshd runs, and when a
//! hundred jobs start at once, a hundred logins at once would all be too slow for their deadlines, again and again.
//!
//! A turn is a lock in the state dir's cache, so one whose holder is killed is free again.

use std::num::NonZero;
use std::time::{Duration, Instant};

use crate::files::{Dir, Lock};

/// Logins at once for each of this machine's cores, and the fewest for all.
const TURNS_A_CORE: usize = 4;
const FEWEST_TURNS: usize = 8;

/// Longest wait for a turn: a hundred logins on two busy cores take a minute; nodes that do not answer hold theirs for ten
/// seconds each, which must not hold up the others for ever.
const PATIENCE: Duration = Duration::from_secs(120);

/// Between two tries, each at another turn: a hundred that wait must not take the CPU from those who log in.
const RETRY: Duration = Duration::from_millis(25);

/// A turn, held while this value lives; none after the patience or where locks do not work, and then nobody waits.
pub fn take(cache: Option<&Dir>, deadline: Instant) -> Option<Lock> {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    take_one(cache?, (cores * TURNS_A_CORE).max(FEWEST_TURNS), deadline.min(Instant::now() + PATIENCE))
}

fn take_one(cache: &Dir, turns: usize, deadline: Instant) -> Option<Lock> {
    // The state dir may be shared by hosts; each has turns of its own.
    let host = nix::unistd::gethostname().ok()?.into_string().ok()?;
    if !crate::config::value::is_word(&host, "._-") {
        return None;
    }
    let first = std::process::id() as usize;
    for number in 0.. {
        if let Some(lock) = cache.lock(&format!("login-{host}-{}", (first + number) % turns), Duration::ZERO).ok()? {
            return Some(lock);
        }
        if number + 1 >= turns {
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(RETRY);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_turns_at_once_and_nobody_waits_for_ever() {
        let temp = tempfile::tempdir().unwrap();
        let cache = Dir::private_root(&temp.path().join("cache")).unwrap();
        let soon = || Instant::now() + Duration::from_millis(60);
        let (first, second) = (take_one(&cache, 2, soon()), take_one(&cache, 2, soon()));
        assert!(first.is_some() && second.is_some());
        let began = Instant::now();
        assert!(take_one(&cache, 2, soon()).is_none());
        assert!(began.elapsed() >= Duration::from_millis(60));
        drop(first);
        assert!(take_one(&cache, 2, soon()).is_some());
    }
}
