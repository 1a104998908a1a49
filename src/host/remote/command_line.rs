//! The ssh command line of a login host: the options that hold whatever it is used for.

use std::time::Duration;

use crate::config::login_host::LoginHost;
use crate::host::command::Command;

/// ssh with what holds for every use of the login host: the user's configuration, and never a question.
pub fn ssh(target: &LoginHost, deadline: Duration) -> Command {
    let command = Command::new("ssh", deadline).pass("SSH_AUTH_SOCK");
    let command = match &target.ssh_config {
        Some(path) => command.arg("-F").arg(path),
        None => command,
    };
    command.args([
        "-oBatchMode=yes",
        "-oConnectTimeout=10",
        "-oStrictHostKeyChecking=yes",
        "-oForwardAgent=no",
        "-oForwardX11=no",
        "-oPermitLocalCommand=no",
        "-oRemoteCommand=none",
        "-oRequestTTY=no",
    ])
}
