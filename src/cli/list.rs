//! list at the command line: the table, one that is shown again and again, and one of what is used.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::Serialize;

use super::stream::Stream;
use super::{Outcome, arguments, render};
use crate::clock::epoch;
use crate::failure::{self, Failure};
use crate::operation::context::Options;
use crate::operation::list::{ListRow, rows};
use crate::operation::usage::{self, Usage};
use crate::progress::{Held, hold};
use crate::protocol::Lease;
use crate::screen::{Paint, Screen, utc};

/// Carries out a list for people.
pub fn run(options: &Options, flags: &arguments::List, json: bool) -> Result<Outcome> {
    if let Some(seconds) = flags.watch {
        let watch = Watch::new(options.clone(), Duration::from_secs(seconds), json);
        return Ok(Outcome { stream: Some(Stream::new(watch)), ..Outcome::default() });
    }
    let mut listed = rows(options, None)?;
    let screen = Screen::stdout();
    let text = match (flags.stats, json) {
        (true, json) => stats(&mut listed, json, &screen),
        (false, true) => render::json(&listed.iter().map(|row| &row.lease).collect::<Vec<_>>()),
        (false, false) => render::leases(&listed, epoch(), &screen),
    };
    Ok(Outcome { stdout: text.into_bytes(), ..Outcome::default() })
}

/// A lease and what it uses.
#[derive(Serialize)]
struct WithUsage<'a> {
    #[serde(flatten)]
    lease: &'a Lease,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<&'a Usage>,
}

fn stats(listed: &mut [ListRow], json: bool, screen: &Screen) -> String {
    let asked: Vec<_> = listed.iter_mut().map(|row| row.asked.take()).collect();
    let usages = usage::ask(&asked);
    let rows = listed.iter().map(|row| &row.lease).zip(usages.iter().map(Option::as_ref));
    if json {
        render::json(&rows.map(|(lease, usage)| WithUsage { lease, usage }).collect::<Vec<_>>())
    } else {
        render::usages(&rows.collect::<Vec<_>>(), screen)
    }
}

/// The table, again and again: at a terminal drawn over itself, elsewhere once for each change.
struct Watch {
    options: Options,
    every: Duration,
    json: bool,
    /// Ctrl-C, which ends it.
    interrupt: Option<SignalFd>,
    /// What is said meanwhile stands below the table.
    held: Held,
    looked: Option<Instant>,
    last: Option<(Vec<Lease>, Vec<String>)>,
}

impl Watch {
    fn new(options: Options, every: Duration, json: bool) -> Watch {
        let signals: SigSet = [Signal::SIGINT].into_iter().collect();
        // Where that fails, Ctrl-C ends this process as it ends others.
        let interrupt = signals
            .thread_block()
            .ok()
            .and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok());
        Watch { options, every, json, interrupt, held: hold(), looked: None, last: None }
    }

    /// Waits, unless Ctrl-C ends the wait.
    fn is_interrupted(&self, wait: Duration) -> bool {
        let Some(interrupt) = &self.interrupt else {
            std::thread::sleep(wait);
            return false;
        };
        let mut fds = [PollFd::new(interrupt.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO)), Ok(ready) if ready > 0)
    }

    /// What is to be written of this look.
    fn piece(&mut self, listed: &[ListRow], said: Vec<String>) -> Option<Vec<u8>> {
        let screen = Screen::stdout();
        let leases: Vec<Lease> = listed.iter().map(|row| row.lease.clone()).collect();
        let draws = screen.redraws && !self.json;
        let (before, said_before) = self.last.take().map_or((None, vec![]), |(leases, said)| (Some(leases), said));
        if !draws && said != said_before {
            self.held.say(&said);
        }
        let changed = before.as_ref() != Some(&leases);
        let text = match (self.json, draws) {
            (true, _) => changed.then(|| render::json(&leases)),
            (false, true) => Some(picture(listed, &said, self.every, &screen)),
            (false, false) => changed.then(|| {
                let gap = if before.is_some() { "\n" } else { "" };
                format!("{gap}{}", render::leases(listed, epoch(), &screen))
            }),
        };
        self.last = Some((leases, said));
        text.map(String::into_bytes)
    }
}

impl Iterator for Watch {
    type Item = Result<Vec<u8>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let wait = self.looked.map_or(Duration::ZERO, |at| self.every.saturating_sub(at.elapsed()));
            if self.is_interrupted(wait) {
                return None;
            }
            self.looked = Some(Instant::now());
            // All who watch at this pace are served by one answer a turn.
            let listed = match rows(&self.options, Some(self.every * 9 / 10)) {
                Ok(listed) => listed,
                Err(error) => return Some(Err(failure::of(&error))),
            };
            // It also ended the question that was being asked.
            if self.is_interrupted(Duration::ZERO) {
                return None;
            }
            let said = self.held.take();
            if let Some(piece) = self.piece(&listed, said) {
                return Some(Ok(piece));
            }
        }
    }
}

/// The whole screen: a head, the table as far as it has room, and what was said.
fn picture(listed: &[ListRow], said: &[String], every: Duration, screen: &Screen) -> String {
    let now = epoch();
    let time = utc(now).unwrap_or_default();
    let time = time.split(' ').next_back().unwrap_or_default();
    let head = format!("{time}, every {} s, Ctrl-C ends", every.as_secs());
    let below: String = said.iter().map(|line| screen.wrap("", Paint::Yellow, line)).collect();
    let table = render::leases(listed, now, screen);
    let room = screen.height.saturating_sub(2 + below.lines().count()).max(2);
    let mut lines: Vec<String> = vec![screen.paint(Paint::Dim, &head)];
    let all: Vec<&str> = table.lines().collect();
    let cut = if all.len() > room { room - 1 } else { all.len() };
    lines.extend(all[..cut].iter().map(|line| (*line).to_owned()));
    if cut < all.len() {
        lines.push(screen.paint(Paint::Dim, &format!("… {} more", all.len() - cut)));
    }
    lines.extend(below.lines().map(str::to_owned));
    // From the corner, each line to its end, then all below: nothing flickers.
    let drawn: String = lines.iter().map(|line| format!("{line}\u{1b}[K\n")).collect();
    format!("\u{1b}[H{drawn}\u{1b}[J")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::answer::Size;
    use crate::screen::tests::screen;

    fn row(slug: &str) -> ListRow {
        let lease = Lease {
            lease_id: "cbx_4b38f35d4e31".into(),
            slug: slug.into(),
            name: "n".into(),
            cloud_id: "slurm/job/1".into(),
            status: "RUNNING".into(),
            server_type: String::new(),
            labels: [].into(),
            ssh: None,
        };
        ListRow { lease, state: None, reason: String::new(), expected: None, size: Size::default(), asked: None }
    }

    #[test]
    fn a_picture_fits_the_screen() {
        let rows: Vec<_> = (0..50).map(|number| row(&format!("slug-{number}"))).collect();
        let said = ["could not ask Slurm; leases are shown as they were last known: exit 1".to_owned()];
        let text = picture(&rows, &said, Duration::from_secs(5), &screen(40, false));
        let shown = text.replace("\u{1b}[K", "").replace("\u{1b}[H", "").replace("\u{1b}[J", "");
        assert!(shown.lines().count() < 24 && shown.lines().all(|line| line.chars().count() <= 40), "{shown}");
        assert!(shown.contains("more\n") && shown.contains("could not ask Slurm"), "{shown}");
        assert!(text.starts_with("\u{1b}[H") && text.ends_with("\u{1b}[J"));
        let few = picture(&rows[..2], &[], Duration::from_secs(5), &screen(80, false));
        assert!(few.contains("slug-1") && !few.contains("more\u{1b}"), "{few}");
    }
}
