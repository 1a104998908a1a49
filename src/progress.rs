//! What is said while a call works. It goes to stderr, which the client passes on byte for byte (protocol.md 3.5); answers go to
//! stdout, by main.rs alone.

use std::io::Write;

/// Says something to the person or log behind stderr; the client passes it on byte for byte (protocol.md 3.5).
pub fn progress(text: &str) {
    // A closed stderr must not end us.
    let _ = writeln!(std::io::stderr(), "slurm-sandbox: {}", crate::failure::one_line(text));
}
