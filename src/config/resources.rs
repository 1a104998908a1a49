//! What a site may ask of sbatch: resource keys with their own syntax, and further options from an allow-list.
//!
//! sbatch accepts abbreviations (`--outp=x` is `--output`), takes a bare word for the script's name and `:` for a
//! second component of a heterogeneous job, so extra arguments are full `--name=value` of known names only
//! (docs/facts/slurm.md, "Options that sbatch takes by mistake").

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time_limit::is_time;
use super::value::{Reader, is_line, is_name};

/// Checked options for sbatch, in the order they are passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub options: Vec<String>,
    /// Those of them that only a site's own list can allow.
    #[serde(default)]
    pub site_options: Vec<String>,
    /// Short description for people: `batch 2c/4G/gpu:1`.
    pub summary: String,
}

/// How sbatch is asked for a time limit.
const TIME: &str = "--time=";

impl Resources {
    /// The time limit that is asked for.
    pub fn time_limit(&self) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(TIME))
    }

    /// Whether GPUs are asked for, in any of the ways.
    pub fn wants_gpus(&self) -> bool {
        self.options.iter().filter_map(|option| option.strip_prefix("--")?.split_once('=')).any(|(name, value)| {
            match name {
                "gres" | "tres-per-task" => value.split(',').any(asks_for_gpus),
                name => matches!(name, "gpus" | "gpus-per-node" | "gpus-per-socket" | "gpus-per-task"),
            }
        })
    }

    /// The same with another time limit in the place of the one that is asked for, in minutes.
    #[must_use]
    pub fn with_minutes(&self, minutes: u64) -> Resources {
        let option = |option: &String| match option.starts_with(TIME) {
            true => format!("{TIME}{minutes}"),
            false => option.clone(),
        };
        Resources { options: self.options.iter().map(option).collect(), ..self.clone() }
    }
}

/// Options that may be given in `extraSbatchArgs`: they shape the allocation and nothing else. Left out on purpose
/// is all that changes identity, output, environment, the number of jobs, or whether and when sbatch answers.
pub const EXTRA_OPTIONS: &[&str] = &[
    "acctg-freq",
    "bb",
    "cluster-constraint",
    "core-spec",
    "cores-per-socket",
    "cpu-freq",
    "cpus-per-gpu",
    "deadline",
    "delay-boot",
    "mcs-label",
    "oom-kill-step",
    "segment",
    "distribution",
    "extra-node-info",
    "gpu-bind",
    "gpu-freq",
    "gpus-per-node",
    "gpus-per-socket",
    "gpus-per-task",
    "hint",
    "mail-type",
    "mail-user",
    "mem-bind",
    "mem-per-cpu",
    "mem-per-gpu",
    "mincpus",
    "network",
    "nice",
    "ntasks",
    "ntasks-per-core",
    "ntasks-per-gpu",
    "ntasks-per-node",
    "ntasks-per-socket",
    "prefer",
    "profile",
    "propagate",
    "sockets-per-node",
    "switches",
    "thread-spec",
    "threads-per-core",
    "time-min",
    "tres-per-task",
    "wckey",
];

/// Options without a value that may be given.
pub const EXTRA_FLAGS: &[&str] = &[
    "contiguous",
    "disable-stdout-job-summary",
    "oom-kill-step",
    "oversubscribe",
    "overcommit",
    "spread-job",
    "stepmgr",
    "use-min-nodes",
];

/// Options that no list can allow: they change whose the job is, its name, output, environment or number, when it starts, or what
/// sbatch answers. sbatch takes an option's beginning for the option, so theirs are refused too.
const NEVER: &[&str] = &[
    "array",
    "batch",
    "begin",
    "chdir",
    "clusters",
    "comment",
    "dependency",
    "error",
    "export",
    "export-file",
    "get-user-env",
    "gid",
    "help",
    "hold",
    "ignore-pbs",
    "input",
    "job-name",
    "kill-on-invalid-dep",
    "no-requeue",
    "open-mode",
    "output",
    "parsable",
    "quiet",
    "requeue",
    "signal",
    "test-only",
    "uid",
    "usage",
    "user",
    "verbose",
    "version",
    "wait",
    "wait-all-nodes",
    "workdir",
    "wrap",
];

/// Keys of plain words: the key, its option, and what may stand in it beside letters and digits.
pub const WORD_KEYS: &[(&str, &str, &str)] = &[
    ("account", "account", " _.@+/:%&#~-"),
    ("partition", "partition", "_.,@+/:%-"),
    ("qos", "qos", " _.,@+/:%&#~-"),
    ("gres", "gres", "_.,:/()=@+-"),
    ("gpus", "gpus", "_.,:+-"),
    ("constraint", "constraint", "_.,&|*:()[]!@+=/%-"),
    ("reservation", "reservation", " _.,@+/:%-"),
    ("nodelist", "nodelist", "_.,[]-"),
    ("exclude", "exclude", "_.,[]-"),
    ("licenses", "licenses", "_.,:@|/-"),
];

/// Reads all keys that become options of sbatch.
pub fn read(reader: &mut Reader<'_>) -> Resources {
    let mut options = Vec::new();
    let mut words = std::collections::BTreeMap::new();
    for &(key, option, extra) in WORD_KEYS {
        let allowed = match extra.strip_prefix(' ') {
            Some(extra) => format!("a name of letters, digits, blanks and {extra}"),
            None => format!("a word of letters, digits and {extra}"),
        };
        if let Some(text) = reader.text(key, &allowed, |text| is_name(text, extra)) {
            options.push(format!("--{option}={text}"));
            words.insert(key, text);
        }
    }
    let cpus = reader.number("cpus", 1, 100_000);
    options.extend(cpus.map(|n| format!("--cpus-per-task={n}")));
    let size = "a size such as 512M, 4G or 1T";
    let mem = reader.text("mem", size, is_size);
    options.extend(mem.as_ref().map(|text| format!("--mem={text}")));
    options.extend(reader.text("tmp", size, is_size).map(|text| format!("--tmp={text}")));
    let time =
        reader.text("timeLimit", "Slurm's time: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS, not 0", is_time);
    options.extend(time.map(|text| format!("--time={text}")));
    let nodes = reader.text("nodes", "a number of nodes such as 1 or 1-2", is_node_count);
    options.extend(nodes.map(|text| format!("--nodes={text}")));
    options.extend(exclusive(reader));
    let extra = extra_arguments(reader);
    let per = |name: &&str| extra.iter().any(|option| option.split('=').next() == Some(*name));
    let memory: Vec<&str> = ["--mem-per-cpu", "--mem-per-gpu"].into_iter().filter(per).collect();
    match (&mem, &memory[..]) {
        (Some(_), [one, ..]) => reader.complain_of(
            &["mem", "extraSbatchArgs"],
            format!("config key \"mem\" and {one} in \"extraSbatchArgs\" both ask for memory; use one of them"),
        ),
        (None, [one, other]) => reader.complain_of(
            &["extraSbatchArgs"],
            format!("config key \"extraSbatchArgs\" has both {one} and {other}; use one of them"),
        ),
        _ => {}
    }
    options.extend(extra.iter().cloned());
    if words.contains_key("gpus") && words.get("gres").is_some_and(|gres| gres.split(',').any(asks_for_gpus)) {
        let text = "config keys \"gpus\" and \"gres\" both ask for GPUs; use one of them";
        reader.complain_of(&["gpus", "gres"], text);
    }
    let is_site = |option: &&String| option_name(option).is_some_and(|name| !is_known(name));
    let site_options = extra.iter().filter(is_site).cloned().collect();
    Resources { summary: summary(&words, cpus, mem.as_deref()), options, site_options }
}

/// Whether an item of gres is the GPU itself, and not what a site counts beside it, such as gpumem.
pub(super) fn asks_for_gpus(item: &str) -> bool {
    let item = item.strip_prefix("gres/").or_else(|| item.strip_prefix("gres:")).unwrap_or(item);
    item.split([':', '=', '/', '(']).next() == Some("gpu")
}

fn summary(words: &std::collections::BTreeMap<&str, String>, cpus: Option<u64>, mem: Option<&str>) -> String {
    let mut parts = Vec::new();
    parts.extend(cpus.map(|n| format!("{n}c")));
    parts.extend(mem.map(str::to_owned));
    parts.extend(words.get("gres").cloned());
    parts.extend(words.get("gpus").map(|gpus| format!("gpu:{gpus}")));
    let partition = words.get("partition").map_or("slurm", String::as_str);
    if parts.is_empty() { partition.to_owned() } else { format!("{partition} {}", parts.join("/")) }
}

fn exclusive(reader: &mut Reader<'_>) -> Option<String> {
    let value = reader.raw("exclusive")?;
    match value {
        Value::Bool(true) => return Some("--exclusive".into()),
        Value::Bool(false) => return None,
        Value::String(word) => match word.as_str() {
            "true" | "yes" => return Some("--exclusive".into()),
            "false" | "no" => return None,
            "user" | "mcs" | "topo" => return Some(format!("--exclusive={word}")),
            _ => {}
        },
        _ => {}
    }
    reader.complain("exclusive", value, "true, false, user, mcs or topo");
    None
}

fn extra_arguments(reader: &mut Reader<'_>) -> Vec<String> {
    const KEY: &str = "extraSbatchArgs";
    let Some(value) = reader.raw(KEY) else {
        return Vec::new();
    };
    let Value::Array(items) = value else {
        reader.complain(KEY, value, "an array of strings of the form --name=value");
        return Vec::new();
    };
    let mut options = Vec::new();
    for item in items {
        match item.as_str().map(extra_argument) {
            Some(Ok(option)) => options.push(option),
            Some(Err(why)) => reader.complain(KEY, item, &why),
            None => reader.complain(KEY, item, "strings only, each of the form --name=value"),
        }
    }
    options
}

pub(super) fn option_name(option: &str) -> Option<&str> {
    option.strip_prefix("--")?.split('=').next()
}

/// Whether everybody may ask for an option.
fn is_known(name: &str) -> bool {
    EXTRA_OPTIONS.contains(&name) || EXTRA_FLAGS.contains(&name)
}

/// Options of Slurm that cannot stand in `extraSbatchArgs`: they have a key of their own, or no list can allow them.
pub fn refused_options() -> impl Iterator<Item = &'static str> {
    let keys = WORD_KEYS.iter().map(|(_, option, _)| *option);
    keys.chain(["cpus-per-task", "mem", "time", "nodes", "tmp", "exclusive"]).chain(NEVER.iter().copied())
}

/// Whether a name can be a site's own option, and neither is nor begins one of Slurm's that have their own rule.
fn may_be_the_sites(name: &str) -> bool {
    let mut slurms = refused_options().chain(EXTRA_OPTIONS.iter().copied()).chain(EXTRA_FLAGS.iter().copied());
    name.len() > 1
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        && !name.starts_with('-')
        && !slurms.any(|option| option.starts_with(&name.to_ascii_lowercase()))
}

fn extra_argument(text: &str) -> Result<String, String> {
    let body = text.strip_prefix("--").ok_or("the form --name=value only, no short options and no separate values")?;
    let (name, value) = match body.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (body, None),
    };
    let key = WORD_KEYS.iter().find(|(_, option, _)| *option == name).map(|(key, _, _)| *key);
    let key = key.or(match name {
        "cpus-per-task" => Some("cpus"),
        "mem" => Some("mem"),
        "time" => Some("timeLimit"),
        "nodes" => Some("nodes"),
        "tmp" => Some("tmp"),
        "exclusive" => Some("exclusive"),
        "clusters" => Some("clusters"),
        "comment" => Some("comment"),
        _ => None,
    });
    if let Some(key) = key {
        return Err(format!("the config key {key:?} in place of --{name}"));
    }
    match value {
        Some(value) if EXTRA_OPTIONS.contains(&name) || (!is_known(name) && may_be_the_sites(name)) => {
            if is_line(value, 1024) && value.trim() == value {
                Ok(text.to_owned())
            } else {
                Err("one line of text as its value".into())
            }
        }
        None if EXTRA_FLAGS.contains(&name) => Ok(text.to_owned()),
        None if may_be_the_sites(name) => Ok(text.to_owned()),
        None if EXTRA_OPTIONS.contains(&name) => Err(format!("--{name}=VALUE in one string")),
        Some(_) if EXTRA_FLAGS.contains(&name) => Err(format!("--{name} without a value")),
        _ => Err(format!("one of the full names {} (=VALUE), {}", EXTRA_OPTIONS.join(", "), EXTRA_FLAGS.join(", "))),
    }
}

pub(super) fn is_size(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    !digits.is_empty()
        && digits.len() <= 15
        && digits.bytes().all(|b| b.is_ascii_digit())
        && ["", "K", "M", "G", "T", "KB", "MB", "GB", "TB"].contains(&unit.as_str())
}

fn is_node_count(text: &str) -> bool {
    let mut counts = text.splitn(2, '-').map(|part| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u32>().ok()).flatten().filter(|n| *n > 0)
    });
    let (least, most) = (counts.next().flatten(), counts.next());
    match (least, most) {
        (Some(_), None) => true,
        (Some(least), Some(Some(most))) => least <= most,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case("--ntasks=2", None)]
    #[case("--container-image=docker://x", None)]
    #[case("--site-flag", None)]
    #[case("--wra=true", Some("full names"))]
    #[case("--Wrap=true", Some("full names"))]
    #[case("--acc=lab", Some("full names"))]
    #[case("--exp=NONE", Some("full names"))]
    #[case("--nta=2", Some("full names"))]
    #[case("--x;y=2", Some("full names"))]
    #[case("--o", Some("full names"))]
    #[case("--container-image=a\nb", Some("one line"))]
    #[case("--segment=4", None)]
    #[case("--stepmgr", None)]
    #[case("--mcs-label=team", None)]
    #[case("--oom-kill-step", None)]
    #[case("--oom-kill-step=0", None)]
    #[case("--segment", Some("--segment=VALUE"))]
    #[case("--stepmgr=1", Some("without a value"))]
    #[case("--contiguous", None)]
    #[case("--outp=x", Some("full names"))]
    #[case("--job-n=x", Some("full names"))]
    #[case("--output=/tmp/x", Some("full names"))]
    #[case("--wrap=true", Some("full names"))]
    #[case("--array=1-4", Some("full names"))]
    #[case("-M", Some("no short options"))]
    #[case("annex", Some("no short options"))]
    #[case(":", Some("no short options"))]
    #[case("--ntasks", Some("--ntasks=VALUE in one string"))]
    #[case("--contiguous=1", Some("without a value"))]
    #[case("--ntasks=2\n--wait", Some("one line"))]
    #[case("--cpus-per-task=4", Some("config key \"cpus\""))]
    #[case("--clusters=annex", Some("config key \"clusters\""))]
    fn extra_arguments_slip_nothing_through(#[case] text: &str, #[case] complaint: Option<&str>) {
        match (extra_argument(text), complaint) {
            (Ok(option), None) => assert_eq!(option, text),
            (Err(why), Some(expected)) => assert!(why.contains(expected), "{why}"),
            (other, _) => panic!("{text}: {other:?}"),
        }
    }

    #[rstest]
    #[case(json!({"mem": "1G", "extraSbatchArgs": ["--mem-per-cpu=1G"]}), Some("\"mem\" and --mem-per-cpu"))]
    #[case(json!({"mem": "1G", "extraSbatchArgs": ["--mem-per-gpu=1G"]}), Some("\"mem\" and --mem-per-gpu"))]
    #[case(json!({"extraSbatchArgs": ["--mem-per-cpu=1G", "--mem-per-gpu=1G"]}), Some("both --mem-per-cpu and --mem-per-gpu"))]
    #[case(json!({"extraSbatchArgs": ["--mem-per-cpu=1G"]}), None)]
    #[case(json!({"mem": "1G", "extraSbatchArgs": ["--mem-bind=local"]}), None)]
    #[case(json!({"gpus": 1, "gres": "gpu:1"}), Some("both ask for GPUs"))]
    #[case(json!({"gpus": 1, "gres": "lustre,gres/gpu:a100=1"}), Some("both ask for GPUs"))]
    #[case(json!({"gpus": 1, "gres": "gpumem:20g"}), None)]
    #[case(json!({"gpus": 1, "gres": "gpu_mem:20g,gpubind:none"}), None)]
    fn two_ways_to_ask_for_one_thing_are_refused(#[case] value: Value, #[case] complaint: Option<&str>) {
        let mut reader = Reader::new(value.as_object().unwrap());
        read(&mut reader);
        let complaints = reader.finish();
        assert_eq!(complaints.len(), usize::from(complaint.is_some()), "{complaints:?}");
        assert!(complaint.is_none_or(|expected| complaints[0].contains(expected)), "{complaints:?}");
    }

    #[rstest]
    #[case::account("account", "phys/theory:2024 %x", true)]
    #[case::account_in_another_alphabet("account", "physik-süd", true)]
    #[case::account_of_a_shell("account", "a;b", false)]
    #[case::account_with_blanks_around("account", " lab", false)]
    #[case::account_as_an_option("account", "-lab", false)]
    #[case::account_variable("account", "$LAB", false)]
    #[case::two_lines("account", "a\nb", false)]
    #[case::two_accounts("account", "a,b", false)]
    #[case::qos("qos", "long run/50%", true)]
    #[case::two_qos("qos", "a,b", true)]
    #[case::partition("partition", "gpu-a100+mig:1g/x%", true)]
    #[case::partition_with_a_blank("partition", "a b", false)]
    #[case::reservation("reservation", "class 2024", true)]
    #[case::feature("constraint", "[rack1*2&cpu=zen4/3|ib%hdr]", true)]
    #[case::feature_of_a_shell("constraint", "a;b", false)]
    #[case::mig("gpus", "1g.10gb+me:2", true)]
    #[case::mig_as_gres("gres", "gpu:a100_1g.5gb+me:1", true)]
    fn names_as_sites_have_them(#[case] key: &str, #[case] name: &str, #[case] good: bool) {
        let value = json!({key: name});
        let mut reader = Reader::new(value.as_object().unwrap());
        let resources = read(&mut reader);
        let complaints = reader.finish();
        assert_eq!(complaints.is_empty(), good, "{complaints:?}");
        assert_eq!(resources.options, if good { vec![format!("--{key}={name}")] } else { vec![] });
        assert!(
            complaints.iter().all(|text| text.contains(&format!("{key:?}")) && text.contains("allowed is")),
            "{complaints:?}"
        );
    }

    #[test]
    fn options_and_summary() {
        let value = json!({"partition": "batch", "cpus": "2", "mem": "4G", "gres": "gpu:1", "timeLimit": "1:30", "nodes": 1,
            "exclusive": "user", "extraSbatchArgs": ["--ntasks=1", "--container-image=x"], "qos": "--x", "tmp": "lots"});
        let mut reader = Reader::new(value.as_object().unwrap());
        let resources = read(&mut reader);
        assert_eq!(resources.summary, "batch 2c/4G/gpu:1");
        assert_eq!(resources.site_options, ["--container-image=x"]);
        assert_eq!(
            resources.options,
            [
                "--partition=batch",
                "--gres=gpu:1",
                "--cpus-per-task=2",
                "--mem=4G",
                "--time=1:30",
                "--nodes=1",
                "--exclusive=user",
                "--ntasks=1",
                "--container-image=x"
            ]
        );
        assert_eq!(reader.finish().len(), 2);
    }
}
