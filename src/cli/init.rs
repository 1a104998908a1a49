//! `init` on the command line: its flags, and what is said of what came of it.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::render;
use crate::init::{Proposed, Wishes};
use crate::protocol::{Check, CheckStatus};

#[derive(Debug, Args)]
pub struct Init {
    /// Login host of the cluster, as in `ssh LOGIN`; without it Slurm's commands run on this machine
    #[arg(long, value_name = "LOGIN")]
    pub submit_host: Option<String>,

    /// Take what is proposed; ask nothing
    #[arg(long)]
    pub yes: bool,

    /// Only show the file that would be written
    #[arg(long)]
    pub print: bool,
}

impl Init {
    pub fn wishes(&self) -> Wishes {
        Wishes { submit_host: self.submit_host.clone(), yes: self.yes, print: self.print }
    }
}

/// What programs get.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written<'a> {
    file: &'a Path,
    written: bool,
    text: &'a str,
    checks: &'a [Check],
}

pub fn written<'a>(proposed: &'a Proposed, checks: &'a [Check]) -> Written<'a> {
    Written { file: &proposed.path, written: proposed.written, text: &proposed.text, checks }
}

/// What people get: the file where it is only shown, else where it lies, what doctor says, and what to do next.
pub fn text(proposed: &Proposed, checks: &[Check]) -> String {
    if !proposed.written {
        return proposed.text.clone();
    }
    let next = match checks.iter().any(|check| check.status == CheckStatus::Red) {
        true => "mend what the red lines name, in that file where it is a setting; then `slurm-sandbox doctor`",
        false => "`slurm-sandbox acquire` makes a lease; `slurm-sandbox config show` tells the settings",
    };
    format!("{} is written\n\n{}\nnext: {next}\n", proposed.path.display(), render::check_lines(checks))
}
