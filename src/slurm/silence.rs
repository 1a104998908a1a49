//! Controllers that have just failed a question of this call after a long wait: they are asked nothing more for a while.
//!
//! With its controller gone squeue takes 9 to 44 s to say so (docs/facts/slurm.md, "How long an outage takes"), and a call has several
//! questions. What fails quickly costs nothing and may be asked again. A cancellation is no question: it is tried whatever came before.
//! The note is this call's own, in its thread; what processes share is `cache.rs`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::job::QueryFailed;
use crate::host::{Command, Host, Output};

/// After a question that failed late the controller is left alone for this many times as long, at most [`MOST_BACK_OFF`]: it must not be
/// asked again at once, and a wait of half an hour must not miss its return.
pub const BACK_OFF_FACTOR: u32 = 3;
pub const MOST_BACK_OFF: Duration = Duration::from_secs(60);

/// What a controller answers in; a refusal that comes sooner is an answer of its own.
const QUICK: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
struct Silent {
    until: Instant,
    said: String,
}

/// The controllers of a host, by the host's key and the cluster's name.
type Notes = BTreeMap<(String, Option<String>), Silent>;

thread_local! {
    /// A call is one thread.
    static NOTES: RefCell<Notes> = const { RefCell::new(BTreeMap::new()) };
}

fn note(host: &Host, cluster: Option<&str>) -> Option<Silent> {
    let key = (host.key(), cluster.map(str::to_owned));
    NOTES.with_borrow(|notes| notes.get(&key).cloned()).filter(|silent| Instant::now() < silent.until)
}

/// Until when a controller is asked nothing, if it has just not answered.
pub fn until(host: &Host, cluster: Option<&str>) -> Option<Instant> {
    note(host, cluster).map(|silent| silent.until)
}

/// Asks a controller, unless it has just not answered: then what was said is said again.
///
/// # Errors
/// When it was not asked.
pub fn ask(host: &Host, cluster: Option<&str>, command: &Command) -> Result<Output, QueryFailed> {
    if let Some(silent) = note(host, cluster) {
        return Err(QueryFailed(silent.said));
    }
    let program = command.program();
    let output = host.run(command).map_err(|error| {
        QueryFailed(match host {
            Host::Here => format!("{program} could not be started: {error}"),
            Host::Login(_) => format!("{program} was not asked: {error}"),
        })
    })?;
    if !output.success() && output.took >= QUICK {
        let until = Instant::now() + (output.took * BACK_OFF_FACTOR).min(MOST_BACK_OFF);
        let said = format!("{program} failed: {}", output.said());
        let key = (host.key(), cluster.map(str::to_owned));
        NOTES.with_borrow_mut(|notes| notes.insert(key, Silent { until, said }));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_after(seconds: &str) -> Command {
        Command::new("bash", Duration::from_secs(20)).args(["-c", &format!("echo gone >&2; sleep {seconds}; exit 1")])
    }

    #[test]
    fn a_controller_that_has_just_not_answered_is_asked_nothing() {
        assert!(ask(&Host::Here, Some("quick"), &fails_after("0")).is_ok());
        assert_eq!(until(&Host::Here, Some("quick")), None);
        assert!(ask(&Host::Here, Some("slow"), &fails_after("2")).is_ok());
        let again = ask(&Host::Here, Some("slow"), &fails_after("2"));
        assert_eq!(again.unwrap_err().0, "bash failed: gone (exit 1)");
        assert!(ask(&Host::Here, None, &fails_after("0")).is_ok(), "another controller");
        let elsewhere = std::thread::spawn(|| until(&Host::Here, Some("slow")));
        assert_eq!(elsewhere.join().unwrap(), None, "another call");
    }

    #[test]
    fn after_a_while_it_is_asked_again() {
        let key = (Host::Here.key(), None);
        let past = Silent { until: Instant::now(), said: "gone".into() };
        NOTES.with_borrow_mut(|notes| notes.insert(key, past));
        assert!(ask(&Host::Here, None, &fails_after("0")).is_ok());
    }
}
