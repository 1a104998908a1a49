//! All findings in one line: the message when the site is fit for leases, the error when it is not.
//!
//! The client shows the message as it is and takes its `key=value` words for details; of an error it shows the text
//! and sorts it by its words.

use crate::doctor::check::proxy_config::TRUST;
use crate::doctor::finding::{Finding, cut};
use crate::failure::{Failure, Kind};
use crate::protocol::CheckStatus;

/// Longest message; it is one line of somebody's terminal.
const MESSAGE_BYTES: usize = 3900;

/// A failure's text keeps its last 1500 characters, and the first red finding must not be lost.
const ERROR_CHARS: usize = 1400;

/// The one line for a site without red: facts, numbers, then every warning with its remedy.
pub fn message(findings: &[Finding]) -> String {
    let mut facts: Vec<(&str, &str)> = Vec::new();
    for (key, value) in findings.iter().flat_map(|finding| &finding.facts) {
        if facts.iter().all(|(known, _)| known != key) {
            facts.push((key, value));
        }
    }
    let mut text: String = facts.iter().map(|(key, value)| format!("{key}={value} ")).collect();
    let warnings: Vec<_> = findings.iter().filter(|finding| finding.is(CheckStatus::Warning)).collect();
    text.push_str(&format!("checks={} warnings={}", findings.len(), warnings.len()));
    let note = format!("; note: {TRUST}");
    let mendable: Vec<_> = warnings.iter().filter(|finding| !finding.remedy.is_empty()).collect();
    for (index, finding) in mendable.iter().enumerate() {
        let part =
            format!("; warning: {}: {} -> {}", finding.id.name(), cut(&finding.seen, 240), cut(&finding.remedy, 240));
        if text.len() + part.len() + note.len() > MESSAGE_BYTES {
            text.push_str(&format!("; {} more: see `slurm-sandbox doctor`", mendable.len() - index));
            break;
        }
        text.push_str(&part);
    }
    text + &note
}

/// The failure of a site with red findings; `None` without any.
pub fn failure(findings: &[Finding]) -> Option<Failure> {
    let red: Vec<_> = findings.iter().filter(|finding| finding.is(CheckStatus::Red)).collect();
    if red.is_empty() {
        return None;
    }
    let text = |chars: usize| {
        let parts = red.iter().map(|finding| {
            let (name, class) = (finding.id.name(), finding.category.text());
            format!("{name} [{class}]: {} -> {}", cut(&finding.seen, chars), cut(&finding.remedy, chars))
        });
        format!("doctor: {} of {} checks red: {}", red.len(), findings.len(), parts.collect::<Vec<_>>().join(" | "))
    };
    let lengths = [800, 400, 280, 180, 100, 60, 30];
    let what = lengths.iter().map(|chars| text(*chars)).find(|text| text.chars().count() <= ERROR_CHARS);
    let what = what.unwrap_or_else(|| cut(&text(30), ERROR_CHARS));
    Some(Failure::new(Kind::DoctorRed, what).remedy("see `slurm-sandbox doctor` for all checks"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::CheckId;
    use crate::doctor::check::table::TABLE;
    use crate::doctor::finding::Category;
    use rstest::rstest;

    /// The client's sorting of an error by its words, in its order.
    fn client_class(text: &str) -> &'static str {
        const CLASSES: &[(&str, &[&str])] = &[
            ("timeout", &["timed out", "timeout", "deadline"]),
            ("tool", &["executable file not found", "not found in $path", "no such file"]),
            ("config", &["missing", "required", "not configured", "empty config"]),
            (
                "auth",
                &["unauthorized", "forbidden", "permission", "denied", "credential", "api key", "token", "401", "403"],
            ),
            ("network", &["connection refused", "no such host", "network", "dial", "tls"]),
        ];
        let text = text.to_lowercase();
        CLASSES
            .iter()
            .find(|(_, phrases)| phrases.iter().any(|phrase| text.contains(phrase)))
            .map_or("provider", |(class, _)| class)
    }

    #[rstest]
    #[case(Category::Timeout, "timeout")]
    #[case(Category::Tool, "tool")]
    #[case(Category::Config, "config")]
    #[case(Category::Auth, "auth")]
    #[case(Category::Network, "network")]
    #[case(Category::Provider, "provider")]
    fn the_client_sorts_an_error_as_it_is_meant(#[case] category: Category, #[case] class: &str) {
        let failure =
            failure(&[Finding::ok(CheckId::Config, "b"), Finding::red(CheckId::Controller, category, "seen", "do")])
                .unwrap();
        assert_eq!(client_class(&failure.to_string()), class, "{failure}");
        assert_eq!(failure.kind, Kind::DoctorRed);
    }

    #[test]
    fn an_error_names_every_red_check_on_one_line_however_many() {
        let ids: Vec<_> = TABLE.iter().take(9).map(|row| row.id).collect();
        let red: Vec<_> =
            ids.iter().map(|id| Finding::red(*id, Category::Config, "x".repeat(900), "y".repeat(900))).collect();
        let text = failure(&red).unwrap().to_string();
        assert!(ids.iter().all(|id| text.contains(&format!("{} [", id.name()))), "{text}");
        assert!(text.starts_with("doctor: 9 of 9 checks red: ") && text.len() < 2000 && !text.contains('\n'));
        assert!(
            failure(&[Finding::ok(CheckId::Config, "b"), Finding::warning(CheckId::Authentication, "d", "e")])
                .is_none()
        );
    }

    #[test]
    fn a_message_has_facts_numbers_and_warnings_that_have_a_remedy() {
        let findings = [
            Finding::ok(CheckId::SlurmVersion, "22.05.8").fact("slurm", "22.05.8"),
            Finding::warning(CheckId::ProcessTracking, "linuxproc", "have it set to cgroup"),
            Finding::warning(CheckId::JobListing, "not asked", ""),
        ];
        let expected = format!(
            "slurm=22.05.8 checks=3 warnings=2; warning: process tracking: linuxproc -> have it set to cgroup; note: {TRUST}"
        );
        assert_eq!(message(&findings), expected);
    }

    #[test]
    fn a_message_is_bounded_and_says_what_it_leaves_out() {
        let many: Vec<_> =
            (0..50).map(|_| Finding::warning(CheckId::Endpoint, "ä".repeat(900), "y".repeat(900))).collect();
        let text = message(&many);
        assert!(
            text.len() < 4096 && text.contains("more: see `slurm-sandbox doctor`") && text.ends_with(TRUST),
            "{text}"
        );
    }
}
