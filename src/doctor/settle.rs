//! One trouble is told once: what was not asked because of another trouble is none of its own.

use crate::doctor::check::{controller, login_host, slurm, storage};
use crate::doctor::finding::Finding;
use crate::protocol::CheckStatus;

/// Leaves one finding for one trouble: what Slurm did not answer follows from a controller that is down, from its
/// commands that are not there, and from nothing else.
pub fn all(findings: &mut [Finding]) {
    if findings.iter().any(|finding| finding.check.name == login_host::LOGIN && finding.is(CheckStatus::Red)) {
        return not_asked(
            findings.iter_mut().filter(|finding| finding.failed),
            "not asked: the login host cannot be used",
        );
    }
    // Whoever answers squeue is a controller.
    let listed = |finding: &&Finding| finding.check.name == slurm::LISTING;
    if findings.iter().filter(listed).count() > 0 && findings.iter().filter(listed).all(|finding| !finding.failed) {
        findings
            .iter_mut()
            .filter(|finding| finding.check.name == controller::CONTROLLER)
            .for_each(controller::but_lives);
    }
    let listing = findings.iter().find(|finding| finding.check.name == slurm::LISTING && finding.failed);
    let said = listing.map(|finding| finding.check.seen.clone()).unwrap_or_default();
    let munge =
        findings.iter().find(|finding| finding.check.name == controller::MUNGE && finding.is(CheckStatus::Warning));
    let munge = munge.map(|finding| finding.check.seen.clone());
    let mut cause = None;
    for finding in findings.iter_mut().filter(|finding| finding.is(CheckStatus::Red)) {
        match finding.check.name.as_str() {
            controller::CONTROLLER => {
                controller::with_evidence(finding, &said, munge.as_deref());
                cause = cause.or(Some("not asked: no controller answers"));
            }
            slurm::COMMANDS => cause = Some("not asked: Slurm's commands are not there"),
            _ => {}
        }
    }
    let Some(cause) = cause else { return };
    let version = |finding: &Finding| finding.check.name == slurm::VERSION;
    not_asked(findings.iter_mut().filter(|finding| finding.failed && !version(finding)), cause);
}

/// Takes back what was made of silence: its cause is told elsewhere.
fn not_asked<'a>(findings: impl Iterator<Item = &'a mut Finding>, cause: &str) {
    for finding in findings {
        finding.check.status = CheckStatus::Warning;
        finding.check.seen = cause.to_owned();
        finding.check.remedy.clear();
    }
}

/// A shared dir inside a state dir that cannot be used has no trouble of its own.
pub fn nested(findings: &mut [Finding]) {
    let red = |finding: &Finding, name| finding.check.name == name && finding.is(CheckStatus::Red);
    if findings.iter().any(|finding| red(finding, storage::STATE_DIR)) {
        for finding in findings.iter_mut().filter(|finding| red(finding, storage::SHARED_DIR)) {
            *finding = Finding::warning(storage::SHARED_DIR, "it lies in the state dir", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Category;

    #[test]
    fn one_trouble_is_told_once() {
        let mut findings = vec![
            Finding::red(controller::CONTROLLER, Category::Network, "ctl is DOWN", "call"),
            Finding::red(
                slurm::LISTING,
                Category::Provider,
                "squeue failed: Zero Bytes were transmitted or received",
                "try",
            )
            .not_asked(),
            Finding::warning("slurm settings", "no answer", "try").not_asked(),
            Finding::red("state dir", Category::Config, "full", "make room"),
        ];
        all(&mut findings);
        let red: Vec<_> = findings.iter().filter(|finding| finding.is(CheckStatus::Red)).collect();
        assert_eq!(red.len(), 2);
        assert_eq!(red[0].category, Category::Auth);
        assert!(findings[1].check.remedy.is_empty() && findings[2].check.seen.starts_with("not asked"));
    }

    #[test]
    fn a_login_host_that_cannot_be_used_is_the_one_trouble() {
        let mut findings = vec![
            Finding::red(login_host::LOGIN, Category::Auth, "Permission denied", "ssh-add"),
            Finding::red(controller::CONTROLLER, Category::Timeout, "no answer within 8 s", "try").not_asked(),
            Finding::red("shared dir", Category::Timeout, "no answer within 8 s", "try").not_asked(),
            Finding::warning(slurm::VERSION, "no answer", "try").not_asked(),
            Finding::red("state dir", Category::Config, "full", "make room"),
        ];
        all(&mut findings);
        let red: Vec<_> = findings.iter().filter(|finding| finding.is(CheckStatus::Red)).collect();
        assert_eq!(
            red.iter().map(|finding| finding.check.name.as_str()).collect::<Vec<_>>(),
            ["login host", "state dir"]
        );
        assert!(findings[1..4].iter().all(|finding| finding.check.seen.starts_with("not asked: the login host")));
    }

    #[test]
    fn a_controller_that_answers_squeue_is_not_red() {
        let mut findings = vec![
            Finding::red(controller::CONTROLLER, Category::Timeout, "scontrol ping has no answer after 7 s", "try")
                .not_asked(),
            Finding::ok(slurm::LISTING, "3 job(s)"),
            Finding::warning("slurm settings", "no answer", "try").not_asked(),
        ];
        all(&mut findings);
        assert!(findings[0].is(CheckStatus::Warning) && findings[0].check.seen.contains("squeue is answered"));
        assert_eq!(findings[2].check.seen, "no answer");
    }

    #[test]
    fn a_listing_that_fails_beside_a_living_controller_stays_red() {
        let mut findings = vec![
            Finding::ok(controller::CONTROLLER, "up"),
            Finding::red(slurm::LISTING, Category::Provider, "squeue failed: x", "try").not_asked(),
        ];
        all(&mut findings);
        assert!(findings[1].is(CheckStatus::Red));
    }
}
