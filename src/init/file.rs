//! The text of a first config file: what was chosen, and beside it, as comments, what else there is.

use super::facts::Facts;
use super::proposal::{Proposal, clock};
use crate::text;

/// The whole file.
pub fn text(facts: &Facts, proposal: &Proposal) -> String {
    let of = |before: &str, name: &Option<String>| {
        name.as_ref().map_or_else(String::new, |name| format!(" {before} {}", text::line(name)))
    };
    let mut file = format!(
        "# Settings of slurm-sandbox{}{}, as `slurm-sandbox init` proposed them.\n\
         # What a request, a file named by --config or a flag says goes over them. docs/configuration.md has all keys;\n\
         # `slurm-sandbox config show` tells which settings hold, and where each comes from.\n\n[defaults]\n",
        of("for", &facts.user),
        of("on the cluster", &facts.cluster)
    );
    if let Some(submit) = &proposal.submit {
        file.push_str("# The login host: Slurm's commands run there, over your own ssh configuration and keys.\n");
        file.push_str(&key("submitHost", &submit.host));
        file.extend(submit.user.iter().map(|user| key("submitUser", user)));
        file.push('\n');
    }
    asked_of_slurm(&mut file, facts, proposal);
    file.push_str("# The job ends after so many seconds without use; 0 is never.\nidleTimeoutSeconds = 1800\n");
    directories(&mut file, facts);
    file.push_str(&format!(
        "\n# Sizes by name: `slurm-sandbox acquire --profile cpu`\n[profiles.cpu]\ncpus = {}\n# mem = \"8G\"\n",
        proposal.cpus
    ));
    if let Some(partition) = &proposal.gpu_partition {
        file.push_str(&format!("\n# {}\n[profiles.gpu]\n", gpus(facts, partition)));
        file.push_str(&key("partition", partition));
        file.push_str(&format!("gpus = 1\ncpus = {}\n", proposal.cpus));
    }
    if !facts.gaps.is_empty() {
        file.push_str("\n# What could not be asked when this was written:\n");
        file.extend(facts.gaps.iter().map(|gap| comment(gap)));
    }
    file
}

fn asked_of_slurm(file: &mut String, facts: &Facts, proposal: &Proposal) {
    let partitions: Vec<_> = facts
        .partitions
        .iter()
        .map(|partition| {
            let default = if partition.default { "default, " } else { "" };
            let most = partition
                .most_minutes
                .map_or_else(|| "no time limit".to_owned(), |most| format!("at most {}", clock(most)));
            format!("{} ({default}{most})", partition.name)
        })
        .collect();
    if let Some(partition) = &proposal.partition {
        file.push_str(&comment(&format!("Partitions: {}", partitions.join(", "))));
        file.push_str(&key("partition", partition));
        file.push('\n');
    }
    if let Some(account) = &proposal.account {
        file.push_str(&comment(&format!("Your accounts, the default one first: {}", facts.accounts.join(", "))));
        file.push_str(&key("account", account));
        file.push('\n');
    }
    if let Some(first) = facts.qos.first() {
        file.push_str(&comment(&format!("Your QOS: {}", facts.qos.join(", "))));
        file.push_str(&format!("# {}\n", key("qos", first)));
    }
    if let Some(time) = &proposal.time_limit {
        file.push_str("# Time limit of a job: a short one starts sooner. Nothing prolongs it later.\n");
        file.push_str(&key("timeLimit", time));
        file.push('\n');
    }
}

/// Where files lie; where the home is on a disk of one host, nodes do not see it.
fn directories(file: &mut String, facts: &Facts) {
    let shared: Vec<_> = facts.shared.iter().map(|fs| format!("{} ({})", fs.path, fs.kind)).collect();
    if !shared.is_empty() {
        file.push('\n');
        file.push_str(&comment(&format!("Shared file systems: {}", shared.join(", "))));
    }
    let Some(scratch) = &facts.scratch else { return };
    let (shared_dir, work_root) = (
        key("sharedDir", &format!("{scratch}/slurm-sandbox/shared")),
        key("runnerWorkRoot", &format!("{scratch}/slurm-sandbox/work")),
    );
    match facts.home_is_local {
        true => file.push_str(&format!("# The home directory is on a disk of one host.\n{shared_dir}{work_root}")),
        false => file.push_str(&format!("# {work_root}")),
    }
}

fn gpus(facts: &Facts, partition: &str) -> String {
    let own = facts.partitions.iter().filter(|known| known.name == partition).flat_map(|known| &known.gpus);
    let types: Vec<_> =
        own.map(|gpu| format!("{} ({} on a node)", gpu.kind.as_deref().unwrap_or("GPUs"), gpu.count)).collect();
    let kind = facts.partitions.iter().filter(|known| known.name == partition).flat_map(|known| &known.gpus);
    let example =
        kind.filter_map(|gpu| gpu.kind.as_deref()).next().map(|kind| format!("; one type: gpus = \"{kind}:1\""));
    text::line(&format!("Partition {partition} has {}{}", types.join(", "), example.unwrap_or_default()))
}

/// What others have named goes into a comment as one line.
fn comment(text: &str) -> String {
    format!("# {}\n", text::line(text))
}

/// A key with a text as its value.
fn key(key: &str, value: &str) -> String {
    let escaped: String = value
        .chars()
        .flat_map(|c| match c {
            '"' | '\\' => vec!['\\', c],
            c => vec![c],
        })
        .collect();
    format!("{key} = \"{escaped}\"\n")
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::facts;
    use super::*;
    use crate::config::layers::{Role, parse};
    use crate::config::login_host::LoginHost;

    fn of(facts: &Facts, submit: Option<LoginHost>) -> crate::config::layers::ConfigFile {
        let text = text(facts, &Proposal::of(facts, submit));
        parse("c", Role::User, &text).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}"))
    }

    #[test]
    fn a_file_is_what_was_chosen() {
        let submit = LoginHost { host: "login".into(), user: Some(r"CORP\alice".into()), ..LoginHost::default() };
        let file = of(&facts(), Some(submit));
        let value = |key: &str| file.defaults[key].value.clone();
        assert_eq!((value("submitHost"), value("submitUser")), ("login".into(), r"CORP\alice".into()));
        assert_eq!(
            (value("partition"), value("account"), value("timeLimit")),
            ("batch".into(), "lab".into(), "02:00:00".into())
        );
        assert_eq!(file.profiles.keys().collect::<Vec<_>>(), ["cpu", "gpu"]);
        assert_eq!(file.profiles["gpu"]["partition"].value, "gpu");
        assert!(!file.defaults.contains_key("runnerWorkRoot"));
    }

    #[test]
    fn where_the_home_is_local_files_lie_elsewhere() {
        let file = of(&Facts { home_is_local: true, ..facts() }, None);
        assert_eq!(file.defaults["sharedDir"].value, "/scratch/alice/slurm-sandbox/shared");
        assert_eq!(file.defaults["runnerWorkRoot"].value, "/scratch/alice/slurm-sandbox/work");
    }

    #[test]
    fn a_site_that_tells_nothing_has_a_file_too() {
        let nothing = Facts { gaps: vec!["sinfo: no\n[limits]\ncpus = 1".into()], ..Facts::default() };
        assert_eq!(of(&nothing, None).profiles.keys().collect::<Vec<_>>(), ["cpu"]);
    }
}
