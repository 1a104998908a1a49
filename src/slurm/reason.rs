//! Why a job waits, in words for people who do not know Slurm's. What a reason means for a lease is decided in job.rs, not here.

/// Slurm's usual reasons (docs/facts/slurm.md, "Pending reasons"); any other one is shown as Slurm spells it.
const WORDS: &[(&str, &str)] = &[
    ("Priority", "other jobs go first"),
    ("Resources", "until enough nodes are free"),
    ("Dependency", "until an earlier job of this lease has ended"),
    ("BeginTime", "until the time that was asked for"),
    ("Licenses", "until licenses are free"),
    ("Reservation", "until its reservation begins"),
    ("PartitionDown", "its partition is down"),
    ("PartitionInactive", "its partition is closed"),
    ("JobHeldUser", "held by its owner"),
    ("JobHeldAdmin", "held by an admin"),
    ("ReqNodeNotAvail", "nodes that it needs are not available"),
    ("NodeDown", "a node that it needs is down"),
    ("Cleaning", "an earlier run of it is cleaned up"),
    ("Prolog", "its nodes are being prepared"),
];

/// The words for a reason.
pub fn in_words(reason: &str) -> Option<&'static str> {
    let word = reason.split(',').next().unwrap_or_default().trim();
    let known = WORDS.iter().find(|(name, _)| *name == word).map(|(_, words)| *words);
    known.or_else(|| match word {
        _ if word.starts_with("QOSMax") || word.starts_with("QOSGrp") => Some("a limit of the QOS is reached"),
        _ if word.starts_with("AssocMax") || word.starts_with("AssocGrp") => Some("a limit of the account is reached"),
        _ => None,
    })
}

/// Slurm's reason, with words for it where there are some.
pub fn explained(reason: &str) -> String {
    match in_words(reason) {
        Some(words) => format!("{reason}: {words}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Priority", true)]
    #[case("QOSMaxCpuPerUserLimit", true)]
    #[case("AssocGrpGRES", true)]
    #[case("ReqNodeNotAvail, UnavailableNodes:n1", true)]
    #[case("SomethingNew", false)]
    #[case("", false)]
    fn reasons(#[case] reason: &str, #[case] known: bool) {
        assert_eq!(in_words(reason).is_some(), known);
        assert!(explained(reason).starts_with(reason) && (explained(reason) != reason) == known);
    }

    #[test]
    fn limits_of_an_account_and_a_qos_are_told_apart() {
        assert_ne!(in_words("QOSGrpCpuLimit"), in_words("AssocGrpCpuLimit"));
    }
}
