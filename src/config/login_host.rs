//! The login host: where Slurm's commands run and the shared dir is seen when the client is not on the cluster.
//!
//! What is written here ends up on an ssh command line, so a value has to be a plain word. Whose keys the login host has
//! and how it is authenticated to is the user's own business: their ssh configuration, agent and known_hosts.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::value::is_host;
use super::value::{Reader, USER_NAME, is_user_name};
use crate::protocol::shown;

/// How the login host is reached. A lease remembers it, since requests come with today's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoginHost {
    /// A host name, address or alias of the user's ssh configuration.
    pub host: String,
    /// `None`: as the user's ssh configuration says.
    pub user: Option<String>,
    /// Used in place of the user's own ssh configuration file.
    pub ssh_config: Option<PathBuf>,
    /// Where the one connection's control socket lies; `None`: a place of ours.
    pub control_path: Option<PathBuf>,
    /// Never open a connection, only use one that the user has opened: for sites with one-time passwords.
    pub require_existing_master: bool,
}

impl LoginHost {
    /// `user@host`, or the host alone.
    pub fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }

    /// Whether no connection beside the named one may be opened.
    pub fn has_one_connection(&self) -> bool {
        self.require_existing_master || self.control_path.is_some()
    }
}

/// Reads `submitHost` and the keys that belong to it.
pub fn read(reader: &mut Reader<'_>) -> Option<LoginHost> {
    let named = reader.raw("submitHost").is_some();
    let allowed = "a host name, address or ssh alias of letters, digits and ._:-";
    let host = hosts(reader, "submitHost", "submitUser", allowed, is_ssh_host);
    let user = reader.text("submitUser", USER_NAME, is_user_name);
    let ssh_config = reader.path("sshConfig");
    let control_path = reader.control_path("controlPath");
    let require_existing_master = reader.flag("requireExistingMaster").unwrap_or_default();
    let lonely = user.is_some() || ssh_config.is_some() || control_path.is_some() || require_existing_master;
    match host {
        Some(host) => Some(LoginHost { host, user, ssh_config, control_path, require_existing_master }),
        None => {
            if lonely && !named {
                reader.complain_of(
                    &["submitUser", "sshConfig", "controlPath", "requireExistingMaster"],
                    "config keys \"submitUser\", \"sshConfig\", \"controlPath\" and \"requireExistingMaster\" belong to \"submitHost\", which is not set",
                );
            }
            None
        }
    }
}

/// Whether `text` is a host alone: a colon stands in an IPv6 address only.
pub fn is_ssh_host(text: &str) -> bool {
    is_host(text) && (!text.contains(':') || text.parse::<Ipv6Addr>().is_ok())
}

/// Reads a key that names hosts for ssh, apart by commas. ssh takes a user and a port with them in some places and not in
/// others, so they have keys and files of their own.
pub fn hosts(
    reader: &mut Reader<'_>,
    key: &'static str,
    user_key: &str,
    allowed: &str,
    check: impl Fn(&str) -> bool,
) -> Option<String> {
    let value = reader.raw(key)?;
    let advice = value.as_str().and_then(|text| text.split(',').find_map(|host| advice(host, user_key)));
    match advice {
        None => reader.text(key, allowed, check),
        Some(advice) => {
            reader.complain_of(&[key], format!("config key {key:?} is {}; {advice}", shown(value)));
            None
        }
    }
}

/// What to write for a host with a scheme, a user or a port; `None` where there is none of these, or no host that one sees.
fn advice(text: &str, user_key: &str) -> Option<String> {
    let rest = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':')),
        None if is_ssh_host(rest) => (rest, None),
        None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let sound =
        is_ssh_host(host) && user.is_none_or(is_user_name) && port.is_none_or(|port| port.parse::<u16>().is_ok());
    if !sound || host == text {
        return None;
    }
    let mut advice = vec![format!("write {host:?} for {text:?}")];
    advice.extend(user.map(|user| format!("set {user_key} to {user:?}")));
    advice.extend(
        port.map(|port| format!("put the port into your ssh configuration (\"Host {host}\", \"Port {port}\")")),
    );
    Some(advice.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case(json!({"submitHost": "login:2222"}), Some(r#"config key "submitHost" is "login:2222"; write "login" for "login:2222", put the port into your ssh configuration ("Host login", "Port 2222")"#))]
    #[case(json!({"submitHost": "alice@login", "submitUser": "alice"}), Some(r#"config key "submitHost" is "alice@login"; write "login" for "alice@login", set submitUser to "alice""#))]
    #[case(json!({"submitHost": "ssh://alice@login:2222/"}), Some(r#"config key "submitHost" is "ssh://alice@login:2222/"; write "login" for "ssh://alice@login:2222/", set submitUser to "alice", put the port into your ssh configuration ("Host login", "Port 2222")"#))]
    #[case(json!({"submitHost": "ssh://login"}), Some(r#"config key "submitHost" is "ssh://login"; write "login" for "ssh://login""#))]
    #[case(json!({"submitHost": "[2001:db8::1]:22"}), Some(r#"config key "submitHost" is "[2001:db8::1]:22"; write "2001:db8::1" for "[2001:db8::1]:22", put the port into your ssh configuration ("Host 2001:db8::1", "Port 22")"#))]
    #[case(json!({"submitHost": "login:ssh"}), Some(r#"config key "submitHost" is "login:ssh"; allowed is a host name, address or ssh alias of letters, digits and ._:-"#))]
    #[case(json!({"submitHost": "a:b:c"}), Some(r#"config key "submitHost" is "a:b:c"; allowed is a host name, address or ssh alias of letters, digits and ._:-"#))]
    #[case(json!({"submitHost": "2001:db8::1"}), None)]
    #[case(json!({"submitHost": "192.0.2.1"}), None)]
    #[case(json!({"submitHost": "my_cluster-1.example"}), None)]
    fn a_host_is_named_alone(#[case] value: Value, #[case] expected: Option<&str>) {
        let mut reader = Reader::new(value.as_object().unwrap());
        let host = read(&mut reader);
        let complaints = reader.finish();
        assert_eq!(complaints, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(host.is_some(), expected.is_none());
    }
}
