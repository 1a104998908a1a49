//! What only a client outside the cluster meets: one connection to the login host, and everything that can happen to it.

/// Scenarios that make no sense from a laptop, and why.
const LEFT_OUT: &[(&str, &str)] = &[];

/// Whether a scenario is not run from the laptop; said so that nobody overlooks it.
pub fn skipped(scenario: &str) -> bool {
    if super::campus::skipped(scenario) {
        return true;
    }
    let reason = LEFT_OUT.iter().find(|(name, _)| *name == scenario);
    if let Some((name, reason)) = reason {
        super::say(&format!("SKIPPED from the laptop: {name}: {reason}"));
    }
    reason.is_some()
}
