//! The table of checks: their names, what each rests on, and what is said of one that does not come to an end.

use crate::doctor::check::id::CheckId;

/// What to say of a check that hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// A hang here is a hang of every lease. With what to do.
    Red(&'static str),
    Warning(&'static str),
}

/// Another check on whose answer one rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub check: CheckId,
    /// What is said of the check that rests on it when that one is red.
    pub seen: &'static str,
}

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub id: CheckId,
    /// What people know it by.
    pub name: &'static str,
    /// What it rests on; the first that is red counts.
    pub needs: &'static [Need],
    /// `None` for what another check finds on its way, or a lease of `--live`.
    pub silence: Option<Silence>,
}

const CONFIG: Need = Need { check: CheckId::Config, seen: "not tried: the configuration has a mistake" };
const LOGIN: Need = Need { check: CheckId::LoginHost, seen: "not asked: the login host cannot be used" };
const COMMANDS: Need = Need { check: CheckId::SlurmCommands, seen: "not asked: Slurm's commands are not there" };
const CONTROLLER: Need = Need { check: CheckId::Controller, seen: "not asked: no controller answers" };
const STATE_DIR: Need = Need { check: CheckId::StateDir, seen: "it lies in the state dir" };

const NOTHING: &[Need] = &[];
const ON_LOGIN_HOST: &[Need] = &[LOGIN];
const ON_COMMANDS: &[Need] = &[LOGIN, COMMANDS];
const ON_CONTROLLER: &[Need] = &[LOGIN, COMMANDS, CONTROLLER];
const ON_A_LEASE: &[Need] = &[CONFIG, LOGIN, COMMANDS, CONTROLLER];

/// What to do where a file system hangs.
pub const DISK: &str = "the file system hangs: try `ls` in it, tell the host's admins, or name another directory";

/// What to do where a question was not answered for a reason that may pass.
pub const AGAIN: &str = "run doctor again";

const COMMANDS_HANG: &str = "run Slurm's commands by hand: one of them, or the file system they are on, hangs";

const BY_HAND: Silence = Silence::Warning(COMMANDS_HANG);
const ONCE_MORE: Silence = Silence::Warning(AGAIN);
const ON_DISK: Silence = Silence::Warning(DISK);
/// It runs nothing.
const NEVER: Silence = Silence::Warning("");

const fn row(id: CheckId, name: &'static str, needs: &'static [Need], silence: Silence) -> Row {
    Row { id, name, needs, silence: Some(silence) }
}

const fn on_the_way(id: CheckId, name: &'static str) -> Row {
    Row { id, name, needs: NOTHING, silence: None }
}

/// Of a lease that `--live` makes after all others have been told.
const fn live(id: CheckId, name: &'static str) -> Row {
    Row { id, name, needs: ON_A_LEASE, silence: None }
}

/// All checks, in the order in which they are told.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    on_the_way(CheckId::Config, "config"),
    row(CheckId::LoginHost, "login host", NOTHING, Silence::Red("log in to it by hand: it hangs")),
    on_the_way(CheckId::Clock, "clock"),
    row(CheckId::OneConnection, "one connection", ON_LOGIN_HOST, ONCE_MORE),
    row(CheckId::LoginOpenSsh, "login host's OpenSSH", ON_LOGIN_HOST, ONCE_MORE),
    row(CheckId::Forwarding, "forwarding", ON_LOGIN_HOST, ONCE_MORE),
    row(CheckId::SlurmCommands, "slurm commands", ON_LOGIN_HOST, BY_HAND),
    row(CheckId::SlurmVersion, "slurm version", ON_LOGIN_HOST, BY_HAND),
    row(CheckId::Controller, "controller", ON_COMMANDS, Silence::Red(COMMANDS_HANG)),
    row(CheckId::Authentication, "authentication", ON_LOGIN_HOST,
        Silence::Warning("have the host's admins look at munged or sackd: it hangs")),
    row(CheckId::JobListing, "job listing", ON_CONTROLLER, BY_HAND),
    on_the_way(CheckId::ProcessTracking, "process tracking"),
    row(CheckId::SlurmSettings, "slurm settings", ON_CONTROLLER, BY_HAND),
    on_the_way(CheckId::Accounting, "accounting"),
    row(CheckId::Partition, "partition", ON_CONTROLLER, BY_HAND),
    on_the_way(CheckId::WallTime, "wall time"),
    row(CheckId::TestSubmission, "test submission", ON_CONTROLLER, BY_HAND),
    row(CheckId::StateDir, "state dir", NOTHING, Silence::Red(DISK)),
    on_the_way(CheckId::LeaseRecords, "lease records"),
    row(CheckId::SharedDir, "shared dir", &[LOGIN, STATE_DIR], Silence::Red(DISK)),
    row(CheckId::Directories, "directories", ON_LOGIN_HOST, ON_DISK),
    row(CheckId::PrivateKeys, "private keys", NOTHING, ON_DISK),
    row(CheckId::Runner, "runner", NOTHING, Silence::Red(DISK)),
    on_the_way(CheckId::RunnerContract, "runner contract"),
    row(CheckId::WorkRoot, "work root", ON_LOGIN_HOST, ON_DISK),
    row(CheckId::JobLines, "job's lines", ON_LOGIN_HOST, BY_HAND),
    row(CheckId::JobSshd, "job's sshd", NOTHING, ON_DISK),
    row(CheckId::Limits, "limits", NOTHING, ON_DISK),
    row(CheckId::Spares, "spares", ON_CONTROLLER, BY_HAND),
    row(CheckId::SshClient, "ssh client", NOTHING, ON_DISK),
    row(CheckId::SshConfiguration, "ssh configuration", NOTHING,
        Silence::Warning("`ssh -G node` hangs: its configuration runs a command, or its name service hangs")),
    row(CheckId::SshKeygen, "ssh-keygen", NOTHING,
        Silence::Warning("the host makes keys slowly, or its temporary directory hangs: try `ssh-keygen -t ed25519`")),
    row(CheckId::SshKey, "ssh key", NOTHING, Silence::Red(DISK)),
    row(CheckId::Connection, "connection", NOTHING, NEVER),
    row(CheckId::Endpoint, "endpoint", ON_LOGIN_HOST,
        Silence::Warning("the host's user database or name service hangs: try `id`, and `getent hosts` with a node's name")),
    row(CheckId::ProxyHost, "proxy host", NOTHING, Silence::Red("try to log in to it by hand")),
    row(CheckId::ClientConfig, "client config", NOTHING, NEVER),
    live(CheckId::LiveLease, "live lease"),
    live(CheckId::NodeAccount, "node's account"),
    live(CheckId::NodeSshd, "node's sshd"),
    live(CheckId::NodeTools, "node's tools"),
    live(CheckId::NodeGpus, "node's GPUs"),
    live(CheckId::NodeCgroups, "node's cgroups"),
    live(CheckId::NodeNamespaces, "node's namespaces"),
    live(CheckId::NodeClock, "node's clock"),
    live(CheckId::NodeFiles, "node's files"),
    live(CheckId::LiveRelease, "live release"),
];

impl CheckId {
    /// Its row; the test below holds that each has one.
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.id == self)
    }

    pub fn name(self) -> &'static str {
        self.row().map_or("", |row| row.name)
    }

    pub fn needs(self) -> &'static [Need] {
        self.row().map_or(NOTHING, |row| row.needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_one_row_behind_what_it_rests_on() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.id as usize, index, "{}: rows stand in the order of the ids", row.name);
            assert!(!row.name.is_empty() && TABLE.iter().filter(|other| other.name == row.name).count() == 1);
            assert!(row.needs.iter().all(|need| need.check < row.id), "{}", row.name);
        }
        assert_eq!(TABLE.len(), CheckId::LiveRelease as usize + 1);
    }
}
