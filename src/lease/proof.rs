//! When a login last proved a lease, and what it proved, so that the next call need not log in again. It stands beside the record
//! and is not synced: one that gets lost costs a login.

use serde::{Deserialize, Serialize};

use super::Nonce;
use super::record::Record;
use crate::clock::{BootTime, Now};
use crate::slurm::job::{Class, Row};

/// The file.
pub(super) const FILE: &str = "proof.json";

/// How long a proof holds, in seconds. What a login finds beyond Slurm's word and sshd's banner (a key that is refused, a host key
/// that has changed, a red ready check) changes rarely, and the client meets it in its own login. A dashboard that asks once a
/// minute then costs a login in five.
const HOLDS_SECONDS: i64 = 300;

/// A login that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proof {
    /// On the host that logged in; another one may have no way there.
    pub at: BootTime,
    pub nonce: Nonce,
    /// Where the job ran, and since when; a requeue changes both or one of them.
    pub node: String,
    pub start: i64,
    /// Digest of how it logged in, and what it ran.
    pub way: String,
}

impl Proof {
    /// That of a login to a job as Slurm had just shown it; `None` where Slurm does not tell what has to stay the same.
    pub fn of(record: &Record, row: &Row, way: String, now: Now) -> Option<Proof> {
        let (at, start) = (BootTime::of(now)?, row.start?);
        let nonce = record.attempt.nonce.clone();
        (!row.node.is_empty()).then(|| Proof { at, nonce, node: row.node.clone(), start, way })
    }

    /// Whether it was made a short time ago, on this host.
    pub fn is_recent(&self, now: Now) -> bool {
        self.at.elapsed(now).is_some_and(|seconds| (0..=HOLDS_SECONDS).contains(&seconds))
    }

    /// Whether the job is the one that was logged in to, and still runs where it did.
    pub fn is_of(&self, record: &Record, row: &Row) -> bool {
        self.nonce == record.attempt.nonce
            && row.state.class() == Class::Running
            && row.node == self.node
            && row.start == Some(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::{record, row};
    use super::*;
    use crate::slurm::job::State;
    use rstest::rstest;

    const NOW: Now = Now { epoch: 1_000_000, uptime: 2000 };

    fn running() -> Row {
        Row { state: State::new("RUNNING"), node: "n1".into(), start: Some(1002), ..row() }
    }

    fn proof() -> Proof {
        Proof::of(&record(), &running(), "way".into(), NOW).unwrap()
    }

    #[rstest]
    #[case::at_once(0, true)]
    #[case::for_minutes(300, true)]
    #[case::not_longer(301, false)]
    #[case::from_the_future(-1, false)]
    fn how_long_it_holds(#[case] seconds: i64, #[case] expected: bool) {
        // The time of day, which anybody may set, has no say.
        assert_eq!(proof().is_recent(Now { epoch: 0, uptime: NOW.uptime + seconds }), expected);
    }

    #[test]
    fn another_host_or_start_of_it_has_to_log_in_itself() {
        let at = BootTime { boot: "00000000-0000-0000-0000-000000000000".into(), ..proof().at };
        assert!(!Proof { at, ..proof() }.is_recent(NOW));
    }

    #[rstest]
    #[case::the_same(running(), true)]
    #[case::suspended(Row { state: State::new("SUSPENDED"), ..running() }, false)]
    #[case::ending(Row { state: State::new("COMPLETING"), ..running() }, false)]
    #[case::on_another_node(Row { node: "n2".into(), ..running() }, false)]
    #[case::started_again(Row { start: Some(1003), ..running() }, false)]
    #[case::without_a_start(Row { start: None, ..running() }, false)]
    fn what_it_is_of(#[case] row: Row, #[case] expected: bool) {
        assert_eq!(proof().is_of(&record(), &row), expected);
    }

    #[test]
    fn another_attempt_was_not_proven() {
        let mut again = record();
        again.begin_attempt().unwrap();
        assert!(!proof().is_of(&again, &running()));
    }

    #[test]
    fn nothing_is_proven_of_a_job_whose_place_or_start_is_not_told() {
        for row in [Row { node: String::new(), ..running() }, Row { start: None, ..running() }] {
            assert_eq!(Proof::of(&record(), &row, "way".into(), NOW), None);
        }
    }
}
