//! Whether Slurm can be talked to, and what its settings mean for leases.
//!
//! With the controller gone Slurm's commands take 9 to 44 s to say so (docs/facts/slurm.md, "How long an outage takes"), so they end by our deadline;
//! what they could not ask is marked as such, and the check of the controller tells why.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::doctor::check::CheckId;
use crate::doctor::check::table::AGAIN;
use crate::doctor::finding::{Category, Finding, cut};
use crate::doctor::run::Clock;
use crate::doctor::sessions::{Place, answer};
use crate::host::{Command, Host};
use crate::slurm::job::QueryFailed;
use crate::slurm::scontrol;
use crate::slurm::squeue::{self, Owner};

/// Commands without which there is no lease.
const NEEDED: &[&str] = &["sbatch", "squeue", "scancel", "scontrol"];

/// First version with all that we use; older ones were never tried.
const OLDEST: (u32, u32) = (20, 2);

/// An ended job stays known for this long at least, or a look may come too late for its reason.
const LEAST_MIN_JOB_AGE_SECONDS: u64 = 20;

/// Slurm's commands, looked up as they will be run. `stdio`: sessions need srun too.
pub fn commands(place: &Place, clock: Clock, stdio: bool) -> Vec<Finding> {
    match place {
        Place::Here => {
            let find = |name: &str| crate::host::on_path(name).map(|path| path.display().to_string());
            let remedy = "run this on a host with Slurm's client commands (or set submitHost to one), and put their directory on the PATH of whatever starts this program";
            vec![judge_commands(find, &std::env::var("PATH").unwrap_or_default(), stdio, remedy)]
        }
        Place::Remote(there) => match there.facts(clock) {
            Err(said) => {
                vec![Finding::red(CheckId::SlurmCommands, Category::Provider, said, AGAIN).not_asked()]
            }
            Ok(facts) => {
                let remedy = "put Slurm's client commands on PATH in the profile of your account there (`module load slurm` in ~/.bash_profile), or set submitHost to a host that has them";
                let find = |name: &str| facts.command(name).map(str::to_owned);
                vec![judge_commands(find, facts.get("path").unwrap_or_default(), stdio, remedy)]
            }
        },
    }
}

fn judge_commands(find: impl Fn(&str) -> Option<String>, path: &str, stdio: bool, remedy: &str) -> Finding {
    let needed = || NEEDED.iter().copied().chain(stdio.then_some("srun"));
    let missing: Vec<_> = needed().filter(|name| find(name).is_none()).collect();
    if !missing.is_empty() {
        let why = if missing == ["srun"] { " (sshMode is stdio, whose sessions need it)" } else { "" };
        let seen = format!("{} not found in $PATH{why}, which is {}", missing.join(", "), cut(path, 200));
        return Finding::red(CheckId::SlurmCommands, Category::Tool, seen, remedy);
    }
    let all: Vec<_> = needed().filter_map(&find).collect();
    match find("sacct") {
        Some(path) => Finding::ok(CheckId::SlurmCommands, format!("{}, {path}", all.join(", "))),
        None => Finding::warning(
            CheckId::SlurmCommands,
            format!("{}; sacct is not on PATH", all.join(", ")),
            "install sacct where there is accounting: without it the end of a job that Slurm has forgotten stays unexplained",
        ),
    }
}

/// Slurm's version, as sbatch tells it.
pub fn version(place: &Place, clock: Clock) -> Vec<Finding> {
    let command = || Command::new("sbatch", clock.left()).env("LC_ALL", "C").arg("--version");
    let text = match answer(place, clock, command) {
        Ok(output) => output.stdout_text(),
        Err(said) => {
            let remedy = "run `sbatch --version` by hand; where it says that it has no configuration, set SLURM_CONF";
            return vec![
                Finding::warning(CheckId::SlurmVersion, format!("sbatch --version: {said}"), remedy).not_asked(),
            ];
        }
    };
    vec![match scontrol::parse_version(&text) {
        None => Finding::warning(
            CheckId::SlurmVersion,
            format!("sbatch --version says {}", cut(text.trim(), 80)),
            "expected is a version such as 23.02.7",
        ),
        Some((version, number)) if number < OLDEST => {
            let seen = format!("{version}, older than {}.{:02}", OLDEST.0, OLDEST.1);
            Finding::warning(CheckId::SlurmVersion, seen, "expect failures: this was never tried with so old a Slurm")
                .fact("slurm", version)
        }
        Some((version, _)) => Finding::ok(CheckId::SlurmVersion, &version).fact("slurm", version),
    }]
}

/// Whether our jobs can be listed, and whether the list can be trusted.
pub fn listing(place: &Place, clock: Clock, cluster: Option<&str>) -> Vec<Finding> {
    let (began, limit) = (Instant::now(), clock.left());
    let ask = |host: &Host| match host.user() {
        Ok(user) => squeue::list_user(host, Owner { uid: user.uid, name: user.name.as_deref() }, cluster, limit),
        Err(error) => Err(QueryFailed(error.to_string())),
    };
    vec![match place.with(clock, ask).unwrap_or_else(|said| Err(QueryFailed(said))) {
        Err(failed) => {
            let remedy = "run `squeue --me` by hand; until it works no lease can be listed, watched or released";
            let category = if began.elapsed() >= limit { Category::Timeout } else { Category::Provider };
            Finding::red(CheckId::JobListing, category, failed.0, remedy).not_asked()
        }
        Ok(listing) if !listing.complete => Finding::warning(
            CheckId::JobListing,
            "squeue says more than the list: a job missing from it is not proof that it ended",
            "find what prints beside squeue's own output (a wrapper, a plugin, a warning on stderr) and quieten it",
        ),
        Ok(listing) => Finding::ok(CheckId::JobListing, format!("{} job(s) of this user", listing.rows.len())),
    }]
}

/// What the site's settings mean for leases.
pub fn settings(place: &Place, clock: Clock, cluster: Option<&str>) -> Vec<Finding> {
    match answer(place, clock, || scontrol::command(clock.left(), cluster).args(["show", "config"])) {
        Ok(output) => judge_settings(&scontrol::parse_settings(&output.stdout_text())),
        Err(said) => {
            let remedy = "run `scontrol show config` by hand; without it doctor cannot tell how jobs are tracked";
            vec![Finding::warning(CheckId::SlurmSettings, format!("scontrol show config: {said}"), remedy).not_asked()]
        }
    }
}

fn judge_settings(settings: &BTreeMap<String, String>) -> Vec<Finding> {
    let get = |key: &str| settings.get(key).map_or("", String::as_str);
    let seconds = |key: &str| get(key).split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    let tracking = match get("ProctrackType").trim_start_matches("proctrack/") {
        "" => Finding::warning(
            CheckId::ProcessTracking,
            "scontrol show config names no ProctrackType",
            "ask the site's admins what it is",
        ),
        kind @ ("linuxproc" | "pgid") => Finding::warning(
            CheckId::ProcessTracking,
            format!("ProctrackType is {kind}: a process that detaches itself may outlive its lease"),
            "have the site's admins set ProctrackType to proctrack/cgroup; until then the runner ends what it can find",
        )
        .fact("tracking", kind),
        kind => {
            Finding::ok(CheckId::ProcessTracking, format!("ProctrackType is {kind}: Slurm ends all processes of a job"))
                .fact("tracking", kind)
        }
    };
    let wait = seconds("KillWait")
        .map(|wait| format!("; a job that ignores its end takes KillWait, {wait} s, to release"))
        .unwrap_or_default();
    let memory = match seconds("MinJobAge") {
        None => Finding::ok(CheckId::SlurmSettings, format!("MinJobAge is not told{wait}")),
        // 0 keeps ended jobs for ever.
        Some(age) if age > 0 && age < LEAST_MIN_JOB_AGE_SECONDS => Finding::warning(
            CheckId::SlurmSettings,
            format!("MinJobAge is {age} s: Slurm forgets an ended job before anybody asks{wait}"),
            format!(
                "have it set to {LEAST_MIN_JOB_AGE_SECONDS} or more (300 is the default), or reasons of failures get lost"
            ),
        ),
        Some(age) => Finding::ok(CheckId::SlurmSettings, format!("MinJobAge is {age} s{wait}")),
    };
    let accounting = match get("AccountingStorageType").trim_start_matches("accounting_storage/") {
        "" | "none" | "(null)" => {
            "off: account and QOS are not checked by Slurm, ends of forgotten jobs stay unexplained".to_owned()
        }
        kind => format!(
            "{kind}, enforcing {}",
            if get("AccountingStorageEnforce").is_empty() { "none" } else { get("AccountingStorageEnforce") }
        ),
    };
    vec![tracking, memory, Finding::ok(CheckId::Accounting, accounting)]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Red, Warning};

    #[rstest]
    #[case("ProctrackType           = proctrack/cgroup\nMinJobAge = 300 sec\nKillWait                = 30 sec\n", [Green, Green, Green])]
    #[case("ProctrackType = proctrack/linuxproc\nMinJobAge = 2 sec\nAccountingStorageType = accounting_storage/none\n", [Warning, Warning, Green])]
    #[case("ProctrackType = proctrack/pgid\nMinJobAge = 0 sec\nAccountingStorageType = accounting_storage/slurmdbd\n", [Warning, Green, Green])]
    #[case("", [Warning, Green, Green])]
    fn site_settings(#[case] text: &str, #[case] expected: [CheckStatus; 3]) {
        let findings = judge_settings(&scontrol::parse_settings(text));
        assert_eq!(findings.iter().map(|finding| finding.status).collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case(&["sbatch", "squeue", "scancel", "scontrol", "sacct"], false, Green, "/bin/sacct")]
    #[case(&["sbatch", "squeue", "scancel", "scontrol"], false, Warning, "sacct is not on PATH")]
    #[case(&["sbatch", "squeue", "scancel", "scontrol", "sacct"], true, Red, "srun not found in $PATH (sshMode is stdio")]
    #[case(&["squeue"], true, Red, "sbatch, scancel, scontrol, srun not found")]
    fn commands_found(#[case] there: &[&str], #[case] stdio: bool, #[case] status: CheckStatus, #[case] text: &str) {
        let find = |name: &str| there.contains(&name).then(|| format!("/bin/{name}"));
        let finding = judge_commands(find, "/bin", stdio, "do");
        assert!(finding.is(status) && finding.seen.contains(text), "{finding:?}");
    }

    #[test]
    fn settings_are_told_in_words() {
        let text = "Configuration data as of 2026-11-22T03:46:07\nAccountingStorageEnforce = associations,limits\n\
            AccountingStorageType   = accounting_storage/slurmdbd\nKillWait                = 30 sec\nMinJobAge               = 300 sec\n";
        let findings = judge_settings(&scontrol::parse_settings(text));
        assert_eq!(findings[1].seen, "MinJobAge is 300 s; a job that ignores its end takes KillWait, 30 s, to release");
        assert_eq!(findings[2].seen, "slurmdbd, enforcing associations,limits");
    }
}
