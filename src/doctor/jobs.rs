//! What each check does, as far as it depends on the site: which questions are asked where.

use std::path::Path;
use std::sync::Arc;

use crate::allocation::Runner;
use crate::config::EndpointHost;
use crate::config::proxy::Connection;
use crate::config::value::given;
use crate::doctor::check::table::{AGAIN, DISK, Row, TABLE};
use crate::doctor::check::{
    CheckId, authentication, client_ssh, controller, filesystem, job, login_host, node_names, partition, proxy_config,
    proxy_host, remote_dirs, runner, slurm, spares, ssh_keys, storage, submission,
};
use crate::doctor::finding::{Category, Finding};
use crate::doctor::run::{Clock, Job};
use crate::doctor::sessions::{self, Place};
use crate::doctor::site::{NOBODY, Site};
use crate::failure::Kind;
use crate::host::{Host, User};
use crate::lease::store::Store;
use crate::operation::pool::obstacle;
use crate::protocol::CheckStatus;

type Work = fn(&Site, Clock) -> Vec<Finding>;

/// The checks of a site, in the order of the table.
pub fn all(site: &Arc<Site>) -> Vec<Job> {
    let job = |row: &'static Row| {
        let (silence, work, site) = (row.silence?, work(row.id, site)?, Arc::clone(site));
        let rests_on_another = site.has_login_host() && row.needs.iter().any(|need| need.check == CheckId::LoginHost)
            || row.id == CheckId::SharedDir && site.has_nested_dirs();
        Some(Job { id: row.id, silence, rests_on_another, work: Box::new(move |clock| work(&site, clock)) })
    };
    TABLE.iter().filter_map(job).collect()
}

/// What a check does; `None` where there is nothing of the kind, or where another's work finds it on the way.
fn work(id: CheckId, site: &Site) -> Option<Work> {
    let work: Work = match id {
        CheckId::LoginHost => |site, clock| on_login_host(site, |there| login_host::check(there, clock)),
        CheckId::OneConnection => |site, clock| on_login_host(site, |there| login_host::reuse(there, clock)),
        CheckId::LoginOpenSsh => |site, clock| on_login_host(site, |there| login_host::version(there, clock)),
        CheckId::Forwarding => {
            |site, clock| on_login_host(site, |there| login_host::forwarding(there, clock, &site.settings))
        }
        CheckId::SlurmCommands => |site, clock| slurm::commands(&site.place, clock, site.is_stdio()),
        CheckId::SlurmVersion => |site, clock| slurm::version(&site.place, clock),
        CheckId::Controller => {
            |site, clock| site.each_cluster(|cluster| controller::check(&site.place, clock, cluster))
        }
        CheckId::Authentication => |site, clock| authentication::check(&site.place, clock),
        CheckId::JobListing => |site, clock| site.each_cluster(|cluster| slurm::listing(&site.place, clock, cluster)),
        CheckId::SlurmSettings => {
            |site, clock| site.each_cluster(|cluster| slurm::settings(&site.place, clock, cluster))
        }
        CheckId::Partition => partitions,
        CheckId::TestSubmission => test_submission,
        CheckId::StateDir => |site, clock| {
            let path = &site.options.state_dir;
            where_it_answers(CheckId::StateDir, &[path], clock, || storage::state_dir(path))
        },
        CheckId::SharedDir => shared_dir,
        CheckId::Directories => directories,
        CheckId::PrivateKeys => private_keys,
        CheckId::Runner => |site, clock| runner::check(clock, site.runner(clock)),
        CheckId::WorkRoot => work_root,
        CheckId::JobLines => |site, clock| job::lines(&site.place, clock, &site.settings),
        CheckId::JobSshd => job_sshd,
        CheckId::Limits => limits,
        CheckId::Spares => of_spares,
        CheckId::SshClient => |_, clock| ssh_keys::ssh(clock),
        CheckId::SshConfiguration => ssh_configuration,
        CheckId::SshKeygen => |_, clock| ssh_keys::keygen(clock),
        CheckId::SshKey => |site, clock| ssh_keys::configured(clock, &site.settings),
        CheckId::Connection => |site, _| {
            let program = std::env::current_exe().ok();
            proxy_config::check(&site.config, &site.settings, program.as_deref())
        },
        CheckId::Endpoint => endpoint,
        CheckId::ProxyHost => |site, clock| {
            let own = given(&site.config, "proxyCommand").is_some();
            proxy_host::check(clock, &site.settings, own, || site.example_node(clock))
        },
        CheckId::ClientConfig => |_, _| proxy_config::client(),
        CheckId::Config
        | CheckId::Clock
        | CheckId::ProcessTracking
        | CheckId::Accounting
        | CheckId::WallTime
        | CheckId::LeaseRecords
        | CheckId::RunnerContract
        | CheckId::LiveLease
        | CheckId::NodeAccount
        | CheckId::NodeSshd
        | CheckId::NodeTools
        | CheckId::NodeGpus
        | CheckId::NodeCgroups
        | CheckId::NodeNamespaces
        | CheckId::NodeClock
        | CheckId::NodeFiles
        | CheckId::LiveRelease => return None,
    };
    let applies = match id {
        CheckId::LoginHost | CheckId::OneConnection | CheckId::LoginOpenSsh | CheckId::Forwarding => {
            site.has_login_host()
        }
        CheckId::ProxyHost => !matches!(site.settings.connection, Connection::Connect(_)),
        CheckId::Spares => site.settings.spares.count > 0,
        _ => true,
    };
    applies.then_some(work)
}

fn partitions(site: &Site, clock: Clock) -> Vec<Finding> {
    let asked = partition::Asked::of(&site.settings);
    let groups = site.place.groups(clock);
    site.each_cluster(|cluster| partition::check(&site.partitions_of(clock, cluster), &asked, &groups))
}

fn of_spares(site: &Site, clock: Clock) -> Vec<Finding> {
    // Why a runner cannot be read is told by its own check.
    let runner = site.runner(clock).as_ref().ok();
    if let Some(obstacle) = runner.and_then(|runner| obstacle(&site.settings, runner)) {
        return vec![spares::impossible(obstacle)];
    }
    let mut findings = vec![spares::cost(&site.settings)];
    findings.extend(site.each_cluster(|cluster| {
        spares::check(&site.place, clock, cluster, &site.settings, &site.partitions_of(clock, cluster))
    }));
    findings
}

fn test_submission(site: &Site, clock: Clock) -> Vec<Finding> {
    match site.runner(clock) {
        Ok(runner) => submission::check(&site.place, clock, &site.settings, &runner.script),
        Err(_) => vec![Finding::warning(CheckId::TestSubmission, "not tried without a runner", "")],
    }
}

fn private_keys(site: &Site, clock: Clock) -> Vec<Finding> {
    let (state, shared) = (&site.options.state_dir, &site.shared_dir(&NOBODY));
    if site.has_login_host() {
        return storage::private_keys_stay(state);
    }
    where_it_answers(CheckId::PrivateKeys, &[state, shared], clock, || storage::private_keys(state, shared))
}

fn work_root(site: &Site, clock: Clock) -> Vec<Finding> {
    let path = &site.settings.work_root;
    match &site.place {
        Place::Here => where_it_answers(CheckId::WorkRoot, &[path], clock, || runner::work_root(path)),
        Place::Remote(there) => remote_dirs::work_root(there, path, clock)
            .unwrap_or_else(|said| vec![Finding::warning(CheckId::WorkRoot, said, AGAIN).not_asked()]),
    }
}

fn limits(site: &Site, clock: Clock) -> Vec<Finding> {
    let state = &site.options.state_dir;
    where_it_answers(CheckId::Limits, &[state], clock, || {
        let leases = Store::open(state).and_then(|store| store.ids());
        // Why they cannot be counted is told by the check of the state dir.
        job::limits(&site.settings, &leases.unwrap_or_default())
    })
}

fn ssh_configuration(site: &Site, clock: Clock) -> Vec<Finding> {
    let node = site.example_node(clock);
    let host = match (&site.settings.endpoint_host, site.is_stdio()) {
        (EndpointHost::Template(template), false) => node.map(|node| template.replace("{node}", &node)),
        _ => node,
    };
    let own_key = site.settings.ssh_private_key.is_some();
    client_ssh::check(clock, site.settings.ssh_user.as_deref(), host.as_deref(), own_key)
}

/// What decides where clients are sent, and what the names of nodes mean for it.
fn endpoint(site: &Site, clock: Clock) -> Vec<Finding> {
    let ours = site.runner(clock).as_ref().is_ok_and(Runner::keeps_contract);
    let user = match site.place.user(clock) {
        Ok(user) => user,
        Err(said) => return vec![Finding::warning(CheckId::Endpoint, said, AGAIN).not_asked()],
    };
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
    if site.has_login_host() {
        return vec![Finding::ok(CheckId::JobSshd, "as the account's environment on the login host says")];
    }
    if !site.runner(clock).as_ref().is_ok_and(Runner::keeps_contract) {
        return vec![Finding::ok(CheckId::JobSshd, "the runner's own business")];
    }
    let value = |name: &str| std::env::var(name).ok();
    // The key goes before the variable.
    let port = site.settings.ssh_port.clone().or_else(|| value("CBX_SSH_PORT"));
    let sshd = value("CBX_SSHD");
    let is_program = |path: &str| nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok();
    job::sshd(sshd.as_deref(), port.as_deref(), is_program, nix::unistd::geteuid().is_root())
}

/// Acquire refuses the same in the same words.
fn directories(site: &Site, clock: Clock) -> Vec<Finding> {
    let user = match &site.place {
        Place::Here => Ok(NOBODY),
        Place::Remote(_) => site.place.user(clock),
    };
    let check =
        |host: &Host, user: &User| crate::operation::places::check(host, &site.settings, &site.options.state_dir, user);
    match user.and_then(|user| site.place.with(clock, |host| check(host, &user))) {
        Ok(Ok(())) => {
            vec![Finding::ok(CheckId::Directories, "state dir, shared dir and work root are in nobody's way")]
        }
        Ok(Err(failure)) if failure.kind == Kind::BadConfig => {
            vec![Finding::of_failure(CheckId::Directories, Category::Config, &failure)]
        }
        // Why they cannot be looked at is told by the checks of each.
        Ok(Err(failure)) => vec![Finding::warning(CheckId::Directories, failure.to_string(), DISK).not_asked()],
        Err(said) => vec![Finding::warning(CheckId::Directories, said, AGAIN).not_asked()],
    }
}

fn on_login_host(site: &Site, check: impl FnOnce(&Arc<sessions::RemoteHost>) -> Vec<Finding>) -> Vec<Finding> {
    match &site.place {
        Place::Here => vec![],
        Place::Remote(there) => check(there),
    }
}

fn shared_dir(site: &Site, clock: Clock) -> Vec<Finding> {
    let findings = match &site.place {
        Place::Here => {
            let path = &site.shared_dir(&NOBODY);
            where_it_answers(CheckId::SharedDir, &[path], clock, || storage::shared_dir(&site.place, path, clock))
        }
        Place::Remote(there) => site
            .place
            .user(clock)
            .and_then(|user| remote_dirs::shared_dir(there, &site.place, &site.shared_dir(&user), clock))
            .unwrap_or_else(|said| vec![Finding::red(CheckId::SharedDir, Category::Timeout, said, DISK).not_asked()]),
    };
    // Whatever is wrong with the state dir is wrong with what lies in it.
    let nested = site.has_nested_dirs();
    let mark = |finding: Finding| if nested && finding.is(CheckStatus::Red) { finding.not_asked() } else { finding };
    findings.into_iter().map(mark).collect()
}

/// Looks at directories unless their file systems hang, which the checks of the two directories tell as red.
fn where_it_answers(id: CheckId, paths: &[&Path], clock: Clock, look: impl FnOnce() -> Vec<Finding>) -> Vec<Finding> {
    match paths.iter().try_for_each(|path| filesystem::answers(path, clock)) {
        Ok(()) => look(),
        Err(why) if matches!(id, CheckId::StateDir | CheckId::SharedDir) => {
            vec![Finding::red(id, Category::Timeout, why, DISK)]
        }
        Err(why) => vec![Finding::warning(id, why, DISK)],
    }
}
