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

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::job::{Listing, QueryFailed};
use super::silence::{BACK_OFF_FACTOR, MOST_BACK_OFF};
use super::squeue::{self, Answer, Mark, Owner, Printed, Wanted};
use crate::clock::{boot_id, uptime_millis as uptime};
use crate::files::{Dir, Lock};
use crate::host::Host;

/// How often one who waits for another's answer looks for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A listing of 5,000 jobs is 1 MiB long.
const MAX_BYTES: u64 = 64 << 20;

/// Nearly always more than the line about an answer, which those who wait look at again and again; the answer itself they read once.
const HEAD_BYTES: u64 = 4096;

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

/// Whose jobs are asked for, where, and which of them are of interest to the one that asks.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub host: &'a Host,
    pub owner: Owner<'a>,
    pub cluster: Option<&'a str>,
    pub wanted: Wanted<'a>,
}

impl fmt::Debug for Question<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { host, owner, cluster, .. } = self;
        f.debug_struct("Question").field("host", host).field("owner", owner).field("cluster", cluster).finish()
    }
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

    fn key(&self, Question { host, owner, cluster, .. }: Question<'_>) -> String {
        format!("{}-{}-{}-{}", self.boot, host.key(), owner.uid, cluster.unwrap_or("local"))
    }

    /// A listing that was asked for later than `after`, or a new one; an old one while a slow controller is left alone.
    pub fn list_user(
        &self,
        question: Question<'_>,
        after: Moment,
        deadline: Duration,
        back_off: BackOff,
    ) -> CachedListing {
        let Question { host, owner, cluster, wanted } = question;
        let key = self.key(question);
        let started = uptime();
        loop {
            let now = uptime();
            if let Some((listing, asked)) = self.read_if(question, |head| head.counts(after, now, back_off)) {
                return CachedListing { listing, old: asked <= after };
            }
            if self.claim(&key, deadline) || now - started > deadline.as_millis() as u64 {
                let answer = squeue::ask_user(host, owner, cluster, deadline);
                self.publish(&key, now, &answer);
                self.cache.unlink(&format!("asking-{key}")).ok();
                return CachedListing { listing: squeue::listing_of(&answer, cluster, wanted), old: false };
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// The last listing, if one was asked for later than `after`, and when; nobody is asked.
    pub fn answer_after(
        &self,
        question: Question<'_>,
        after: Moment,
    ) -> Option<(Result<Listing, QueryFailed>, Moment)> {
        let now = uptime();
        self.read_if(question, |head| after.0 < head.asked && head.came <= now)
    }

    /// The right to ask for all who wait for a change, held while this value lives: `None` while another process has it.
    pub fn lead(&self, question: Question<'_>) -> Option<Lock> {
        self.cache.lock(&format!("leading-{}", self.key(question)), Duration::ZERO).ok().flatten()
    }

    /// The last listing and when it was asked for, if it counts. A hundred processes look here fifty times a second, and a listing
    /// may be long: what does not count is told by its first line.
    fn read_if(
        &self,
        question: Question<'_>,
        counts: impl Fn(&Head) -> bool,
    ) -> Option<(Result<Listing, QueryFailed>, Moment)> {
        let name = format!("squeue-{}", self.key(question));
        let start = self.cache.read_start(&name, HEAD_BYTES).ok()??;
        if let Some((head, _)) = Head::split(&start)
            && !counts(&head)
        {
            return None;
        }
        // Another one may have come meanwhile.
        let whole = self.cache.read(&name, MAX_BYTES).ok()??;
        let (head, stdout) = Head::split(&whole).filter(|(head, _)| counts(head))?;
        let listing = squeue::listing_of(&head.answer(stdout)?, question.cluster, question.wanted);
        Some((listing, Moment(head.asked)))
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
    /// The first line, and what follows it; `None` where no whole line is.
    fn split(bytes: &[u8]) -> Option<(Head, &[u8])> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        Some((serde_json::from_slice(&bytes[..end]).ok()?, &bytes[end + 1..]))
    }

    /// Whether it will do for one that wants an answer asked for later than `after`: it is young enough, or the controller is to
    /// be left alone.
    fn counts(&self, after: Moment, now: u64, back_off: BackOff) -> bool {
        // A busy controller must not be asked again at once either.
        let took = Duration::from_millis(self.came.saturating_sub(self.asked));
        let rest = match back_off {
            BackOff::Kept => (took * BACK_OFF_FACTOR).min(MOST_BACK_OFF),
            BackOff::Waived => Duration::ZERO,
        };
        self.came <= now && (self.asked > after.0 || now - self.came < rest.as_millis() as u64)
    }

    /// The answer as it came; `None` for one that an older version left, whose rows had no marks.
    fn answer(&self, stdout: &[u8]) -> Option<Answer> {
        match &self.failed {
            Some(why) => Some(Err(QueryFailed(why.clone()))),
            None => {
                let mark = Mark::parse(self.mark.as_deref()?)?;
                Some(Ok(Printed { mark, text: String::from_utf8_lossy(stdout).into_owned(), quiet: self.quiet }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Question<'static> =
        Question { host: &Host::Here, owner: Owner { uid: 7, name: None }, cluster: None, wanted: &|_| true };

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
        shared.publish(&shared.key(HERE), asked, answer);
        let name = format!("squeue-{}", shared.key(HERE));
        let bytes = shared.cache.read(&name, MAX_BYTES).unwrap().unwrap();
        let (head, stdout) = Head::split(&bytes).unwrap();
        let mut bytes = serde_json::to_vec(&Head { came: asked + took, ..head }).unwrap();
        bytes.push(b'\n');
        bytes.extend(stdout);
        shared.cache.put(&name, &bytes).unwrap();
    }

    /// An answer whose first line is longer than what is read of it at first.
    #[test]
    fn a_long_word_of_a_failure_is_shared_too() {
        let (_temp, shared) = shared();
        let why = "squeue: error: ".repeat(1000);
        stored(&shared, 1000, 5, &Err(QueryFailed(why.clone())));
        let (listing, _) = shared.answer_after(HERE, ago(30)).unwrap();
        assert_eq!(listing, Err(QueryFailed(why)));
        assert_eq!(shared.answer_after(HERE, ago(0)), None);
    }

    #[test]
    fn an_answer_is_used_while_it_is_young_enough() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 5, &silence());
        let young = shared.list_user(HERE, ago(30), Duration::from_secs(1), BackOff::Kept);
        assert_eq!(young, CachedListing { listing: Ok(Listing { rows: vec![], complete: true }), old: false });
    }

    #[test]
    fn an_answer_counts_for_what_happened_before_it_was_asked_for() {
        let (_temp, shared) = shared();
        assert_eq!(shared.answer_after(HERE, ago(30)), None, "there is none");
        stored(&shared, 1000, 5, &silence());
        let (listing, asked) = shared.answer_after(HERE, ago(30)).unwrap();
        assert!(listing.unwrap().complete && ago(2) < asked && asked < Moment::now());
        assert_eq!(shared.answer_after(HERE, asked), None, "in the same hundredth of a second");
        assert_eq!(shared.answer_after(HERE, ago(0)), None);
    }

    #[test]
    fn one_leads_and_whoever_comes_after_it() {
        let (_temp, shared) = shared();
        let first = shared.lead(HERE);
        assert!(first.is_some() && shared.lead(HERE).is_none());
        assert!(shared.lead(Question { cluster: Some("annex"), ..HERE }).is_some(), "another controller");
        drop(first);
        assert!(shared.lead(HERE).is_some());
    }

    #[test]
    fn after_a_slow_failure_the_controller_is_left_alone_for_a_while() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 20_000, &Err(QueryFailed("hung".into())));
        let answer = shared.list_user(HERE, ago(0), Duration::from_secs(1), BackOff::Kept);
        assert_eq!(answer, CachedListing { listing: Err(QueryFailed("hung".into())), old: true });
    }

    #[test]
    fn a_call_with_one_chance_asks_after_a_slow_failure_too() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 20_000, &Err(QueryFailed("hung".into())));
        let answer = shared.list_user(HERE, ago(0), Duration::from_secs(1), BackOff::Waived);
        assert!(!answer.old && answer.listing != Err(QueryFailed("hung".into())), "{answer:?}");
    }

    #[test]
    fn an_answer_from_before_is_told_apart_while_a_slow_controller_is_left_alone() {
        let (_temp, shared) = shared();
        stored(&shared, 1000, 20_000, &silence());
        let answer = shared.list_user(HERE, ago(2), Duration::from_secs(1), BackOff::Kept);
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
