//! The ssh command line of a login host: the options that hold whatever it is used for.

use std::time::Duration;

use crate::config::login_host::LoginHost;
use crate::host::command::Command;

/// What keeps an ssh of ours to its work whatever the user's configuration says: it runs the command that it is given, in the
/// foreground, on its standard streams, and forwards nothing else. Of these an older ssh knows some only, so the first line lets it
/// pass over what it does not know, in the user's file too. With `-N` OpenSSH refuses a `SessionType`, which is therefore apart.
pub const UNDISTRACTED: &[&str] = &[
    "-oIgnoreUnknown=*",
    "-oRemoteCommand=none",
    "-oForkAfterAuthentication=no",
    "-oStdinNull=no",
    "-oClearAllForwardings=yes",
    "-oTunnel=no",
    "-oPermitLocalCommand=no",
    "-oForwardAgent=no",
    "-oForwardX11=no",
];

/// A command and not a mere connection (OpenSSH 8.7 and later ask).
pub const SESSION: &str = "-oSessionType=default";

/// ssh with what holds for every use of the login host: the user's configuration, and never a question.
pub fn ssh(target: &LoginHost, deadline: Duration) -> Command {
    let command = Command::new("ssh", deadline).pass("SSH_AUTH_SOCK");
    let command = match &target.ssh_config {
        Some(path) => command.arg("-F").arg(path),
        None => command,
    };
    command.args(UNDISTRACTED).args([
        "-oBatchMode=yes",
        "-oConnectTimeout=10",
        "-oStrictHostKeyChecking=yes",
        "-oRequestTTY=no",
    ])
}
