//! doctor: whether this site is fit for leases, told in under nine seconds even when everything hangs.
//!
//! It submits nothing. Every check runs by itself in a thread ([`mod@run`]) and tells what it saw and what to do; a
//! check that rests on another's answer says so, and one trouble is told once: when no controller answers, what could
//! not be asked is no trouble of its own. One file a subject; each has its decisions as functions of what was seen.
//!
//! What is Slurm's and the cluster's is asked where Slurm's commands run (`sessions.rs`), with a `submitHost` through a few
//! sessions on it; what is the client's stays here: the state dir, keys, the runner's script, ssh.

mod check;
mod finding;
mod remote;
mod report;
mod run;
mod sessions;
mod settle;
mod ssh_error;
mod tcp_probe;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use serde_json::{Map, Value};

use self::check::{
    client_ssh, controller, filesystem, job, login_host, node_names, partition, proxy_config, proxy_host, remote_dirs,
    runner, slurm, ssh_keys, storage, submission,
};
use self::finding::{Category, Finding};
use self::run::{Clock, Job, LIMIT, Silence, run_all};
use self::sessions::Place;
use crate::allocation::Runner;
use crate::config::proxy::{Connection, Route};
use crate::config::value::given;
use crate::config::{self, EndpointHost, Settings};
use crate::failure::{Failure, Kind};
use crate::host::{Host, User};
use crate::lease::store::Store;
use crate::operation::context::{Options, shared_dir};
use crate::protocol::{Answer, Check, CheckStatus, Request};
use crate::slurm::partition::Record;

/// Carries out a doctor: a message when nothing is red, an error that names all that is when something is.
pub fn run(options: &Options, request: &Request) -> Result<Answer> {
    let findings = findings(options, request);
    if let Some(failure) = report::failure(&findings) {
        return Err(failure.into());
    }
    let message = Some(report::message(&findings));
    Ok(Answer { message, checks: Some(checks(findings)), ..Answer::default() })
}

/// Every check with what it saw, red ones too.
pub fn examine(options: &Options, request: &Request) -> Vec<Check> {
    checks(findings(options, request))
}

fn checks(findings: Vec<Finding>) -> Vec<Check> {
    findings.into_iter().map(|finding| finding.check).collect()
}

const DISK: &str = "the file system hangs: try `ls` in it, tell the host's admins, or name another directory";

/// Without a login host the shared dir does not hang on whose it is.
const NOBODY: User = User { uid: 0, name: None, home: None };

/// What the checks look at; read by all of them at once.
struct Site {
    options: Options,
    config: Map<String, Value>,
    settings: Settings,
    place: Place,
    runner: OnceLock<Result<Runner, Failure>>,
    partitions: OnceLock<Result<Vec<Record>, String>>,
}

impl Site {
    /// Where the runner is read from can hang, so it is read by whoever comes first.
    fn runner(&self, clock: Clock) -> &Result<Runner, Failure> {
        self.runner.get_or_init(|| self.read_runner(clock))
    }

    fn read_runner(&self, clock: Clock) -> Result<Runner, Failure> {
        if let Some(path) = self.settings.runner_script.as_deref().or(self.options.runner_script.as_deref()) {
            filesystem::answers(path, clock).map_err(|why| Failure::new(Kind::BadConfig, why).remedy(DISK))?;
        }
        crate::operation::context::runner(&self.options, &self.settings)
    }

    /// Where the shared dir is on the host where Slurm's commands run.
    fn shared_dir(&self, user: &User) -> PathBuf {
        shared_dir(&self.settings, &self.options.state_dir, user)
    }

    /// The partitions of the first cluster, asked by whoever comes first.
    fn partitions(&self, clock: Clock) -> &Result<Vec<Record>, String> {
        self.partitions.get_or_init(|| partition::records(&self.place, clock, self.first_cluster().as_deref()))
    }

    /// A node that a lease's job may run on, as Slurm names it.
    fn example_node(&self, clock: Clock) -> Option<String> {
        let records = self.partitions(clock).as_ref().ok()?;
        partition::example_node(records, &partition::Asked::of(&self.settings))
    }

    fn is_stdio(&self) -> bool {
        self.settings.connection == Connection::Connect(Route::Stdio)
    }

    fn first_cluster(&self) -> Option<String> {
        self.clusters().into_iter().next().flatten()
    }

    fn clusters(&self) -> Vec<Option<String>> {
        crate::slurm::each_cluster(self.settings.clusters.as_deref())
    }
}

fn findings(options: &Options, request: &Request) -> Vec<Finding> {
    let clock = Clock::start();
    let (config, config_finding) = read_config(&request.config);
    let mut findings = vec![config_finding];
    if let Ok(settings) = config::parse(&config) {
        let place = Place::of(settings.submit.as_ref());
        let site = Arc::new(Site {
            options: options.clone(),
            config,
            settings,
            place,
            runner: OnceLock::new(),
            partitions: OnceLock::new(),
        });
        findings.extend(run_all(jobs(&site), clock, LIMIT));
        if site.settings.submit.is_none() && site.shared_dir(&NOBODY).starts_with(&options.state_dir) {
            settle::nested(&mut findings);
        }
    }
    settle::all(&mut findings);
    findings
}

/// The config, reduced to what of it can be used, and what is wrong with the rest: one mistake must not hide what
/// the other checks have to say.
fn read_config(config: &Map<String, Value>) -> (Map<String, Value>, Finding) {
    const NAME: &str = "config";
    let failure = match config::parse(config) {
        Ok(_) => {
            return (config.clone(), Finding::ok(NAME, format!("{} key(s), all good", config.len())));
        }
        Err(failure) => failure,
    };
    let mut usable = Map::new();
    for (key, value) in config {
        usable.insert(key.clone(), value.clone());
        if config::parse(&usable).is_err() {
            usable.remove(key);
        }
    }
    (usable, Finding::of_failure(NAME, Category::Config, &failure))
}

/// All checks, in the order in which they are told.
fn jobs(site: &Arc<Site>) -> Vec<Job> {
    use Silence::{Red, Warning};
    const BY_HAND: &str = "run Slurm's commands by hand: one of them, or the file system they are on, hangs";
    const AGAIN: &str = "run doctor again";
    let mut jobs = Vec::new();
    let there = matches!(site.place, Place::Remote(_));
    let mut add = |name: &'static str, silence: Silence, remote: bool, work: fn(&Site, Clock) -> Vec<Finding>| {
        let site = Arc::clone(site);
        jobs.push(Job { name, silence, remote: remote && there, work: Box::new(move |clock| work(&site, clock)) });
    };
    let (slurm, local) = (true, false);
    if there {
        add(login_host::LOGIN, Red("log in to it by hand: it hangs"), local, |site, clock| {
            on_login_host(site, |there| login_host::check(there, clock))
        });
        add("one connection", Warning(AGAIN), true, |site, clock| {
            on_login_host(site, |there| login_host::reuse(there, clock))
        });
        add("login host's OpenSSH", Warning(AGAIN), true, |site, clock| {
            on_login_host(site, |there| login_host::version(there, clock))
        });
        add("forwarding", Warning(AGAIN), true, |site, clock| {
            on_login_host(site, |there| login_host::forwarding(there, clock, &site.settings))
        });
    }
    add(slurm::COMMANDS, Warning(BY_HAND), slurm, |site, clock| slurm::commands(&site.place, clock, site.is_stdio()));
    add(slurm::VERSION, Warning(BY_HAND), slurm, |site, clock| slurm::version(&site.place, clock));
    add(controller::CONTROLLER, Red(BY_HAND), slurm, |site, clock| {
        each_cluster(site, |cluster| controller::check(&site.place, clock, cluster))
    });
    add(controller::MUNGE, Warning("have the host's admins look at munged: it hangs"), slurm, |site, clock| {
        controller::munge(&site.place, clock)
    });
    add(slurm::LISTING, Warning(BY_HAND), slurm, |site, clock| {
        each_cluster(site, |cluster| slurm::listing(&site.place, clock, cluster))
    });
    add("slurm settings", Warning(BY_HAND), slurm, |site, clock| {
        each_cluster(site, |cluster| slurm::settings(&site.place, clock, cluster))
    });
    add("partition", Warning(BY_HAND), slurm, |site, clock| {
        let asked = partition::Asked::of(&site.settings);
        let groups = site.place.groups(clock);
        let first = site.first_cluster();
        each_cluster(site, |cluster| {
            if cluster == first.as_deref() {
                return partition::check(site.partitions(clock), &asked, &groups);
            }
            partition::check(&partition::records(&site.place, clock, cluster), &asked, &groups)
        })
    });
    add("test submission", Warning(BY_HAND), slurm, |site, clock| match site.runner(clock) {
        Ok(runner) => submission::check(&site.place, clock, &site.settings, &runner.script),
        Err(_) => vec![Finding::warning("test submission", "not tried without a runner", "")],
    });
    add(storage::STATE_DIR, Red(DISK), local, |site, clock| {
        let path = &site.options.state_dir;
        where_it_answers(storage::STATE_DIR, &[path], clock, || storage::state_dir(path))
    });
    add(storage::SHARED_DIR, Red(DISK), there, shared_dir_check);
    add("directories", Warning(DISK), there, directories);
    add("private keys", Warning(DISK), local, |site, clock| {
        let (state, shared) = (&site.options.state_dir, &site.shared_dir(&NOBODY));
        if site.settings.submit.is_some() {
            return storage::private_keys_stay(state);
        }
        where_it_answers("private keys", &[state, shared], clock, || storage::private_keys(state, shared))
    });
    add("runner", Red(DISK), local, |site, clock| runner::check(clock, site.runner(clock)));
    add("work root", Warning(DISK), there, |site, clock| {
        let path = &site.settings.work_root;
        match &site.place {
            Place::Here => where_it_answers("work root", &[path], clock, || runner::work_root(path)),
            Place::Remote(there) => remote_dirs::work_root(there, path, clock)
                .unwrap_or_else(|said| vec![Finding::warning("work root", said, "run doctor again").not_asked()]),
        }
    });
    add(job::LINES, Warning(BY_HAND), there, |site, clock| job::lines(&site.place, clock, &site.settings));
    add(job::SSHD, Warning(DISK), local, job_sshd);
    add(job::LIMITS, Warning(DISK), local, |site, clock| {
        let state = &site.options.state_dir;
        where_it_answers(job::LIMITS, &[state], clock, || {
            let leases = Store::open(state).and_then(|store| store.ids());
            // Why they cannot be counted is told by the check of the state dir.
            job::limits(&site.settings, &leases.unwrap_or_default())
        })
    });
    add("ssh client", Warning(DISK), local, |_, clock| ssh_keys::ssh(clock));
    add(
        client_ssh::NAME,
        Warning("`ssh -G node` hangs: its configuration runs a command, or its name service hangs"),
        local,
        |site, clock| {
            let node = site.example_node(clock);
            let host = match (&site.settings.endpoint_host, site.is_stdio()) {
                (EndpointHost::Template(template), false) => node.map(|node| template.replace("{node}", &node)),
                _ => node,
            };
            let own_key = site.settings.ssh_private_key.is_some();
            client_ssh::check(clock, site.settings.ssh_user.as_deref(), host.as_deref(), own_key)
        },
    );
    add(
        "ssh-keygen",
        Warning("the host makes keys slowly, or its temporary directory hangs: try `ssh-keygen -t ed25519`"),
        local,
        |_, clock| ssh_keys::keygen(clock),
    );
    add("ssh key", Red(DISK), local, |site, clock| ssh_keys::configured(clock, &site.settings));
    add("connection", Warning(""), local, |site, _| proxy_config::check(&site.config, &site.settings));
    add(
        "endpoint",
        Warning("the host's user database or name service hangs: try `id`, and `getent hosts` with a node's name"),
        there,
        |site, clock| {
            let ours = site.runner(clock).as_ref().is_ok_and(Runner::keeps_contract);
            match site.place.user(clock) {
                Ok(user) => endpoint(site, clock, &user, ours),
                Err(said) => vec![Finding::warning("endpoint", said, "run doctor again").not_asked()],
            }
        },
    );
    if !matches!(site.settings.connection, Connection::Connect(_)) {
        add(proxy_host::LOGIN, Red("try to log in to it by hand"), local, |site, clock| {
            proxy_host::check(clock, &site.settings, given(&site.config, "proxyCommand").is_some())
        });
    }
    add("client config", Warning(""), local, |_, _| proxy_config::client());
    jobs
}

/// What decides where clients are sent, and what the names of nodes mean for it.
fn endpoint(site: &Site, clock: Clock, user: &User, ours: bool) -> Vec<Finding> {
    let is_node = || sessions::is_node(&site.place, clock);
    let mut findings = proxy_config::endpoint(&site.settings, user.name.as_deref(), ours, is_node);
    // In a session of a step nothing listens, and srun knows nodes by Slurm's own names.
    if !site.is_stdio()
        && let Some(node) = site.example_node(clock)
    {
        let further = node_names::check(&site.place, clock, &site.settings, &node, ours);
        if !further.is_empty() {
            findings.retain(|finding| !finding.is(CheckStatus::Ok));
        }
        findings.extend(further);
    }
    findings
}

/// The knobs of a site's environment for the runner's sshd. With a login host they are that account's.
fn job_sshd(site: &Site, clock: Clock) -> Vec<Finding> {
    if matches!(site.place, Place::Remote(_)) {
        return vec![Finding::ok(job::SSHD, "as the account's environment on the login host says")];
    }
    if !site.runner(clock).as_ref().is_ok_and(Runner::keeps_contract) {
        return vec![Finding::ok(job::SSHD, "the runner's own business")];
    }
    let value = |name: &str| std::env::var(name).ok();
    let (sshd, port) = (value("CBX_SSHD"), value("CBX_SSH_PORT"));
    let is_program = |path: &str| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    job::sshd(sshd.as_deref(), port.as_deref(), is_program, nix::unistd::geteuid().is_root())
}

/// Acquire refuses the same in the same words.
fn directories(site: &Site, clock: Clock) -> Vec<Finding> {
    const NAME: &str = "directories";
    let user = match &site.place {
        Place::Here => Ok(NOBODY),
        Place::Remote(_) => site.place.user(clock),
    };
    let check =
        |host: &Host, user: &User| crate::operation::places::check(host, &site.settings, &site.options.state_dir, user);
    match user.and_then(|user| site.place.with(clock, |host| check(host, &user))) {
        Ok(Ok(())) => vec![Finding::ok(NAME, "state dir, shared dir and work root are in nobody's way")],
        Ok(Err(failure)) if failure.kind == Kind::BadConfig => {
            vec![Finding::of_failure(NAME, Category::Config, &failure)]
        }
        // Why they cannot be looked at is told by the checks of each.
        Ok(Err(failure)) => vec![Finding::warning(NAME, failure.to_string(), DISK).not_asked()],
        Err(said) => vec![Finding::warning(NAME, said, "run doctor again").not_asked()],
    }
}

fn on_login_host(site: &Site, check: impl FnOnce(&Arc<sessions::RemoteHost>) -> Vec<Finding>) -> Vec<Finding> {
    match &site.place {
        Place::Here => vec![],
        Place::Remote(there) => check(there),
    }
}

fn shared_dir_check(site: &Site, clock: Clock) -> Vec<Finding> {
    match &site.place {
        Place::Here => {
            let path = &site.shared_dir(&NOBODY);
            where_it_answers(storage::SHARED_DIR, &[path], clock, || storage::shared_dir(&site.place, path, clock))
        }
        Place::Remote(there) => site
            .place
            .user(clock)
            .and_then(|user| remote_dirs::shared_dir(there, &site.place, &site.shared_dir(&user), clock))
            .unwrap_or_else(|said| vec![Finding::red(storage::SHARED_DIR, Category::Timeout, said, DISK).not_asked()]),
    }
}

/// Looks at directories unless their file systems hang, which the checks of the two directories tell as red.
fn where_it_answers(
    name: &'static str,
    paths: &[&Path],
    clock: Clock,
    look: impl FnOnce() -> Vec<Finding>,
) -> Vec<Finding> {
    match paths.iter().try_for_each(|path| filesystem::answers(path, clock)) {
        Ok(()) => look(),
        Err(why) if matches!(name, storage::STATE_DIR | storage::SHARED_DIR) => {
            vec![Finding::red(name, Category::Timeout, why, DISK)]
        }
        Err(why) => vec![Finding::warning(name, why, DISK)],
    }
}

/// Asks about each cluster at the same time; with several, each finding names its own.
fn each_cluster(site: &Site, ask: impl Fn(Option<&str>) -> Vec<Finding> + Sync) -> Vec<Finding> {
    let clusters = site.clusters();
    if let [only] = &clusters[..] {
        return ask(only.as_deref());
    }
    let ask = &ask;
    std::thread::scope(|scope| {
        let running: Vec<_> =
            clusters.iter().map(|cluster| (cluster, scope.spawn(move || ask(cluster.as_deref())))).collect();
        let named = running.into_iter().flat_map(|(cluster, thread)| {
            let mut findings = thread.join().unwrap_or_default();
            for finding in &mut findings {
                finding.check.seen = format!("{}: {}", cluster.as_deref().unwrap_or_default(), finding.check.seen);
            }
            findings
        });
        named.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_mistake_leaves_the_other_keys_usable() {
        let value = json!({"partition": "a b", "loginHost": "login", "sshMode": "proxy-through-login", "cpuz": 1, "account": "lab"});
        let (usable, finding) = read_config(value.as_object().unwrap());
        assert_eq!(usable.keys().collect::<Vec<_>>(), ["account", "loginHost", "sshMode"]);
        assert!(finding.is(CheckStatus::Red));
        assert!(finding.check.seen.contains("cpuz") && finding.check.seen.contains("\"partition\""), "{finding:?}");
        assert!(config::parse(&usable).is_ok());
    }
}
