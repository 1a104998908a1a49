//! How releases look at Slurm until a job has ended: soon after the cancellation, then more and more rarely. Of all that look on one host
//! at jobs of one user, a single process asks, at its own pace; the others take its answers. So a hundred releases at once cost
//! the controller what one costs.

use std::time::{Duration, Instant};

use crate::allocation::{self, View};
use crate::files::Lock;
use crate::lease::record::{Denials, Record};
use crate::lease::store::Store;
use crate::slurm::cache::{BackOff, Moment, Shared};
use crate::slurm::job::Class;

/// Longest wait for one answer of Slurm inside a release.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(12);

/// When it is looked after the cancellation, and then how often. An unused lease ends within a tenth of a second, one that clears a
/// large work directory within some seconds.
const AT_MILLIS: [u64; 8] = [20, 50, 100, 200, 400, 700, 1200, 2200];
const LATER: Duration = Duration::from_secs(2);

/// How old an answer may be by which a job is cancelled that it shows alive. No id is given to another job so soon, and one that
/// has ended meanwhile is not harmed.
const ALIVE_ANSWER: Duration = Duration::from_secs(2);

/// How much longer than its own pause a look waits for the answer of the one that asks, which may stand still.
const LEADER_PATIENCE: Duration = Duration::from_secs(2);

/// Between two looks at the other's answer.
const TURN: Duration = Duration::from_millis(20);

/// The looks of one release.
#[derive(Debug)]
pub struct Polls {
    shared: Option<Shared>,
    /// How many there were.
    count: usize,
    /// Since when they are counted: the first cancellation, else the start.
    since: Instant,
    /// How long the last one has waited for its answer: a slow controller is given as long a rest.
    took: Duration,
    cancelled: bool,
    /// Answers count that were asked for after this.
    after: Moment,
    /// While it is this process that asks.
    lead: Option<Lock>,
}

impl Polls {
    pub fn new(store: &Store) -> Polls {
        Polls {
            shared: store.cache().ok().and_then(Shared::open),
            count: 0,
            since: Instant::now(),
            took: Duration::ZERO,
            cancelled: false,
            after: Moment::now(),
            lead: None,
        }
    }

    /// A job was cancelled: what was asked before tells nothing any more.
    pub fn after_a_cancellation(&mut self) {
        self.after = Moment::now();
        if !self.cancelled {
            (self.since, self.cancelled) = (Instant::now(), true);
        }
    }

    /// How long the next look waits before it asks.
    pub fn pause(&self) -> Duration {
        if self.count == 0 {
            Duration::ZERO
        } else {
            due(self.count).saturating_sub(self.since.elapsed()).max(self.took)
        }
    }

    /// Polls once, after the pause that is due; `left` is the time that the release has.
    pub fn poll(&mut self, record: &Record, left: Duration) -> View {
        let pause = self.pause();
        let deadline = left.saturating_sub(pause).min(QUERY_DEADLINE).max(Duration::from_secs(1));
        let known = if self.count == 0 { self.seen_alive(record) } else { self.others(record, pause, deadline) };
        self.count += 1;
        known.unwrap_or_else(|| {
            self.after = Moment::now();
            let asked = Instant::now();
            let view = match &self.shared {
                Some(shared) => allocation::ask_shared(record, shared, self.after, deadline, BackOff::Waived),
                None => allocation::ask(record, deadline),
            };
            self.took = asked.elapsed();
            view
        })
    }

    /// What was told a moment ago, where that is enough to cancel the job.
    fn seen_alive(&self, record: &Record) -> Option<View> {
        let (listing, _) = allocation::answer_after(record, self.shared.as_ref()?, self.after.before(ALIVE_ANSWER))?;
        Some(allocation::view(record, &listing)).filter(|view| shows_what_to_cancel(record, view))
    }

    /// Waits for an answer that another process asks for; `None` after the pause, when it is on this one to ask.
    fn others(&mut self, record: &Record, pause: Duration, deadline: Duration) -> Option<View> {
        let began = Instant::now();
        loop {
            if let Some(shared) = self.shared.as_ref().filter(|_| self.lead.is_none()) {
                if let Some((listing, asked)) = allocation::answer_after(record, shared, self.after) {
                    self.after = asked;
                    return Some(allocation::confirmed(record, &listing, deadline));
                }
                self.lead = allocation::lead(record, shared);
            }
            let follows = self.shared.is_some() && self.lead.is_none();
            let patience = if follows { pause + LEADER_PATIENCE } else { pause };
            let left = patience.saturating_sub(began.elapsed());
            if left.is_zero() {
                return None;
            }
            std::thread::sleep(left.min(TURN));
        }
    }
}

/// When a look is due, by its number.
fn due(number: usize) -> Duration {
    let (among, beyond) = (number.min(AT_MILLIS.len()), number.saturating_sub(AT_MILLIS.len()));
    let at = AT_MILLIS.get(among.saturating_sub(1)).copied().unwrap_or_default();
    Duration::from_millis(at) + LATER * u32::try_from(beyond).unwrap_or(u32::MAX)
}

/// Whether an answer from before the release may be acted on: it shows the lease's job alive, and nothing is known that it could
/// undo.
fn shows_what_to_cancel(record: &Record, view: &View) -> bool {
    let lives = |class| matches!(class, Class::Queued | Class::Running | Class::Suspended);
    record.job.is_some()
        && record.ended.is_none()
        && record.denied == Denials::default()
        && view.row().is_some_and(|row| lives(row.state.class()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::lifecycle::Observation;
    use crate::lease::record::Ended;
    use crate::lease::record::tests::{record, row};
    use crate::slurm::job::{Row, State};
    use rstest::rstest;

    fn shows(word: &str) -> View {
        View { observation: Observation::Row(Box::new(Row { state: State::new(word), ..row() })), stale_jobs: vec![] }
    }

    #[rstest]
    #[case::running("RUNNING", true)]
    #[case::pending("PENDING", true)]
    #[case::suspended("SUSPENDED", true)]
    #[case::ending("COMPLETING", false)]
    #[case::ended("CANCELLED", false)]
    #[case::in_a_state_not_known_here("EXPEDITING", false)]
    fn an_answer_seen_alive_may_only_cancel(#[case] word: &str, #[case] expected: bool) {
        assert_eq!(shows_what_to_cancel(&record(), &shows(word)), expected);
    }

    #[test]
    fn an_answer_seen_alive_undoes_nothing() {
        let ended = Ended { state: "TIMEOUT".into(), reason: String::new(), exit: None, runner: None, at: 1 };
        let denied = Denials { first: Some(7), elsewhere: false };
        for known in
            [Record { ended: Some(ended), ..record() }, Record { denied, ..record() }, Record { job: None, ..record() }]
        {
            assert!(!shows_what_to_cancel(&known, &shows("RUNNING")), "{known:?}");
        }
        assert!(!shows_what_to_cancel(&record(), &View::query_failed("down")));
    }

    #[test]
    fn looks_come_soon_and_then_rarely() {
        let times: Vec<_> = (1..=10).map(|number| due(number).as_millis()).collect();
        assert_eq!(times, [20, 50, 100, 200, 400, 700, 1200, 2200, 4200, 6200]);
    }

    #[test]
    fn a_slow_controller_is_given_a_rest() {
        let temp = tempfile::tempdir().unwrap();
        let mut polls = Polls::new(&Store::open(&temp.path().join("state")).unwrap());
        assert_eq!(polls.pause(), Duration::ZERO);
        polls.count = 1;
        assert!(polls.pause() <= Duration::from_millis(20));
        polls.took = Duration::from_secs(3);
        assert_eq!(polls.pause(), Duration::from_secs(3));
    }
}
