//! What a site tells of itself before anything is written: partitions, accounts, GPUs, shared file systems. Each is asked by itself,
//! and what does not answer leaves a gap, no more.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::config::time_limit::minutes;
use crate::host::{Command, Host, NotRun};
use crate::slurm::partition::{self, get};
use crate::slurm::{sacctmgr, scontrol, sinfo};

/// Slurm's answers and a look at the file systems take a second; a person waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// File systems that other hosts see too, by the names that df has for them.
const SHARED_KINDS: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "panfs",
    "pvfs2",
    "smb3",
    "wekafs",
];

/// A partition that jobs can be sent to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    pub name: String,
    /// Where jobs go that name none.
    pub default: bool,
    /// The longest time limit in minutes; nothing where there is no limit.
    pub most_minutes: Option<u64>,
    /// Types of GPUs and how many a node has.
    pub gpus: Vec<sinfo::Gpus>,
    /// CPUs of its smallest node.
    pub cpus: Option<u64>,
}

/// A file system that other hosts see too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFileSystem {
    pub path: String,
    pub kind: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    pub user: Option<String>,
    pub cluster: Option<String>,
    /// The default one first.
    pub partitions: Vec<Partition>,
    /// The default one first.
    pub accounts: Vec<String>,
    pub qos: Vec<String>,
    pub shared: Vec<SharedFileSystem>,
    /// A directory of the user's own on one of them, other than the home.
    pub scratch: Option<String>,
    /// Whether the home is on a disk of one host alone.
    pub home_is_local: bool,
    /// What could not be asked, and why.
    pub gaps: Vec<String>,
}

/// Asks.
pub fn ask(host: &Host, user: Option<&str>, home: Option<&str>) -> Facts {
    let mut gaps = Vec::new();
    let mut answer = |what: &str, command: Command| match host.run(&command) {
        // df fails over one file system that it may not look at, and has told of all others by then.
        Ok(output) if output.success() || (what == "df" && !output.stdout.is_empty()) => output.stdout_text(),
        Ok(output) => {
            gaps.push(format!("{what}: {}", output.said()));
            String::new()
        }
        Err(error) => {
            let why = match error {
                NotRun::Missing(_) => "there is no such command".to_owned(),
                error => error.to_string(),
            };
            gaps.push(format!("{what}: {why}"));
            String::new()
        }
    };
    let scontrol = |words: &[&str]| scontrol::command(PATIENCE, None).args(words);
    let settings = answer("scontrol show config", scontrol(&["show", "config"]));
    let records = answer("scontrol show partition", scontrol(&["--oneliner", "show", "partition"]));
    let nodes = answer("sinfo", sinfo::command(PATIENCE));
    let associations = match user {
        Some(user) => sacctmgr::parse(&answer("sacctmgr", sacctmgr::command(PATIENCE, user))),
        None => Vec::new(),
    };
    let mounts = answer("df", Command::new("df", PATIENCE).env("LC_ALL", "C").args(["--portability", "--print-type"]));
    let cluster = scontrol::parse_settings(&settings).get("ClusterName").cloned();
    let ours = |row: &&sacctmgr::Association| cluster.as_ref().is_none_or(|name| row.cluster == *name);
    let rows: Vec<_> = associations.iter().filter(ours).collect();
    let accounts = accounts(&rows);
    let (shared, home_is_local) = file_systems(&mounts, home);
    let scratch = user.and_then(|user| scratch(host, &shared, user, home));
    Facts {
        user: user.map(str::to_owned),
        cluster,
        partitions: partitions(&partition::parse(&records), &sinfo::parse(&nodes), &accounts),
        qos: rows.iter().flat_map(|row| row.qos.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect(),
        accounts,
        shared,
        scratch,
        home_is_local,
        gaps,
    }
}

fn accounts(rows: &[&sacctmgr::Association]) -> Vec<String> {
    let mut names: Vec<_> = rows.iter().map(|row| row.account.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    names.sort_by_key(|name| !rows.iter().any(|row| row.default_account == *name));
    names
}

fn partitions(records: &[partition::Record], nodes: &[sinfo::Nodes], accounts: &[String]) -> Vec<Partition> {
    let allows = |record: &partition::Record| match get(record, "AllowAccounts") {
        "" | "ALL" => true,
        names => accounts.is_empty() || names.split(',').any(|name| accounts.iter().any(|own| own == name)),
    };
    let open = |record: &&partition::Record| matches!(get(record, "State"), "UP" | "") && allows(record);
    let usable = |record: &&partition::Record| crate::config::value::is_name(get(record, "PartitionName"), "_.@+/:%-");
    let mut found: Vec<_> = records
        .iter()
        .filter(open)
        .filter(usable)
        .map(|record| {
            let name = get(record, "PartitionName").to_owned();
            let own = || nodes.iter().filter(|nodes| nodes.partition == name);
            let gpus: BTreeSet<_> = own().flat_map(|nodes| nodes.gpus.iter().cloned()).collect();
            Partition {
                default: get(record, "Default") == "YES",
                most_minutes: minutes(get(record, "MaxTime")).flatten(),
                gpus: gpus.into_iter().collect(),
                cpus: own().filter_map(|nodes| nodes.cpus).min(),
                name,
            }
        })
        .collect();
    found.sort_by_key(|partition| !partition.default);
    found
}

/// The shared file systems of df's table, and whether the home is on one that surely is none.
fn file_systems(table: &str, home: Option<&str>) -> (Vec<SharedFileSystem>, bool) {
    const LOCAL_KINDS: &[&str] = &["btrfs", "ext4", "tmpfs", "xfs", "zfs"];
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, kind, _, _, _, _, path] = words[..] else { return None };
        let kind = kind.strip_prefix("fuse.").unwrap_or(kind);
        path.starts_with('/').then(|| (path.to_owned(), kind.to_owned()))
    };
    let rows: Vec<_> = table.lines().filter_map(row).collect();
    let of_home = home.and_then(|home| {
        let holds = rows.iter().filter(|(path, _)| Path::new(home).starts_with(path));
        holds.max_by_key(|(path, _)| path.len())
    });
    let local = of_home.is_some_and(|(_, kind)| LOCAL_KINDS.contains(&kind.as_str()));
    let shared = rows.iter().filter(|(_, kind)| SHARED_KINDS.contains(&kind.as_str()));
    let shared = shared.map(|(path, kind)| SharedFileSystem { path: path.clone(), kind: kind.clone() });
    (shared.collect(), local)
}

/// A directory of the user's own, at one of the two places where sites make them.
fn scratch(host: &Host, shared: &[SharedFileSystem], user: &str, home: Option<&str>) -> Option<String> {
    let elsewhere = shared.iter().filter(|fs| home.is_none_or(|home| !Path::new(home).starts_with(&fs.path)));
    let candidates = elsewhere.flat_map(|fs| [format!("{}/{user}", fs.path), format!("{}/users/{user}", fs.path)]);
    let candidates: Vec<_> = candidates.filter(|path| crate::config::value::is_safe_path(path)).take(20).collect();
    if candidates.is_empty() {
        return None;
    }
    let words = ["--format=%F|%U|%n", "--"].map(str::to_owned);
    let command = Command::new("stat", PATIENCE).env("LC_ALL", "C").args(words.into_iter().chain(candidates));
    // It fails where one of them is not there, and tells of the others all the same.
    let text = host.run(&command).ok()?.stdout_text();
    text.lines()
        .find_map(|line| line.strip_prefix("directory|")?.strip_prefix(user)?.strip_prefix('|').map(str::to_owned))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A site with several of everything.
    pub fn facts() -> Facts {
        let partition = |name: &str, default, most_minutes| Partition {
            name: name.to_owned(),
            default,
            most_minutes,
            cpus: Some(64),
            ..Partition::default()
        };
        let gpus = vec![sinfo::Gpus { kind: Some("a100".to_owned()), count: 4 }];
        Facts {
            user: Some("alice".into()),
            cluster: Some("campus".into()),
            partitions: vec![
                partition("batch", true, Some(480)),
                partition("short", false, Some(1)),
                Partition { gpus, ..partition("gpu", false, None) },
            ],
            accounts: vec!["lab".into(), "chem".into()],
            qos: vec!["normal".into(), "long".into()],
            shared: vec![SharedFileSystem { path: "/scratch".into(), kind: "lustre".into() }],
            scratch: Some("/scratch/alice".into()),
            home_is_local: false,
            gaps: vec![],
        }
    }

    #[test]
    fn partitions_that_jobs_can_be_sent_to() {
        let records = partition::parse(
            "PartitionName=closed State=DOWN MaxTime=UNLIMITED\n\
             PartitionName=gpu AllowAccounts=ALL State=UP Default=NO MaxTime=1-00:00:00\n\
             PartitionName=others AllowAccounts=chem State=UP MaxTime=60\n\
             PartitionName=batch AllowAccounts=lab,chem State=UP Default=YES MaxTime=UNLIMITED\n",
        );
        let nodes = sinfo::parse("gpu|32|1000|gpu:a100:4\ngpu|16|1000|gpu:v100:2\nbatch|64|1000|(null)\n");
        let found = partitions(&records, &nodes, &["lab".to_owned()]);
        let names: Vec<_> = found.iter().map(|partition| partition.name.as_str()).collect();
        assert_eq!(names, ["batch", "gpu"]);
        assert_eq!((found[0].most_minutes, found[1].most_minutes), (None, Some(1440)));
        assert_eq!((found[1].cpus, found[1].gpus.len()), (Some(16), 2));
        assert_eq!(partitions(&records, &[], &[]).len(), 3);
    }

    #[test]
    fn the_default_account_is_the_first() {
        let rows = sacctmgr::parse("phys|c|alpha||a|||\nphys|c|phys||b|||\n");
        assert_eq!(accounts(&rows.iter().collect::<Vec<_>>()), ["phys", "alpha"]);
    }

    #[test]
    fn file_systems_that_others_see() {
        let table = "Filesystem     Type     1024-blocks  Used Available Capacity Mounted on\n\
                     /dev/sda1      ext4     1 1 1 1% /\n\
                     fs:/home       nfs4     1 1 1 1% /home\n\
                     scratch        lustre   1 1 1 1% /scratch\n\
                     x              fuse.glusterfs 1 1 1 1% /work\n";
        let (shared, local) = file_systems(table, Some("/home/alice"));
        assert_eq!(shared.iter().map(|fs| fs.path.as_str()).collect::<Vec<_>>(), ["/home", "/scratch", "/work"]);
        assert!(!local);
        assert!(file_systems(table, Some("/var/home/alice")).1);
        assert!(!file_systems("", Some("/home/alice")).1);
    }
}
