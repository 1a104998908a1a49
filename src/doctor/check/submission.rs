//! What sbatch itself thinks of the options, without submitting anything.
//!
//! `--test-only` is only ever a hint: it calls a time limit that never fits and a closed partition good, with an
//! estimated start (docs/facts/slurm.md, "Accepted and never run"), and some sites' plugins answer it otherwise than a submission.

use crate::config::Settings;
use crate::doctor::check::CheckId;
use crate::doctor::check::table::AGAIN;
use crate::doctor::finding::{Category, Finding, cut, tail};
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::failure::Kind;
use crate::host::{Command, End, Output};
use crate::slurm::sbatch::asked;

/// Asks sbatch about the options of a lease's job.
pub fn check(place: &Place, clock: Clock, settings: &Settings, script: &[u8]) -> Vec<Finding> {
    // Acquire refuses the same in the same words.
    match place.with(clock, |host| crate::operation::site_options::check(host, settings)) {
        Ok(Err(failure)) if failure.kind == Kind::BadConfig => {
            return vec![Finding::of_failure(CheckId::TestSubmission, Category::Config, &failure)];
        }
        _ => {}
    }
    vec![match place.with(clock, |host| host.run(&command(clock, settings, script))) {
        Ok(Ok(output)) => classify(&output),
        Ok(Err(error)) => {
            Finding::warning(CheckId::TestSubmission, format!("sbatch could not be started: {error}"), "").not_asked()
        }
        Err(said) => Finding::warning(CheckId::TestSubmission, said, AGAIN).not_asked(),
    }]
}

fn command(clock: Clock, settings: &Settings, script: &[u8]) -> Command {
    let command =
        Command::new("sbatch", clock.left()).args(["--test-only", "--job-name=cbx-doctor"]).env("LC_ALL", "C");
    asked(command, settings.clusters.as_deref(), &settings.resources.options, script)
}

/// Texts of an answer that is none.
const SILENCE: &[&str] = &[
    "Unable to contact",
    "Socket timed out",
    "Zero Bytes",
    "Munge",
    "configuration source",
    "send failure",
    "receive failure",
];

fn classify(output: &Output) -> Finding {
    let text = output.stderr_text();
    if matches!(output.end, End::DeadlinePassed | End::ConnectionLost)
        || SILENCE.iter().any(|silence| text.contains(silence))
    {
        let seen = format!("sbatch --test-only: {}", tail(&output.said(), 300));
        return Finding::warning(CheckId::TestSubmission, seen, "run doctor again when Slurm answers").not_asked();
    }
    if output.success() {
        let line = text.lines().rev().find_map(|line| line.split_once("to start at ")).map(|(_, rest)| rest.trim());
        let estimate = line.map(|rest| format!("; estimated start {}", cut(rest, 120))).unwrap_or_default();
        return Finding::ok(CheckId::TestSubmission, format!("sbatch --test-only accepts the options{estimate}"));
    }
    let seen = format!("sbatch --test-only refuses the options: {}", tail(&output.said(), 400));
    Finding::warning(
        CheckId::TestSubmission,
        seen,
        "correct account, partition, qos or the resources in external.config; an acquire would most likely be refused alike",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Warning};
    use rstest::rstest;

    #[rstest]
    #[case(
        End::Exit(0),
        "sbatch: Job 15 to start at 2026-11-22T04:40:43 using 1 processors on nodes n1 in partition batch\n",
        Green,
        false,
        "2026-11-22T04:40:43 using"
    )]
    #[case(End::Exit(0), "", Green, false, "accepts the options")]
    #[case(
        End::Exit(1),
        "allocation failure: Requested node configuration is not available\n",
        Warning,
        false,
        "node configuration"
    )]
    #[case(
        End::Exit(1),
        "allocation failure: Unable to contact slurm controller (connect failure)\n",
        Warning,
        true,
        "connect failure"
    )]
    #[case(End::DeadlinePassed, "", Warning, true, "no answer within")]
    fn never_red(
        #[case] end: End,
        #[case] stderr: &str,
        #[case] status: CheckStatus,
        #[case] failed: bool,
        #[case] text: &str,
    ) {
        let output = Output { end, stdout: vec![], stderr: stderr.into(), took: std::time::Duration::from_secs(7) };
        let finding = classify(&output);
        assert_eq!((finding.status, finding.unanswered), (status, failed));
        assert!(finding.seen.contains(text), "{finding:?}");
    }
}
