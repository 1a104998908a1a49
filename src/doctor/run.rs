//! Runs all checks side by side under one deadline.
//!
//! The client ends doctor after 10 s, and a dead controller, a hung NFS server or an unreachable login host each take
//! longer than that to say so. A check that is not done in time is given up: its thread stays behind and ends with the
//! process, its place in the answer says that it hangs, which is a finding too.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::doctor::check::CheckId;
use crate::doctor::check::table::Silence;
use crate::doctor::finding::{Category, Finding};

/// When the answer is made, whatever is missing.
pub const LIMIT: Duration = Duration::from_secs(8);

/// When every command that a check started has ended: none of them may outlive this process.
const COMMANDS_END: Duration = Duration::from_millis(7400);

/// The time that all checks share.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    /// The deadline for a command that starts now.
    pub fn left(&self) -> Duration {
        COMMANDS_END.saturating_sub(self.started.elapsed()).max(Duration::from_millis(1))
    }
}

/// A check that is yet to run.
pub struct Job {
    pub id: CheckId,
    pub silence: Silence,
    /// Whether its silence says nothing by itself when what it rests on is red.
    pub rests_on_another: bool,
    pub work: Box<dyn FnOnce(Clock) -> Vec<Finding> + Send>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({})", self.id.name())
    }
}

/// Runs the jobs; what they found, in the order of the jobs.
pub fn run_all(jobs: Vec<Job>, clock: Clock, limit: Duration) -> Vec<Finding> {
    let places: Vec<_> = jobs.iter().map(|job| (job.id, job.silence, job.rests_on_another)).collect();
    let mut found: Vec<Option<Vec<Finding>>> = places.iter().map(|_| None).collect();
    let (sender, receiver) = channel();
    for (index, job) in jobs.into_iter().enumerate() {
        if let Err(error) = start(index, job, clock, sender.clone()) {
            let id = places[index].0;
            let seen = format!("not looked at, no thread could be started: {error}");
            found[index] = Some(vec![Finding::warning(id, seen, "raise the limit on processes (`ulimit -u`)")]);
        }
    }
    drop(sender);
    let broke_off = loop {
        match receiver.recv_timeout(limit.saturating_sub(clock.started.elapsed())) {
            Ok((index, findings)) => found[index] = Some(findings),
            Err(RecvTimeoutError::Timeout) => break false,
            Err(RecvTimeoutError::Disconnected) => break true,
        }
    };
    let silent = |(id, silence, rests_on_another)| {
        let finding = match silence {
            _ if broke_off => {
                let seen = "the check broke off: a bug of this program";
                return Finding::warning(id, seen, "report it with the text on stderr");
            }
            Silence::Red(remedy) => Finding::red(id, Category::Timeout, no_answer(limit), remedy),
            Silence::Warning(remedy) => Finding::warning(id, no_answer(limit), remedy),
        };
        if rests_on_another { finding.not_asked() } else { finding }
    };
    found.into_iter().zip(places).flat_map(|(found, place)| found.unwrap_or_else(|| vec![silent(place)])).collect()
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs())
}

/// A check needs little; twenty ordinary stacks are more than some callers' limit on memory.
const STACK_BYTES: usize = 512 << 10;

fn start(index: usize, job: Job, clock: Clock, sender: Sender<(usize, Vec<Finding>)>) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name(job.id.name().to_owned()).stack_size(STACK_BYTES);
    thread.spawn(move || {
        // Nobody listens any more when the deadline has passed.
        let _ = sender.send((index, (job.work)(clock)));
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: CheckId, silence: Silence, work: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Job {
        Job { id, silence, rests_on_another: false, work: Box::new(move |_| work()) }
    }

    #[test]
    fn what_hangs_is_told_and_holds_nobody_up() {
        let clock = Clock::start();
        let hang = || {
            std::thread::sleep(Duration::from_secs(30));
            vec![]
        };
        let jobs = vec![
            job(CheckId::StateDir, Silence::Red("mend it"), hang),
            job(CheckId::Config, Silence::Warning(""), || {
                vec![Finding::ok(CheckId::Config, "1"), Finding::ok(CheckId::Config, "2")]
            }),
            job(CheckId::LoginHost, Silence::Warning("look"), hang),
        ];
        let found = run_all(jobs, clock, Duration::from_millis(300));
        assert!(clock.started.elapsed() < Duration::from_secs(2));
        assert_eq!(found.len(), 4);
        assert_eq!(found[0], Finding::red(CheckId::StateDir, Category::Timeout, "no answer within 0 s", "mend it"));
        assert_eq!(found[3], Finding::warning(CheckId::LoginHost, "no answer within 0 s", "look"));
    }

    #[test]
    fn a_check_that_breaks_off_is_a_finding_and_ends_the_wait() {
        let clock = Clock::start();
        let found = run_all(
            vec![job(CheckId::Runner, Silence::Red("x"), || panic!("on purpose"))],
            clock,
            Duration::from_secs(20),
        );
        assert!(clock.started.elapsed() < Duration::from_secs(5));
        assert!(found[0].seen.contains("broke off"));
    }

    #[test]
    fn commands_end_before_the_answer() {
        assert!(Clock::start().left() < LIMIT);
        assert!(LIMIT < Duration::from_secs(9));
    }
}
