//! What is added to a lease's files, for as long as there is the lease. The files are looked at, which costs the controller
//! nothing; Slurm is asked once a minute at most, together with all who wait, since a job that was killed writes no end.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Event, SHOWN_BYTES, SSHD_LOG, Text, events, output_of};
use crate::allocation;
use crate::clock::Now;
use crate::files::Part;
use crate::lease::Nonce;
use crate::lease::lifecycle::{Verdict, classify};
use crate::lease::record::Record;
use crate::lease::store::{LeaseDir, Store};
use crate::operation::context::Options;
use crate::operation::detached;
use crate::operation::lookup::{required, whole};
use crate::shared_dir::SharedDir;
use crate::slurm::cache::{BackOff, Moment, Shared};
use crate::slurm::squeue;

/// Between two looks; a login host is a session away.
const LOCAL_PAUSE: Duration = Duration::from_millis(500);
const REMOTE_PAUSE: Duration = Duration::from_secs(2);

/// Most that is read of one file in one look; the next goes on.
const MOST_BYTES: u64 = 64 * 1024;

/// How old the last answer of Slurm may be that says whether the job lives.
const OLDEST_ANSWER: Duration = Duration::from_secs(60);

/// What has come since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addition {
    pub events: Vec<Event>,
    pub texts: Vec<Text>,
    /// Why nothing more comes.
    pub end: Option<String>,
}

/// A file as far as it was read.
#[derive(Debug, Default)]
struct Position(Option<u64>);

impl Position {
    /// The whole lines of the part that comes next; `last`: what is no whole line too.
    fn take(&mut self, part: Option<Part>, last: bool) -> Vec<u8> {
        let Some(Part { start, mut bytes }) = part else { return vec![] };
        let end = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(at) => at + 1,
            // A line that fills the part has no end to wait for.
            None if last || bytes.len() as u64 >= SHOWN_BYTES => bytes.len(),
            None => 0,
        };
        bytes.truncate(if last { bytes.len() } else { end });
        self.0 = Some(start + bytes.len() as u64);
        bytes
    }

    /// How much is wanted: at first the end of what is there.
    fn most(&self) -> u64 {
        if self.0.is_none() { SHOWN_BYTES } else { MOST_BYTES }
    }
}

/// The additions to one lease's files.
#[derive(Debug)]
pub struct Follow {
    dir: LeaseDir,
    shared: Option<Shared>,
    history: Position,
    output: Position,
    command: Position,
    sshd_log: Position,
    /// The attempt that the positions are of.
    attempt: Option<Nonce>,
    /// Before the next look.
    pause: Duration,
    asked: Instant,
    /// Why the next look is the last one: what was written meanwhile is shown before.
    ending: Option<String>,
    over: bool,
}

impl Follow {
    pub fn new(options: &Options, word: &str) -> Result<Follow> {
        let store = Store::open(&options.state_dir)?;
        let found = required(&store, word)?;
        whole("following", &found.loaded)?;
        Ok(Follow {
            dir: found.dir,
            shared: store.cache().ok().and_then(Shared::open),
            history: Position::default(),
            output: Position::default(),
            command: Position::default(),
            sshd_log: Position::default(),
            attempt: None,
            pause: Duration::ZERO,
            asked: Instant::now(),
            ending: None,
            over: false,
        })
    }

    /// Waits for the next addition; `None` after the last one.
    pub fn next_addition(&mut self) -> Option<Addition> {
        while !self.over {
            let addition = self.look_again();
            if addition != Addition::default() {
                return Some(addition);
            }
        }
        None
    }

    fn look_again(&mut self) -> Addition {
        std::thread::sleep(self.pause);
        let loaded = self.dir.load();
        let record = match loaded.record() {
            Some(record) if self.dir.is_in_place() => record,
            found => {
                self.over = true;
                let why = found.map_or("the lease is gone, or its record cannot be read", |_| "the lease is gone");
                let why = self.ending.take().unwrap_or_else(|| why.to_owned());
                return Addition { end: Some(why), ..Addition::default() };
            }
        };
        self.pause = if record.submit.is_some() { REMOTE_PAUSE } else { LOCAL_PAUSE };
        if self.attempt.as_ref() != Some(&record.attempt.nonce) {
            self.attempt = Some(record.attempt.nonce.clone());
            (self.output, self.command, self.sshd_log) = Default::default();
        }
        // The end is looked for first: what was written before it is then read below.
        let end = self.ending.take();
        let mut addition = self.additions(record, end.is_some());
        match end {
            Some(why) => {
                self.over = true;
                addition.end = Some(why);
            }
            None => self.ending = self.end_of(record),
        }
        addition
    }

    fn additions(&mut self, record: &Record, last: bool) -> Addition {
        let shared = SharedDir::of(record);
        let start = self.history.0;
        let history = self.history.take(self.dir.history(start, self.history.most()), false);
        let mut texts = Vec::new();
        let output = record.job.as_ref().map(|job| output_of(job.id));
        let files = [
            (output, &mut self.output),
            (Some(detached::LOG.to_owned()), &mut self.command),
            (Some(SSHD_LOG.to_owned()), &mut self.sshd_log),
        ];
        for (file, position) in files {
            let Some(file) = file else { continue };
            let bytes = position.take(shared.part(&file, position.0, position.most()), last);
            if !bytes.is_empty() {
                texts.push(Text { file, text: String::from_utf8_lossy(&bytes).into_owned() });
            }
        }
        Addition { events: events(&Part { start: 0, bytes: history }), texts, end: None }
    }

    /// Why nothing more is to come, once that is so.
    fn end_of(&mut self, record: &Record) -> Option<String> {
        if let Some(ended) = &record.ended {
            return Some(format!("Slurm says that the job ended: {}", ended.state));
        }
        if let Some(note) = SharedDir::of(record).ending() {
            return Some(format!("the runner says that it ended: {}: {}", note.reason, note.detail));
        }
        if record.job.is_none() || self.asked.elapsed() < OLDEST_ANSWER {
            return None;
        }
        self.asked = Instant::now();
        let shared = self.shared.as_ref()?;
        let after = Moment::now().before(OLDEST_ANSWER);
        let view = allocation::ask_shared(record, shared, after, squeue::DEADLINE, BackOff::Kept);
        match classify(record, &view.observation, Now::read()) {
            Verdict::Ended => Some("Slurm says that the job ended".to_owned()),
            Verdict::Gone => Some("Slurm does not know the job any more".to_owned()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(start: u64, text: &str) -> Option<Part> {
        Some(Part { start, bytes: text.into() })
    }

    #[test]
    fn lines_come_whole_and_once() {
        let mut position = Position::default();
        assert_eq!(position.take(None, false), b"");
        assert_eq!(position.0, None);
        assert_eq!(position.take(part(10, "one\ntw"), false), b"one\n");
        assert_eq!(position.0, Some(14));
        assert_eq!(position.take(part(14, "tw"), false), b"");
        assert_eq!(position.take(part(14, "two\n"), false), b"two\n");
        assert_eq!(position.take(part(18, "the rest"), true), b"the rest");
        assert_eq!(position.0, Some(26));
    }

    #[test]
    fn a_line_without_end_is_not_waited_for() {
        let mut position = Position::default();
        let long = "x".repeat(SHOWN_BYTES as usize);
        assert_eq!(position.take(part(0, &long), false).len(), long.len());
    }
}
