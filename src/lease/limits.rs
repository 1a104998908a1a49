//! How long a lease may live and be idle, as it was last said: by the configuration that its job was submitted with, or by a touch
//! since. The job keeps its own time; this is for those who look at a lease. It stands beside the record, in a file that a touch
//! may write without the lease's lock: what gets lost is told again.

use std::io;

use serde::{Deserialize, Serialize};

/// The file.
pub(super) const FILE: &str = "limits.json";

/// In seconds; 0 is without a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Counted from the job's start, as its configuration says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// The longest idle time that a touch may bring, where the site's admins limit it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_idle: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub touched: Option<Touch>,
}

/// The last touch, and the last limits that one brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Touch {
    /// Seconds since the epoch.
    pub at: i64,
    /// Counted from the making of the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
}

impl Limits {
    /// What was read of the file; without it nothing is known.
    pub(super) fn parse(read: io::Result<Option<Vec<u8>>>) -> Limits {
        read.ok().flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// An idle time as it may be: 0 is for ever, and so above every limit.
    pub fn allowed_idle(&self, idle: u64) -> u64 {
        match self.most_idle {
            Some(most) if idle == 0 || idle > most => most,
            _ => idle,
        }
    }

    /// The same after a touch.
    #[must_use]
    pub fn touch(self, at: i64, ttl: Option<u64>, idle: Option<u64>) -> Limits {
        let before = self.touched.unwrap_or_default();
        Limits { touched: Some(Touch { at, ttl: ttl.or(before.ttl), idle: idle.or(before.idle) }), ..self }
    }

    /// The time to live that holds now; `None` where there is none, or none is known.
    pub fn ttl(&self) -> Option<u64> {
        self.touched.as_ref().and_then(|touch| touch.ttl).or(self.ttl).filter(|ttl| *ttl > 0)
    }

    /// The idle time that holds now.
    pub fn idle(&self) -> Option<u64> {
        self.touched.as_ref().and_then(|touch| touch.idle).or(self.idle).filter(|idle| *idle > 0)
    }

    /// When the time to live is over, for a lease made at `created` whose job runs since `started`.
    pub fn ends(&self, created: i64, started: Option<i64>) -> Option<i64> {
        let from = match &self.touched {
            Some(Touch { ttl: Some(_), .. }) => Some(created),
            _ => started,
        };
        from?.checked_add_unsigned(self.ttl()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn submitted(ttl: u64, idle: u64) -> Limits {
        Limits { ttl: Some(ttl), idle: Some(idle), ..Limits::default() }
    }

    #[rstest]
    #[case::nothing_is_known(Limits::default(), None, None, None)]
    #[case::no_time_to_live(submitted(0, 1800), None, Some(1800), None)]
    #[case::from_the_start(submitted(600, 0), Some(600), None, Some(1600))]
    #[case::touched_from_the_making(submitted(600, 0).touch(1200, Some(5400), Some(900)), Some(5400), Some(900), Some(5500))]
    #[case::touched_for_ever(submitted(600, 900).touch(1200, Some(0), Some(0)), None, None, None)]
    #[case::touched_with_nothing(submitted(600, 900).touch(1200, None, None), Some(600), Some(900), Some(1600))]
    #[case::a_touch_without_keeps_the_last(submitted(600, 900).touch(1200, Some(50), None).touch(1300, None, Some(7)), Some(50), Some(7), Some(150))]
    fn what_holds(
        #[case] limits: Limits,
        #[case] ttl: Option<u64>,
        #[case] idle: Option<u64>,
        #[case] ends: Option<i64>,
    ) {
        assert_eq!((limits.ttl(), limits.idle(), limits.ends(100, Some(1000))), (ttl, idle, ends));
    }

    #[rstest]
    #[case(None, 0, 0)]
    #[case(Some(900), 0, 900)]
    #[case(Some(900), 3600, 900)]
    #[case(Some(900), 60, 60)]
    fn an_idle_time_is_held_to_the_limit(#[case] most_idle: Option<u64>, #[case] asked: u64, #[case] expected: u64) {
        assert_eq!(Limits { most_idle, ..Limits::default() }.allowed_idle(asked), expected);
    }

    #[test]
    fn a_job_that_has_not_started_has_no_end() {
        assert_eq!(submitted(600, 0).ends(100, None), None);
        assert_eq!(submitted(600, 0).touch(1200, Some(50), None).ends(100, None), Some(150));
        assert_eq!(submitted(u64::MAX, 0).ends(100, Some(1)), None);
    }

    /// Renaming a field makes the limits of living leases unknown.
    #[test]
    fn the_file_is_what_it_was() {
        let limits = submitted(600, 1800).touch(1200, Some(5400), None);
        let text = r#"{"ttl":600,"idle":1800,"touched":{"at":1200,"ttl":5400}}"#;
        assert_eq!(serde_json::to_string(&limits).unwrap(), text);
        assert_eq!(serde_json::from_str::<Limits>(text).unwrap(), limits);
        assert_eq!(serde_json::from_str::<Limits>(r#"{"later": true}"#).unwrap(), Limits::default());
    }
}
