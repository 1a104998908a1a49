//! extend: lets a lease live on for a while from now, as far as that is ours to give. A running job's time limit can be raised by Slurm's
//! operators alone; the time to live and the idle time are ours.

use std::collections::BTreeMap;

use anyhow::Result;

use super::touch;
use crate::allocation;
use crate::clock::epoch;
use crate::failure::{Failure, Kind};
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup::{required, whole};
use crate::protocol::{Operation, Request, SentLease};
use crate::slurm::job::Class;
use crate::slurm::squeue;

/// What ends a lease, in seconds since the epoch or of idleness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    /// The job's time limit; `None`: none is known.
    limit: Option<i64>,
    time_to_live: Option<i64>,
    idle: Option<u64>,
}

/// What is to be changed, and until when nothing ends the lease then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    time_to_live: Option<i64>,
    idle: Option<u64>,
    until: i64,
    /// Whether the time limit comes before the wanted time.
    cut: bool,
}

fn plan(ends: Ends, now: i64, seconds: u64) -> Plan {
    let wanted = now.saturating_add_unsigned(seconds);
    let until = ends.limit.map_or(wanted, |limit| limit.min(wanted));
    Plan {
        time_to_live: ends.time_to_live.filter(|end| *end < until).map(|_| until),
        idle: ends.idle.filter(|idle| *idle < seconds).map(|_| seconds),
        until,
        cut: until < wanted,
    }
}

/// Extends a lease; what it lives until now.
pub fn run(options: &Options, word: &str, duration: &str) -> Result<String> {
    let Some(seconds) = touch::duration(duration).filter(|seconds| *seconds > 0) else {
        let shown = crate::protocol::shown(&duration.into());
        return Err(Failure::new(Kind::BadRequest, format!("{shown} is no duration"))
            .remedy("give seconds, or such as 30m or 1h30m")
            .into());
    };
    let found = required(&Store::open(&options.state_dir)?, word)?;
    let record = whole("extending", &found.loaded)?;
    let view = allocation::ask(record, squeue::DEADLINE);
    let row = view.row().filter(|row| row.state.class() == Class::Running);
    let Some(row) = row else {
        let state = view.row().map_or("not known to run", |row| row.state.word());
        let what =
            format!("extending {}: its job is {state}, and only one that runs has an end to be moved", record.shown());
        return Err(Failure::new(Kind::BadRequest, what).remedy("see `slurm-sandbox list`").into());
    };
    let limits = found.dir.limits();
    let ends = Ends { limit: row.end, time_to_live: limits.ends(record.created, row.start), idle: limits.idle() };
    let now = epoch();
    let plan = plan(ends, now, seconds);
    let mut labels = BTreeMap::new();
    if let Some(end) = plan.time_to_live {
        // It counts from the making of the lease.
        labels.insert("ttl_secs".to_owned(), (end - record.created).max(1).to_string());
    }
    if let Some(idle) = plan.idle {
        labels.insert("idle_timeout_secs".to_owned(), idle.to_string());
    }
    if !labels.is_empty() {
        let lease = SentLease { lease_id: record.lease_id().to_string(), labels, ..SentLease::default() };
        touch::run(options, &Request { lease: Some(lease), ..Request::new(Operation::Touch) })?;
    }
    let minutes = |until: i64| (until - now).max(0) / 60;
    // A touch brings no more than that.
    let allowed = plan.idle.map(|idle| limits.allowed_idle(idle));
    let most = if allowed == plan.idle { "" } else { ", the most that the site's admins allow" };
    let idle = allowed.map(|idle| format!("; it may be idle for {} min now{most}", idle / 60)).unwrap_or_default();
    if plan.cut {
        let what = format!(
            "extending {}: its job's time limit ends it in {} min, and a running job's limit can be raised by Slurm's operators alone; \
             until then nothing else ends it{idle}",
            record.shown(),
            minutes(plan.until)
        );
        return Err(Failure::new(Kind::BadRequest, what)
            .remedy("acquire a lease with a longer timeLimit, or ask your admins to raise this one's with scontrol")
            .into());
    }
    Ok(format!("{} lives for {} min from now{idle}", record.shown(), minutes(plan.until)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: i64 = 10_000;

    #[rstest]
    #[case::nothing_ends_it((None, None, None), (None, None, 13_600, false))]
    #[case::the_time_limit_is_late((Some(99_000), None, None), (None, None, 13_600, false))]
    #[case::the_time_limit_comes_before((Some(11_000), None, None), (None, None, 11_000, true))]
    #[case::a_time_to_live((Some(99_000), Some(10_600), None), (Some(13_600), None, 13_600, false))]
    #[case::a_late_time_to_live((None, Some(50_000), None), (None, None, 13_600, false))]
    #[case::both((Some(11_000), Some(10_600), None), (Some(11_000), None, 11_000, true))]
    #[case::idle((None, None, Some(1800)), (None, Some(3600), 13_600, false))]
    #[case::long_idle((None, None, Some(7200)), (None, None, 13_600, false))]
    fn an_hour_from_now(
        #[case] (limit, time_to_live, idle): (Option<i64>, Option<i64>, Option<u64>),
        #[case] expected: (Option<i64>, Option<u64>, i64, bool),
    ) {
        let Plan { time_to_live, idle, until, cut } = plan(Ends { limit, time_to_live, idle }, NOW, 3600);
        assert_eq!((time_to_live, idle, until, cut), expected);
    }
}
