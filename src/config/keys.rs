//! Every config key, for people: what it takes and what it does. The tables of docs/configuration.md are made from
//! this; what is read stands beside what checks it, and a test compares the two.

/// What a key is about: one table of the documentation each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What is asked of Slurm.
    Slurm,
    /// Where Slurm's commands run, when not on this machine.
    LoginHost,
    /// How the client reaches the job.
    Connection,
    /// What happens in the job.
    Job,
    /// What this program does.
    Program,
}

/// One key. All texts are Markdown.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub group: Group,
    /// What it takes, with its limits.
    pub value: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
    /// One sentence.
    pub meaning: &'static str,
}

const fn key(
    group: Group,
    name: &'static str,
    value: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Key {
    Key { name, group, value, default, meaning }
}

const SITE: &str = "the site's";

/// All keys, in the order in which people look for them.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key(Group::Slurm, "account", "name: letters, digits, blanks and `_.@+/:%&#~-`", SITE, "Passed as `--account`."),
    key(Group::Slurm, "partition", "word with `_.,@+/:%-`", SITE, "Passed as `--partition`."),
    key(Group::Slurm, "qos", "name: letters, digits, blanks and `_.,@+/:%&#~-`", SITE, "Passed as `--qos`."),
    key(Group::Slurm, "cpus", "number, 1 to 100000", SITE, "Passed as `--cpus-per-task`."),
    key(Group::Slurm, "mem", "size: digits and none or one of K M G T, also KB MB GB TB", SITE, "Passed as `--mem`."),
    key(Group::Slurm, "tmp", "size, as `mem`", SITE, "Passed as `--tmp`."),
    key(Group::Slurm, "timeLimit", "time: minutes, `MM:SS`, `HH:MM:SS`, `D-HH`, `D-HH:MM` or `D-HH:MM:SS`; not 0", SITE, "Passed as `--time`."),
    key(Group::Slurm, "nodes", "`N` or `MIN-MAX`, from 1", SITE, "Passed as `--nodes`."),
    key(Group::Slurm, "gres", "word with `_.,:/()=@+-`", SITE, "Passed as `--gres`; not together with `gpus` when it names GPUs."),
    key(Group::Slurm, "gpus", "word with `_.,:+-`, such as `2` or `a100:2`", SITE, "Passed as `--gpus`."),
    key(Group::Slurm, "constraint", "word with `_.,&\\|*:()[]!@+=/%-`", SITE, "Passed as `--constraint`."),
    key(Group::Slurm, "nodelist", "word with `_.,[]-`", SITE, "Passed as `--nodelist`."),
    key(Group::Slurm, "exclude", "word with `_.,[]-`", SITE, "Passed as `--exclude`."),
    key(Group::Slurm, "reservation", "name: letters, digits, blanks and `_.,@+/:%-`", SITE, "Passed as `--reservation`."),
    key(Group::Slurm, "licenses", "word with `_.,:@\\|/-`", SITE, "Passed as `--licenses`."),
    key(Group::Slurm, "exclusive", "true, false, `yes`, `no`, `user`, `mcs` or `topo`", SITE, "Passed as `--exclusive`."),
    key(Group::Slurm, "clusters", "names apart by commas, of letters, digits and `_.-`; not `all`", "this cluster", "Passed as `--clusters`; the cluster is kept with the job id."),
    key(Group::Slurm, "comment", "one line, 512 bytes", "none", "Passed in `--comment` after this program's own first word."),
    key(Group::Slurm, "extraSbatchArgs", "array of strings", "none", "Passed as given; only the options listed below, each as one `--name=value`, and those that the site's admins list."),

    key(Group::LoginHost, "submitHost", "host name or ssh alias of letters, digits and `._-`, or address; no user and no port, which go into `submitUser` and your ssh configuration", "this machine", "The login host: Slurm's commands and the shared dir are there."),
    key(Group::LoginHost, "submitUser", "user name: letters, digits, blanks and `._@+\\$-`", "as your ssh configuration says", "Your user name on the login host."),
    key(Group::LoginHost, "sshConfig", "path", "`~/.ssh/config`", "ssh's configuration file for the login host."),
    key(Group::LoginHost, "controlPath", "path, 90 characters, ssh's `%` tokens too", "a stable place in `/tmp/slurm-sandbox-<uid>`, or in `~/.ssh/slurm-sandbox` if that is taken", "The control socket of the one connection; name that of your own master to use it."),
    key(Group::LoginHost, "requireExistingMaster", "true or false", "false", "Never log in; use a connection that you have opened."),

    key(Group::Connection, "sshMode", "`direct`, `proxy-through-login` or `stdio`", "`direct`; with `submitHost` `proxy-through-login`", "`proxy-through-login` needs `loginHost`, `proxyCommand` or `submitHost`; with `stdio` nothing listens, and `srun` starts a session's sshd in the job."),
    key(Group::Connection, "loginHost", "as `submitHost`; up to four apart by commas", "`submitHost`", "The host, or chain of hosts, through which nodes are reached; the first is reached from here."),
    key(Group::Connection, "loginUser", "user name: letters, digits, blanks and `._@+\\$-`", "as your ssh configuration says", "The user name on each host of the chain."),
    key(Group::Connection, "proxyCommand", "one line, 4096 bytes, no single quotes", "`slurm-sandbox connect …` with `submitHost` or `stdio`; in proxy mode `ssh -o BatchMode=yes -o ConnectTimeout=10 -W %h:%p {loginHost}`, with `{loginUser}@` if that is set", "Placeholders are `{host} {port} {user} {loginHost} {loginUser} {leaseId} {slug} {name} {jobId}`, and ssh's `%h %p` work too; given alone, it is used whatever `sshMode` says."),
    key(Group::Connection, "sshUser", "user name: letters, digits, blanks and `._@+\\$-`", "you", "The user to log in as; the built-in runner's sshd lets in only the user the job runs as."),
    key(Group::Connection, "sshPrivateKey", "path", "a new key for each lease", "The private key to log in with; its `.pub` must lie beside it."),
    key(Group::Connection, "readyCheck", "one line of shell, 4096 bytes, no single quotes", "`bash python3 git rsync tar` are there", "Run by your login shell in the job; it must succeed before a lease is handed out."),
    key(Group::Connection, "endpointHost", "`slurm`, a template, `runner` or `runner:PATTERN`", "`slurm`", "The host name for the client: the batch host as Slurm names it, a template such as `{node}-ib.cluster.example`, or what the runner publishes if it matches the pattern (`*` is any text)."),
    key(Group::Connection, "bindAddress", "IP address or `localhost`", "the address of the node's name", "Where sshd listens."),
    key(Group::Connection, "sshPort", "port, 1 to 65535, or a range such as `20000-20999`", "any from 20000 that is free", "Where sshd listens on the node, for sites whose firewalls let only some ports through; a range needs one port for each lease of a node."),

    key(Group::Job, "preamble", "bash lines as a string or array of strings, 64 KiB", "none", "Sourced in the job first, for `module load`; failing ends the job with its output, so begin with `set -e`, or only the last line's status counts."),
    key(Group::Job, "launcher", "one line, 4096 bytes", "none", "Words put before each session's command, such as `apptainer exec image.sif`; it isolates nothing."),
    key(Group::Job, "onEnding", "one line of shell, 4096 bytes", "none", "Run in the work directory, as in a session, when the job's time limit is about five minutes away; what it prints goes to the job's output."),
    key(Group::Job, "runnerWorkRoot", "path; not `/`, `/tmp`, `/home`, a home directory itself or the like", "`~/crabbox-slurm-work`", "The job makes `<runnerWorkRoot>/<leaseId>` and removes it."),
    key(Group::Job, "runnerScript", "path of a script that starts with `#!` and has no DOS line ends", "the runner inside the program", "A site's own batch script."),
    key(Group::Job, "idleTimeoutSeconds", "number of seconds", "1800", "The job ends after this long without use; 0 means never."),
    key(Group::Job, "ttlSeconds", "number of seconds", "0", "The job ends this long after its start; 0 leaves it to the time limit."),
    key(Group::Job, "takenGraceSeconds", "number of seconds", "300", "The job ends if nobody logs in within this of the answer or, unanswered, of its start, preamble included; 0 means never."),

    key(Group::Program, "profile", "a name of letters, digits and `._-`", "none", "The keys below `[profiles.NAME]` of the [config files](#config-files)."),
    key(Group::Program, "acquireTimeoutSeconds", "number of seconds, from 1", "1800", "All of an acquire, the time in the queue included."),
    key(Group::Program, "resolveWaitSeconds", "number of seconds", "10", "How long a resolve waits for a lease that is not ready."),
    key(Group::Program, "maxLeases", "number, 1 to 1000000", "no limit", "The most leases in one state dir."),
    key(Group::Program, "spares", "number, 0 to 32", "0", "How many jobs are kept ready for the next leases, together with `timeLimit`, `ttlSeconds` or `spareMinTimeLeft`; see [spares.md](spares.md)."),
    key(Group::Program, "spareSeconds", "number of seconds, from 120", "1800", "How long a spare waits for a lease before its job ends; also how long after the last acquire spares are still submitted."),
    key(Group::Program, "spareMinTimeLeft", "number of seconds, from 1", "all of `timeLimit`, or `ttlSeconds` if that is shorter", "A spare with less time left is given to no lease."),
    key(Group::Program, "reacquire", "`always` or `attended`", "`attended`", "With `attended`, `ssh PROFILE.sandbox` without a terminal starts nothing for three hours after a lease of the profile was idle, past its time to live, released or of no use."),
    key(Group::Program, "sharedDir", "path", "`<state-dir>/shared`; with `submitHost` `~/.slurm-sandbox` there", "Where program and runner exchange files; not in the state dir's `leases`, `trash` or `cache`, and not the work root."),
];

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::value::Reader;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_has_the_keys_that_are_read_and_no_others() {
        let nothing = serde_json::Map::new();
        let mut reader = Reader::new(&nothing);
        super::super::read(&mut reader);
        let read: BTreeSet<_> = reader.known.into_iter().collect();
        assert_eq!(KEYS.iter().map(|key| key.name).collect::<BTreeSet<_>>(), read);
    }
}
