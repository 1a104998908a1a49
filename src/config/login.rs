//! The login host: where Slurm's commands run and the shared dir is seen when the client is not on the cluster.
//!
//! What is written here ends up on an ssh command line, so a value has to be a plain word. Whose keys the login host has
//! and how it is authenticated to is the user's own business: their ssh configuration, agent and known_hosts.

use std::path::PathBuf;

use super::connection::is_host;
use super::value::{Reader, is_word};

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
}

/// Reads `submitHost` and the keys that belong to it.
pub fn read(reader: &mut Reader<'_>) -> Option<LoginHost> {
    let host = reader.text("submitHost", "a host name, address or ssh alias of letters, digits and ._:-", is_host);
    let user = reader.text("submitUser", "a user name of letters, digits and ._@-", |text| is_word(text, "._@-"));
    let ssh_config = reader.path("sshConfig");
    let control_path = reader.control_path("controlPath");
    let require_existing_master = reader.flag("requireExistingMaster").unwrap_or_default();
    let lonely = user.is_some() || ssh_config.is_some() || control_path.is_some() || require_existing_master;
    match host {
        Some(host) => Some(LoginHost { host, user, ssh_config, control_path, require_existing_master }),
        None => {
            if lonely {
                reader.complain_all(
                    "config keys \"submitUser\", \"sshConfig\", \"controlPath\" and \"requireExistingMaster\" belong to \"submitHost\", which is not set",
                );
            }
            None
        }
    }
}
