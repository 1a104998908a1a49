//! One trouble is told once: what was not answered because of another trouble is none of its own.

use std::collections::BTreeSet;

use crate::doctor::check::{CheckId, controller};
use crate::doctor::finding::Finding;
use crate::protocol::CheckStatus;

/// Leaves one finding for one trouble, by what the table says of what rests on what.
pub fn all(findings: &mut [Finding]) {
    controller::weigh(findings);
    let is_red = |finding: &&Finding| finding.is(CheckStatus::Red);
    let red: BTreeSet<CheckId> = findings.iter().filter(is_red).map(|finding| finding.id).collect();
    for finding in findings.iter_mut().filter(|finding| finding.unanswered) {
        if let Some(need) = finding.id.needs().iter().find(|need| red.contains(&need.check)) {
            finding.status = CheckStatus::Warning;
            finding.seen = need.seen.to_owned();
            finding.remedy.clear();
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
            Finding::red(CheckId::Controller, Category::Network, "ctl is DOWN", "call"),
            Finding::red(
                CheckId::JobListing,
                Category::Provider,
                "squeue failed: Zero Bytes were transmitted or received",
                "try",
            )
            .not_asked(),
            Finding::warning(CheckId::SlurmSettings, "no answer", "try").not_asked(),
            Finding::red(CheckId::StateDir, Category::Config, "full", "make room"),
        ];
        all(&mut findings);
        let red: Vec<_> = findings.iter().filter(|finding| finding.is(CheckStatus::Red)).collect();
        assert_eq!(red.len(), 2);
        assert_eq!(red[0].category, Category::Auth);
        assert!(findings[1].remedy.is_empty() && findings[2].remedy.is_empty());
    }

    #[test]
    fn a_login_host_that_cannot_be_used_is_the_one_trouble() {
        let mut findings = vec![
            Finding::red(CheckId::LoginHost, Category::Auth, "Permission denied", "ssh-add"),
            Finding::red(CheckId::Controller, Category::Timeout, "no answer within 8 s", "try").not_asked(),
            Finding::red(CheckId::SharedDir, Category::Timeout, "no answer within 8 s", "try").not_asked(),
            Finding::warning(CheckId::SlurmVersion, "no answer", "try").not_asked(),
            Finding::red(CheckId::StateDir, Category::Config, "full", "make room"),
        ];
        all(&mut findings);
        let red: Vec<_> = findings.iter().filter(|finding| finding.is(CheckStatus::Red)).collect();
        assert_eq!(red.iter().map(|finding| finding.id).collect::<Vec<_>>(), [CheckId::LoginHost, CheckId::StateDir]);
        assert!(findings[1..4].iter().all(|finding| finding.remedy.is_empty()));
    }

    #[test]
    fn a_trouble_of_what_a_check_does_not_rest_on_hides_nothing() {
        let mut findings = vec![
            Finding::red(CheckId::Controller, Category::Network, "ctl is DOWN", "call"),
            Finding::red(CheckId::StateDir, Category::Config, "mode 0755", "chmod"),
            Finding::red(CheckId::SharedDir, Category::Config, "mode 0755", "chmod").not_asked(),
            Finding::warning(CheckId::JobLines, "silent", "try").not_asked(),
        ];
        all(&mut findings);
        assert!(findings[2].is(CheckStatus::Warning) && findings[2].seen != "mode 0755");
        assert_eq!(findings[3].seen, "silent");
    }

    #[test]
    fn a_controller_that_answers_squeue_is_not_red() {
        let mut findings = vec![
            Finding::red(CheckId::Controller, Category::Timeout, "silent", "try").not_asked(),
            Finding::ok(CheckId::JobListing, "3 job(s)"),
            Finding::warning(CheckId::SlurmSettings, "no answer", "try").not_asked(),
        ];
        all(&mut findings);
        assert!(findings[0].is(CheckStatus::Warning) && findings[0].seen != "silent");
        assert_eq!(findings[2].seen, "no answer");
    }

    #[test]
    fn a_listing_that_fails_beside_a_living_controller_stays_red() {
        let mut findings = vec![
            Finding::ok(CheckId::Controller, "up"),
            Finding::red(CheckId::JobListing, Category::Provider, "squeue failed: x", "try").not_asked(),
        ];
        all(&mut findings);
        assert!(findings[1].is(CheckStatus::Red));
    }
}
