//! Green results of doctor, kept for those who ask often: a script that runs before each piece of work need not have a site looked
//! at each time. Only what was green is kept, for the configuration and version it was green with, on the host that looked.

use std::ffi::OsStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::epoch;
use crate::files::hex;
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::protocol::{Check, CheckStatus};

/// In the state dir's cache.
const FILE: &str = "doctor.json";

/// More configurations than are used in turn from one state dir.
const MOST: usize = 16;

/// More than so many results take.
const MAX_BYTES: u64 = 1 << 20;

/// Variables of the caller that say which cluster it is, and what the job's sshd is.
const VARIABLES: [&str; 3] = ["SLURM_CONF", "CBX_SSHD", "CBX_SSH_PORT"];

/// A result, and what it is of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// The hash of all that it depends on and that is said beforehand.
    of: String,
    /// Seconds since the epoch.
    at: i64,
    /// Whether a lease was made as well.
    live: bool,
    checks: Vec<Check>,
}

/// What a result is of: this version on this host, its configuration and the files that were named.
pub(super) fn subject(options: &Options, config: &Map<String, Value>) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let variables = VARIABLES.map(|name| std::env::var_os(name).unwrap_or_default());
    let runner = options.runner_script.clone().unwrap_or_default();
    let config = Value::from(config.clone()).to_string();
    let mut hash = Sha256::new();
    let parts = [env!("CARGO_PKG_VERSION").as_bytes(), config.as_bytes()];
    let others =
        [host.as_os_str(), runner.as_os_str()].into_iter().chain(variables.iter().map(|value| value.as_os_str()));
    for part in parts.into_iter().chain(others.map(OsStr::as_encoded_bytes)) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// The newest of them that serves: of the same, not older than `max_age` seconds, and with a lease where one is asked for.
fn choose<'a>(kept: &'a [Kept], of: &str, live: bool, max_age: u64, now: i64) -> Option<&'a Kept> {
    let is_young = |at: i64| u64::try_from(now - at).is_ok_and(|age| age <= max_age);
    let serves = |result: &&Kept| result.of == of && (result.live || !live) && is_young(result.at);
    kept.iter().filter(serves).max_by_key(|result| result.at)
}

/// All of them with one more, and without those that it takes the place of.
fn add(mut kept: Vec<Kept>, new: Kept) -> Vec<Kept> {
    kept.retain(|result| result.of != new.of || result.live && !new.live);
    kept.push(new);
    let surplus = kept.len().saturating_sub(MOST);
    kept.sort_by_key(|result| result.at);
    kept.split_off(surplus)
}

fn read(store: &Store) -> Vec<Kept> {
    let bytes = store.cache().and_then(|cache| cache.read(FILE, MAX_BYTES)).ok().flatten();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// An earlier result that serves, each check with the time of it.
pub(super) fn find(options: &Options, of: &str, live: bool, max_age: u64) -> Option<Vec<Check>> {
    let kept = read(&Store::open(&options.state_dir).ok()?);
    let result = choose(&kept, of, live, max_age, epoch())?;
    let at = OffsetDateTime::from_unix_timestamp(result.at).ok()?.format(&Rfc3339).ok()?;
    Some(result.checks.iter().map(|check| Check { checked_at: Some(at.clone()), ..check.clone() }).collect())
}

/// Keeps a result that has nothing red; losing it costs a look.
pub(super) fn keep(options: &Options, of: String, live: bool, checks: &[Check]) {
    if checks.iter().any(|check| check.status == CheckStatus::Red) {
        return;
    }
    let Ok(store) = Store::open(&options.state_dir) else { return };
    if !store.is_writable() {
        return;
    }
    let kept = add(read(&store), Kept { of, at: epoch(), live, checks: checks.to_vec() });
    if let (Ok(cache), Ok(bytes)) = (store.cache(), serde_json::to_vec(&kept)) {
        cache.put(FILE, &bytes).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn result(of: &str, at: i64, live: bool) -> Kept {
        Kept { of: of.into(), at, live, checks: vec![] }
    }

    #[rstest]
    #[case::none(&[], false, None)]
    #[case::young(&[result("a", 900, false)], false, Some(900))]
    #[case::as_old_as_allowed(&[result("a", 400, false)], false, Some(400))]
    #[case::too_old(&[result("a", 399, false)], false, None)]
    #[case::of_another_configuration(&[result("b", 900, false)], false, None)]
    #[case::after_the_clock_was_set_back(&[result("a", 1001, false)], false, None)]
    #[case::without_the_lease_that_is_asked_for(&[result("a", 900, false)], true, None)]
    #[case::with_more_than_is_asked_for(&[result("a", 900, true)], false, Some(900))]
    #[case::the_newest(&[result("a", 800, true), result("a", 900, false)], false, Some(900))]
    #[case::the_one_with_a_lease(&[result("a", 800, true), result("a", 900, false)], true, Some(800))]
    fn which_result_serves(#[case] kept: &[Kept], #[case] live: bool, #[case] expected: Option<i64>) {
        assert_eq!(choose(kept, "a", live, 600, 1000).map(|result| result.at), expected);
    }

    #[test]
    fn a_result_takes_the_place_of_what_it_outdates() {
        let kept = add(vec![result("a", 1, true), result("a", 2, false), result("b", 3, false)], result("a", 4, false));
        assert_eq!(kept, [result("a", 1, true), result("b", 3, false), result("a", 4, false)]);
        assert_eq!(add(kept, result("a", 5, true)), [result("b", 3, false), result("a", 5, true)]);
        let many: Vec<_> = (0..20).map(|n| result(&n.to_string(), n, false)).collect();
        let kept = add(many, result("x", 99, false));
        assert_eq!((kept.len(), kept[0].at, kept[MOST - 1].at), (MOST, 5, 99));
    }
}
