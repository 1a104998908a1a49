//! What ssh makes of the user's configuration for one host, as `ssh -G` tells it.

use std::io;
use std::time::Duration;

use crate::config::value::{is_host, is_word};
use crate::host::{Command, End, Output};

/// `keyword value` lines; keywords are in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective(Vec<(String, String)>);

/// What becomes of an option that this ssh does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    Refused,
    Ignored,
}

/// Asks ssh. With `ForkAfterAuthentication` it answers only for a command, and with `RemoteCommand` only without one.
///
/// # Errors
/// Where ssh could not be started.
pub fn ask(unknown: Unknown, user: Option<&str>, host: &str, port: u16, deadline: Duration) -> io::Result<Output> {
    let question = command(unknown, user, host, port, deadline);
    let plain = question.run()?;
    if plain.success() || plain.end == End::DeadlinePassed {
        return Ok(plain);
    }
    let with_command = question.arg("true").run()?;
    Ok(if with_command.success() { with_command } else { plain })
}

/// ssh's own command line for the question.
fn command(unknown: Unknown, user: Option<&str>, host: &str, port: u16, deadline: Duration) -> Command {
    let destination = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
    Command::new("ssh", deadline).args((unknown == Unknown::Ignored).then_some("-oIgnoreUnknown=*")).args([
        "-G",
        "-p",
        &port.to_string(),
        "--",
        &destination,
    ])
}

/// Key exchanges that cost milliseconds. `sntrup761x25519-sha512`, which comes first from OpenSSH 9.0 to 9.9, costs ssh 65 ms of CPU
/// (docs/facts/openssh.md, "What a login costs").
const CHEAP_EXCHANGES: &[&str] = &["mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org"];

impl Effective {
    /// Of an answer; an ssh that refuses its configuration tells nothing.
    pub fn of(output: &Output) -> Effective {
        if output.success() { Effective::parse(&output.stdout_text()) } else { Effective::default() }
    }

    pub fn parse(text: &str) -> Effective {
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(' '));
        Effective(pairs.map(|(key, value)| (key.to_ascii_lowercase(), value.to_owned())).collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The host that is connected to, after `HostName` and `CanonicalizeHostname`.
    pub fn hostname(&self) -> Option<&str> {
        self.get("hostname").filter(|name| is_host(name))
    }

    /// Whether the connection goes through another program or host.
    pub fn is_proxied(&self) -> bool {
        ["proxycommand", "proxyjump"].iter().any(|key| self.get(key).is_some_and(|value| value != "none"))
    }

    /// The name under which ssh looks up host keys instead of the host's; it stands without a port. What known_hosts gives a
    /// meaning (patterns, lists) is no such name.
    pub fn alias(&self) -> Option<String> {
        self.get("hostkeyalias").filter(|name| is_word(name, "._:-@+")).map(str::to_ascii_lowercase)
    }

    /// The very key exchanges that the configuration allows, cheap ones first; `None` where they are already or none is cheap.
    pub fn cheap_exchanges(&self) -> Option<String> {
        let is_cheap = |name: &&str| CHEAP_EXCHANGES.contains(name);
        let allowed: Vec<&str> = self.get("kexalgorithms")?.split(',').collect();
        let (mut cheap, costly): (Vec<_>, Vec<_>) = allowed.iter().copied().partition(is_cheap);
        if cheap.is_empty() || allowed.first().is_some_and(is_cheap) {
            return None;
        }
        cheap.extend(costly);
        Some(cheap.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("hostname n1.cluster\nport 4022\n", Some("n1.cluster"), None, false)]
    #[case("hostname n1\nhostkeyalias Nodes\nproxyjump gw\n", Some("n1"), Some("nodes"), true)]
    #[case("hostname n1\nproxycommand none\nhostkeyalias *,!x\n", Some("n1"), None, false)]
    #[case("hostname n*\nproxycommand nc %h %p\n", None, None, true)]
    #[case("", None, None, false)]
    fn answers(#[case] text: &str, #[case] hostname: Option<&str>, #[case] alias: Option<&str>, #[case] proxied: bool) {
        let effective = Effective::parse(text);
        assert_eq!(effective.hostname(), hostname);
        assert_eq!(effective.alias().as_deref(), alias);
        assert_eq!(effective.is_proxied(), proxied);
    }

    #[rstest]
    #[case(
        "sntrup761x25519-sha512,curve25519-sha256,ecdh-sha2-nistp256",
        Some("curve25519-sha256,sntrup761x25519-sha512,ecdh-sha2-nistp256")
    )]
    #[case("curve25519-sha256,ecdh-sha2-nistp256", None)]
    #[case("mlkem768x25519-sha256,sntrup761x25519-sha512,curve25519-sha256", None)]
    #[case("ecdh-sha2-nistp256,diffie-hellman-group16-sha512", None)]
    #[case("sntrup761x25519-sha512", None)]
    fn only_the_order_of_key_exchanges_changes(#[case] allowed: &str, #[case] expected: Option<&str>) {
        let effective = Effective::parse(&format!("kexalgorithms {allowed}\n"));
        assert_eq!(effective.cheap_exchanges().as_deref(), expected);
        assert_eq!(Effective::default().cheap_exchanges(), None);
    }
}
