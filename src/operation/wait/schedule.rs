//! When a wait looks and asks: often at the directory, which costs the controller nothing, rarely at Slurm.

use std::time::Duration;

/// How long the shared dir may be unreadable or the endpoint file strange before that is believed.
pub const TROUBLE_PATIENCE: Duration = Duration::from_secs(10);

/// An answer of Slurm younger than this still tells how a job stands.
pub const LAST_WORD_AGE: Duration = Duration::from_secs(2);

/// Between two questions while a file of the runner waits to be used.
pub const EAGER_INTERVAL: Duration = Duration::from_millis(500);

/// Where something has just happened, an answer of another process must be this young; many that start at once are
/// served by three questions a second.
pub const FRESH_ANSWER: Duration = Duration::from_millis(300);

/// When Slurm is asked, in seconds since the start of the wait; later once a minute (docs/facts/slurm.md, "How often to ask").
const ASK_AT_SECONDS: [u64; 5] = [3, 5, 10, 20, 30];

/// How long after a question at `last` (since the start) the next one is due.
pub fn ask_after(last: Option<Duration>) -> Duration {
    let last = last.unwrap_or(Duration::ZERO);
    let next = ASK_AT_SECONDS.iter().map(|seconds| Duration::from_secs(*seconds)).find(|at| *at > last);
    next.map_or(Duration::from_secs(60), |at| at - last)
}

/// How old an answer may be that another process got, where ours is due `gap` after the last one. With the longest
/// gap of a minute, half an hour costs all waiting processes together less than 40 questions.
pub fn oldest_answer(gap: Duration) -> Duration {
    gap * 9 / 10
}

/// A gap with its jitter: up to a tenth longer, the same in all of one wait, so that waits of several users, hosts and
/// state dirs that began together do not ask together for ever. `seed` is random.
pub fn jittered(gap: Duration, seed: u8) -> Duration {
    gap + gap * u32::from(seed) / 2550
}

/// How long after the job's start its files are looked for eagerly: the default runner publishes within a fifth of a second.
const STARTING: Duration = Duration::from_secs(1);

/// How often the directory is read: often while a start is likely, rarely in a long queue. `started` is how long the
/// output of the job has been seen, which Slurm makes when it starts.
pub fn look_interval(waited: Duration, started: Option<Duration>) -> Duration {
    if started.is_some_and(|since| since < STARTING) {
        return Duration::from_millis(25);
    }
    Duration::from_millis(match waited.as_secs() {
        // Faster than a runner publishes, so that the start of its job is seen first.
        0..5 => 50,
        5..10 => 100,
        10..60 => 250,
        60..600 => 1000,
        _ => 2000,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurm_is_asked_rarely() {
        let mut at = Duration::ZERO;
        let mut times = Vec::new();
        while at < Duration::from_secs(1800) {
            at += ask_after((!times.is_empty()).then_some(at));
            times.push(at.as_secs());
        }
        assert_eq!(times[..6], [3, 5, 10, 20, 30, 90]);
        assert!(times.len() <= 36, "{} questions in half an hour", times.len());
    }

    #[test]
    fn jitter_makes_a_gap_a_little_longer_and_never_shorter() {
        let gap = Duration::from_secs(60);
        assert_eq!([0, 255].map(|seed| jittered(gap, seed)), [gap, Duration::from_secs(66)]);
        assert!((0..=255).all(|seed| (gap..=gap * 11 / 10).contains(&jittered(gap, seed))));
    }

    #[test]
    fn a_job_that_has_just_started_is_looked_at_often() {
        let seconds = Duration::from_secs;
        assert_eq!(look_interval(seconds(1000), Some(Duration::ZERO)), Duration::from_millis(25));
        assert_eq!(look_interval(seconds(1000), Some(STARTING)), seconds(2));
        assert_eq!(look_interval(seconds(1), None), Duration::from_millis(50));
    }
}
