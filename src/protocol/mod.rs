//! The external-provider protocol, version 1: one JSON request in, one JSON answer out (docs/facts/client.md, "Requests").

mod answer;
mod request;

use serde_json::Value;

pub use answer::{Answer, Check, CheckStatus, Lease, Ssh, render};
pub(crate) use answer::{Refusal, Success};
pub use request::{Desired, Expected, Operation, Request, SentLease, read};

/// The one version that is spoken.
pub const VERSION: u64 = 1;

/// The client kills an adapter whose output is longer (docs/facts/client.md, "Answers"); requests are held to the same bound.
pub const MAX_BYTES: usize = 1_048_576;

/// A value in a message: its JSON, cut to a length that fits a line.
pub fn shown(value: &Value) -> String {
    const SHOWN_CHARS: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
