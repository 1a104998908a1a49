//! What the jobs of leases use of what they were given: for people who ask for it. One sacct and one sstat for all jobs of a place;
//! nothing is decided by what they say.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::clock::epoch;
use crate::config::login_host::LoginHost;
use crate::host::Host;
use crate::lease::record::Record;
use crate::progress::progress;
use crate::slurm::job::{Class, JobId, Row};
use crate::slurm::sacct::{self, Accounted};
use crate::slurm::sstat;
use crate::slurm::tres::{Tres, bytes};

/// A job of which the usage may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    submit: Option<LoginHost>,
    job: JobId,
    runs: bool,
    started: Option<i64>,
    /// What the queue says that it has: enough where nothing is accounted.
    cpus: Option<u64>,
    mem: Option<u64>,
}

impl Asked {
    pub fn of(record: &Record, row: Option<&Row>) -> Option<Asked> {
        let job = record.job.clone()?;
        let runs = row.is_some_and(|row| matches!(row.state.class(), Class::Running | Class::Suspended));
        Some(Asked {
            submit: record.submit.clone(),
            job,
            runs,
            started: row.filter(|_| runs).and_then(|row| row.start),
            cpus: row.and_then(|row| row.resources.cpus.parse().ok()),
            mem: row.and_then(|row| bytes(&row.resources.mem)).filter(|mem| *mem > 0),
        })
    }
}

/// What a job has used. What nobody tells is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// How long the job has run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Of all its CPUs, since its start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_granted_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u64>,
    /// Of all its GPUs, now; only where Slurm watches them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_memory_bytes: Option<u64>,
}

/// Asks for the usage of these jobs; what could not be asked is said.
pub fn ask(asked: &[Option<Asked>]) -> Vec<Option<Usage>> {
    let mut places: BTreeMap<(&Option<LoginHost>, &Option<String>), Vec<&Asked>> = BTreeMap::new();
    for asked in asked.iter().flatten() {
        places.entry((&asked.submit, &asked.job.cluster)).or_default().push(asked);
    }
    let mut answers = BTreeMap::new();
    for ((submit, cluster), jobs) in &places {
        let host = Host::of(submit.as_ref());
        answers.insert((*submit, *cluster), ask_place(&host, cluster.as_deref(), jobs));
    }
    let now = epoch();
    let of = |asked: &Asked| {
        let answer = answers.get(&(&asked.submit, &asked.job.cluster))?;
        usage(asked, answer.accounted.get(&asked.job.id), answer.running.get(&asked.job.id), now)
    };
    asked.iter().map(|asked| asked.as_ref().and_then(of)).collect()
}

#[derive(Debug, Default)]
struct PlaceAnswer {
    accounted: BTreeMap<u64, Accounted>,
    running: BTreeMap<u64, Tres>,
}

fn ask_place(host: &Host, cluster: Option<&str>, jobs: &[&Asked]) -> PlaceAnswer {
    let ids: Vec<u64> = jobs.iter().map(|asked| asked.job.id).collect();
    let running: Vec<u64> = jobs.iter().filter(|asked| asked.runs).map(|asked| asked.job.id).collect();
    let mut answer = PlaceAnswer::default();
    match sacct::accounted(host, cluster, &ids) {
        Ok(accounted) => answer.accounted = accounted,
        Err(why) => progress(&format!(
            "ACCOUNTING IS OFF or does not answer{}: jobs that have ended have no figures, and memory is shown as the queue tells it: {}",
            host.shown(),
            why.0
        )),
    }
    match cluster {
        _ if running.is_empty() => {}
        Some(cluster) => progress(&format!(
            "what running jobs use cannot be asked of cluster {cluster}: sstat knows the cluster of its own slurm.conf alone"
        )),
        None => match sstat::usage(host, &running) {
            Ok(usage) => answer.running = usage,
            Err(why) => progress(&format!(
                "NOTHING IS MEASURED{}: what running jobs use is not known; the site sets JobAcctGatherType for it: {}",
                host.shown(),
                why.0
            )),
        },
    }
    answer
}

/// What is known of one job; `None` where that is nothing.
fn usage(asked: &Asked, accounted: Option<&Accounted>, running: Option<&Tres>, now: i64) -> Option<Usage> {
    let known = accounted.copied().unwrap_or_default();
    let used = if asked.runs { running.copied().unwrap_or_default() } else { known.used };
    let seconds = match asked.started {
        Some(started) => Some((now - started).max(0)),
        None => known.seconds,
    };
    let cpus = known.granted.cpu.map(|cpus| cpus as u64).or(asked.cpus).filter(|cpus| *cpus > 0);
    let gpus = known.granted.gpus.filter(|gpus| *gpus > 0);
    // In per cent, to a tenth.
    let share = |part: f64, whole: f64| (whole > 0.0).then(|| (part / whole * 1000.0).round() / 10.0);
    let percent = used.cpu.zip(cpus).zip(seconds);
    let usage = Usage {
        seconds: seconds.filter(|_| asked.runs || used != Tres::default()),
        cpus: cpus.filter(|_| asked.runs || used.cpu.is_some()),
        cpu_seconds: used.cpu,
        cpu_percent: percent.and_then(|((cpu, cpus), seconds)| share(cpu, cpus as f64 * seconds as f64)),
        memory_bytes: used.mem,
        memory_granted_bytes: known.granted.mem.or(asked.mem).filter(|_| asked.runs || used.mem.is_some()),
        gpus,
        gpu_percent: used.gpu_use.zip(gpus).and_then(|(percents, gpus)| share(percents, 100.0 * gpus as f64)),
        gpu_memory_bytes: used.gpu_mem,
    };
    (usage != Usage::default()).then_some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::record::tests::{record, row};
    use crate::slurm::job::{Resources, State};

    fn asked(word: &str) -> Asked {
        let resources = Resources { cpus: "16".into(), mem: "4G".into(), ..Resources::default() };
        let row = Row { state: State::new(word), start: Some(1000), resources, ..row() };
        Asked::of(&record(), Some(&row)).unwrap()
    }

    #[test]
    fn a_running_job_by_what_its_node_says() {
        let accounted =
            Accounted { granted: Tres::parse("cpu=16,mem=64G,gres/gpu=2"), used: Tres::default(), seconds: Some(90) };
        let running = Tres::parse("cpu=00:00:48,mem=1G,gres/gpuutil=50,gres/gpumem=2G");
        let known = usage(&asked("RUNNING"), Some(&accounted), Some(&running), 1100).unwrap();
        assert_eq!((known.seconds, known.cpus, known.cpu_percent), (Some(100), Some(16), Some(3.0)));
        assert_eq!((known.memory_bytes, known.memory_granted_bytes), (Some(1 << 30), Some(64 << 30)));
        assert_eq!((known.gpus, known.gpu_percent, known.gpu_memory_bytes), (Some(2), Some(25.0), Some(2 << 30)));
    }

    #[test]
    fn without_accounting_by_what_the_queue_says() {
        let known = usage(&asked("RUNNING"), None, Some(&Tres::parse("cpu=00:00:48,mem=1G")), 1100).unwrap();
        assert_eq!((known.cpu_percent, known.memory_granted_bytes), (Some(3.0), Some(4 << 30)));
        let unmeasured = usage(&asked("RUNNING"), None, None, 1100).unwrap();
        assert_eq!((unmeasured.cpus, unmeasured.cpu_percent), (Some(16), None));
    }

    #[test]
    fn a_job_that_has_not_run_or_is_not_accounted_has_no_figures() {
        assert_eq!(usage(&asked("PENDING"), None, None, 1100), None);
        assert_eq!(usage(&asked("COMPLETED"), None, None, 1100), None);
        let ended =
            Accounted { granted: Tres::parse("cpu=4,mem=1G"), used: Tres::parse("cpu=00:00:10"), seconds: Some(100) };
        let known = usage(&asked("COMPLETED"), Some(&ended), None, 1100).unwrap();
        assert_eq!((known.seconds, known.cpu_percent, known.memory_bytes), (Some(100), Some(2.5), None));
    }
}
