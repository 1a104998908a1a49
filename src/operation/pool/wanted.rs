//! What spares are kept for, and for how long still: one file a pool in the state dir.
//!
//! ```text
//! <state-dir>/pools/<spec>.json    the configuration of the pool's last acquire, when that was, and what submissions came to since
//! ```
//! A pool is wanted while an acquire of it came within the time that one spare waits. So what spares cost ends by itself. Times are
//! those of the host's own clock: another host, or another boot, submits nothing for an acquire that it has not seen.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Pool;
use super::spec::{PROGRAM, Spec};
use crate::clock::{BootTime, Now};
use crate::files::Dir;

/// Pauses after failures in a row, in seconds: what a site refuses it refuses again for some time.
const PAUSES: [i64; 4] = [60, 900, 1800, 3600];

/// A configuration has 64 KiB of preamble at most.
const MAX_BYTES: u64 = 1 << 20;

/// A pool as the last acquire of it has left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    pub spec: Spec,
    program: String,
    pub config: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_script: Option<PathBuf>,
    /// The last acquire.
    asked: Option<BootTime>,
    /// How long a spare waits, in seconds.
    pub seconds: u64,
    /// Whether spares are submitted with no more time than a lease, since more was refused.
    #[serde(default)]
    plain_time: bool,
    #[serde(default)]
    failures: usize,
    /// The last failure, and what it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<BootTime>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl Wanted {
    /// That of an acquire that comes now; what failed before still counts.
    fn by(pool: &Pool, before: Option<Wanted>, now: Now) -> Wanted {
        let (plain_time, failures, failed, why) = before
            .map_or_else(Default::default, |before| (before.plain_time, before.failures, before.failed, before.why));
        Wanted {
            spec: pool.spec.clone(),
            program: PROGRAM.to_owned(),
            config: pool.config.clone(),
            runner_script: pool.runner_script.clone(),
            asked: BootTime::of(now),
            seconds: pool.spares.seconds,
            plain_time,
            failures,
            failed,
            why,
        }
    }

    pub fn is_plain(&self) -> bool {
        self.plain_time
    }

    /// The same where a spare's own waiting time may not be asked for on top.
    pub fn with_plain_time(self) -> Wanted {
        Wanted { plain_time: true, ..self }
    }

    /// Whether an acquire came within the time that a spare waits.
    pub fn is_recent(&self, now: Now) -> bool {
        let since = self.asked.as_ref().and_then(|asked| asked.elapsed(now));
        since.is_some_and(|seconds| seconds >= 0 && seconds.unsigned_abs() <= self.seconds)
    }

    /// How long no spare is submitted since the last ones failed, in seconds.
    pub fn pauses_for(&self, now: Now) -> Option<i64> {
        let pause = PAUSES[self.failures.checked_sub(1)?.min(PAUSES.len() - 1)];
        let since = self.failed.as_ref()?.elapsed(now)?;
        (since < pause).then(|| pause - since)
    }

    /// The same after a submission, or a spare, that came to nothing.
    pub fn after_failure(self, why: &str, now: Now) -> Wanted {
        Wanted { failures: self.failures + 1, failed: BootTime::of(now), why: crate::text::line(why), ..self }
    }

    /// The same after a submission that Slurm took.
    pub fn after_success(self) -> Wanted {
        Wanted { failures: 0, failed: None, why: String::new(), ..self }
    }

    pub fn is_of_this_program(&self) -> bool {
        self.program == PROGRAM
    }
}

fn name(spec: &Spec) -> String {
    format!("{spec}.json")
}

/// One pool; `None` where there is none, or it cannot be read.
pub fn read(pools: &Dir, spec: &Spec) -> Option<Wanted> {
    let bytes = pools.read(&name(spec), MAX_BYTES).ok().flatten()?;
    serde_json::from_slice(&bytes).ok().filter(|wanted: &Wanted| wanted.spec == *spec)
}

/// All pools, sorted.
pub fn all(pools: &Dir) -> io::Result<Vec<Wanted>> {
    let names = pools.names()?;
    let specs = names.iter().filter_map(|name| Spec::parse(name.strip_suffix(".json")?));
    let mut all: Vec<_> = specs.filter_map(|spec| read(pools, &spec)).collect();
    all.sort_by(|one, other| one.spec.cmp(&other.spec));
    Ok(all)
}

/// Writes a pool down. What gets lost costs a spare.
pub fn keep(pools: &Dir, wanted: &Wanted) {
    if let Ok(bytes) = serde_json::to_vec(wanted) {
        pools.put(&name(&wanted.spec), &bytes).ok();
    }
}

/// Forgets a pool.
pub fn forget(pools: &Dir, spec: &Spec) {
    pools.unlink(&name(spec)).ok();
}

/// Writes down that an acquire of this pool comes now.
pub fn ask(pools: &Dir, pool: &Pool, now: Now) -> Wanted {
    let wanted = Wanted::by(pool, read(pools, &pool.spec), now);
    keep(pools, &wanted);
    wanted
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use rstest::rstest;

    pub const NOW: Now = Now { epoch: 1_000_000, uptime: 20_000 };

    fn at(uptime: i64) -> Now {
        Now { uptime, ..NOW }
    }

    pub fn wanted() -> Wanted {
        Wanted {
            spec: Spec::parse("0011223344556677").unwrap(),
            program: PROGRAM.into(),
            config: Map::new(),
            runner_script: None,
            asked: BootTime::of(NOW),
            seconds: 1800,
            plain_time: false,
            failures: 0,
            failed: None,
            why: String::new(),
        }
    }

    #[rstest]
    #[case::just_now(0, true)]
    #[case::as_long_as_a_spare_waits(1800, true)]
    #[case::longer(1801, false)]
    #[case::in_the_future(-1, false)]
    fn how_long_a_pool_is_wanted(#[case] seconds: i64, #[case] expected: bool) {
        assert_eq!(wanted().is_recent(at(NOW.uptime + seconds)), expected);
        let elsewhere = BootTime { boot: "another".into(), uptime: NOW.uptime };
        assert!(!Wanted { asked: Some(elsewhere), ..wanted() }.is_recent(NOW));
    }

    #[rstest]
    #[case::never_failed(0, 0, None)]
    #[case::once(1, 10, Some(50))]
    #[case::once_and_over(1, 60, None)]
    #[case::twice(2, 60, Some(840))]
    #[case::often(9, 60, Some(3540))]
    #[case::often_and_over(9, 3600, None)]
    fn pauses_grow(#[case] failures: usize, #[case] after: i64, #[case] expected: Option<i64>) {
        let mut failed = wanted();
        for _ in 0..failures {
            failed = failed.after_failure("refused", NOW);
        }
        assert_eq!(failed.pauses_for(at(NOW.uptime + after)), expected);
        assert_eq!(failed.after_success().pauses_for(NOW), None);
    }

    #[test]
    fn what_is_written_is_read_and_damage_is_as_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let pools = Dir::private_root(&temp.path().join("pools")).unwrap();
        keep(&pools, &wanted());
        assert_eq!(all(&pools).unwrap(), [wanted()]);
        pools.put("ffffffffffffffff.json", b"{").unwrap();
        pools.put("notes.txt", b"x").unwrap();
        assert_eq!(all(&pools).unwrap(), [wanted()]);
        forget(&pools, &wanted().spec);
        assert!(read(&pools, &wanted().spec).is_none());
    }
}
