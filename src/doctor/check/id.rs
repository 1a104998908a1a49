//! What doctor checks, by name. The comments are the table of docs/reference.md: what makes a check red or a warning, and what to do.

/// A check, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckId {
    /// Red or a warning: a key, a value or a config file cannot be used, or the limits of the site's admins do not allow it; the other
    /// checks go on with the rest. A warning where a limit lowers what is asked for.
    ///
    /// What to do: correct what it names.
    Config,
    /// Red or a warning: its name is not known; nobody listens, or nothing answers; its host key is not known or has
    /// changed; no login without a question; sshd or the login shell hangs; profiles take more than 2 s.
    ///
    /// What to do: what the line says, mostly `ssh HOST` once by hand. With `requireExistingMaster` it has the `ssh -fN
    /// …` to run.
    LoginHost,
    /// Red or a warning: it is more than a minute from this machine's: ends that the client sets come too early or too
    /// late, times and ages are shown wrong.
    ///
    /// What to do: set the clock that is wrong.
    Clock,
    /// Red or a warning: a second session over the same connection is refused. It also names the control socket.
    ///
    /// What to do: ask for `MaxSessions 10`, sshd's default.
    OneConnection,
    /// Red or a warning: never; it tells the version.
    LoginOpenSsh,
    /// Red or a warning: sshd there forwards nothing (`AllowTcpForwarding`, `PermitOpen`), or a further host of
    /// `loginHost` lets nobody through. Tried against a port of the login host's own loopback; not asked with `stdio`
    /// and `direct`.
    ///
    /// What to do: `sshMode: stdio`, or ask for forwarding to the nodes.
    Forwarding,
    /// Red or a warning: `sbatch squeue scancel scontrol` are not on PATH, with a login host on that of a login shell
    /// there; with `stdio` srun counts too. sacct may be missing.
    ///
    /// What to do: install or load them; there, in `~/.bash_profile`.
    SlurmCommands,
    /// Red or a warning: it is not told, or older than what is known to work.
    SlurmVersion,
    /// Red or a warning: none answers, or one of several is down; a warning when squeue is answered all the same.
    ///
    /// What to do: what the line says: wait, or tell the site's admins.
    Controller,
    /// Red or a warning: what Slurm's commands prove with who asks (munged or sackd, as slurm.conf says) does not answer where they run.
    ///
    /// What to do: have the host's admins start it.
    Authentication,
    /// Red or a warning: squeue does not answer, or prints more than the list.
    ///
    /// What to do: find the wrapper or plugin that prints.
    JobListing,
    /// Red or a warning: `ProctrackType` is `linuxproc` or `pgid`: a process that detaches itself may outlive its
    /// lease.
    ///
    /// What to do: `proctrack/cgroup`.
    ProcessTracking,
    /// Red or a warning: `MinJobAge` is so short that Slurm forgets an ended job before anybody asks.
    ///
    /// What to do: have it raised; 300 s is the default.
    SlurmSettings,
    /// Red or a warning: never; it tells whether account and QOS are checked.
    Accounting,
    /// Red or a warning: it does not exist, is down, or does not fit account, QOS, groups or number of nodes; a warning
    /// when none is asked for and the cluster has no default, as a plugin may choose one.
    ///
    /// What to do: another partition.
    Partition,
    /// Red or a warning: `timeLimit` is above the partition's.
    ///
    /// What to do: shorten it.
    WallTime,
    /// Red or a warning: `sbatch --test-only` refuses the options.
    ///
    /// What to do: what the line says.
    TestSubmission,
    /// Red or a warning: it cannot be made, written or locked, has another owner or mode, is nearly full, or is a newer
    /// version's.
    ///
    /// What to do: `--state-dir`.
    StateDir,
    /// Red or a warning: a record cannot be read.
    ///
    /// What to do: release the lease.
    LeaseRecords,
    /// Red or a warning: it cannot be made, written or read, others can enter it, or it is where nodes most likely do
    /// not see it.
    ///
    /// What to do: `sharedDir` on a file system that login host and nodes share.
    SharedDir,
    /// Red or a warning: state dir, shared dir and work root are in each other's way.
    ///
    /// What to do: set one of them elsewhere.
    Directories,
    /// Red or a warning: nodes most likely can read them; not with `submitHost`.
    ///
    /// What to do: `--state-dir` on a local disk, `sharedDir` elsewhere.
    PrivateKeys,
    /// Red or a warning: the script cannot be read, or bash finds a mistake in it, or it asks for more than one job.
    ///
    /// What to do: correct it.
    Runner,
    /// Red or a warning: it does not carry the mark.
    ///
    /// What to do: see [runner.md](runner.md#the-mark).
    RunnerContract,
    /// Red or a warning: it cannot be written, a file is in the way, or it is in `/proc` or `/sys`.
    ///
    /// What to do: `runnerWorkRoot`.
    WorkRoot,
    /// Red or a warning: `bash -n` finds a mistake in `preamble`, `launcher`, `readyCheck` or `onEnding`; `preamble` sources a
    /// file, or it, `launcher` or `readyCheck` begins with a command, that is not where Slurm's commands run (nodes may have it);
    /// `preamble` calls exit or ends with what fails; `readyCheck` can never succeed. Nothing of them is run.
    ///
    /// What to do: correct the key that it names.
    JobLines,
    /// Red or a warning: `CBX_SSHD` names no program of this host, `CBX_SSH_PORT` no port or range, or one below 1024.
    ///
    /// What to do: correct or unset the variable.
    JobSshd,
    /// Red or a warning: `takenGraceSeconds`, `idleTimeoutSeconds`, `ttlSeconds`, `acquireTimeoutSeconds` or `timeLimit` is too
    /// short for a client, or `maxLeases` is reached.
    ///
    /// What to do: raise them, or release leases.
    Limits,
    /// Red or a warning: the runner takes no claims, or `preamble` or `launcher` needs the lease's names, so that there are no spares;
    /// they ask for GPUs; `timeLimit` and `spareSeconds` together are above the partition's limit, or leave a lease too little time;
    /// spares and a lease are more jobs than association or QOS allow. Else it tells what spares cost; not with `spares` 0.
    ///
    /// What to do: see [spares.md](spares.md#what-doctor-says).
    Spares,
    /// Red or a warning: there is none, or it is too old.
    ///
    /// What to do: install OpenSSH.
    SshClient,
    /// Red or a warning: ssh refuses it, or it has for the nodes what keeps the client's ssh from its work:
    /// `RemoteCommand`, `SessionType`, `RequestTTY force`, `PubkeyAuthentication no` and the like, told by `ssh -G` for
    /// one node. This program's own ssh is kept from all but the first.
    ///
    /// What to do: see [troubleshooting.md](troubleshooting.md#lines-of-sshconfig).
    SshConfiguration,
    /// Red or a warning: it makes no key of any type that is known.
    ///
    /// What to do: install it; make room in TMPDIR.
    SshKeygen,
    /// Red or a warning: `sshPrivateKey` cannot be read, has a passphrase, or its `.pub` does not fit.
    ///
    /// What to do: what the line says.
    SshKey,
    /// Red or a warning: the keys for the connection do not fit each other, the program of `proxyCommand` is not on PATH, or the
    /// path of this program cannot stand in a command.
    ///
    /// What to do: correct them.
    Connection,
    /// Red or a warning: the client would be sent to another user or host than the job's; of a node that Slurm shows,
    /// the name in `endpointHost` cannot be resolved here, no known name fits its pattern, or no address is
    /// `bindAddress`.
    ///
    /// What to do: `sshUser`, `endpointHost`, `bindAddress`.
    Endpoint,
    /// Red or a warning: the host of a proxy command cannot be logged in to (a warning with a `proxyCommand` of the
    /// site's own); not with `submitHost` or `stdio`.
    ///
    /// What to do: log in by hand once.
    ProxyHost,
    /// Red or a warning: never; it reminds of `trustProviderOutput`, which cannot be seen from here.
    ClientConfig,
    /// Red or a warning: with `--live`: a short lease of the same configuration cannot be had; a warning when its job only waits its turn.
    ///
    /// What to do: what the line says.
    LiveLease,
    /// Red or a warning: with `--live`: the node has no passwd entry of the user, no such login shell or home, or `/etc/nologin`.
    ///
    /// What to do: tell the site's admins, or change the shell.
    NodeAccount,
    /// Red or a warning: never; with `--live` it tells the version of the node's sshd, and the rules of `/etc/hosts.deny`.
    NodeSshd,
    /// Red or a warning: with `--live`: a tool of the runner's or the client's is not in a session's PATH.
    ///
    /// What to do: install it on the nodes, or load it in `preamble`.
    NodeTools,
    /// Red or a warning: with `--live`: GPUs are asked for, and a session sees none. It names those that it sees.
    ///
    /// What to do: `gres`, `gpus`.
    NodeGpus,
    /// Red or a warning: never; with `--live` it tells the version of the node's cgroups, and whether a session can read its own.
    NodeCgroups,
    /// Red or a warning: never; with `--live` it tells whether a session can make user namespaces, as containers without root need.
    NodeNamespaces,
    /// Red or a warning: with `--live`: the node's clock is more than a minute from this machine's.
    ///
    /// What to do: set the clock that is wrong.
    NodeClock,
    /// Red or a warning: with `--live`: a file of the shared dir shows up on the other side, node or login host, after more than 3 s.
    ///
    /// What to do: `sharedDir` on a file system that shows new files sooner.
    NodeFiles,
    /// Red or a warning: with `--live`: the lease could not be proven ended.
    ///
    /// What to do: release it, as the line says.
    LiveRelease,
}
