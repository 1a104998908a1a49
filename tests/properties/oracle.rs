//! What must hold whatever comes in: one function for each parser, a panic when it does not hold.
//!
//! The property tests feed them made-up input, `cases.rs` the inputs kept in fuzz/cases, the targets of fuzz/ what the
//! fuzzer finds. They say again, in other words, what src/ promises, so that one of the two must be wrong to disagree.

use std::time::Duration;

use serde_json::{Map, Value};
use slurm_sandbox::allocation;
use slurm_sandbox::clock::Now;
use slurm_sandbox::config::proxy::{Connection, Route};
use slurm_sandbox::config::{self, EndpointHost, Settings};
use slurm_sandbox::failure::{Failure, Kind};
use slurm_sandbox::host::{End, Output};
use slurm_sandbox::lease::lifecycle::{classify, open_submission};
use slurm_sandbox::lease::{Identity, LeaseId, Nonce};
use slurm_sandbox::lease::{format, record};
use slurm_sandbox::operation::settle::{self, Step};
use slurm_sandbox::protocol;
use slurm_sandbox::shared_dir::endpoint_file;
use slurm_sandbox::slurm::job::{Class, JobId, Listing};
use slurm_sandbox::slurm::sbatch::Outcome;
use slurm_sandbox::slurm::squeue::Mark;
use slurm_sandbox::slurm::{sacct, sbatch, squeue};

/// The nonce of every attempt here.
pub const NONCE: &str = "00112233445566ff";

/// A message: one line for a terminal, of a bounded length.
pub fn message(failure: &Failure) {
    let text = failure.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.len() <= 32 * 1024, "{} bytes", text.len());
}

/// A request: what is read is what was sent, what is refused is refused in one line.
pub fn request(bytes: &[u8]) {
    match protocol::read(bytes) {
        Ok(request) => {
            let sent: Value = serde_json::from_slice(bytes).expect("only JSON is read");
            assert_eq!(sent["protocolVersion"].as_f64(), Some(1.0));
            let text = |path: &str| sent.pointer(path).and_then(Value::as_str).unwrap_or_default();
            assert_eq!(request.id, text("/id"));
            if let Some(desired) = &request.desired {
                assert_eq!(desired.lease_id, text("/desired/leaseId"));
                identity(&desired.lease_id, &desired.slug, &desired.name);
            }
            if let Some(lease) = &request.lease {
                assert_eq!(lease.cloud_id, text("/lease/cloudId"));
            }
            config_map(&request.config);
        }
        Err(failure) => {
            assert_eq!(failure.kind, Kind::BadRequest);
            message(&failure);
        }
    }
}

/// An identity: what is accepted is safe as a file name, a job name and a line of text.
pub fn identity(lease_id: &str, slug: &str, name: &str) {
    match Identity::parse(lease_id, slug, name) {
        Ok(identity) => {
            assert_eq!(
                (identity.lease_id.as_str(), identity.slug.as_str(), identity.name.as_str()),
                (lease_id, slug, name)
            );
            assert_eq!(lease_id.len(), 16);
            assert!(slug.bytes().all(|b| b"abcdefghijklmnopqrstuvwxyz0123456789-".contains(&b)));
            assert!(!slug.is_empty() && slug.len() <= 128 && !name.is_empty() && name.len() <= 255);
            assert!(!name.chars().any(char::is_control) && name.trim() == name);
            let job = identity.lease_id.job_name();
            assert!(job.bytes().all(|b| b"abcdefghijklmnopqrstuvwxyz0123456789-".contains(&b)), "{job}");
            assert_eq!(LeaseId::of_job_name(&job).as_ref(), Some(&identity.lease_id));
        }
        Err(failure) => message(&failure),
    }
}

/// A configuration as bytes.
pub fn config(bytes: &[u8]) {
    if let Ok(map) = serde_json::from_slice::<Map<String, Value>>(bytes) {
        config_map(&map);
    }
}

/// A configuration: what is accepted can do nothing but what its keys are for.
pub fn config_map(map: &Map<String, Value>) {
    match config::parse(map) {
        Ok(settings) => accepted(&settings),
        Err(failure) => {
            assert_eq!(failure.kind, Kind::BadConfig);
            message(&failure);
            assert!(failure.to_string().contains("config key"), "{failure}");
        }
    }
}

/// The options that the resource keys and `extraSbatchArgs` may become: they shape the allocation, nothing else.
const OPTIONS: &str = "account partition qos gres gpus constraint reservation nodelist exclude licenses cpus-per-task mem \
    tmp time nodes exclusive acctg-freq bb cluster-constraint core-spec cores-per-socket cpu-freq cpus-per-gpu deadline \
    delay-boot distribution extra-node-info gpu-bind gpu-freq gpus-per-node gpus-per-socket gpus-per-task hint mail-type \
    mail-user mem-bind mem-per-cpu mem-per-gpu mincpus network nice ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node \
    ntasks-per-socket prefer profile propagate sockets-per-node switches thread-spec threads-per-core time-min \
    tres-per-task wckey contiguous disable-stdout-job-summary oversubscribe overcommit spread-job use-min-nodes segment \
    stepmgr mcs-label oom-kill-step";

/// Options of sbatch(1) that no list of a site's can allow. An accepted one is none of these, nor one of these cut short.
const FORBIDDEN: &str = "array batch begin chdir cluster clusters comment dependency error export export-file get-user-env gid help \
    hold ignore-pbs input job-name kill-on-invalid-dep no-requeue open-mode output parsable quiet requeue signal test-only uid usage \
    verbose version wait wait-all-nodes wrap";

/// One line: no character that ends it or that a terminal obeys.
fn line(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Characters that no shell gives a meaning, and no dash in front.
fn plain(text: &str, extra: &str) {
    assert!(!text.starts_with('-') && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c)), "{text:?}");
}

/// A user's name: nothing of it means more to a shell than a backslash keeps from it.
fn user_name(text: &str) {
    assert!(
        !text.starts_with('-') && text.chars().all(|c| c.is_alphanumeric() || " ._@+:\\$-".contains(c)),
        "{text:?}"
    );
}

fn accepted(settings: &Settings) {
    for option in &settings.resources.options {
        line(option);
        let body = option.strip_prefix("--").expect("a long option");
        let (name, value) = body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value)));
        let known = OPTIONS.split_whitespace().any(|known| known == name);
        assert!(known != settings.resources.site_options.contains(option), "{option}");
        let others = FORBIDDEN.split_whitespace().chain(if known { "" } else { OPTIONS }.split_whitespace());
        assert!(others.into_iter().all(|other| known && other != name || !other.starts_with(name)), "{option}");
        assert!(value.is_none_or(|value| !value.trim().is_empty()), "{option}");
    }
    line(&settings.resources.summary);
    settings.clusters.iter().for_each(|text| plain(text, "_.,-"));
    settings.ssh_user.iter().for_each(|text| user_name(text));
    for text in settings.comment.iter().chain([&settings.ready_check, &settings.launcher, &settings.bind_address]) {
        line(text);
    }
    assert!(!settings.ready_check.contains('\''));
    assert!(!settings.preamble.contains('\0') && settings.preamble.len() <= 64 * 1024);
    // Whose home a `~` on the cluster means is known only there.
    let (at_home, shared_dir) = match &settings.shared_dir {
        Some(path) if settings.submit.is_some() && path.starts_with("~") => (Some(path.to_string_lossy()), None),
        shared_dir => (None, shared_dir.as_ref()),
    };
    if let Some(text) = at_home {
        plain(&text, "._/@+,:=-~");
        assert!(!text.split('/').any(|part| part == ".."));
    }
    if let Some(submit) = &settings.submit {
        plain(&submit.host, "._:-");
        user_name(submit.user.as_deref().unwrap_or_default());
        let control_path = submit.control_path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default();
        plain(&control_path, "._/@+,:=-%");
    }
    if let Connection::Connect(Route::Login { hops }) = &settings.connection {
        assert!(!hops.is_empty());
        hops.iter().for_each(|hop| hop.split('@').for_each(user_name));
    }
    let ssh_config = settings.submit.as_ref().and_then(|submit| submit.ssh_config.as_ref());
    for path in settings.ssh_private_key.iter().chain(&settings.runner_script).chain(shared_dir).chain(ssh_config) {
        assert!(path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir));
        plain(&path.to_string_lossy(), "._/@+,:=-");
    }
    match &settings.endpoint_host {
        EndpointHost::Template(template) => {
            assert_eq!(template.matches("{node}").count(), 1);
            plain(&template.replace("{node}", "n"), "._:-");
        }
        EndpointHost::Runner { pattern } => plain(pattern, "*._:-"),
    }
    if let Connection::Proxy { template, login_host, login_user } = &settings.connection {
        let chain = !template.contains("{loginHost}");
        plain(login_host, if chain { "._:,-" } else { "._:-" });
        user_name(login_user);
        assert!(!template.contains('\''));
        let values = config::proxy::PLACEHOLDERS.iter().map(|name| (*name, "v".to_owned())).collect();
        let command = settings.connection.proxy_command(&values).expect("a proxy has a command");
        line(&command);
        assert!(!command.contains('\''));
    }
}

/// Output as a command would have left it: the first byte says how it ended, a NUL parts stdout and stderr.
fn output(bytes: &[u8]) -> Output {
    let (how, text) = bytes.split_first().unwrap_or((&0, &[]));
    let end = match how % 8 {
        0..=3 => End::Exit(0),
        4 => End::Exit(1),
        5 => End::Exit(255),
        6 => End::Signal(9),
        _ => End::DeadlinePassed,
    };
    let mut parts = text.splitn(2, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default().to_vec();
    Output { end, stdout: part(), stderr: part(), took: Duration::from_secs(1) }
}

/// The mark of the query: few bytes of it are enough for a fuzzer to find.
pub fn mark() -> Mark {
    Mark::parse(MARK).expect("32 hex digits")
}

pub const MARK: &str = "00000000000000000000000000000001";

/// squeue's answer. The second and third byte say where a cut copy of it ends.
pub fn squeue(bytes: &[u8]) {
    let Some((how, [high, low, text @ ..])) = bytes.split_first() else { return };
    let output = output(&[&[*how], text].concat());
    let at = usize::from(u16::from_be_bytes([*high, *low]));
    for cluster in [None, Some("annex")] {
        cut_listing(&output, cluster, at);
    }
    let job = JobId { id: 7, cluster: None };
    match squeue::parse_single(&output, &mark(), &job) {
        Ok(Some(row)) => assert_eq!(row.job.id, 7),
        Ok(None) => assert!(output.end == End::Exit(1) && output.stderr_text().contains("Invalid job id specified")),
        Err(why) => line(&why.0),
    }
}

/// A listing, and what is left of it when it is cut after `at` bytes: complete with fewer jobs only when the cut lies
/// exactly between two rows, where nothing shows it (squeue prints neither a count nor a last line).
pub fn cut_listing(output: &Output, cluster: Option<&str>, at: usize) {
    let Some(whole) = listing(output, cluster) else { return };
    let at = at % (output.stdout.len() + 1);
    let cut = Output { stdout: output.stdout[..at].to_vec(), ..output.clone() };
    let Some(cut_listing) = listing(&cut, cluster) else { return };
    if whole.complete && cut_listing.complete {
        let ids = |listing: &Listing| listing.rows.iter().map(|row| row.job.clone()).collect::<Vec<_>>();
        assert!(ids(&whole).starts_with(&ids(&cut_listing)));
        let text = cut.stdout_text();
        let last = text.trim_end();
        let between = last.is_empty() || last.ends_with('$') || last.ends_with("CLUSTER: annex");
        assert!(between, "cut at {at}: {last:?}");
    }
}

fn listing(output: &Output, cluster: Option<&str>) -> Option<Listing> {
    match squeue::parse_listing(output, &mark(), cluster) {
        Ok(listing) => {
            assert!(output.success());
            assert!(!listing.complete || output.stderr_text().trim().is_empty());
            let printed = output.stdout_text();
            for row in &listing.rows {
                assert_eq!(row.job.cluster.as_deref(), cluster);
                assert!(printed.contains(row.state.word()) && printed.contains(&row.comment));
            }
            Some(listing)
        }
        Err(why) => {
            line(&why.0);
            None
        }
    }
}

/// sbatch's answer.
pub fn sbatch(bytes: &[u8]) {
    sbatch_output(&output(bytes));
}

/// A submission counts only when a line is an id and nothing else, and sbatch ended well.
pub fn sbatch_output(output: &Output) {
    let printed = output.stdout_text();
    let ids = || printed.lines().filter(|text| is_id(text));
    match sbatch::outcome(output) {
        Outcome::Submitted(job) => {
            assert_eq!(output.end, End::Exit(0));
            let line = ids().next().expect("a line that is an id").trim_end_matches('\r').trim_start_matches('0');
            assert_eq!((job.to_string().as_str(), ids().count()), (line, 1));
        }
        Outcome::Unknown { said, .. } => {
            line(&said);
        }
        Outcome::NoJob { said, .. } | Outcome::NotSent { said } => {
            line(&said);
            assert!(matches!(output.end, End::Exit(code) if code != 0));
        }
    }
}

/// `id` or `id;cluster`.
pub fn is_id(text: &str) -> bool {
    let text = text.trim_end_matches('\r');
    let (id, cluster) = text.split_once(';').map_or((text, None), |(id, cluster)| (id, Some(cluster)));
    let number = !id.is_empty() && id.chars().all(|c| c.is_ascii_digit()) && id.parse::<u64>().is_ok_and(|id| id > 0);
    let named = cluster.is_none_or(|name| {
        !name.is_empty()
            && name.len() <= 1024
            && !name.starts_with('-')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    });
    number && named
}

/// sacct's answer: an end is believed only of the very job.
pub fn sacct(bytes: &[u8]) {
    // `|` stands for the mark, which a fuzzer would hardly find.
    let text = String::from_utf8_lossy(bytes);
    let marked = text.replace('|', MARK);
    for submitted in [None, Some(100)] {
        if let Some(ended) = sacct::parse(&marked, &mark(), 7, "cbx-4b38f35d4e31", submitted) {
            assert_eq!(ended.state.class(), Class::Ended);
            let told = |line: &str| {
                let fields: Vec<&str> = line.split('|').collect();
                fields.len() == 5
                    && fields[0].parse() == Ok(7)
                    && (fields[1], fields[2], fields[4]) == (ended.state.word(), &ended.exit, "cbx-4b38f35d4e31")
            };
            assert!(text.lines().any(told));
        }
    }
}

/// An endpoint file. What follows a line end outside of JSON's own is not looked at: the bytes are one file.
pub fn endpoint(bytes: &[u8]) {
    let nonce = Nonce::parse(NONCE).expect("a nonce");
    match endpoint_file::parse(bytes, &nonce) {
        Ok(published) => {
            assert!(published.port > 0 && published.host_keys.len() <= 4);
            plain(&published.host, "._:-");
            for key in &published.host_keys {
                line(key);
                assert_eq!(key.split(' ').count(), 2, "{key:?}");
            }
            for rule in ["{node}", "{node}-ib.example"].map(|text| EndpointHost::Template(text.to_owned())) {
                assert!(endpoint_file::host(&rule, "n1", &published).is_ok_and(|host| host.starts_with("n1")));
            }
            for pattern in ["*", "*.example", "gw*.ex*"] {
                let rule = EndpointHost::Runner { pattern: pattern.to_owned() };
                if let Ok(host) = endpoint_file::host(&rule, "n1", &published) {
                    assert!(!host.is_empty());
                    plain(&host, "._:-");
                }
            }
        }
        Err(why) => assert!(why.len() < 2000, "{why}"),
    }
    // The same bytes as the node that Slurm names.
    let node = String::from_utf8_lossy(bytes);
    let published = endpoint_file::Published { host: node.clone().into_owned(), port: 1, host_keys: vec![] };
    for rule in [EndpointHost::Template("{node}".to_owned()), EndpointHost::Runner { pattern: "*".to_owned() }] {
        if let Ok(host) = endpoint_file::host(&rule, &node, &published) {
            assert!(!host.is_empty() && host.len() <= 253);
            plain(&host, "._:-");
        }
    }
}

/// A record: what is read is written back the same, and can be judged at any time of any clock.
pub fn record(bytes: &[u8]) {
    let Ok(record) = format::read(bytes) else { return };
    let written = format::write(&record).expect("a record can be written");
    assert_eq!(format::read(&written), Ok(record.clone()));
    for uptime in [0, 2000, 1_800_000_000] {
        let now = Now { epoch: 0, uptime };
        let empty = Ok(Listing { rows: vec![], complete: true });
        let view = allocation::view(&record, &empty);
        classify(&record, &view.observation, now);
        open_submission(&record, now);
        let silence = allocation::view(&record, &Ok(Listing { rows: vec![], complete: false }));
        if settle::next_step(&record, &silence, now) == Step::Gone {
            assert!(record.ended.is_some() || record.attempt.sent.is_none());
        }
    }
}

/// The first word of a comment.
pub fn comment(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(word) = record::comment(&text) {
        let again = format!("cbx:{}:{}:{}", word.lease_id, word.nonce, word.instance);
        assert_eq!(text.split_whitespace().next(), Some(again.as_str()));
        assert!(!word.instance.contains(':'));
    }
}
