//! Keys, pinned host keys, and the login that proves a lease.
//!
//! Everything is done with the user's own OpenSSH, so that the site's crypto policy and the user's configuration
//! hold for us as for the client. The proof uses the very key and known_hosts that the client gets.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::files::Dir;
use crate::host::remote::command_line::{SESSION, UNDISTRACTED};
use crate::host::{Command, End};
use crate::lease::Identity;
use crate::protocol::Ssh;
use crate::ssh::effective::{self, Effective, Unknown};

/// Key types in the order of preference; a FIPS site refuses the first (docs/facts/openssh.md, "Key types").
pub const KEY_TYPES: &[(&str, &str)] = &[("ed25519", "256"), ("ecdsa", "256"), ("rsa", "3072")];

/// How long ssh may take until it has exchanged keys (ssh_config(5), ConnectTimeout): 0.1 s, over a WAN some seconds, and on a machine
/// where many log in at once as long as all of them.
const CONNECT_SECONDS: u32 = 10;

/// A login takes 0.2 s, over a WAN some seconds; ready checks may look at file systems.
const PROBE_DEADLINE: Duration = Duration::from_secs(25);

/// rsa-3072 on a slow machine takes seconds.
const KEYGEN_DEADLINE: Duration = Duration::from_secs(30);

/// Makes a key pair in a lease's directory; the name of its private half.
pub fn make_key(dir: &Dir, comment: &str) -> Result<String> {
    let mut said = String::new();
    for (kind, bits) in KEY_TYPES {
        let name = format!("id_{kind}");
        // A call may have been killed here; ssh-keygen does not write over a key.
        dir.unlink(&name)?;
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
    dir.replace_symlink(key, NAME)?;
    dir.write(&format!("{NAME}.pub"), &text)?;
    Ok(NAME.to_owned())
}

/// What `ssh -G` takes; a name service that hangs must not hold the lease's pin.
const EFFECTIVE_DEADLINE: Duration = Duration::from_secs(5);

/// What the client's ssh makes of this host, as far as it says so in time.
pub fn effective(user: Option<&str>, host: &str, port: u16, most: Duration) -> Effective {
    let output = effective::ask(Unknown::Ignored, user, host, port, most.min(EFFECTIVE_DEADLINE));
    output.map(|output| Effective::of(&output)).unwrap_or_default()
}

/// The known_hosts text that pins an endpoint, under every name that the client's ssh may look up: the one it is given, the one that its
/// configuration puts in the place of it, and an alias for host keys. Clients before 8.5 check the address as well, so it is
/// pinned too where the name resolves here.
pub fn known_hosts(host: &str, port: u16, keys: &[String], direct: bool, client: &Effective) -> String {
    let name = |host: &str| {
        if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
    };
    let hosts = [Some(host), client.hostname()];
    let mut names: Vec<String> = hosts.iter().flatten().map(|host| name(host)).chain(client.alias()).collect();
    if direct {
        let addresses = hosts.iter().flatten().filter_map(|host| (*host, port).to_socket_addrs().ok()).flatten();
        names.extend(addresses.map(|address| name(&address.ip().to_string())));
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    keys.iter().map(|key| format!("{} {key}\n", names.join(","))).collect()
}

/// What a login came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Logged in with the key on the pinned host key, and the ready check was green.
    Ready,
    /// Logged in; the ready check was not green.
    NotReady { code: i32, said: String },
    /// Logged in, and the job is not this lease's to have.
    Refused(String),
    /// No login, and what ssh said.
    Unreachable(Obstacle, String),
}

/// What keeps ssh from a login, as far as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// ssh does not even try: its configuration, or what that names.
    Configuration,
    /// It does not take the host key.
    HostKey,
    /// sshd does not take the key.
    Key,
    /// The way there.
    Network,
    /// It was not done in time, be it the way there or a busy machine.
    Time,
}

/// Words of ssh, the first that fit.
const OBSTACLES: &[(&[&str], Obstacle)] = &[
    (
        &[
            "configuration option",
            "Bad owner or permissions",
            "terminating,",
            "Cannot execute command-line and remote command",
            "keyword ",
            "Could not request local forwarding",
            "no argument after keyword",
        ],
        Obstacle::Configuration,
    ),
    (&["timed out"], Obstacle::Time),
    (&["host key", "Host key", "HOST IDENTIFICATION"], Obstacle::HostKey),
    (&["Permission denied", "Too many authentication failures", "No more authentication methods"], Obstacle::Key),
];

fn obstacle(said: &str) -> Obstacle {
    let known = OBSTACLES.iter().find(|(texts, _)| texts.iter().any(|text| said.contains(text)));
    known.map_or(Obstacle::Network, |(_, obstacle)| *obstacle)
}

/// What a user's configuration can take away from a login with the lease's own key and host key, and what it can add to the
/// check of the host key. Types that the user's list leaves out are added to ssh's own (docs/facts/openssh.md, "A user's configuration").
const OWN_KEYS: &[&str] = &[
    "-oPubkeyAuthentication=yes",
    "-oPubkeyAcceptedKeyTypes=+ssh-ed25519",
    "-oHostKeyAlgorithms=+ssh-ed25519",
    "-oIdentitiesOnly=yes",
    "-oAddKeysToAgent=no",
    "-oPreferredAuthentications=publickey",
    "-oGlobalKnownHostsFile=/dev/null",
    "-oKnownHostsCommand=none",
    "-oRevokedHostKeys=none",
    "-oVerifyHostKeyDNS=no",
    "-oUpdateHostKeys=no",
];

/// The ssh command line for a lease, up to and without the remote command.
pub fn command(ssh: &Ssh, deadline: Duration, strict: &str) -> Command {
    patient(ssh, deadline, strict, 1)
}

fn patient(ssh: &Ssh, deadline: Duration, strict: &str, times: u32) -> Command {
    let key = Path::new(&ssh.key);
    let known_hosts = key.with_file_name("known_hosts");
    let mut command = Command::new("ssh", deadline)
        .pass("SSH_AUTH_SOCK")
        .arg("-i")
        .arg(key)
        .args(["-p", ssh.port.as_str()])
        .args(UNDISTRACTED)
        .args(OWN_KEYS)
        .args([
            SESSION,
            "-oBatchMode=yes",
            "-oServerAliveInterval=15",
            "-oServerAliveCountMax=2",
            "-oControlMaster=no",
            "-oControlPath=none",
            "-oLogLevel=ERROR",
        ])
        .arg(format!("-oConnectTimeout={}", CONNECT_SECONDS * times))
        .arg(format!("-oStrictHostKeyChecking={strict}"))
        .arg(format!("-oUserKnownHostsFile={}", known_hosts.display()));
    if let Some(proxy) = &ssh.proxy_command {
        command = command.arg(format!("-oProxyCommand={proxy}"));
    }
    command.arg(format!("{}@{}", ssh.user, ssh.host))
}

/// Logs in and runs the ready check. Without a pinned host key (a runner that publishes none) the first login pins
/// what it meets. All its times are as many times as long as `times` says. The session carries the ready check alone, so
/// that of the user's key `exchanges` the cheap ones may come first.
pub fn probe(ssh: &Ssh, pinned: bool, times: u32, exchanges: Option<&str>) -> Probe {
    let strict = if pinned { "yes" } else { "accept-new" };
    log_in(patient(ssh, PROBE_DEADLINE * times, strict, times), exchanges, &ssh.ready_check)
}

/// What a login that claims a seat exits with when another lease has it, or its job has decided to end, and when the lease's work
/// directory could not be made (docs/runner.md).
const REFUSED: i32 = 113;
const NO_WORK_DIR: i32 = 114;

/// Logs in to a spare that this lease has taken, which makes its job the lease's, and runs the ready check. Again and again is as
/// once.
pub fn claim(ssh: &Ssh, identity: &Identity, times: u32, exchanges: Option<&str>) -> Probe {
    let Identity { lease_id, slug, name } = identity;
    let words = format!("claim {lease_id} {slug} {name}");
    match log_in(patient(ssh, PROBE_DEADLINE * times, "yes", times), exchanges, &words) {
        Probe::NotReady { code: REFUSED | NO_WORK_DIR, said } => Probe::Refused(said),
        other => other,
    }
}

fn log_in(command: Command, exchanges: Option<&str>, words: &str) -> Probe {
    let exchanges = exchanges.map(|names| format!("-oKexAlgorithms={names}"));
    let command = command.args(exchanges).arg("-T").arg(words);
    match command.run() {
        Err(error) => Probe::Unreachable(Obstacle::Configuration, format!("ssh could not be started: {error}")),
        Ok(output) => match output.end {
            End::Exit(0) => Probe::Ready,
            // ssh's own failures; a ready check that exits 255 is told by what it printed.
            End::Exit(255) | End::Signal(_) | End::DeadlinePassed | End::TooMuchOutput | End::ConnectionLost => {
                let said = output.said();
                let late = output.end == End::DeadlinePassed;
                Probe::Unreachable(if late { Obstacle::Time } else { obstacle(&said) }, said)
            }
            End::Exit(code) => Probe::NotReady { code, said: output.said() },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

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

    #[rstest]
    #[case("n1", 4022, "", "[n1]:4022")]
    #[case("n1", 22, "", "n1")]
    #[case("n1", 4022, "hostname n1\n", "[n1]:4022")]
    #[case("n1", 4022, "hostname n1.cluster\n", "[n1]:4022,[n1.cluster]:4022")]
    #[case("n1", 4022, "hostname n1\nhostkeyalias Nodes\n", "[n1]:4022,nodes")]
    #[case("n1", 4022, "hostname n1,*\nhostkeyalias *\n", "[n1]:4022")]
    fn pins_every_name_that_ssh_looks_up(
        #[case] host: &str,
        #[case] port: u16,
        #[case] facts: &str,
        #[case] names: &str,
    ) {
        let keys = ["ssh-ed25519 AAAA".to_owned()];
        let text = known_hosts(host, port, &keys, false, &Effective::parse(facts));
        assert_eq!(text, format!("{names} ssh-ed25519 AAAA\n"));
    }

    #[test]
    fn pins_the_address_of_a_host_that_is_reached_directly() {
        let keys = ["ssh-ed25519 AAAA".to_owned()];
        let pinned = |facts: &str| known_hosts("127.0.0.1", 4022, &keys, true, &Effective::parse(facts));
        assert_eq!(pinned(""), "[127.0.0.1]:4022 ssh-ed25519 AAAA\n");
        assert_eq!(pinned("hostname 127.0.0.2\n"), "[127.0.0.1]:4022,[127.0.0.2]:4022 ssh-ed25519 AAAA\n");
    }

    #[rstest]
    #[case("/h/.ssh/config: line 1: Bad configuration option: usekeychain", Obstacle::Configuration)]
    #[case("/h/.ssh/config: terminating, 1 bad configuration options", Obstacle::Configuration)]
    #[case("Bad owner or permissions on /h/.ssh/config", Obstacle::Configuration)]
    #[case("Cannot execute command-line and remote command.", Obstacle::Configuration)]
    #[case("No ED25519 host key is known for [n1]:4022 and you have requested strict checking.", Obstacle::HostKey)]
    #[case("Unable to negotiate with 192.0.2.1 port 4022: no matching host key type found.", Obstacle::HostKey)]
    #[case("alice@n1: Permission denied (publickey).", Obstacle::Key)]
    #[case("ssh: connect to host n1 port 4022: Connection refused", Obstacle::Network)]
    #[case("ssh: connect to host n1 port 4022: Connection timed out", Obstacle::Time)]
    #[case("Connection timed out during banner exchange", Obstacle::Time)]
    #[case("exit 255", Obstacle::Network)]
    fn words_of_ssh(#[case] said: &str, #[case] expected: Obstacle) {
        assert_eq!(obstacle(said), expected);
    }
}
