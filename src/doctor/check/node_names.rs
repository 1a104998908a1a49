//! What the name of a node means: here, for a client that is sent to it, and where Slurm's commands run, for what the runner will
//! say of itself. One node that Slurm shows stands for all, so nothing here is red but what no node can do.

use std::net::{IpAddr, ToSocketAddrs};

use crate::config::proxy::Connection;
use crate::config::{EndpointHost, Settings};
use crate::doctor::check::CheckId;
use crate::doctor::finding::{Category, Finding};
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::host::Command;
use crate::shared_dir::endpoint_file::matches;
use crate::ssh::lease::effective;

/// What the name service of a host says of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    addresses: Vec<IpAddr>,
    /// The whole name.
    canonical: Option<String>,
}

impl Known {
    /// Of `getent ahosts`: an address, a kind of socket, and in one line the whole name.
    fn parse(text: &str) -> Known {
        let mut known = Known::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            known.addresses.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()));
            known.canonical = known.canonical.or_else(|| words.nth(1).map(str::to_owned));
        }
        known
    }
}

/// Looks at what a lease on this node would be reached by. `ours`: the runner is the built-in one or keeps its contract.
pub fn check(place: &Place, clock: Clock, settings: &Settings, node: &str, ours: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (EndpointHost::Template(template), Connection::Direct) = (&settings.endpoint_host, &settings.connection) {
        let host = template.replace("{node}", node);
        let client = effective(settings.ssh_user.as_deref(), &host, 22, clock.left());
        let name = client.hostname().unwrap_or(&host);
        if !client.is_proxied()
            && let Err(error) = (name, 22).to_socket_addrs()
        {
            findings.push(unresolved(template, node, name, &error.to_string()));
        }
    }
    let bind = settings.bind_address.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
    let pattern = match &settings.endpoint_host {
        EndpointHost::Runner { pattern } if ours && pattern.chars().any(|c| c != '*') => Some(pattern.as_str()),
        _ => None,
    };
    let bind = bind.filter(|address| !address.is_loopback() || pattern.is_some());
    if bind.is_none() && pattern.is_none() {
        return findings;
    }
    let getent = || Command::new("getent", clock.left()).args(["ahosts", node]);
    // A host without getent tells nothing.
    let known = match place.with(clock, |host| host.run(&getent())) {
        Ok(Ok(output)) => Known::parse(&output.stdout_text()),
        _ => return findings,
    };
    findings.extend(bind.and_then(|address| judge_bind_address(address, node, &known, place.name())));
    findings.extend(pattern.and_then(|pattern| judge_pattern(pattern, &settings.bind_address, node, &known)));
    findings
}

fn unresolved(template: &str, node: &str, name: &str, said: &str) -> Finding {
    let seen = format!("endpointHost is {template}, but this host cannot resolve {name} (of node {node}): {said}");
    let remedy = "set endpointHost to a template of names that this host resolves, or sshMode to proxy-through-login";
    Finding::warning(CheckId::Endpoint, seen, remedy)
}

fn judge_bind_address(address: IpAddr, node: &str, known: &Known, host: &str) -> Option<Finding> {
    if address.is_loopback() || known.addresses.contains(&address) {
        return None;
    }
    let list = known.addresses.iter().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
    let list = list.into_iter().collect::<Vec<_>>().join(", ");
    let has = if list.is_empty() { "has no address".to_owned() } else { format!("is {list}") };
    let seen = format!(
        "bindAddress is {address}, and node {node} {has} for the name service of {host}: on a node without that address sshd does not start"
    );
    Some(Finding::warning(
        CheckId::Endpoint,
        seen,
        "remove bindAddress: sshd then listens at the address of its node's name",
    ))
}

/// Whether the name that the runner publishes can fit: bindAddress, else the node's whole name, else its name in Slurm.
fn judge_pattern(pattern: &str, bind_address: &str, node: &str, known: &Known) -> Option<Finding> {
    const REMEDY: &str =
        "correct the pattern of endpointHost, or set endpointHost to a template such as {node}.cluster.example";
    let published = !matches!(bind_address, "" | "0.0.0.0" | "::");
    let names: Vec<&str> = match (&known.canonical, published) {
        (_, true) => vec![bind_address],
        (Some(name), false) if name != node => vec![name, node],
        (_, false) => vec![node],
    };
    if names.iter().any(|name| matches(pattern, name)) {
        return None;
    }
    let names = names.join(" or ");
    let seen = format!(
        "endpointHost is runner:{pattern}, and the runner on node {node} will call itself {names}, as far as is known here"
    );
    Some(if published {
        Finding::red(CheckId::Endpoint, Category::Config, seen, REMEDY)
    } else {
        Finding::warning(CheckId::Endpoint, seen, REMEDY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::CheckStatus::{self, Red, Warning};
    use rstest::rstest;

    fn known(addresses: &[&str], canonical: Option<&str>) -> Known {
        Known {
            addresses: addresses.iter().filter_map(|text| text.parse().ok()).collect(),
            canonical: canonical.map(str::to_owned),
        }
    }

    #[test]
    fn what_getent_says() {
        let text = "192.0.2.11      STREAM n1.cluster.example\n192.0.2.11      DGRAM  \n192.0.2.11      RAW    \n";
        assert_eq!(Known::parse(text), known(&["192.0.2.11"; 3], Some("n1.cluster.example")));
        assert_eq!(Known::parse(""), Known::default());
    }

    #[rstest]
    #[case("192.0.2.11", &["192.0.2.11"], false)]
    #[case("127.0.0.1", &["192.0.2.11"], false)]
    #[case("192.0.2.77", &["192.0.2.11"], true)]
    #[case("192.0.2.77", &[], true)]
    fn bind_addresses(#[case] address: &str, #[case] known_to: &[&str], #[case] warned: bool) {
        let finding = judge_bind_address(address.parse().unwrap(), "n1", &known(known_to, None), "this host");
        assert_eq!(finding.is_some(), warned, "{finding:?}");
        assert!(finding.is_none_or(|finding| finding.is(Warning) && finding.seen.starts_with("bindAddress is ")));
    }

    #[rstest]
    #[case("*.cluster.example", "", Some("n1.cluster.example"), None)]
    #[case("n*", "", None, None)]
    #[case("*.example.org", "", Some("n1.cluster.example"), Some(Warning))]
    #[case("*.example.org", "", None, Some(Warning))]
    #[case("192.0.2.*", "192.0.2.11", Some("n1.cluster.example"), None)]
    #[case("*.cluster.example", "192.0.2.11", Some("n1.cluster.example"), Some(Red))]
    #[case("*.cluster.example", "0.0.0.0", Some("n1.cluster.example"), None)]
    fn patterns(
        #[case] pattern: &str,
        #[case] bind_address: &str,
        #[case] canonical: Option<&str>,
        #[case] expected: Option<CheckStatus>,
    ) {
        let finding = judge_pattern(pattern, bind_address, "n1", &known(&["192.0.2.11"], canonical));
        assert_eq!(finding.map(|finding| finding.status), expected);
    }
}
