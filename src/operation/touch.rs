//! touch: tells the job how long it may live and be idle. It answers without a lease, or the client would freeze its
//! own expiry labels (docs/facts/client.md, "Labels and touch"), and never asks Slurm: the client waits for a touch without limit.

use anyhow::Result;

use crate::clock::epoch;
use crate::failure::{Failure, Kind};
use crate::lease::required_lease_id;
use crate::lease::store::{Loaded, Store};
use crate::operation::context::Options;
use crate::operation::lookup::{IdentityCheck, load, newer, whole};
use crate::protocol::{Answer, Request};
use crate::shared_dir::{Lifetime, SharedDir};

/// Carries out a touch.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let sent = request.lease.clone().unwrap_or_default();
    let id = required_lease_id(&sent.lease_id)?;
    let store = Store::open(&options.state_dir)?;
    let Some(found) = load(&store, &id)? else {
        return Err(Failure::new(Kind::NotFound, format!("touching lease {id}: there is no such lease")).into());
    };
    if let Loaded::Newer { identity } = &found.loaded {
        return Err(newer("touching", identity).into());
    }
    IdentityCheck { slug: &sent.slug, name: &sent.name, ..IdentityCheck::default() }.check(&found.loaded)?;
    let record = whole("touching", &found.loaded)?;
    let label = |names: &[&str]| names.iter().find_map(|name| sent.labels.get(*name)).and_then(|text| seconds(text));
    let ttl = label(&["ttl_secs", "ttl"]);
    let limits = found.dir.limits();
    let asked = label(&["idle_timeout_secs", "idle_timeout"]).and_then(|idle| u64::try_from(idle).ok());
    let idle = asked.map(|asked| limits.allowed_idle(asked));
    let lives = ttl.map(|ttl| lifetime(record.created, ttl, epoch()));
    if let Err(error) = SharedDir::of(record).set_deadline(lives, idle, &request.state) {
        return Err(error
            .failure(format!("touching {}: the new deadline could not be written for its job", record.shown()))
            .into());
    }
    let ttl = ttl.and_then(|ttl| u64::try_from(ttl).ok());
    found.dir.keep_limits(&limits.touch(epoch(), ttl, idle));
    found.dir.note(epoch(), "touch", &request.state);
    let lowered = idle.filter(|idle| asked != Some(*idle));
    let lowered = lowered.map(|idle| format!("; its idle time is {idle} s, the most that the site's admins allow"));
    let message = format!("lease {id} is touched{}", lowered.unwrap_or_default());
    Ok(Answer { message: Some(message), ..Answer::default() })
}

/// The lifetime of a lease that was made at `created` and may live for `ttl` seconds, 0 being for ever. Both times are of
/// this machine's clock; one that was set back since gives no more than the whole of it.
fn lifetime(created: i64, ttl: i64, now: i64) -> Lifetime {
    match u64::try_from(ttl) {
        Err(_) | Ok(0) => Lifetime::Unlimited,
        Ok(whole) => {
            let at = created.saturating_add(ttl);
            Lifetime::Ends { left: u64::try_from(at.saturating_sub(now)).unwrap_or(0).min(whole), at }
        }
    }
}

/// The same as [`seconds`], for what counts without a sign.
pub fn duration(text: &str) -> Option<u64> {
    seconds(text)?.try_into().ok()
}

/// Whole seconds, or Go's form of a duration such as `1h30m0s` (docs/facts/client.md, "Labels and touch").
fn seconds(text: &str) -> Option<i64> {
    const MOST_SECONDS: i64 = 10 * 366 * 24 * 3600;
    if let Ok(seconds) = text.parse::<i64>() {
        return (0..=MOST_SECONDS).contains(&seconds).then_some(seconds);
    }
    let mut total = 0.0;
    let mut number = String::new();
    let mut units = text.chars().peekable();
    while let Some(c) = units.next() {
        if c.is_ascii_digit() || c == '.' {
            number.push(c);
            continue;
        }
        let milli = c == 'm' && units.next_if_eq(&'s').is_some();
        let unit = match c {
            _ if milli => 0.001,
            'h' => 3600.0,
            'm' => 60.0,
            's' => 1.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * unit;
        number.clear();
    }
    (number.is_empty() && !text.is_empty() && total <= MOST_SECONDS as f64).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, 100, Lifetime::Unlimited)]
    #[case(90, 100, Lifetime::Ends { left: 90, at: 190 })]
    #[case(90, 130, Lifetime::Ends { left: 60, at: 190 })]
    #[case(90, 190, Lifetime::Ends { left: 0, at: 190 })]
    #[case(90, 500, Lifetime::Ends { left: 0, at: 190 })]
    #[case::the_clock_was_set_back(90, 50, Lifetime::Ends { left: 90, at: 190 })]
    fn lifetimes(#[case] ttl: i64, #[case] now: i64, #[case] expected: Lifetime) {
        assert_eq!(lifetime(100, ttl, now), expected);
    }

    #[rstest]
    #[case("1800", Some(1800))]
    #[case("0", Some(0))]
    #[case("30m0s", Some(1800))]
    #[case("1h30m", Some(5400))]
    #[case("1.5s", Some(1))]
    #[case("500ms", Some(0))]
    #[case("-1", None)]
    #[case("", None)]
    #[case("10", Some(10))]
    #[case("10x", None)]
    #[case("999999999999", None)]
    fn durations(#[case] text: &str, #[case] expected: Option<i64>) {
        assert_eq!(seconds(text), expected);
    }
}
