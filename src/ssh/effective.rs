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
}
