//! What spares will cost, and what is in their way, before the first one is submitted: the runner, the partition's time limit, and how
//! many jobs the accounting allows. Asked only where a configuration keeps spares.

use crate::config::Settings;
use crate::config::spares::{LEAST_SECONDS, Spares};
use crate::config::time_limit::minutes;
use crate::doctor::check::CheckId;
use crate::doctor::check::partition::{Asked, wanted};
use crate::doctor::finding::Finding;
use crate::doctor::run::Clock;
use crate::doctor::sessions::{Place, answer};
use crate::operation::pool::Obstacle;
use crate::screen::span;
use crate::slurm::partition::{Record, get};
use crate::slurm::sacctmgr::{self, Association, Most, Qos};
use crate::slurm::scontrol;

/// What a configuration is told that asks for spares and can have none.
pub fn impossible(obstacle: Obstacle) -> Finding {
    let remedy = match obstacle {
        Obstacle::Runner => {
            "use the built-in runner, or have yours take claims and carry the line for it (docs/runner.md); else set spares to 0"
        }
        Obstacle::Names => {
            "take these names out of preamble and launcher, as sessions see them all the same; else set spares to 0"
        }
    };
    Finding::warning(CheckId::Spares, format!("none is ever made: {}", obstacle.shown()), remedy)
}

/// What they hold while nobody uses them, and when that ends.
pub fn cost(settings: &Settings) -> Finding {
    let (resources, Spares { count, seconds, .. }) = (&settings.resources, &settings.spares);
    let is_whole = resources.options.iter().any(|option| option.split('=').next() == Some("--exclusive"));
    let nodes = if is_whole { " on whole nodes" } else { "" };
    let (what, time) = (&resources.summary, span(i64::try_from(*seconds).unwrap_or(i64::MAX)));
    let seen = format!(
        "{count} x {what}{nodes}, each unused for {time} at most; none is submitted later than {time} after the last acquire"
    );
    if resources.wants_gpus() {
        let remedy = "keep spares for a profile without GPUs, or in a partition whose jobs others may preempt, and ask the site's \
                      admins before";
        return Finding::warning(CheckId::Spares, format!("idle GPUs: {seen}"), remedy);
    }
    Finding::ok(CheckId::Spares, seen)
}

/// What stands in their way on one cluster.
pub fn check(
    place: &Place,
    clock: Clock,
    cluster: Option<&str>,
    settings: &Settings,
    partitions: &Result<Vec<Record>, String>,
) -> Vec<Finding> {
    // Why they were not told is said by their own check, and who does not answer is not asked more.
    let Ok(records) = partitions else { return vec![] };
    let asked = Asked::of(settings);
    let partitions = wanted(records, &asked);
    let mut findings: Vec<_> = judge_time(&settings.spares, &asked, &partitions).into_iter().collect();
    let Allowed { most, gap } = allowed(place, clock, cluster, &asked, &partitions);
    findings.extend(judge_number(settings.spares.count, &most));
    findings.extend(gap.map(|gap| Finding::ok(CheckId::Spares, gap)));
    findings
}

/// Whether a spare's job gets the time that it waits, and then that of a lease.
fn judge_time(spares: &Spares, asked: &Asked, partitions: &[&Record]) -> Option<Finding> {
    // Of several, the one that gives the most; one whose limit is not told may give any.
    let most = |record: &&&Record| minutes(get(record, "MaxTime")).map(|limit| limit.unwrap_or(u64::MAX));
    let best = partitions.iter().filter(|record| most(record).is_some()).max_by_key(most)?;
    let (name, limit) = (get(best, "PartitionName"), most(&best)?);
    let (seconds, needed) = (spares.seconds, spares.time_left());
    let unless = asked.qos.as_ref().map(|qos| format!(", unless QOS {qos} allows more")).unwrap_or_default();
    let warning = |seen: String, remedy: String| Some(Finding::warning(CheckId::Spares, seen, remedy));
    let (given, whose) = match asked.time.as_deref().map(minutes) {
        // Without a time limit it is as long as every job there.
        None => match minutes(get(best, "DefaultTime")).unwrap_or(Some(limit)).unwrap_or(limit).min(limit) {
            u64::MAX => return None,
            usual => (usual, format!("{name} gives jobs without timeLimit")),
        },
        // No job of this configuration runs, which the check of the wall time tells.
        Some(Some(Some(time))) if time > limit => return None,
        Some(Some(Some(time))) => {
            let together = time.saturating_add(seconds.div_ceil(60));
            if together <= limit {
                return None;
            }
            let seen =
                format!("timeLimit and spareSeconds are {together} minutes together, {name} gives {limit} at most");
            if !spares.may_be_shorter() {
                let remedy = format!(
                    "lower timeLimit or spareSeconds{unless}; or set spareMinTimeLeft below {needed}, and leases may get less time"
                );
                return warning(format!("{seen}: spares are refused, or wait for ever"), remedy);
            }
            (time, format!("{seen}, so that a spare gets"))
        }
        Some(_) => return None,
    };
    let usable = given.saturating_mul(60).checked_sub(needed);
    let seconds_or = usable.filter(|usable| *usable >= LEAST_SECONDS);
    let seconds_or = seconds_or.map(|usable| format!("spareSeconds to {usable}, or ")).unwrap_or_default();
    match usable {
        None => warning(
            format!("{whose} {given} minutes, and a lease needs {needed} s: no lease ever takes a spare"),
            format!("set timeLimit, or lower spareMinTimeLeft or ttlSeconds{unless}"),
        ),
        Some(usable) if usable < seconds => warning(
            format!(
                "{whose} {given} minutes, and a lease needs {needed} s: one is taken in its first {usable} s alone, and kept for {seconds}"
            ),
            format!(
                "lower {seconds_or}spareMinTimeLeft, or have timeLimit and spareSeconds together be what {name} gives{unless}"
            ),
        ),
        Some(_) if asked.time.is_some() => Some(Finding::ok(
            CheckId::Spares,
            format!("{whose} {given} minutes: a lease that takes one may get less than timeLimit, {needed} s at least"),
        )),
        Some(_) => None,
    }
}

/// How many jobs a user may have, by whose rule, and why that is not known.
#[derive(Debug, Default)]
struct Allowed {
    most: Vec<(String, Most)>,
    gap: Option<String>,
}

/// Asks for them, where Slurm keeps to them.
fn allowed(place: &Place, clock: Clock, cluster: Option<&str>, asked: &Asked, partitions: &[&Record]) -> Allowed {
    let ask = || -> Result<Vec<(String, Most)>, String> {
        let config =
            answer(place, clock, || scontrol::command(clock.left(), cluster).args(["show", "config"]))?.stdout_text();
        let config = scontrol::parse_settings(&config);
        let setting = |key: &str| config.get(key).map_or("", String::as_str);
        let Some(user) = place.user(clock)?.name else { return Ok(vec![]) };
        if !are_kept(setting("AccountingStorageEnforce")) {
            return Ok(vec![]);
        }
        let cluster = cluster.unwrap_or(setting("ClusterName"));
        let known = answer(place, clock, || sacctmgr::command(clock.left(), &user))?.stdout_text();
        let known = sacctmgr::parse(&known);
        let Some(own) = association(&known, cluster, asked, partitions) else { return Ok(vec![]) };
        let names = qos_names(own, asked, partitions);
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let known = answer(place, clock, || sacctmgr::qos_command(clock.left(), &names))?.stdout_text();
        Ok(in_order(own, &names, &sacctmgr::parse_qos(&known)))
    };
    match ask() {
        Ok(most) => Allowed { most, gap: None },
        Err(said) => Allowed {
            gap: Some(format!("whether a limit on jobs is in their way could not be asked: {said}")),
            ..Allowed::default()
        },
    }
}

/// Whether Slurm holds jobs to the limits of associations and QOS (slurm.conf, AccountingStorageEnforce).
fn are_kept(enforced: &str) -> bool {
    enforced.split(',').any(|word| matches!(word.to_ascii_lowercase().as_str(), "limits" | "safe" | "all"))
}

/// The association that a job of this configuration has.
fn association<'a>(
    known: &'a [Association],
    cluster: &str,
    asked: &Asked,
    partitions: &[&Record],
) -> Option<&'a Association> {
    let fits = |own: &&Association| {
        let account = asked.account.as_ref().unwrap_or(&own.default_account);
        let partition = partitions.iter().any(|record| get(record, "PartitionName") == own.partition);
        own.cluster == cluster && own.account.eq_ignore_ascii_case(account) && (own.partition.is_empty() || partition)
    };
    // One for the partition goes before one for all.
    known.iter().filter(fits).max_by_key(|own| !own.partition.is_empty())
}

/// The QOS whose limits a job has, the one that counts first in front: the partition's own, then the job's.
fn qos_names(own: &Association, asked: &Asked, partitions: &[&Record]) -> Vec<String> {
    let of_partition = partitions.first().map(|record| get(record, "QoS")).filter(|name| !matches!(*name, "" | "N/A"));
    let of_job = match (&asked.qos, own.default_qos.as_str(), &own.qos[..]) {
        (Some(asked), ..) => asked,
        (None, "", [only]) => only,
        // Slurm's own name for it.
        (None, "", _) => "normal",
        (None, default, _) => default,
    };
    of_partition.into_iter().chain([of_job]).map(str::to_owned).collect()
}

/// What each of them allows, in the order in which they count.
fn in_order(own: &Association, names: &[&str], known: &[Qos]) -> Vec<(String, Most)> {
    let of_qos = names.iter().filter_map(|name| known.iter().find(|qos| qos.name.eq_ignore_ascii_case(name)));
    let of_qos = of_qos.map(|qos| (format!("QOS {}", qos.name), qos.most));
    of_qos.chain([(format!("your association with account {}", own.account), own.most)]).collect()
}

/// Whether so many spares and a lease are more jobs than are allowed. The first that says a number is the one that counts.
fn judge_number(spares: u64, allowed: &[(String, Most)]) -> Vec<Finding> {
    let first = |limit: fn(&Most) -> Option<u64>| {
        let found = allowed.iter().find_map(|(whose, most)| Some((whose, limit(most)?)));
        found.filter(|(_, most)| spares.saturating_add(1) > *most)
    };
    let fewer = |most: u64| format!("set spares to {} or less, or have the limit raised", most.saturating_sub(1));
    let submitted = first(|most| most.submitted).map(|(whose, most)| {
        let seen = format!(
            "{whose} allows {most} job(s) at a time, those that wait included: {spares} spare(s) and a lease are more, so a spare is \
             ended for the lease then"
        );
        Finding::warning(CheckId::Spares, seen, fewer(most))
    });
    let running = first(|most| most.running).map(|(whose, most)| {
        let seen = format!(
            "{whose} allows {most} job(s) that run: beside {spares} spare(s) a lease of another configuration waits until one has ended"
        );
        Finding::warning(CheckId::Spares, seen, fewer(most))
    });
    submitted.into_iter().chain(running).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Ok as Green, Warning};
    use crate::slurm::partition::parse;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn settings(mut value: Value) -> Settings {
        value["spares"] = json!(2);
        crate::config::parse(value.as_object().unwrap()).unwrap()
    }

    #[rstest]
    #[case::by_cpus(json!({"partition": "batch", "cpus": 16, "mem": "4G"}), Green, "2 x batch 16c/4G, each unused for 30m")]
    #[case::whole_nodes(json!({"exclusive": true, "spareSeconds": 7200}), Green, "2 x slurm on whole nodes, each unused for 2h00m")]
    #[case::gpus(json!({"gpus": 1}), Warning, "idle GPUs: 2 x slurm gpu:1")]
    #[case::gpus_as_gres(json!({"gres": "lustre,gpu:a100:2"}), Warning, "idle GPUs")]
    #[case::gpus_of_each_node(json!({"extraSbatchArgs": ["--gpus-per-node=2"]}), Warning, "idle GPUs")]
    #[case::gpus_of_each_task(json!({"extraSbatchArgs": ["--tres-per-task=cpu=2,gres/gpu:1"]}), Warning, "idle GPUs")]
    #[case::another_gres(json!({"gres": "gpumem:4"}), Green, "gpumem:4")]
    fn costs(#[case] mut value: Value, #[case] status: CheckStatus, #[case] text: &str) {
        value["timeLimit"] = json!(60);
        let finding = cost(&settings(value));
        assert!(finding.is(status) && finding.seen.contains(text), "{finding:?}");
        assert_eq!(finding.remedy.is_empty(), status == Green);
    }

    #[rstest]
    #[case(Obstacle::Runner, "docs/runner.md")]
    #[case(Obstacle::Names, "preamble and launcher")]
    fn what_makes_them_impossible(#[case] obstacle: Obstacle, #[case] remedy: &str) {
        let finding = impossible(obstacle);
        assert!(finding.is(Warning) && finding.remedy.contains(remedy), "{finding:?}");
        assert!(finding.seen.contains(obstacle.shown()));
    }

    const SITE: &str = "PartitionName=batch Default=YES DefaultTime=00:30:00 MaxTime=02:00:00 QoS=N/A\n\
        PartitionName=long DefaultTime=NONE MaxTime=UNLIMITED QoS=part\n\
        PartitionName=mute\n";

    fn judged(value: Value, partitions: &str) -> Option<Finding> {
        let settings = settings(value);
        let (asked, records) = (Asked::of(&settings), parse(partitions));
        judge_time(&settings.spares, &asked, &wanted(&records, &asked))
    }

    #[rstest]
    #[case::both_fit(json!({"timeLimit": 90}), None)]
    #[case::no_limit(json!({"timeLimit": 9000, "partition": "long"}), None)]
    #[case::one_of_two_fits(json!({"timeLimit": 120, "partition": "batch,long"}), None)]
    #[case::nobody_tells(json!({"timeLimit": 120, "partition": "mute"}), None)]
    #[case::there_is_no_such(json!({"timeLimit": 120, "partition": "nosuch"}), None)]
    #[case::a_lease_is_too_long(json!({"timeLimit": 121}), None)]
    #[case::together_too_long(json!({"timeLimit": 91}), Some((Warning, "121 minutes together, batch gives 120 at most")))]
    #[case::of_which_a_lease_may_have_less(json!({"timeLimit": 120, "spareMinTimeLeft": 3600}), Some((Green, "together, batch gives 120 at most, so that a spare gets 120 minutes: a lease")))]
    #[case::but_not_enough_less(json!({"timeLimit": 120, "spareMinTimeLeft": 7000}), Some((Warning, "first 200 s alone, and kept for 1800")))]
    #[case::as_much_as_a_lease(json!({"timeLimit": 120, "spareMinTimeLeft": 7200}), Some((Warning, "spares are refused")))]
    #[case::enough_by_default(json!({"spareMinTimeLeft": 600, "spareSeconds": 1200}), None)]
    #[case::some_by_default(json!({"ttlSeconds": 600}), Some((Warning, "batch gives jobs without timeLimit 30 minutes, and a lease needs 600 s: one is taken in its first 1200 s")))]
    #[case::too_little_by_default(json!({"ttlSeconds": 3600}), Some((Warning, "no lease ever takes a spare")))]
    #[case::without_end_by_default(json!({"ttlSeconds": 3600, "partition": "long"}), None)]
    fn times(#[case] value: Value, #[case] expected: Option<(CheckStatus, &str)>) {
        let finding = judged(value, SITE);
        match (&finding, expected) {
            (None, None) => {}
            (Some(finding), Some((status, text))) => {
                assert!(finding.is(status) && finding.seen.contains(text), "{finding:?}");
            }
            _ => panic!("{finding:?}"),
        }
    }

    #[test]
    fn a_qos_may_allow_more_time() {
        let finding = judged(json!({"timeLimit": 120, "qos": "long"}), SITE).unwrap();
        assert!(finding.remedy.contains("unless QOS long allows more"), "{finding:?}");
    }

    #[rstest]
    #[case("none", false)]
    #[case("associations", false)]
    #[case("associations,limits,qos", true)]
    #[case("associations,limits,qos,safe", true)]
    #[case("ALL", true)]
    #[case("", false)]
    fn limits_that_slurm_keeps_to(#[case] enforced: &str, #[case] expected: bool) {
        assert_eq!(are_kept(enforced), expected);
    }

    #[rstest]
    #[case::the_default_account(json!({}), Some(1))]
    #[case::another_account(json!({"account": "Phys"}), Some(2))]
    #[case::one_of_the_partition(json!({"account": "phys", "partition": "long"}), Some(3))]
    #[case::nobody_knows_it(json!({"account": "chem"}), None)]
    fn associations(#[case] mut value: Value, #[case] expected: Option<u64>) {
        value["timeLimit"] = json!(60);
        let known = sacctmgr::parse(
            "lab|other|lab|||normal|9|\nlab|campus|lab|||normal|1|\nlab|campus|phys|||normal|2|\nlab|campus|phys|long|||3|\n",
        );
        let (asked, records) = (Asked::of(&settings(value)), parse(SITE));
        let found = association(&known, "campus", &asked, &wanted(&records, &asked));
        assert_eq!(found.and_then(|own| own.most.running), expected);
    }

    #[rstest]
    #[case::what_is_asked_for(json!({"qos": "sandbox"}), "lab|c|lab||normal|normal||", &["sandbox"])]
    #[case::the_default(json!({}), "lab|c|lab||normal,long|long||", &["long"])]
    #[case::the_only_one(json!({}), "lab|c|lab||long|||", &["long"])]
    #[case::slurms_own(json!({}), "lab|c|lab|||||", &["normal"])]
    #[case::the_partitions_first(json!({"partition": "long", "qos": "x"}), "lab|c|lab|||||", &["part", "x"])]
    fn qos_of_a_job(#[case] mut value: Value, #[case] own: &str, #[case] expected: &[&str]) {
        value["timeLimit"] = json!(60);
        let (asked, records) = (Asked::of(&settings(value)), parse(SITE));
        assert_eq!(qos_names(&sacctmgr::parse(own)[0], &asked, &wanted(&records, &asked)), expected);
    }

    const NEVER: Most = Most { running: None, submitted: None };

    #[rstest]
    #[case::none(NEVER, NEVER, &[])]
    #[case::enough(Most { running: Some(3), submitted: Some(3) }, NEVER, &[])]
    #[case::too_few_in_all(Most { submitted: Some(2), ..NEVER }, NEVER, &["QOS sandbox allows 2 job(s) at a time"])]
    #[case::too_few_that_run(NEVER, Most { running: Some(1), ..NEVER }, &["your association with account lab allows 1 job(s) that run"])]
    #[case::the_first_counts(Most { running: Some(9), ..NEVER }, Most { running: Some(1), ..NEVER }, &[])]
    #[case::both(Most { running: Some(1), submitted: Some(1) }, NEVER, &["QOS sandbox allows 1 job(s) at a time", "QOS sandbox allows 1 job(s) that run"])]
    fn numbers(#[case] qos: Most, #[case] association: Most, #[case] expected: &[&str]) {
        let own = Association { most: association, ..sacctmgr::parse("lab|c|lab|||||").remove(0) };
        let known = [Qos { name: "other".into(), most: NEVER }, Qos { name: "sandbox".into(), most: qos }];
        let findings = judge_number(2, &in_order(&own, &["sandbox"], &known));
        assert_eq!(findings.len(), expected.len(), "{findings:?}");
        for (finding, text) in findings.iter().zip(expected) {
            assert!(finding.is(Warning) && finding.seen.starts_with(text), "{finding:?}");
        }
    }
}
