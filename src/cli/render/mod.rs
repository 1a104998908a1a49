//! Answers as text that fits a terminal, and as bare JSON; a file a verb. Foreign text is cleaned before it comes into a cell, since
//! what has colours cannot be cleaned afterwards.

mod doctor;
mod list;
mod logs;

use serde::Serialize;

use crate::protocol::{Answer, Lease};

pub use doctor::{check_lines, checks};
pub use list::{leases, usages};
pub use logs::{addition, logs};

/// Bare JSON on one line.
pub fn json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// A lease that can be used, and how.
pub fn acquired(answer: &Answer) -> String {
    let Some(lease) = &answer.lease else {
        return String::new();
    };
    let mut text = format!("lease {} ({}) is {}: {}\n", lease.lease_id, lease.slug, state(lease), lease.cloud_id);
    if let Some(ssh) = &lease.ssh {
        text.push_str(&format!("  sshd   {}@{} port {}\n", ssh.user, ssh.host, ssh.port));
        text.push_str(&format!("  run    slurm-sandbox ssh {} -- COMMAND\n", lease.lease_id));
    }
    text.push_str(&format!("  end    slurm-sandbox release {}\n", lease.lease_id));
    text
}

fn state(lease: &Lease) -> &str {
    lease.labels.get("state").map_or(lease.status.as_str(), String::as_str)
}
