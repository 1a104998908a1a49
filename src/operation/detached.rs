//! A command that goes on in a lease when nobody is connected with it: how it is started, where its output and its exit code stand, and
//! the wait for its end.
//!
//! ```text
//! <attempt's directory>/command.log      what it writes, on either stream
//!                       command.exit     its exit code, once it has ended
//!                       detached         such a command was started
//! ```
//! The first two are written in the lease: what they hold is shown and returned, and decides nothing else.

use std::time::Duration;

use anyhow::Result;

use super::settle;
use super::wait::failure_of_end;
use crate::allocation;
use crate::clock::{Now, epoch};
use crate::failure::{Failure, Kind};
use crate::host::command::quoted;
use crate::lease::LeaseId;
use crate::lease::record::{Ended, Record};
use crate::lease::store::Store;
use crate::operation::context::Options;
use crate::operation::lookup::{load, required, whole};
use crate::operation::session::in_work_dir;
use crate::shared_dir::SharedDir;
use crate::slurm::cache::{BackOff, Moment, Shared};
use crate::slurm::squeue;

/// Where a detached command's output stands, below the attempt's directory.
pub const LOG: &str = "command.log";
const EXIT: &str = "command.exit";
const STARTED: &str = "detached";

/// More than an exit code or a time with its line end.
const EXIT_BYTES: u64 = 16;

/// Between two looks at the shared dir.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Between two questions to Slurm: what ends otherwise leaves a note in the shared dir. Many that wait share the answer.
const LOOKS_A_QUESTION: u32 = 15;

/// What runs in the lease, as `bash -c SCRIPT NAME DIRECTORY COMMAND STAY LOG EXIT`. The exit code appears whole, by a rename; then the job is
/// told that its time is over, unless STAY says something.
const SCRIPT: &str = r#"exec </dev/null >"$1/$4" 2>&1
bash -c "$2"
code=$?
cd -- "$1" && printf "%s\n" "$code" >".$5.new" && mv -f ".$5.new" "$5"
[ "$3" ] || { printf "ttl_left=0\n" >.deadline.new && mv -f .deadline.new deadline; }"#;

/// The line of a session that starts a command and leaves it. It has a session of its own, so that the end of the connection is none of
/// its business.
pub fn line(record: &Record, command: &str, stay: bool, at_work: bool) -> String {
    let directory = SharedDir::of(record).attempt_path().to_string_lossy().into_owned();
    let words = [SCRIPT, "slurm-sandbox", &directory, command, if stay { "stay" } else { "" }, LOG, EXIT];
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    let start = format!("setsid bash -c {} </dev/null >/dev/null 2>&1 &", words.join(" "));
    if at_work { in_work_dir(&start) } else { start }
}

/// Ends of a lease that nobody has to mend, by the runner's word.
const INTENDED: &[&str] = &["idle", "ttl", "walltime", "untaken", "cancelled", "permit-removed"];

/// Notes that a command is about to be started in the lease.
///
/// # Errors
/// When the shared dir cannot be written.
pub fn announce(record: &Record) -> Result<()> {
    let failed = |error: crate::shared_dir::Error| {
        error.failure(format!("starting a command in {}: the shared dir cannot be written", record.shown()))
    };
    Ok(SharedDir::of(record).mark(STARTED, epoch()).map_err(failed)?)
}

/// Waits for the end of the lease's detached command, or of the lease where it has none; the exit code, and a line for people.
pub fn wait(options: &Options, word: &str) -> Result<(u8, String)> {
    let store = Store::open(&options.state_dir)?;
    let found = required(&store, word)?;
    let id = found.dir.id.clone();
    let mut record = whole("waiting for", &found.loaded)?.clone();
    let questions = store.cache().ok().and_then(Shared::open);
    let detached = SharedDir::of(&record).tail(STARTED, EXIT_BYTES).is_some();
    let (mut looks, mut over) = (0_u32, false);
    loop {
        let shared = SharedDir::of(&record);
        if let Some(code) = shared.tail(EXIT, EXIT_BYTES).and_then(|text| text.trim().parse::<u8>().ok()) {
            return Ok((code, format!("the command in {} has ended with exit code {code}", record.shown())));
        }
        // It was looked for once more after the end: it may have been written just before.
        if over {
            return ended(&record, &shared, detached);
        }
        let Some(now) = load(&store, &id)? else { return released(&id, detached) };
        let denied = record.denied;
        record = whole("waiting for", &now.loaded)?.clone();
        if record.denied.first.is_none() {
            record.denied = denied;
        }
        if record.ended.is_none() && looks.is_multiple_of(LOOKS_A_QUESTION) {
            ask(&mut record, questions.as_ref());
        }
        looks += 1;
        over = record.ended.is_some() || shared.ending().is_some();
        if !over {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }
}

/// Applies what Slurm says to this call's own copy: what it proves is written down by those who act on it.
fn ask(record: &mut Record, questions: Option<&Shared>) {
    let view = match questions {
        Some(questions) => {
            let after = Moment::now().before(LOOK_INTERVAL);
            allocation::ask_shared(record, questions, after, squeue::DEADLINE, BackOff::Kept)
        }
        None => allocation::ask(record, squeue::DEADLINE),
    };
    settle::apply(record, &view, Now::read());
}

fn released(id: &LeaseId, detached: bool) -> Result<(u8, String)> {
    match detached {
        false => Ok((0, format!("lease {id} was released"))),
        true => {
            let what = format!("waiting for lease {id}: it was released before its command had ended");
            Err(Failure::new(Kind::JobEnded, what).into())
        }
    }
}

fn ended(record: &Record, shared: &SharedDir, detached: bool) -> Result<(u8, String)> {
    let note = shared.ending();
    let by_runner = note.as_ref().map(|note| note.reason.as_str());
    let state = record.ended.as_ref().map(|ended| ended.state.as_str());
    if !detached && is_intended(by_runner, state) {
        let why = by_runner.or(state).unwrap_or_default();
        return Ok((0, format!("{} has ended: {why}", record.shown())));
    }
    let unknown = Ended {
        state: "unknown to Slurm yet".to_owned(),
        reason: String::new(),
        exit: None,
        runner: None,
        at: epoch(),
    };
    Err(failure_of_end("waiting for", record, record.ended.as_ref().unwrap_or(&unknown), shared).into())
}

/// Whether a lease has ended as it was meant to.
fn is_intended(by_runner: Option<&str>, state: Option<&str>) -> bool {
    match by_runner {
        Some(reason) => INTENDED.contains(&reason),
        None => state == Some("COMPLETED"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Command;
    use crate::lease::record::tests::record;
    use rstest::rstest;

    #[rstest]
    #[case(Some("idle"), Some("COMPLETED"), true)]
    #[case(Some("idle"), None, true)]
    #[case(Some("sshd-failed"), Some("FAILED"), false)]
    #[case(None, Some("COMPLETED"), true)]
    #[case(None, Some("TIMEOUT"), false)]
    #[case(None, None, false)]
    fn ends(#[case] by_runner: Option<&str>, #[case] state: Option<&str>, #[case] expected: bool) {
        assert_eq!(is_intended(by_runner, state), expected);
    }

    #[rstest]
    #[case(false)]
    #[case(true)]
    fn a_command_leaves_its_output_and_its_code(#[case] stay: bool) {
        let temp = tempfile::tempdir().unwrap();
        let directory = temp.path().to_str().unwrap();
        let stays = if stay { "stay" } else { "" };
        let words = ["-c", SCRIPT, "x", directory, "echo a; echo b >&2; exit 7", stays, LOG, EXIT];
        let output = Command::new("bash", Duration::from_secs(10)).args(words).run().unwrap();
        assert!(output.success(), "{}", output.said());
        let read = |name: &str| std::fs::read_to_string(temp.path().join(name)).ok();
        assert_eq!(read(LOG).as_deref(), Some("a\nb\n"));
        assert_eq!(read(EXIT).as_deref(), Some("7\n"));
        assert_eq!(read("deadline").as_deref(), (!stay).then_some("ttl_left=0\n"));
    }

    #[test]
    fn a_command_may_hold_anything() {
        let line = line(&record(), "echo 'a b' \"$X\"", true, true);
        assert!(line.contains(r"'echo '\''a b'\'' "), "{line}");
    }
}
