//! Time, twice: the time of day, which people and Slurm speak of and anybody may set, and the host's own clock, which
//! nobody sets and which counts while the host sleeps. Spans that decide something are counted by the second alone
//! (docs/design.md, promise 2), and only within one boot: two hosts, or two boots, share no such clock.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Seconds since the epoch.
    pub epoch: i64,
    /// Seconds since this host's start, sleep included.
    pub uptime: i64,
}

impl Now {
    /// This moment.
    pub fn read() -> Now {
        Now { epoch: epoch(), uptime: (uptime_millis() / 1000) as i64 }
    }
}

/// A moment that is written down: it means something only while the same host still runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootTime {
    /// The kernel's random id of this start of the host.
    pub boot: String,
    /// Seconds since that start.
    pub uptime: i64,
}

impl BootTime {
    /// `now` on this host; `None` where the host does not tell its boot id.
    pub fn of(now: Now) -> Option<BootTime> {
        Some(BootTime { boot: boot_id()?, uptime: now.uptime })
    }

    /// Seconds from then to `now`, if then was on this host since its last start.
    pub fn elapsed(&self, now: Now) -> Option<i64> {
        (Some(&self.boot) == boot_id().as_ref()).then(|| now.uptime.saturating_sub(self.uptime))
    }
}

/// Seconds since the epoch.
pub fn epoch() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64)
}

/// Milliseconds since the host's start, sleep included: CLOCK_BOOTTIME in hundredths of a second, as proc_uptime(5) shows it. What
/// sets the clocks of one process, as libfaketime does, does not set that file, and the runner reads it too.
pub fn uptime_millis() -> u64 {
    shown_uptime().map_or_else(boottime_millis, |seconds| (seconds * 1000.0) as u64)
}

/// From a file that stays open: a wait asks for the time at each look.
fn shown_uptime() -> Option<f64> {
    static UPTIME: std::sync::OnceLock<Option<File>> = std::sync::OnceLock::new();
    let file = UPTIME.get_or_init(|| File::open("/proc/uptime").ok()).as_ref()?;
    let mut text = [0; 64];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..length]).ok()?.split(' ').next()?.parse().ok()
}

fn boottime_millis() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| time.tv_sec() as u64 * 1000 + time.tv_nsec() as u64 / 1_000_000)
}

/// Names this start of this host (`/proc/sys/kernel/random/boot_id`, random(4)).
pub fn boot_id() -> Option<String> {
    static BOOT_ID: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let text = text.trim().to_owned();
        crate::config::value::is_word(&text, "-").then_some(text)
    };
    BOOT_ID.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_the_clock_tell_the_same() {
        let [shown, asked] = [uptime_millis(), boottime_millis()];
        assert!(shown > 0 && shown.abs_diff(asked) < 1000, "{shown} {asked}");
    }

    #[test]
    fn a_moment_counts_only_within_its_boot() {
        let then = BootTime::of(Now { epoch: 0, uptime: 100 }).unwrap();
        assert_eq!(then.elapsed(Now { epoch: -5000, uptime: 130 }), Some(30));
        let elsewhere = BootTime { boot: "00000000-0000-0000-0000-000000000000".into(), ..then };
        assert_eq!(elsewhere.elapsed(Now { epoch: 0, uptime: 130 }), None);
    }
}
