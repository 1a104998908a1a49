//! logs: what a lease's job and sshd have written, and how it ended, for people.

use anyhow::Result;

use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup::required;
use crate::shared_dir::SharedDir;

/// Longest part of one file that is shown.
const SHOWN_BYTES: u64 = 16 * 1024;

/// The lease's history, its end, its job's output and its sshd's log.
pub fn run(options: &Options, word: &str) -> Result<String> {
    let found = required(&Store::open(&options.state_dir)?, word)?;
    let mut text = String::new();
    let mut part = |title: &str, body: Option<String>| {
        let body = body.filter(|body| !body.trim().is_empty());
        text.push_str(&format!("== {title}\n{}\n", body.as_deref().map_or("(nothing)", str::trim_end)));
    };
    part("history", found.dir.history(SHOWN_BYTES));
    match found.loaded.record() {
        None => part("record", Some("damaged; release the lease, its job is found by name".to_owned())),
        Some(record) => {
            let shared = SharedDir::of(record);
            let ended = record.ended.as_ref();
            let ended = ended.map(|ended| {
                format!("{} {} exit {}", ended.state, ended.reason, ended.exit.as_deref().unwrap_or("unknown"))
            });
            part("how the job ended, says Slurm", ended);
            part(
                "how the job ended, says the runner",
                shared.ending().map(|note| format!("{}: {}", note.reason, note.detail)),
            );
            if let Some(job) = &record.job {
                let name = format!("slurm-{}.out", job.id);
                part(&format!("output of job {job} ({name})"), shared.tail(&name, SHOWN_BYTES));
            }
            part("sshd.log", shared.tail("sshd.log", SHOWN_BYTES));
        }
    }
    Ok(text)
}
