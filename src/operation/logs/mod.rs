//! logs: what a lease's job and sshd have written, and how it ended, for people: as it stands, or as it comes.

mod follow;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::files::Part;
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::detached;
use crate::operation::lookup::required;
use crate::shared_dir::SharedDir;
pub use follow::{Addition, Follow};

/// Longest part of one file that is shown.
const SHOWN_BYTES: u64 = 16 * 1024;

const SSHD_LOG: &str = "sshd.log";

/// Something that was noted of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the epoch.
    pub at: i64,
    pub event: String,
    #[serde(default)]
    pub detail: String,
}

/// How a job ended, as Slurm tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlurmEnd {
    pub state: String,
    pub reason: String,
    /// `code:signal`.
    pub exit: Option<String>,
    /// When it was seen.
    pub at: i64,
}

/// The same as its runner tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunnerEnd {
    pub reason: String,
    pub detail: String,
}

/// The end of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Text {
    pub file: String,
    pub text: String,
}

/// All that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logs {
    pub lease_id: String,
    pub slug: String,
    /// Its job; `None` where there is none yet, or the record cannot be read.
    pub job: Option<String>,
    /// Whether the record can be read, without which nothing but the history is known.
    pub whole: bool,
    pub events: Vec<Event>,
    pub slurm: Option<SlurmEnd>,
    pub runner: Option<RunnerEnd>,
    pub output: Option<Text>,
    pub command: Option<Text>,
    pub sshd_log: Option<Text>,
}

/// The lease's history, its end, its job's output and its sshd's log.
pub fn run(options: &Options, word: &str) -> Result<Logs> {
    let found = required(&Store::open(&options.state_dir)?, word)?;
    let record = found.loaded.record();
    let identity = found.loaded.identity();
    let shared = record.map(SharedDir::of);
    let text = |file: String| {
        let text = shared.as_ref()?.tail(&file, SHOWN_BYTES)?;
        Some(Text { file, text })
    };
    let job = record.and_then(|record| record.job.as_ref());
    let ended = record.and_then(|record| record.ended.clone());
    let runner = shared.as_ref().and_then(SharedDir::ending);
    Ok(Logs {
        lease_id: identity.lease_id.to_string(),
        slug: identity.slug.clone(),
        job: job.map(ToString::to_string),
        whole: record.is_some(),
        events: found.dir.history(None, SHOWN_BYTES).map(|part| events(&part)).unwrap_or_default(),
        slurm: ended.map(|ended| SlurmEnd { state: ended.state, reason: ended.reason, exit: ended.exit, at: ended.at }),
        runner: runner.map(|note| RunnerEnd { reason: note.reason, detail: note.detail }),
        output: job.and_then(|job| text(output_of(job.id))),
        command: text(detached::LOG.to_owned()),
        sshd_log: text(SSHD_LOG.to_owned()),
    })
}

/// The file that a job's output goes to.
fn output_of(job: u64) -> String {
    format!("slurm-{job}.out")
}

/// The events of a part of a history. Its first line may be cut off, its last one not be whole yet.
fn events(part: &Part) -> Vec<Event> {
    let text = String::from_utf8_lossy(&part.bytes);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_event_is_passed_over() {
        let lines = "\"detail\":\"x\"}\n{\"at\":7,\"event\":\"submitted\",\"detail\":\"12\"}\nnoise\n{\"at\":8,\"event\":\"later\"}\n{\"at\":";
        let events = events(&Part { start: 9, bytes: lines.into() });
        assert_eq!(
            events.iter().map(|event| (event.at, event.event.as_str())).collect::<Vec<_>>(),
            [(7, "submitted"), (8, "later")]
        );
    }
}
