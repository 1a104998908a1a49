//! Whether a connection may start a profile's lease anew: an editor that reconnects all night must not start job after job. Pure.

use crate::clock::Now;
use crate::lease::names::LastEnd;

/// How long nothing is started after an end without a person at a terminal: longer than editors go on reconnecting, shorter than a night
/// and a working day.
pub const PAUSE_SECONDS: i64 = 3 * 3600;

/// Ends that are the cluster's doing, by the runner's word or Slurm's state: who works goes on working.
const NOBODYS_WISH: &[&str] = &["walltime", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED"];

/// What may be done for a name whose profile has no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Acquire,
    /// Nothing for so many seconds more.
    Paused(i64),
}

/// Decides by how the last lease ended, whether somebody waits at a terminal, and whether the settings want a lease at any time.
pub fn decide(end: Option<&LastEnd>, attended: bool, always: bool, now: Now) -> Verdict {
    let Some(end) = end.filter(|end| !attended && !always && !NOBODYS_WISH.contains(&end.why.as_str())) else {
        return Verdict::Acquire;
    };
    match PAUSE_SECONDS - end.elapsed(now) {
        ..=0 => Verdict::Acquire,
        left => Verdict::Paused(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: Now = Now { epoch: 1_000_000, uptime: 50_000 };

    #[rstest]
    #[case::never_had_one(None, false, false, Verdict::Acquire)]
    #[case::idle(Some(("idle", 60)), false, false, Verdict::Paused(10_740))]
    #[case::its_time_to_live(Some(("ttl", 60)), false, false, Verdict::Paused(10_740))]
    #[case::released(Some(("released", 0)), false, false, Verdict::Paused(10_800))]
    #[case::never_used(Some(("untaken", 60)), false, false, Verdict::Paused(10_740))]
    #[case::cancelled(Some(("CANCELLED by 1001", 60)), false, false, Verdict::Paused(10_740))]
    #[case::failed(Some(("preamble-failed", 60)), false, false, Verdict::Paused(10_740))]
    #[case::long_ago(Some(("idle", 10_800)), false, false, Verdict::Acquire)]
    #[case::at_a_terminal(Some(("idle", 60)), true, false, Verdict::Acquire)]
    #[case::at_any_time(Some(("idle", 60)), false, true, Verdict::Acquire)]
    #[case::its_time_limit(Some(("walltime", 60)), false, false, Verdict::Acquire)]
    #[case::a_node_that_failed(Some(("NODE_FAIL", 60)), false, false, Verdict::Acquire)]
    fn what_may_start(
        #[case] end: Option<(&str, i64)>,
        #[case] attended: bool,
        #[case] always: bool,
        #[case] expected: Verdict,
    ) {
        let end = end.map(|(why, ago)| LastEnd { why: why.into(), at: NOW.epoch - ago, at_boot: None });
        assert_eq!(decide(end.as_ref(), attended, always, NOW), expected);
    }
}
