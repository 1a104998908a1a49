//! What a site may say of spares: jobs that are ready before anybody asks for a lease.

use super::MOST_SECONDS;
use super::time_limit::minutes;
use super::value::Reader;

/// The most spares of one pool. Each holds an allocation that nobody uses.
pub const MOST: u64 = 32;

/// Half an hour: who works with sandboxes asks for the next one sooner.
const SECONDS: u64 = 1800;

/// Least time that a spare waits: its last minute is not given away, and a start takes its time.
pub const LEAST_SECONDS: u64 = 120;

/// The settings of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spares {
    /// How many there are to be; 0: none.
    pub count: u64,
    /// How long one waits for a lease, in seconds.
    pub seconds: u64,
    /// The most spares of all pools, where the site's admins limit them.
    pub most: Option<u64>,
    /// What must be left of a spare's time for a lease to take it, in seconds, where the site says so.
    min_time_left: Option<u64>,
    /// What a lease is promised without it: its time limit or its time to live, whichever is over first.
    whole: Option<u64>,
}

impl Spares {
    /// What must be left of a spare's time for a lease to take it, in seconds.
    pub fn time_left(&self) -> u64 {
        self.min_time_left.or(self.whole).unwrap_or_default()
    }

    /// Whether a spare may be taken that has less time than a lease with a job of its own would have.
    pub fn may_be_shorter(&self) -> bool {
        self.min_time_left.zip(self.whole).is_some_and(|(least, whole)| least < whole)
            || self.min_time_left.is_some() && self.whole.is_none()
    }

    /// These settings as far as they make a difference to a spare.
    #[must_use]
    pub fn of_a_spare(&self) -> Spares {
        Spares { count: 1, most: None, min_time_left: None, whole: None, ..self.clone() }
    }
}

/// Reads the keys; `time_limit` is what is asked of Slurm, `ttl` in seconds.
pub fn read(reader: &mut Reader<'_>, time_limit: Option<&str>, ttl: u64) -> Spares {
    let count = reader.number("spares", 0, MOST).unwrap_or(0);
    let limit = time_limit.and_then(minutes).flatten().map(|minutes| minutes.saturating_mul(60));
    let spares = Spares {
        count,
        most: None,
        seconds: reader.number("spareSeconds", LEAST_SECONDS, MOST_SECONDS).unwrap_or(SECONDS),
        min_time_left: reader.number("spareMinTimeLeft", 1, MOST_SECONDS),
        whole: [limit, Some(ttl).filter(|ttl| *ttl > 0)].into_iter().flatten().min(),
    };
    if count > 0 && spares.min_time_left.is_none() && spares.whole.is_none() {
        reader.complain_of(
            &["spares", "timeLimit"],
            format!(
                "config key \"spares\" is {count}, and nothing tells how much time a lease needs; allowed is that together with \
                 timeLimit, ttlSeconds or spareMinTimeLeft"
            ),
        );
    }
    spares
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, parse};
    use rstest::rstest;
    use serde_json::{Value, json};

    fn settings(value: &Value) -> Result<Settings, String> {
        parse(value.as_object().unwrap()).map_err(|failure| failure.to_string())
    }

    #[rstest]
    #[case::the_time_limit(json!({"timeLimit": "02:00:00"}), 7200, false)]
    #[case::the_time_to_live(json!({"timeLimit": 120, "ttlSeconds": 600}), 600, false)]
    #[case::no_limit_but_a_time_to_live(json!({"ttlSeconds": 600}), 600, false)]
    #[case::what_the_user_says(json!({"timeLimit": 120, "spareMinTimeLeft": 600}), 600, true)]
    #[case::more_than_the_whole(json!({"timeLimit": 1, "spareMinTimeLeft": 600}), 600, false)]
    #[case::partition_default(json!({"spareMinTimeLeft": 600}), 600, true)]
    fn how_much_time_a_lease_needs(#[case] mut value: Value, #[case] seconds: u64, #[case] shorter: bool) {
        value["spares"] = json!(2);
        let spares = settings(&value).unwrap().spares;
        assert_eq!((spares.count, spares.seconds, spares.time_left()), (2, 1800, seconds));
        assert_eq!(spares.may_be_shorter(), shorter);
    }

    #[rstest]
    #[case(json!({"spares": 33, "timeLimit": 10}), "spares")]
    #[case(json!({"spares": -1}), "spares")]
    #[case(json!({"spares": 1}), "together with timeLimit")]
    #[case(json!({"spareSeconds": 60}), "spareSeconds")]
    #[case(json!({"spareMinTimeLeft": 0}), "spareMinTimeLeft")]
    fn mistakes(#[case] value: Value, #[case] expected: &str) {
        let said = settings(&value).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn none_by_default() {
        assert_eq!(settings(&json!({})).unwrap().spares.count, 0);
    }
}
