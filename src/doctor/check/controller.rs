//! Whether a controller answers, and if not, why.
//!
//! `scontrol ping` is the one question to which a controller that does not run is told at once; it says DOWN for
//! everything that can be wrong, so the reason is read from what else is said (docs/facts/slurm.md, "What a broken site says").

use crate::doctor::check::CheckId;
use crate::doctor::check::table::AGAIN;
use crate::doctor::finding::{Category, Finding, tail};
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::host::{End, Output};
use crate::protocol::CheckStatus;
use crate::slurm::{ping, scontrol};

/// Whether a cluster's controller answers.
pub fn check(place: &Place, clock: Clock, cluster: Option<&str>) -> Vec<Finding> {
    vec![match place.with(clock, |host| host.run(&scontrol::command(clock.left(), cluster).arg("ping"))) {
        Ok(Ok(output)) if output.end == End::ConnectionLost => {
            Finding::red(CheckId::Controller, Category::Network, output.said(), AGAIN).not_asked()
        }
        Ok(Ok(output)) => judge_ping(&output, cluster),
        // That it is missing is the finding of another check.
        Ok(Err(error)) => {
            Finding::warning(CheckId::Controller, format!("scontrol could not be started: {error}"), "").not_asked()
        }
        Err(said) => Finding::red(CheckId::Controller, Category::Provider, said, AGAIN).not_asked(),
    }]
}

/// Texts of authentication that failed, here or on the controller's host.
const AUTH_TEXTS: &[&str] =
    &["unge", "authentication", "Zero Bytes were transmitted", "credential", "auth_g_", "Rewound", "Expired"];

/// Of munge and of auth/slurm alike.
const PROOF_REFUSED: &str = "the controller turns our messages down, or we cannot send any: keys or clocks of the two hosts differ, or what makes the proof is down on one \
     of them; the check `authentication` names it; tell the site's admins";

fn judge_ping(output: &Output, cluster: Option<&str>) -> Finding {
    let mut hosts = ping::parse(&output.stdout_text());
    if let Some(cluster) = cluster {
        // Of another cluster scontrol names the hosts of its own.
        hosts.iter_mut().for_each(|(host, _)| *host = format!("the controller of {cluster}"));
    }
    let list = |up: bool| {
        hosts.iter().filter(|(_, is)| *is == up).map(|(host, _)| host.as_str()).collect::<Vec<_>>().join(", ")
    };
    let (up, down) = (list(true), list(false));
    let said = output.stderr_text();
    let took = output.took.as_secs_f32();
    if !up.is_empty() {
        if down.is_empty() {
            return Finding::ok(CheckId::Controller, format!("{up} answers in {:.0} ms", took * 1000.0))
                .fact("controller", "up");
        }
        let seen = format!("{up} answers, {down} does not");
        return Finding::warning(CheckId::Controller, seen, "tell the site's admins: a controller is down")
            .fact("controller", "backup");
    }
    if output.end == End::DeadlinePassed {
        let seen = format!(
            "scontrol ping has no answer after {took:.0} s: the controller, or what proves there who asks, hangs, or its host is off the net"
        );
        return Finding::red(
            CheckId::Controller,
            Category::Timeout,
            seen,
            "try again in a minute; if it stays so, tell the site's admins",
        );
    }
    if said.contains("Munge encode failed") {
        let seen = "Slurm's commands cannot say who they are: munged, which they ask, does not answer";
        let remedy = "have the admins of the host where they run start munged";
        return Finding::red(CheckId::Controller, Category::Auth, seen, remedy);
    }
    let seen = match (down.is_empty(), said.trim().is_empty()) {
        (false, true) => format!("scontrol ping: {down} is DOWN"),
        (false, false) => format!("scontrol ping: {down} is DOWN; it says {}", tail(&said, 400)),
        (true, _) => format!("scontrol ping: {}", tail(&output.said(), 400)),
    };
    if AUTH_TEXTS.iter().any(|text| said.contains(text)) {
        return Finding::red(CheckId::Controller, Category::Auth, seen, PROOF_REFUSED);
    }
    if said.contains("configuration source") || said.contains("slurm.conf") {
        let remedy = "set SLURM_CONF to the cluster's slurm.conf, or run this on a host that Slurm is set up on";
        return Finding::red(CheckId::Controller, Category::Config, seen, remedy);
    }
    if said.contains("entry for --cluster") || said.contains("No cluster '") {
        let remedy = "correct clusters in external.config; if they are right, their controllers or the accounting database are down";
        return Finding::red(CheckId::Controller, Category::Config, seen, remedy);
    }
    if said.contains("talking to database") || said.contains("talking to the database") {
        let remedy = "the accounting database, which knows the clusters' names, is down: tell the site's admins, or remove clusters";
        return Finding::red(CheckId::Controller, Category::Provider, seen, remedy);
    }
    let remedy = "the controller does not run, or the network keeps this host from its port: tell the site's admins; is SLURM_CONF that of a cluster which lives?";
    Finding::red(CheckId::Controller, Category::Network, seen, remedy)
}

/// Weighs what ping came to against what the other questions to Slurm came to meanwhile.
pub fn weigh(findings: &mut [Finding]) {
    let listings = || findings.iter().filter(|finding| finding.id == CheckId::JobListing);
    // Whoever answers squeue is a controller.
    let lives = listings().count() > 0 && listings().all(|finding| !finding.unanswered);
    let said = listings().find(|finding| finding.unanswered).map(|finding| finding.seen.clone()).unwrap_or_default();
    let unproven = |finding: &&Finding| {
        finding.id == CheckId::Authentication && finding.is(CheckStatus::Warning) && !finding.unanswered
    };
    let unproven = findings.iter().find(unproven).cloned();
    let is_down = |finding: &&mut Finding| finding.id == CheckId::Controller && finding.is(CheckStatus::Red);
    for finding in findings.iter_mut().filter(is_down) {
        if lives {
            finding.status = CheckStatus::Warning;
            finding.seen += "; yet squeue is answered, so a controller lives";
            finding.remedy = "run `scontrol ping` by hand: a wrapper, or one of several controllers, hangs".to_owned();
        } else {
            with_evidence(finding, &said, unproven.as_ref());
        }
    }
}

/// More about a controller that is down: from what squeue was told meanwhile, and from what the check of the authentication found.
fn with_evidence(controller: &mut Finding, listing: &str, unproven: Option<&Finding>) {
    if controller.category == Category::Auth {
        return;
    }
    if let Some(Finding { seen, remedy, .. }) = unproven {
        controller.category = Category::Auth;
        controller.seen = format!("Slurm's commands cannot say who they are: {seen}");
        controller.remedy = remedy.clone();
    } else if AUTH_TEXTS.iter().any(|text| listing.contains(text)) {
        controller.category = Category::Auth;
        controller.seen = format!("{}; {}", controller.seen, tail(listing, 300));
        controller.remedy = PROOF_REFUSED.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use std::time::Duration;

    use super::*;
    use crate::protocol::CheckStatus::{Ok as Green, Red, Warning};

    fn output(end: End, stdout: &str, stderr: &str) -> Output {
        Output { end, stdout: stdout.into(), stderr: stderr.into(), took: Duration::from_millis(30) }
    }

    const MUNGE_DOWN: &str = "scontrol: error: If munged is up, restart with --num-threads=10\n\
        scontrol: error: Munge encode failed: Failed to access \"/run/munge/munge.socket.2\": No such file or directory (Did you start munged?)\n";

    #[rstest]
    #[case::up(End::Exit(0), "Slurmctld(primary) at ctl is UP\n", "", Green, Category::Provider)]
    #[case::backup(
        End::Exit(0),
        "Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is UP\n",
        "",
        Warning,
        Category::Provider
    )]
    #[case::old_form(End::Exit(0), "Slurmctld(primary/backup) at a/b are UP/DOWN\n", "", Warning, Category::Provider)]
    #[case::stopped(End::Exit(1), "Slurmctld(primary) at ctl is DOWN\n", "", Red, Category::Network)]
    #[case::both_down(
        End::Exit(1),
        "Slurmctld(primary) at a is DOWN\nSlurmctld(backup) at b is DOWN\n",
        "",
        Red,
        Category::Network
    )]
    #[case::munge(End::Exit(1), "Slurmctld(primary) at ctl is DOWN\n", MUNGE_DOWN, Red, Category::Auth)]
    #[case::frozen(End::DeadlinePassed, "", "", Red, Category::Timeout)]
    #[case::no_configuration(
        End::Exit(1),
        "",
        "scontrol: fatal: Could not establish a configuration source",
        Red,
        Category::Config
    )]
    #[case::cluster(
        End::Exit(1),
        "",
        "scontrol: error: 'x' can't be reached now, or it is an invalid entry for --cluster.",
        Red,
        Category::Config
    )]
    #[case::database(
        End::Exit(1),
        "",
        "scontrol: error: There is a problem talking to the database: Connection refused.",
        Red,
        Category::Provider
    )]
    #[case::strange(End::Exit(1), "", "gibberish", Red, Category::Network)]
    fn pings(
        #[case] end: End,
        #[case] stdout: &str,
        #[case] stderr: &str,
        #[case] status: CheckStatus,
        #[case] category: Category,
    ) {
        let finding = judge_ping(&output(end, stdout, stderr), None);
        assert_eq!((finding.status, finding.category), (status, category), "{finding:?}");
    }

    #[test]
    fn another_cluster_goes_by_its_own_name() {
        let finding = judge_ping(&output(End::Exit(0), "Slurmctld(primary) at ctl is UP\n", ""), Some("annex"));
        assert_eq!(finding.seen, "the controller of annex answers in 30 ms");
    }

    #[test]
    fn a_refusing_controller_is_told_from_a_dead_one_by_what_squeue_is_told() {
        let down = judge_ping(&output(End::Exit(1), "Slurmctld(primary) at ctl is DOWN\n", ""), None);
        let mut refusing = down.clone();
        with_evidence(
            &mut refusing,
            "squeue failed: slurm_load_jobs error: Zero Bytes were transmitted or received (exit 1)",
            None,
        );
        assert_eq!(refusing.category, Category::Auth);
        assert!(refusing.seen.contains("Zero Bytes") && refusing.remedy.contains("clocks"));
        let mut dead = down.clone();
        with_evidence(&mut dead, "squeue failed: Unable to contact slurm controller (connect failure) (exit 1)", None);
        assert_eq!(dead, down);
        let unproven = Finding::warning(CheckId::Authentication, "munged does not answer", "have it started");
        with_evidence(&mut dead, "", Some(&unproven));
        assert_eq!((dead.category, dead.remedy.as_str()), (Category::Auth, "have it started"));
    }
}
