//! What is proposed, and what a person makes of it.

use super::facts::{Facts, Partition};
use super::questions::{Questions, Unanswered};
use crate::config::login_host::LoginHost;
use crate::config::time_limit::{is_time, minutes};

/// Long enough for an afternoon's half, short enough to start soon.
const MINUTES: u64 = 120;

/// CPUs of the profiles: enough for an editor's servers and a build.
const CPUS: u64 = 4;

/// What the file will say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proposal {
    pub submit: Option<LoginHost>,
    pub partition: Option<String>,
    pub account: Option<String>,
    pub time_limit: Option<String>,
    pub cpus: u64,
    /// The partition of the profile for GPUs.
    pub gpu_partition: Option<String>,
}

impl Proposal {
    /// What most people would say.
    pub fn of(facts: &Facts, submit: Option<LoginHost>) -> Proposal {
        let partition = facts.partitions.first();
        Proposal {
            submit,
            partition: partition.map(|partition| partition.name.clone()),
            account: facts.accounts.first().cloned(),
            time_limit: Some(time_limit(partition)),
            cpus: partition.and_then(|partition| partition.cpus).map_or(CPUS, |cpus| cpus.clamp(1, CPUS)),
            gpu_partition: gpu_partition(facts, partition).map(|partition| partition.name.clone()),
        }
    }

    /// Asks a person about what only a person knows.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(mut self, facts: &Facts, questions: &mut Questions<'_>) -> Result<Proposal, Unanswered> {
        let names: Vec<_> = facts.partitions.iter().map(|partition| partition.name.clone()).collect();
        if let Some(proposed) = &self.partition
            && names.len() > 1
        {
            let chosen = questions.choose("Partition", &names, proposed)?;
            let partition = facts.partitions.iter().find(|partition| partition.name == chosen);
            self.time_limit = Some(time_limit(partition));
            self.gpu_partition = gpu_partition(facts, partition).map(|partition| partition.name.clone());
            self.partition = Some(chosen);
        }
        if let Some(proposed) = &self.account
            && facts.accounts.len() > 1
        {
            self.account = Some(questions.choose("Account", &facts.accounts, proposed)?);
        }
        let partition = facts.partitions.iter().find(|partition| Some(&partition.name) == self.partition.as_ref());
        if let Some(proposed) = &self.time_limit {
            let most = partition.and_then(|partition| partition.most_minutes);
            let fits = |text: &str| match (is_time(text), minutes(text).flatten().zip(most)) {
                (false, _) => Some("write minutes, HH:MM:SS or D-HH:MM:SS".to_owned()),
                (true, Some((asked, most))) if asked > most => {
                    Some(format!("the partition allows {} at most", clock(most)))
                }
                (true, _) => None,
            };
            self.time_limit = Some(questions.ask("Time limit of a job", proposed, fits)?);
        }
        if let Some(partition) = &self.gpu_partition {
            let wanted = questions.agree(&format!("A profile gpu, for one GPU in partition {partition}"))?;
            self.gpu_partition = self.gpu_partition.filter(|_| wanted);
        }
        Ok(self)
    }
}

/// The partition itself where it has GPUs, else the first that has.
fn gpu_partition<'a>(facts: &'a Facts, chosen: Option<&'a Partition>) -> Option<&'a Partition> {
    let has = |partition: &&Partition| !partition.gpus.is_empty();
    chosen.filter(has).or_else(|| facts.partitions.iter().find(has))
}

fn time_limit(partition: Option<&Partition>) -> String {
    clock(partition.and_then(|partition| partition.most_minutes).map_or(MINUTES, |most| most.clamp(1, MINUTES)))
}

/// Minutes in Slurm's way.
pub fn clock(minutes: u64) -> String {
    let (days, hours, minutes) = (minutes / 1440, minutes % 1440 / 60, minutes % 60);
    if days > 0 { format!("{days}-{hours:02}:{minutes:02}:00") } else { format!("{hours:02}:{minutes:02}:00") }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::facts;
    use super::*;
    use rstest::rstest;

    #[test]
    fn what_most_people_would_say() {
        let proposal = Proposal::of(&facts(), None);
        assert_eq!(proposal.partition.as_deref(), Some("batch"));
        assert_eq!(proposal.account.as_deref(), Some("lab"));
        assert_eq!(proposal.time_limit.as_deref(), Some("02:00:00"));
        assert_eq!((proposal.gpu_partition.as_deref(), proposal.cpus), (Some("gpu"), 4));
        let nothing = Proposal::of(&Facts::default(), None);
        assert_eq!((nothing.partition, nothing.account, nothing.gpu_partition), (None, None, None));
    }

    #[rstest]
    #[case::all_as_proposed("\n\n\n\n", Some(("batch", "lab", "02:00:00", Some("gpu"))))]
    #[case::other_answers("short\nchem\n1\nn\n", Some(("short", "chem", "1", None)))]
    #[case::mistakes_are_asked_again("x\nshort\nx\nchem\nlots\n60\n1\nmaybe\ny\n", Some(("short", "chem", "1", Some("gpu"))))]
    #[case::nobody_answers("short\n", None)]
    fn a_person_answers(#[case] typed: &str, #[case] expected: Option<(&str, &str, &str, Option<&str>)>) {
        let mut said = Vec::new();
        let mut questions = Questions { input: &mut typed.as_bytes(), output: &mut said };
        let proposal = Proposal::of(&facts(), None).ask(&facts(), &mut questions).ok();
        let short = proposal.as_ref().map(|proposal| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            (
                text(&proposal.partition),
                text(&proposal.account),
                text(&proposal.time_limit),
                proposal.gpu_partition.clone(),
            )
        });
        let expected = expected.map(|(partition, account, time, gpu)| {
            (partition.to_owned(), account.to_owned(), time.to_owned(), gpu.map(str::to_owned))
        });
        assert_eq!(short, expected, "{}", String::from_utf8_lossy(&said));
    }

    #[rstest]
    #[case(1, "00:01:00")]
    #[case(120, "02:00:00")]
    #[case(1440 + 90, "1-01:30:00")]
    fn times(#[case] minutes: u64, #[case] expected: &str) {
        assert_eq!(clock(minutes), expected);
        assert!(is_time(expected));
    }
}
