//! A plain connection to the login host's port, to see how far one gets where ssh itself says nothing.
//!
//! It goes on beside the login and notes each step, so that whoever waits reads the last one. It sends nothing.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::config::login_host::LoginHost;
use crate::doctor::finding::cut;
use crate::host::remote::command_line::ssh;
use crate::ssh::banner;
use crate::ssh::effective::Effective;

/// How far one got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    Nothing,
    /// ssh goes through another host or program; there is no port to look at.
    Proxied,
    Resolving(String),
    Connecting(String),
    Failed(String),
    /// A connection that nobody has said anything on.
    Silent(String),
    /// What the sshd calls itself.
    Sshd(String),
}

/// A host across the world answers within a second.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// Starts looking; what is seen is kept up to date by a thread that ends with the process.
pub fn start(target: &LoginHost, seen: &Arc<Mutex<Reached>>) {
    let (target, seen) = (target.clone(), Arc::clone(seen));
    let look = move || {
        let note = |step: Reached| *seen.lock().unwrap_or_else(PoisonError::into_inner) = step;
        let resolved = ssh(&target, Duration::from_secs(2)).args(["-G", "--", &target.destination()]).run();
        let Some((host, port)) = resolved.ok().and_then(|output| address(&Effective::of(&output))) else {
            return note(Reached::Proxied);
        };
        note(Reached::Resolving(host.clone()));
        let addresses = match (host.as_str(), port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => return note(Reached::Failed(format!("{host}: {error}"))),
        };
        for address in addresses {
            note(Reached::Connecting(address.to_string()));
            match TcpStream::connect_timeout(&address, CONNECT_DEADLINE) {
                Ok(stream) => {
                    note(Reached::Silent(address.to_string()));
                    if let Some(banner) = banner::read(&stream, CONNECT_DEADLINE) {
                        note(Reached::Sshd(cut(&banner, 60)));
                    }
                    return;
                }
                // Silence is what Connecting says already.
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {}
                Err(error) => note(Reached::Failed(format!("{address}: {error}"))),
            }
        }
    };
    // Without a thread nothing is seen, which is told as such.
    let _ = std::thread::Builder::new().name("probe".to_owned()).spawn(look);
}

/// Where ssh would connect; `None` when it goes through a proxy.
fn address(effective: &Effective) -> Option<(String, u16)> {
    if effective.is_proxied() {
        return None;
    }
    Some((effective.hostname()?.to_owned(), effective.get("port")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("user alice\nhostname 192.0.2.2\nport 2222\n", Some(("192.0.2.2", 2222)))]
    #[case("hostname login\nport 22\nproxyjump gw\n", None)]
    #[case("hostname login\nport 22\nproxycommand none\n", Some(("login", 22)))]
    #[case("", None)]
    fn addresses(#[case] text: &str, #[case] expected: Option<(&str, u16)>) {
        assert_eq!(address(&Effective::parse(text)), expected.map(|(host, port)| (host.to_owned(), port)));
    }
}
