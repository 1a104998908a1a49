//! What the checks look at, and what several of them ask: each is asked once, by whoever comes first.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::allocation::Runner;
use crate::config::Settings;
use crate::config::proxy::{Connection, Route};
use crate::doctor::check::table::DISK;
use crate::doctor::check::{filesystem, partition};
use crate::doctor::finding::Finding;
use crate::doctor::run::Clock;
use crate::doctor::sessions::Place;
use crate::failure::{Failure, Kind};
use crate::host::User;
use crate::operation::context::{Options, shared_dir};
use crate::slurm::partition::Record;

/// Without a login host the shared dir does not hang on whose it is.
pub const NOBODY: User = User { uid: 0, name: None, home: None };

/// What the checks look at; read by all of them at once.
pub struct Site {
    pub options: Options,
    pub config: Map<String, Value>,
    pub settings: Settings,
    pub place: Place,
    runner: OnceLock<Result<Runner, Failure>>,
    partitions: OnceLock<Result<Vec<Record>, String>>,
}

impl Site {
    pub fn new(options: &Options, config: Map<String, Value>, settings: Settings, place: Place) -> Site {
        let (runner, partitions) = (OnceLock::new(), OnceLock::new());
        Site { options: options.clone(), config, settings, place, runner, partitions }
    }

    pub fn has_login_host(&self) -> bool {
        matches!(self.place, Place::Remote(_))
    }

    /// Whether the shared dir is a directory in the state dir, and shares all its troubles.
    pub fn has_nested_dirs(&self) -> bool {
        !self.has_login_host() && self.shared_dir(&NOBODY).starts_with(&self.options.state_dir)
    }

    /// Where the runner is read from can hang, so it is read by whoever comes first.
    pub fn runner(&self, clock: Clock) -> &Result<Runner, Failure> {
        self.runner.get_or_init(|| self.read_runner(clock))
    }

    fn read_runner(&self, clock: Clock) -> Result<Runner, Failure> {
        if let Some(path) = self.settings.runner_script.as_deref().or(self.options.runner_script.as_deref()) {
            filesystem::answers(path, clock).map_err(|why| Failure::new(Kind::BadConfig, why).remedy(DISK))?;
        }
        crate::operation::context::runner(&self.options, &self.settings)
    }

    /// Where the shared dir is on the host where Slurm's commands run.
    pub fn shared_dir(&self, user: &User) -> PathBuf {
        shared_dir(&self.settings, &self.options.state_dir, user)
    }

    /// The partitions of the first cluster, asked by whoever comes first.
    pub fn partitions(&self, clock: Clock) -> &Result<Vec<Record>, String> {
        self.partitions.get_or_init(|| partition::records(&self.place, clock, self.first_cluster().as_deref()))
    }

    /// Those of one cluster.
    pub fn partitions_of(&self, clock: Clock, cluster: Option<&str>) -> Cow<'_, Result<Vec<Record>, String>> {
        match cluster == self.first_cluster().as_deref() {
            true => Cow::Borrowed(self.partitions(clock)),
            false => Cow::Owned(partition::records(&self.place, clock, cluster)),
        }
    }

    /// A node that a lease's job may run on, as Slurm names it.
    pub fn example_node(&self, clock: Clock) -> Option<String> {
        let records = self.partitions(clock).as_ref().ok()?;
        partition::example_node(records, &partition::Asked::of(&self.settings))
    }

    pub fn is_stdio(&self) -> bool {
        self.settings.connection == Connection::Connect(Route::Stdio)
    }

    pub fn first_cluster(&self) -> Option<String> {
        self.clusters().into_iter().next().flatten()
    }

    pub fn clusters(&self) -> Vec<Option<String>> {
        crate::slurm::each_cluster(self.settings.clusters.as_deref())
    }

    /// Asks about each cluster at the same time; with several, each finding names its own.
    pub fn each_cluster(&self, ask: impl Fn(Option<&str>) -> Vec<Finding> + Sync) -> Vec<Finding> {
        let clusters = self.clusters();
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
                    finding.seen = format!("{}: {}", cluster.as_deref().unwrap_or_default(), finding.seen);
                }
                findings
            });
            named.collect()
        })
    }
}
