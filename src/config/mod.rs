//! What a site may say, and the validated settings that everything else works with.
//!
//! The keys are a superset of the reference adapter's. Everything is checked before anything is created, and all
//! that is wrong is told at once: the key, the value, and what is allowed.

pub mod keys;
pub mod layers;
pub mod login_host;
pub mod proxy;
pub mod resources;
pub mod spares;
pub(crate) mod time_limit;
pub mod value;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};
use login_host::LoginHost;
use proxy::Connection;
use resources::Resources;
use spares::Spares;
use value::{Complaint, Reader, is_line, is_word};

/// Checks that the tools which the client needs on the node are there, and names the one that is missing. The set is
/// the client's own (docs/facts/client.md, "Ready check"); it is valid in any POSIX shell and holds no single quotes.
pub const DEFAULT_READY_CHECK: &str = "for tool in bash python3 git rsync tar; do command -v $tool >/dev/null || \
     { echo \"missing on this node: $tool\" >&2; exit 1; }; done";

/// Validated settings with every default filled in.
#[derive(Debug, Clone)]
pub struct Settings {
    pub resources: Resources,
    /// `--clusters`, where the site has several.
    pub clusters: Option<String>,
    /// Site text after our own word in the job's comment.
    pub comment: Option<String>,
    /// Where Slurm's commands run, when not here.
    pub submit: Option<LoginHost>,
    pub connection: Connection,
    pub ssh_user: Option<String>,
    pub ssh_private_key: Option<PathBuf>,
    pub ready_check: String,
    /// Where the client finds the node.
    pub endpoint_host: EndpointHost,
    /// The address that sshd listens on; empty: the one that the node's name resolves to.
    pub bind_address: String,
    /// The port that sshd listens on, or a range of ports to choose from: `20000-20999`.
    pub ssh_port: Option<String>,
    /// Bash lines sourced in the job before anything else.
    pub preamble: String,
    /// Shell words put before every command of a session.
    pub launcher: String,
    /// Shell line run in the job when its wall time is five minutes away.
    pub on_ending: String,
    pub work_root: PathBuf,
    pub runner_script: Option<PathBuf>,
    pub shared_dir: Option<PathBuf>,
    /// Seconds that acquire waits in all.
    pub acquire_timeout: u64,
    /// Seconds that resolve waits for a lease that is not ready yet.
    pub resolve_wait: u64,
    /// Seconds without use after which the job ends itself; 0 never.
    pub idle_timeout: u64,
    /// Seconds after its start that the job ends itself; 0 is the wall time.
    pub ttl: u64,
    /// Seconds within which somebody must log in; 0 for ever.
    pub taken_grace: u64,
    /// Most leases at a time in this state dir.
    pub max_leases: Option<u64>,
    /// A connection by name starts a lease at any time, not only with a person at a terminal.
    pub reacquire_always: bool,
    /// What is kept ready.
    pub spares: Spares,
    /// The longest idle time that a touch may ask for, where admins limit it.
    pub most_idle: Option<u64>,
}

/// Which host name the client is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointHost {
    /// The batch host as Slurm names it, put in place of `{node}`; a bare `{node}` is the default.
    Template(String),
    /// What the runner published, if it matches this pattern (`*` stands for any characters).
    Runner { pattern: String },
}

/// Reads and checks the whole of a request's config.
pub fn parse(config: &Map<String, Value>) -> Result<Settings, Failure> {
    check(config)
        .map_err(|complaints| mistakes(&complaints.into_iter().map(|complaint| complaint.text).collect::<Vec<_>>()))
}

/// The same, with what is wrong by key.
fn check(config: &Map<String, Value>) -> Result<Settings, Vec<Complaint>> {
    let mut reader = Reader::new(config);
    let mut settings = read(&mut reader);
    if settings.submit.is_none() {
        settings.at_home(value::expand_home("~").as_deref());
    }
    let complaints = reader.complaints();
    if complaints.is_empty() { Ok(settings) } else { Err(complaints) }
}

/// How a configuration is refused: what is wrong with it, all at once.
pub fn mistakes(complaints: &[String]) -> Failure {
    Failure::new(Kind::BadConfig, format!("the configuration has {} mistake(s)", complaints.len()))
        .remedy("correct external.config")
        .causes(complaints)
}

impl Settings {
    /// Those of a spare's own submission: its job has to last for the time that it waits and for the lease's.
    #[must_use]
    pub fn of_a_spare(&self) -> Settings {
        let limit = self.resources.time_limit().and_then(time_limit::minutes).flatten();
        let minutes = limit.map(|minutes| minutes.saturating_add(self.spares.seconds.div_ceil(60)));
        let resources = minutes.map_or_else(|| self.resources.clone(), |minutes| self.resources.with_minutes(minutes));
        Settings { resources, ..self.clone() }
    }

    /// Puts the home directory on the cluster in the place of `~`; without one, the work root is in `/tmp`.
    pub fn at_home(&mut self, home: Option<&str>) {
        self.work_root = at_home(&self.work_root, home).unwrap_or_else(|| PathBuf::from("/tmp/crabbox-slurm-work"));
        self.shared_dir = self.shared_dir.as_ref().and_then(|path| at_home(path, home));
    }
}

/// A path with `~` for the home directory; nothing where that one is not known.
pub fn at_home(path: &Path, home: Option<&str>) -> Option<PathBuf> {
    match (path.to_str().and_then(|text| text.strip_prefix('~')), home) {
        (None, _) => Some(path.to_owned()),
        (Some(rest), Some(home)) => Some(PathBuf::from(format!("{}{rest}", home.trim_end_matches('/')))),
        (Some(_), None) => None,
    }
}

/// Wait of the reference adapter.
const ACQUIRE_TIMEOUT_SECONDS: u64 = 1800;
/// Long enough for a job that is just starting, short enough for a dashboard.
const RESOLVE_WAIT_SECONDS: u64 = 10;
/// The client's own default for idle time (docs/facts/client.md, "Lifetimes").
const IDLE_TIMEOUT_SECONDS: u64 = 1800;
/// Five minutes from the answer to the first login.
const TAKEN_GRACE_SECONDS: u64 = 300;
/// A year; more is a mistake of units.
pub const MOST_SECONDS: u64 = 366 * 24 * 3600;
/// The preamble travels in the job's environment, of which Linux allows 128 KiB a variable.
pub const PREAMBLE_BYTES: usize = 64 * 1024;

fn read(reader: &mut Reader<'_>) -> Settings {
    // What a profile stands for was put in its place before.
    reader.text("profile", "a profile's name of letters, digits and ._-", layers::is_profile_name);
    let resources = resources::read(reader);
    let submit = login_host::read(reader);
    let connection = proxy::read(reader, submit.as_ref());
    let ttl = reader.number("ttlSeconds", 0, MOST_SECONDS).unwrap_or(0);
    Settings {
        spares: spares::read(reader, resources.time_limit(), ttl),
        resources,
        clusters: reader.text("clusters", "names of clusters, apart by commas, and not \"all\"", |text| {
            text.split(',').all(|name| is_word(name, "_.-") && !name.eq_ignore_ascii_case("all"))
        }),
        comment: reader.text("comment", "one line of at most 512 bytes", |text| is_line(text, 512)),
        submit,
        connection,
        ssh_user: reader.text("sshUser", value::USER_NAME, value::is_user_name),
        ssh_private_key: reader.path("sshPrivateKey"),
        ready_check: reader
            .text("readyCheck", "one line of shell without single quotes", |text| {
                is_line(text, 4096) && !text.contains('\'')
            })
            .unwrap_or_else(|| DEFAULT_READY_CHECK.to_owned()),
        endpoint_host: endpoint_host(reader),
        bind_address: reader
            .text("bindAddress", "an IP address, or localhost", |text| {
                text == "localhost" || text.parse::<std::net::IpAddr>().is_ok()
            })
            .unwrap_or_default(),
        ssh_port: reader.text("sshPort", "a port from 1 to 65535, or a range of them such as 20000-20999", |text| {
            ports(text).is_some()
        }),
        preamble: preamble(reader),
        launcher: reader
            .text("launcher", "one line: a command prefix such as apptainer exec image.sif", |text| is_line(text, 4096))
            .unwrap_or_default(),
        on_ending: reader.text("onEnding", "one line of shell", |text| is_line(text, 4096)).unwrap_or_default(),
        work_root: work_root(reader),
        runner_script: reader.path("runnerScript"),
        shared_dir: reader.cluster_path("sharedDir"),
        acquire_timeout: reader.number("acquireTimeoutSeconds", 1, MOST_SECONDS).unwrap_or(ACQUIRE_TIMEOUT_SECONDS),
        resolve_wait: reader.number("resolveWaitSeconds", 0, MOST_SECONDS).unwrap_or(RESOLVE_WAIT_SECONDS),
        idle_timeout: reader.number("idleTimeoutSeconds", 0, MOST_SECONDS).unwrap_or(IDLE_TIMEOUT_SECONDS),
        ttl,
        taken_grace: reader.number("takenGraceSeconds", 0, MOST_SECONDS).unwrap_or(TAKEN_GRACE_SECONDS),
        max_leases: reader.number("maxLeases", 1, 1_000_000),
        reacquire_always: reader
            .text("reacquire", "always or attended", |text| matches!(text, "always" | "attended"))
            .is_some_and(|text| text == "always"),
        most_idle: None,
    }
}

/// The ports from the lowest to the highest that a text names: one, or a range.
pub fn ports(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
        text.parse::<u16>().ok().filter(|_| plain)
    };
    Some((port(low)?, port(high)?)).filter(|(low, high)| low <= high)
}

fn endpoint_host(reader: &mut Reader<'_>) -> EndpointHost {
    let allowed = "slurm, a template with {node} such as {node}.cluster.example, runner, or runner:PATTERN with * for any characters";
    let text = reader.text("endpointHost", allowed, |text| {
        matches!(text, "slurm" | "runner")
            || text.strip_prefix("runner:").is_some_and(|pattern| is_word(pattern, "*._:-"))
            || (text.matches("{node}").count() == 1 && value::is_host(&text.replace("{node}", "n")))
    });
    match text.as_deref() {
        None | Some("slurm") => EndpointHost::Template("{node}".into()),
        Some("runner") => EndpointHost::Runner { pattern: "*".into() },
        Some(text) => match text.strip_prefix("runner:") {
            Some(pattern) => EndpointHost::Runner { pattern: pattern.to_owned() },
            None => EndpointHost::Template(text.to_owned()),
        },
    }
}

fn preamble(reader: &mut Reader<'_>) -> String {
    const KEY: &str = "preamble";
    let Some(value) = reader.raw(KEY) else {
        return String::new();
    };
    let text = match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(lines) => {
            lines.iter().map(Value::as_str).collect::<Option<Vec<_>>>().map(|lines| lines.join("\n"))
        }
        _ => None,
    };
    match text {
        Some(text) if text.len() <= PREAMBLE_BYTES && !text.contains('\0') => text,
        _ => {
            reader.complain(KEY, value, "bash lines as a string or an array of strings, 64 KiB at most");
            String::new()
        }
    }
}

/// The client refuses the same roots for its own work root (docs/facts/client.md, "Work root"); the runner removes a directory there.
pub const SHARED_ROOTS: &[&str] = &[
    "/", "/home", "/root", "/tmp", "/opt", "/usr", "/var", "/etc", "/dev", "/proc", "/sys", "/run", "/bin", "/lib",
    "/sbin",
];

fn work_root(reader: &mut Reader<'_>) -> PathBuf {
    let path = reader.cluster_path("runnerWorkRoot");
    if let Some(path) = &path {
        let text = path.to_string_lossy();
        let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let home = value::expand_home("~").unwrap_or_default();
        let whole = if text.starts_with('~') { parts.join("/") } else { format!("/{}", parts.join("/")) };
        let whole = whole.as_str();
        if SHARED_ROOTS.contains(&whole)
            || whole == "~"
            || whole == home
            || whole.strip_prefix("/home/").is_some_and(|rest| !rest.contains('/'))
        {
            let allowed = "a directory of its own below a home or scratch directory";
            reader.complain_of(
                &["runnerWorkRoot"],
                format!("config key \"runnerWorkRoot\" is {text:?}; allowed is {allowed}"),
            );
        }
    }
    path.unwrap_or_else(|| PathBuf::from("~/crabbox-slurm-work"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn settings(value: &Value) -> Result<Settings, Failure> {
        parse(value.as_object().unwrap())
    }

    #[test]
    fn the_reference_adapters_configuration_is_accepted() {
        let value = json!({
            "account": "example-lab", "partition": "batch", "qos": "normal", "cpus": 16, "mem": "64G", "timeLimit": "02:00:00",
            "gres": "gpu:1", "nodes": "1", "constraint": "a100&nvlink", "reservation": "r1", "extraSbatchArgs": ["--ntasks=1"],
            "sshMode": "proxy-through-login", "loginHost": "login.cluster.example.edu", "loginUser": "alice",
            "sshUser": "alice", "readyCheck": "command -v bash", "acquireTimeoutSeconds": "3600",
            "runnerWorkRoot": "/scratch/example-lab/crabbox", "runnerScript": "/opt/runner.sh"
        });
        let settings = settings(&value).unwrap();
        assert_eq!(settings.acquire_timeout, 3600);
        assert_eq!(settings.resources.options.len(), 11);
    }

    #[rstest]
    #[case(json!({"runnerWorkRoot": "/home/alice"}), "runnerWorkRoot")]
    #[case(json!({"runnerWorkRoot": "/tmp/"}), "runnerWorkRoot")]
    #[case(json!({"readyCheck": "test 'a'"}), "readyCheck")]
    #[case(json!({"endpointHost": "{node};x"}), "endpointHost")]
    #[case(json!({"endpointHost": "runner:a b"}), "endpointHost")]
    #[case(json!({"bindAddress": "eth0"}), "bindAddress")]
    #[case(json!({"sshPort": "20999-20000"}), "sshPort")]
    #[case(json!({"sharedDir": "$SCRATCH/shared"}), "variables such as $HOME are not expanded")]
    #[case(json!({"preamble": {"a": 1}}), "preamble")]
    #[case(json!({"runnerWorkRoot": "//tmp/."}), "runnerWorkRoot")]
    #[case(json!({"clusters": "a,,b"}), "clusters")]
    #[case(json!({"clusters": "ALL"}), "clusters")]
    #[case(json!({"nodes": "+1"}), "nodes")]
    #[case(json!({"maxLeases": 0}), "maxLeases")]
    #[case(json!({"acquireTimeoutSeconds": -1}), "acquireTimeoutSeconds")]
    #[case(json!({"sharedDir": "relative/dir"}), "sharedDir")]
    #[case(json!({"comment": "a\nb"}), "comment")]
    #[case(json!({"partition": "a b", "gpus": 1, "gres": "gpu:1"}), "2 mistake(s)")]
    fn mistakes_are_named(#[case] value: Value, #[case] expected: &str) {
        let failure = settings(&value).unwrap_err();
        assert_eq!(failure.kind, Kind::BadConfig);
        assert!(failure.to_string().contains(expected), "{failure}");
    }

    #[test]
    fn endpoint_hosts() {
        let of = |text: &str| settings(&json!({"endpointHost": text})).unwrap().endpoint_host;
        assert_eq!(of("slurm"), EndpointHost::Template("{node}".into()));
        assert_eq!(of("{node}-ib.example"), EndpointHost::Template("{node}-ib.example".into()));
        assert_eq!(of("runner:*.example"), EndpointHost::Runner { pattern: "*.example".into() });
    }

    #[rstest]
    #[case("22", Some((22, 22)))]
    #[case("20000-20999", Some((20000, 20999)))]
    #[case("65535", Some((65535, 65535)))]
    #[case("65536", None)]
    #[case("0", None)]
    #[case("022", None)]
    #[case("20999-20000", None)]
    #[case("1-2-3", None)]
    #[case("-5", None)]
    #[case("20000-", None)]
    #[case("+1", None)]
    #[case("ssh", None)]
    #[case("", None)]
    fn port_ranges(#[case] text: &str, #[case] expected: Option<(u16, u16)>) {
        assert_eq!(ports(text), expected);
    }

    #[test]
    fn a_preamble_may_be_lines() {
        assert_eq!(settings(&json!({"preamble": ["a", "b"]})).unwrap().preamble, "a\nb");
    }
}
