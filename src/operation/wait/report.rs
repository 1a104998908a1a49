//! What a wait says: progress when something changed, and why it was given up.

use std::time::Duration;

use super::{Doing, Wait};
use crate::allocation::{self, View};
use crate::clock::Now;
use crate::clock::epoch;
use crate::failure::{Failure, Kind};
use crate::lease::record::{Ended, Record};
use crate::operation::status::{Status, status};
use crate::progress;
use crate::screen::{span, utc};
use crate::shared_dir::SharedDir;
use crate::slurm::job::{Class, PendingReason, pending_reason};
use crate::slurm::reason::in_words;
use crate::slurm::{reservation, scontrol};

impl Wait<'_> {
    /// Says how the job stands when that has changed.
    pub(super) fn report(&mut self, record: &Record, view: &View) {
        let status = status(record, view, Now::read());
        let mut text = format!("{} is {}", record.shown(), status.slurm_state);
        if !status.reason.is_empty() {
            text.push_str(&format!(" ({})", status.reason));
        }
        let estimate = view.row().filter(|_| status.slurm_state == "PENDING").and_then(|row| row.start);
        if let Some(start) = estimate.and_then(utc) {
            text.push_str(&format!(", estimated start {start}"));
        }
        let starts = status.slurm_state == "RUNNING" && record.endpoint.is_none();
        if starts {
            text.push_str(", its sshd is not up yet");
        }
        let short = living(&status, starts, estimate, epoch());
        if text == self.said {
            progress::update(&short);
            return;
        }
        let advice = self.advice(record, view);
        let advised = advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
        progress::standing(&format!("{text}{advised}"), &short, advice.is_some());
        self.said = text;
    }

    /// What the caller can do about a job that waits for more than its turn.
    fn advice(&self, record: &Record, view: &View) -> Option<String> {
        let row = view.row().filter(|row| row.state.class() == Class::Queued)?;
        match pending_reason(&row.reason) {
            PendingReason::Attention(advice) => Some(advice.to_owned()),
            PendingReason::Maintenance => {
                let ask =
                    || reservation::next_maintenance(&allocation::host(record), row.job.cluster.as_deref(), epoch());
                let start = self.maintenance.get_or_init(ask).and_then(utc);
                let start = start.map(|start| format!(", which begins {start}")).unwrap_or_default();
                Some(format!(
                    "set or lower timeLimit so that the job ends before the maintenance{start}, or wait until it is over"
                ))
            }
            PendingReason::Normal | PendingReason::Never(_) => None,
        }
    }

    /// The job is over: why, as far as anybody knows.
    pub(super) fn ended(&self, record: &mut Record) -> Failure {
        let shared = SharedDir::of(record);
        let mut ended = record.ended.clone().unwrap_or(Ended {
            state: "GONE".into(),
            reason: String::new(),
            exit: None,
            runner: None,
            at: epoch(),
        });
        if ended.exit.is_none() {
            let accounted = || allocation::accounted_end(record, ended.at, Duration::from_secs(5));
            match record.job.as_ref().and_then(|job| scontrol::exit_code(&crate::allocation::host(record), job)) {
                Some(exit) => ended.exit = Some(exit),
                None => {
                    if let Some(accounted) = accounted() {
                        ended.exit = accounted.exit;
                        if ended.state == "GONE" {
                            ended.state = accounted.state;
                        }
                    }
                }
            }
            let complete = ended.clone();
            self.write_down(record, |record| record.ended.replace(complete.clone()).as_ref() != Some(&complete)).ok();
        }
        failure_of_end(&self.doing.to_string(), record, &ended, &shared)
    }

    /// Why a wait whose time is over was in vain.
    pub(super) fn timed_out(&mut self, record: &Record, view: Option<&View>) -> Failure {
        let runs = |view: &View| view.row().is_some_and(|row| row.state.class() == Class::Running);
        // No time was left for another login; the last one knew more than that.
        if let Some(refused) = self.refused.take().filter(|_| view.is_none_or(runs)) {
            return refused.failure;
        }
        let waited = self.started.elapsed().as_secs();
        let status = view.map(|view| status(record, view, Now::read()));
        let (state, reason) = match &status {
            Some(status) if status.reason.is_empty() => (status.slurm_state.as_str(), String::new()),
            Some(status) => (status.slurm_state.as_str(), format!(" ({})", status.reason)),
            None => ("not asked for yet", String::new()),
        };
        let start = view
            .and_then(View::row)
            .filter(|row| row.state.word() == "PENDING")
            .and_then(|row| row.start)
            .and_then(utc);
        let start = start.map(|start| format!(", estimated start {start}")).unwrap_or_default();
        let remedy = match (view.and_then(|view| self.advice(record, view)), self.doing) {
            (Some(advice), _) => advice,
            (None, Doing::Resolving) => "repeat the call later, or raise resolveWaitSeconds".to_owned(),
            (None, Doing::Acquiring) => {
                "raise acquireTimeoutSeconds, or ask for less or for another partition".to_owned()
            }
        };
        let failure = Failure::new(
            Kind::TimedOut,
            format!("{} {}: not ready after {waited} s, the job is {state}{reason}{start}", self.doing, record.shown()),
        );
        let waiting = view.and_then(View::row).filter(|row| row.state.class() == Class::Queued);
        match waiting {
            Some(row) => failure.pending(&row.reason),
            None => failure,
        }
        .remedy(remedy)
    }
}

/// How a job stands, for the line that lives: what changes comes first, since a narrow terminal cuts the end off.
fn living(status: &Status, starts: bool, estimate: Option<i64>, now: i64) -> String {
    let when = match estimate {
        Some(start) if start > now => format!(", starts in {}", span(start - now)),
        Some(_) => ", starts any moment".to_owned(),
        None => String::new(),
    };
    let why = match in_words(&status.reason) {
        _ if starts => ", its sshd is not up yet".to_owned(),
        Some(words) => format!(", {words}"),
        None if status.reason.is_empty() => String::new(),
        None => format!(", {}", status.reason),
    };
    format!("{}{when}{why}", status.slurm_state)
}

/// An end in words, with the tail of the job's output last.
pub fn failure_of_end(doing: &str, record: &Record, ended: &Ended, shared: &SharedDir) -> Failure {
    let mut text = format!("{doing} {}: its job ended: {}", record.shown(), ended.state);
    if !ended.reason.is_empty() {
        text.push_str(&format!(" ({})", ended.reason));
    }
    if let Some(exit) = &ended.exit {
        text.push_str(&format!(", exit {exit}"));
    }
    if let Some(note) = shared.ending() {
        text.push_str(&format!(", the runner says {}: {}", note.reason, note.detail));
    }
    let failure = Failure::new(Kind::JobEnded, text);
    match record.job.as_ref().and_then(|job| shared.output_tail(job)) {
        Some(tail) => failure.cause(tail),
        None if ended.exit.as_deref() == Some("0:53") => {
            failure.remedy("the node could not write the job's output: make sharedDir a directory that the nodes see and that has space")
        }
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::status::LeaseState;
    use rstest::rstest;

    #[rstest]
    #[case::waits("PENDING", "Priority", false, Some(1300), "PENDING, starts in 5m, other jobs go first")]
    #[case::by_slurms_own_word("PENDING", "SomethingNew", false, None, "PENDING, SomethingNew")]
    #[case::overdue("PENDING", "", false, Some(900), "PENDING, starts any moment")]
    #[case::runs("RUNNING", "", true, None, "RUNNING, its sshd is not up yet")]
    fn the_living_line(
        #[case] slurm_state: &str,
        #[case] reason: &str,
        #[case] starts: bool,
        #[case] estimate: Option<i64>,
        #[case] expected: &str,
    ) {
        let (slurm_state, reason) = (slurm_state.to_owned(), reason.to_owned());
        let status = Status { slurm_state, state: LeaseState::Provisioning, reason };
        assert_eq!(living(&status, starts, estimate, 1000), expected);
    }
}
