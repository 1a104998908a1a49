//! One answer of squeue for all of our processes on a host, so that the controller's load does not grow with the number
//! of leases that wait (docs/design.md, promise 8).
//!
//! ```text
//! <cache>/squeue-<boot id>-<host>-<uid>-<cluster>   one line about the answer, then squeue's output as it came
//! <cache>/asking-<boot id>-<host>-<uid>-<cluster>   who asks now: its process and when it began
//! <cache>/leading-<boot id>-<host>-<uid>-<cluster>  locked by the one that asks again and again for all who wait for a change
//! ```
//! Nobody holds a lock while asking: a hung controller would hold everybody. Who asks leaves a claim; the others read
//! the answer when it comes, and replace an asker that has died. Times are those of the host's own uninterrupted clock,
//! so a clock that is set does no harm, and hosts that share a home keep their answers apart.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::job::{Listing, QueryFailed};
use super::silence::{BACK_OFF_FACTOR, MOST_BACK_OFF};
use super::squeue::{self, Answer, Mark, Owner, Printed};
use crate::clock::{boot_id, uptime_millis as uptime};
use crate::files::{Dir, Lock};
use crate::host::Host;

/// How often one who waits for another's answer looks for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A listing of 5,000 jobs is 1 MiB long.
const MAX_BYTES: u64 = 64 << 20;

/// An answer, and whether it is older than the caller wished: a slow controller is left alone, so this is all there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedListing {
    pub listing: Result<Listing, QueryFailed>,
    pub old: bool,
}

/// A moment of the host's own clock, by which answers are told apart that were asked for before and after something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Moment {
        Moment(uptime())
    }

    /// So long before this one.
    #[must_use]
    pub fn before(self, span: Duration) -> Moment {
        Moment(self.0.saturating_sub(span.as_millis() as u64))
    }
}

/// Whether a controller that has just taken long is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackOff {
    /// By who can wait for another answer.
    Kept,
    /// By who has one chance, such as a release, which is over in 20 s.
    Waived,
}

/// The place where answers are shared.
#[derive(Debug)]
pub struct Shared {
    cache: Dir,
    boot: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    /// When it was asked for and when it came, in milliseconds of the host's clock since its start.
    asked: u64,
    came: u64,
    /// Why Slurm could not be asked; absent when it answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    failed: Option<String>,
    /// That of the query; absent when Slurm could not be asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    mark: Option<String>,
    /// Whether squeue kept silent on stderr.
    quiet: bool,
}

impl Shared {
    /// `None` where the host does not tell its boot id; then everybody asks for himself.
    pub fn open(cache: Dir) -> Option<Shared> {
        boot_id().map(|boot| Shared { cache, boot })
    }

    fn key(&self, host: &Host, owner: Owner<'_>, cluster: Option<&str>) -> String {
        format!("{}-{}-{}-{}", self.boot, host.key(), owner.uid, cluster.unwrap_or("local"))
    }

    /// A listing that was asked for later than `after`, or a new one; an old one while a slow controller is left alone.
    pub fn list_user(
        &self,
        host: &Host,
        owner: Owner<'_>,
        cluster: Option<&str>,
        after: Moment,
        deadline: Duration,
        back_off: BackOff,
    ) -> CachedListing {
        let key = self.key(host, owner, cluster);
        let started = uptime();
        loop {
            let now = uptime();
            if let Some((head, stdout)) = self.read(&key)
                && head.came <= now
                && let Some(answer) = head.answer(stdout)
            {
                // A busy controller must not be asked again at once either.
                let took = Duration::from_millis(head.came - head.asked.min(head.came));
                let rest = match back_off {
                    BackOff::Kept => (took * BACK_OFF_FACTOR).min(MOST_BACK_OFF),
                    BackOff::Waived => Duration::ZERO,
                };
                let old = head.asked <= after.0;
                if !old || now - head.came < rest.as_millis() as u64 {
                    return CachedListing { listing: squeue::listing(&answer, cluster), old };
                }
            }
            if self.claim(&key, deadline) || now - started > deadline.as_millis() as u64 {
                let answer = squeue::ask_user(host, owner, cluster, deadline);
                self.publish(&key, now, &answer);
                self.cache.unlink(&format!("asking-{key}")).ok();
                return CachedListing { listing: squeue::listing(&answer, cluster), old: false };
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The last listing, if one was asked for later than `after`, and when; nobody is asked.
    pub fn answer_after(
        &self,
        host: &Host,
        owner: Owner<'_>,
        cluster: Option<&str>,
        after: Moment,
    ) -> Option<(Result<Listing, QueryFailed>, Moment)> {
        let (head, stdout) = self.read(&self.key(host, owner, cluster))?;
        let asked = Moment(head.asked);
        let counts = after < asked && head.came <= uptime();
        Some((squeue::listing(&head.answer(stdout).filter(|_| counts)?, cluster), asked))
    }

    /// The right to ask for all who wait for a change, held while this value lives: `None` while another process has it.
    pub fn lead(&self, host: &Host, owner: Owner<'_>, cluster: Option<&str>) -> Option<Lock> {
        self.cache.lock(&format!("leading-{}", self.key(host, owner, cluster)), Duration::ZERO).ok().flatten()
    }

    fn read(&self, key: &str) -> Option<(Head, Vec<u8>)> {
        let bytes = self.cache.read(&format!("squeue-{key}"), MAX_BYTES).ok()??;
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        Some((serde_json::from_slice(&bytes[..end]).ok()?, bytes[end + 1..].to_vec()))
    }

    fn publish(&self, key: &str, asked: u64, answer: &Answer) {
        let (stdout, quiet, mark, failed) = match answer {
            Ok(Printed { mark, text, quiet }) => (text.as_str(), *quiet, Some(mark.as_str().to_owned()), None),
            Err(QueryFailed(why)) => ("", true, None, Some(why.clone())),
        };
        let head = Head { asked, came: uptime(), failed, mark, quiet };
        if let Ok(mut bytes) = serde_json::to_vec(&head) {
            bytes.push(b'\n');
            bytes.extend_from_slice(stdout.as_bytes());
            // An answer that cannot be shared is asked for again.
            self.cache.put(&format!("squeue-{key}"), &bytes).ok();
        }
    }

    /// Whether it is on us to ask: nobody else does, or who did has died or takes longer than anybody may.
    fn claim(&self, key: &str, deadline: Duration) -> bool {
        let name = format!("asking-{key}");
        let ours = format!("{} {}", std::process::id(), uptime());
        if self.cache.create(&name, ours.as_bytes()).unwrap_or(true) {
            return true;
        }
        let theirs = self.cache.read(&name, 64).ok().flatten().unwrap_or_default();
        let theirs = String::from_utf8_lossy(&theirs).into_owned();
        let mut words = theirs.split(' ');
        let process = words.next().and_then(|word| word.parse::<i32>().ok());
        let since = words.next().and_then(|word| word.parse::<u64>().ok());
        let alive = process.is_some_and(|pid| nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None).is_ok());
        let in_time = since.is_some_and(|since| uptime() - since.min(uptime()) <= deadline.as_millis() as u64 + 5000);
        if alive && in_time {
            return false;
        }
        // Two may come here at once and both ask; that costs one question.
        self.cache.unlink(&name).ok();
        self.cache.create(&name, ours.as_bytes()).unwrap_or(true)
    }
}

impl Head {
    /// The answer as it came; `None` for one that an older version left, whose rows had no marks.
    fn answer(&self, stdout: Vec<u8>) -> Option<Answer> {
        match &self.failed {
            Some(why) => Some(Err(QueryFailed(why.clone()))),
            None => {
                let mark = Mark::parse(self.mark.as_deref()?)?;
                Some(Ok(Printed { mark, text: String::from_utf8_lossy(&stdout).into_owned(), quiet: self.quiet }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner<'static> = Owner { uid: 7, name: None };

    fn ago(seconds: u64) -> Moment {
        Moment::now().before(Duration::from_secs(seconds))
    }

    fn silence() -> Answer {
        Ok(Printed { mark: Mark::random().unwrap(), text: String::new(), quiet: true })
    }

    fn shared() -> (tempfile::TempDir, Shared) {
        let temp = tempfile::tempdir().unwrap();
        let cache = Dir::private_root(&temp.path().join("cache")).unwrap();
        (temp, Shared::open(cache).unwrap())
    }

    fn stored(shared: &Shared, age: u64, took: u64, answer: &Answer) {
        let asked = uptime() - age - took;
        shared.publish(&format!("{}-here-7-local", shared.boot), asked, answer);
        let (head, stdout) = shared.read(&format!("{}-here-7-local", shared.boot)).unwrap();
        let head = Head { came: asked + took, ..head };
        let mut bytes = serde_json::to_vec(&head).unwrap();
        bytes.push(b'\n');
        bytes.extend(stdout);
        shared.cache.put(&format!("squeue-{}-here-7-local", shared.boot), &bytes).unwrap();
    }

    #[test]
    fn an_answer_is_used_while_it_is_young_enough() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 5, &silence());
        let young = shared.list_user(&Host::Here, OWNER, None, ago(30), Duration::from_secs(1), BackOff::Kept);
        assert_eq!(young, CachedListing { listing: Ok(Listing { rows: vec![], complete: true }), old: false });
    }

    #[test]
    fn an_answer_counts_for_what_happened_before_it_was_asked_for() {
        let (_temp, shared) = shared();
        assert_eq!(shared.answer_after(&Host::Here, OWNER, None, ago(30)), None, "there is none");
        stored(&shared, 1000, 5, &silence());
        let (listing, asked) = shared.answer_after(&Host::Here, OWNER, None, ago(30)).unwrap();
        assert!(listing.unwrap().complete && ago(2) < asked && asked < Moment::now());
        assert_eq!(shared.answer_after(&Host::Here, OWNER, None, asked), None, "in the same hundredth of a second");
        assert_eq!(shared.answer_after(&Host::Here, OWNER, None, ago(0)), None);
    }

    #[test]
    fn one_leads_and_whoever_comes_after_it() {
        let (_temp, shared) = shared();
        let first = shared.lead(&Host::Here, OWNER, None);
        assert!(first.is_some() && shared.lead(&Host::Here, OWNER, None).is_none());
        assert!(shared.lead(&Host::Here, OWNER, Some("annex")).is_some(), "another controller");
        drop(first);
        assert!(shared.lead(&Host::Here, OWNER, None).is_some());
    }

    #[test]
    fn after_a_slow_failure_the_controller_is_left_alone_for_a_while() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 20_000, &Err(QueryFailed("hung".into())));
        let answer = shared.list_user(&Host::Here, OWNER, None, ago(0), Duration::from_secs(1), BackOff::Kept);
        assert_eq!(answer, CachedListing { listing: Err(QueryFailed("hung".into())), old: true });
    }

    #[test]
    fn a_call_with_one_chance_asks_after_a_slow_failure_too() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 20_000, &Err(QueryFailed("hung".into())));
        let answer = shared.list_user(&Host::Here, OWNER, None, ago(0), Duration::from_secs(1), BackOff::Waived);
        assert!(!answer.old && answer.listing != Err(QueryFailed("hung".into())), "{answer:?}");
    }

    #[test]
    fn an_answer_from_before_is_told_apart_while_a_slow_controller_is_left_alone() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 20_000, &silence());
        let answer = shared.list_user(&Host::Here, OWNER, None, ago(2), Duration::from_secs(1), BackOff::Kept);
        assert!(answer.old && answer.listing.is_ok());
    }

    #[test]
    fn one_asks_and_a_dead_asker_is_replaced() {
        let (_temp, shared) = shared();
        let deadline = Duration::from_secs(10);
        assert!(shared.claim("k", deadline));
        assert!(!shared.claim("k", deadline));
        shared.cache.put("asking-k", format!("{} {}", i32::MAX, uptime()).as_bytes()).unwrap();
        assert!(shared.claim("k", deadline));
        shared.cache.put("asking-k", format!("{} 0", std::process::id()).as_bytes()).unwrap();
        assert!(shared.claim("k", Duration::ZERO) || uptime() < 5000);
        shared.cache.put("asking-k", b"").unwrap();
        assert!(shared.claim("k", deadline));
    }
}
