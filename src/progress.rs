//! What is said while a call works. It goes to stderr, which the client passes on byte for byte (docs/facts/client.md, "Progress on stderr"); answers go to
//! stdout, by main.rs alone.
//!
//! Before a person at a terminal one line lives ([`live`]): it is drawn over and over, and goes when the call is through. What is
//! said meanwhile stands above it. Everywhere else each change is a line of its own.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::screen::{Screen, span};

/// Between two pictures of the living line: its seconds are seen to pass, and a slow connection is not filled with them.
const FRAME: Duration = Duration::from_millis(250);

/// What the next line ends with.
static HINT: Mutex<Option<String>> = Mutex::new(None);

/// The line that lives, if one does.
static LINE: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Lines that are kept for the one who asked, in place of being written.
static HELD: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the next line that is said end with a hint. Where nothing is said, because nothing takes long, nobody needs it.
pub fn hint(text: String) {
    *lock(&HINT) = Some(text);
}

/// Says something to the person or log behind stderr.
pub fn progress(text: &str) {
    let hint = lock(&HINT).take();
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    notice(&format!("{text}{hint}"));
}

/// Tells how the wait stands: `line` where each change is a line, `short` on the living line. `stays`: it holds more than the
/// living line shows, and so stands above it as well.
pub fn standing(line: &str, short: &str, stays: bool) {
    update(short);
    let lives = lock(&LINE).is_some();
    if !lives || stays || lock(&HINT).is_some() {
        progress(line);
    }
}

/// What the living line shows from now on, beside the time; nobody is told where none lives.
pub fn update(short: &str) {
    if let Some(line) = lock(&LINE).as_ref() {
        let short = crate::failure::one_line(short);
        if line.message() != short {
            line.set_message(short);
        }
    }
}

/// The same of what is no progress: the hint waits for the next line.
pub fn notice(text: &str) {
    let text = crate::failure::one_line(text);
    match lock(&HELD).as_mut() {
        Some(held) => held.push(text),
        None => emit(&text),
    }
}

fn emit(text: &str) {
    let text = format!("slurm-sandbox: {text}");
    // A closed stderr must not end us.
    let write = || {
        let _ = writeln!(std::io::stderr(), "{text}");
    };
    match lock(&LINE).as_ref() {
        Some(line) => line.suspend(write),
        None => write(),
    }
}

/// A line that lives as long as this value. It has to be dropped before another program takes our place or writes to the terminal.
#[derive(Debug)]
#[must_use]
pub struct LivingLine(Option<(Sender<()>, JoinHandle<()>)>);

/// Begins the living line where a person sits before stderr; elsewhere each change stays a line. A trace (docs/troubleshooting.md)
/// would be torn by it.
pub fn live(first: &str) -> LivingLine {
    if !Screen::stderr().redraws || tracing::enabled!(tracing::Level::DEBUG) {
        return LivingLine(None);
    }
    let elapsed = |state: &ProgressState, to: &mut dyn std::fmt::Write| {
        let seconds = i64::try_from(state.elapsed().as_secs()).unwrap_or(i64::MAX);
        let _ = match seconds {
            60..3600 => write!(to, "{}m{:02}s", seconds / 60, seconds % 60),
            _ => write!(to, "{}", span(seconds)),
        };
    };
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {since} {wide_msg}");
    line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()).with_key("since", elapsed));
    line.set_message(first.to_owned());
    let (over, ended) = mpsc::channel();
    let drawn = line.clone();
    let draw = move || {
        while matches!(ended.recv_timeout(FRAME), Err(RecvTimeoutError::Timeout)) {
            drawn.tick();
        }
    };
    // Without a thread of its own nothing would be drawn between two looks.
    let Ok(thread) = std::thread::Builder::new().spawn(draw) else { return LivingLine(None) };
    line.tick();
    *lock(&LINE) = Some(line);
    LivingLine(Some((over, thread)))
}

impl Drop for LivingLine {
    fn drop(&mut self) {
        let Some((over, thread)) = self.0.take() else { return };
        drop(over);
        let _ = thread.join();
        if let Some(line) = lock(&LINE).take() {
            line.finish_and_clear();
        }
    }
}

/// While it lives, what is said is kept for [`Held::take`] in place of being written.
#[derive(Debug)]
#[must_use]
pub struct Held(());

/// Begins to keep what is said.
pub fn hold() -> Held {
    *lock(&HELD) = Some(vec![]);
    Held(())
}

impl Held {
    /// What was said since the last time.
    pub fn take(&self) -> Vec<String> {
        lock(&HELD).as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Says what was kept.
    pub fn say(&self, lines: &[String]) {
        lines.iter().for_each(|line| emit(line));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *lock(&HELD) = None;
    }
}
