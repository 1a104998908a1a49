//! Keys, pinned host keys, and the login that proves a lease.
//!
//! Everything is done with the user's own OpenSSH, so that the site's crypto policy and the user's configuration
//! hold for us as for the client. The proof uses the very key and known_hosts that the client gets.

use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::files::Dir;
use crate::host::{Command, End};
use crate::protocol::Ssh;

/// Key types in the order of preference; a FIPS site refuses the first (docs/facts/openssh.md, "Key types").
pub const KEY_TYPES: &[(&str, &str)] = &[("ed25519", "256"), ("ecdsa", "256"), ("rsa", "3072")];

/// A login takes 0.2 s, over a WAN some seconds; ready checks may look at file systems.
const PROBE_DEADLINE: Duration = Duration::from_secs(25);

/// rsa-3072 on a slow machine takes seconds.
const KEYGEN_DEADLINE: Duration = Duration::from_secs(30);

/// Makes a key pair in a lease's directory; the name of its private half.
pub fn make_key(dir: &Dir, comment: &str) -> Result<String> {
    let mut said = String::new();
    for (kind, bits) in KEY_TYPES {
        let name = format!("id_{kind}");
        let output = Command::new("ssh-keygen", KEYGEN_DEADLINE)
            .args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", comment, "-f"])
            .arg(dir.path().join(&name))
            .run();
        match output {
            Ok(output) if output.success() => return Ok(name),
            Ok(output) => said = output.said(),
            Err(error) => said = error.to_string(),
        }
        dir.unlink(&name)?;
        dir.unlink(&format!("{name}.pub"))?;
    }
    let failure = Failure::new(Kind::Storage, "making a key pair with ssh-keygen failed for every type");
    Err(failure.remedy("install OpenSSH's client, and let its policy allow ed25519, ecdsa or rsa").cause(said).into())
}

/// Puts a configured key's place into a lease's directory: the client keeps known_hosts beside the key it is given,
/// and a directory per lease keeps the keys of one job's host from those of another (docs/facts/client.md, "Host keys of the client").
pub fn link_key(dir: &Dir, key: &Path) -> Result<String> {
    const NAME: &str = "id_configured";
    let bad = |what: &str, path: &Path| {
        Failure::new(Kind::BadConfig, format!("config key \"sshPrivateKey\": {what} {}", path.display()))
            .remedy("name a private key that you can read, with its public half beside it")
    };
    let public = PathBuf::from(format!("{}.pub", key.display()));
    let text =
        std::fs::read(&public).map_err(|error| bad("cannot read the public key", &public).cause(error.to_string()))?;
    std::fs::File::open(key).map_err(|error| bad("cannot read", key).cause(error.to_string()))?;
    if crate::ssh::public_key::host_key(String::from_utf8_lossy(&text).trim_end()).is_none() {
        return Err(bad("no public key is in", &public).into());
    }
    dir.symlink(key, NAME)?;
    dir.write(&format!("{NAME}.pub"), &text)?;
    Ok(NAME.to_owned())
}

/// The known_hosts text that pins an endpoint. Clients before 8.5 check the address as well, so it is pinned too
/// where the name resolves here.
pub fn known_hosts(host: &str, port: u16, keys: &[String], direct: bool) -> String {
    let name = |host: &str| {
        if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
    };
    let mut names = vec![name(host)];
    if direct && let Ok(addresses) = (host, port).to_socket_addrs() {
        for address in addresses {
            let text = name(&address.ip().to_string());
            if !names.contains(&text) {
                names.push(text);
            }
        }
    }
    keys.iter().map(|key| format!("{} {key}\n", names.join(","))).collect()
}

/// What a login came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Logged in with the key on the pinned host key, and the ready check was green.
    Ready,
    /// Logged in; the ready check was not green.
    NotReady(String),
    /// No login.
    Unreachable(String),
}

/// The ssh command line for a lease, up to and without the remote command.
pub fn command(ssh: &Ssh, deadline: Duration, strict: &str) -> Command {
    let key = Path::new(&ssh.key);
    let known_hosts = key.with_file_name("known_hosts");
    let mut command = Command::new("ssh", deadline)
        .pass("SSH_AUTH_SOCK")
        .arg("-i")
        .arg(key)
        .args(["-p", ssh.port.as_str()])
        .args([
            "-oBatchMode=yes",
            "-oIdentitiesOnly=yes",
            "-oForwardAgent=no",
            "-oForwardX11=no",
            "-oConnectTimeout=10",
            "-oServerAliveInterval=15",
            "-oServerAliveCountMax=2",
            "-oPreferredAuthentications=publickey",
            "-oGlobalKnownHostsFile=/dev/null",
            "-oUpdateHostKeys=no",
            "-oControlMaster=no",
            "-oControlPath=none",
            "-oPermitLocalCommand=no",
            "-oLogLevel=ERROR",
        ])
        .arg(format!("-oStrictHostKeyChecking={strict}"))
        .arg(format!("-oUserKnownHostsFile={}", known_hosts.display()));
    if let Some(proxy) = &ssh.proxy_command {
        command = command.arg(format!("-oProxyCommand={proxy}"));
    }
    command.arg(format!("{}@{}", ssh.user, ssh.host))
}

/// Logs in and runs the ready check. Without a pinned host key (a runner that publishes none) the first login pins
/// what it meets.
pub fn probe(ssh: &Ssh, pinned: bool) -> Probe {
    let strict = if pinned { "yes" } else { "accept-new" };
    let command = command(ssh, PROBE_DEADLINE, strict).arg(&ssh.ready_check);
    match command.run() {
        Err(error) => Probe::Unreachable(format!("ssh could not be started: {error}")),
        Ok(output) => match output.end {
            End::Exit(0) => Probe::Ready,
            // ssh's own failures; a ready check that exits 255 is told by what it printed.
            End::Exit(255) | End::Signal(_) | End::DeadlinePassed | End::TooMuchOutput | End::ConnectionLost => {
                Probe::Unreachable(output.said())
            }
            End::Exit(_) => Probe::NotReady(output.said()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_private_and_named_by_its_type() {
        let temp = tempfile::tempdir().unwrap();
        let dir = Dir::private_root(&temp.path().join("lease")).unwrap();
        assert_eq!(make_key(&dir, "cbx_4b38f35d4e31").unwrap(), "id_ed25519");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join("id_ed25519")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let linked = link_key(&dir, &dir.path().join("id_ed25519")).unwrap();
        assert!(dir.path().join(linked).exists());
        assert!(link_key(&dir, Path::new("/nonexistent/key")).is_err());
    }

    #[test]
    fn pins_name_port_and_address() {
        let keys = ["ssh-ed25519 AAAA".to_owned()];
        assert_eq!(known_hosts("n1", 4022, &keys, false), "[n1]:4022 ssh-ed25519 AAAA\n");
        assert_eq!(known_hosts("n1", 22, &keys, false), "n1 ssh-ed25519 AAAA\n");
        assert_eq!(known_hosts("127.0.0.1", 4022, &keys, true), "[127.0.0.1]:4022 ssh-ed25519 AAAA\n");
    }
}
