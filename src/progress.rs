//! What is said while a call works. It goes to stderr, which the client passes on byte for byte (docs/facts/client.md, "Progress on stderr"); answers go to
//! stdout, by main.rs alone.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// What the next line ends with.
static HINT: Mutex<Option<String>> = Mutex::new(None);

/// Has the next line that is said end with a hint. Where nothing is said, because nothing takes long, nobody needs it.
pub fn hint(text: String) {
    *HINT.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
}

/// Says something to the person or log behind stderr.
pub fn progress(text: &str) {
    let hint = HINT.lock().unwrap_or_else(PoisonError::into_inner).take();
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    notice(&format!("{text}{hint}"));
}

/// The same of what is no progress: the hint waits for the next line.
pub fn notice(text: &str) {
    // A closed stderr must not end us.
    let _ = writeln!(std::io::stderr(), "slurm-sandbox: {}", crate::failure::one_line(text));
}
