//! What a site may ask of sbatch: resource keys with their own syntax, and further options from an allow-list.
//!
//! sbatch accepts abbreviations (`--outp=x` is `--output`), takes a bare word for the script's name and `:` for a
//! second component of a heterogeneous job, so extra arguments are full `--name=value` of known names only
//! (docs/facts/slurm.md, "Options that sbatch takes by mistake").

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time_limit::is_time;
use super::value::{Reader, is_line, is_word};

/// Checked options for sbatch, in the order they are passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    pub options: Vec<String>,
    /// Short description for people: `batch 2c/4G/gpu:1`.
    pub summary: String,
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
pub const EXTRA_FLAGS: &[&str] =
    &["contiguous", "disable-stdout-job-summary", "oversubscribe", "overcommit", "spread-job", "use-min-nodes"];

/// Options that have a config key of their own; the table doubles as the list of plain word keys.
const WORD_KEYS: &[(&str, &str, &str)] = &[
    ("account", "account", "_.@+-"),
    ("partition", "partition", "_.,@+-"),
    ("qos", "qos", "_.,@+-"),
    ("gres", "gres", "_.,:/()=@+-"),
    ("gpus", "gpus", "_.,:-"),
    ("constraint", "constraint", "_.,&|*:()[]!@+-"),
    ("reservation", "reservation", "_.,@+-"),
    ("nodelist", "nodelist", "_.,[]-"),
    ("exclude", "exclude", "_.,[]-"),
    ("licenses", "licenses", "_.,:@|/-"),
];

/// Reads all keys that become options of sbatch.
pub fn read(reader: &mut Reader<'_>) -> Resources {
    let mut options = Vec::new();
    let mut words = std::collections::BTreeMap::new();
    for &(key, option, extra) in WORD_KEYS {
        let allowed = format!("a word of letters, digits and {extra}");
        if let Some(text) = reader.text(key, &allowed, |text| is_word(text, extra)) {
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
        (Some(_), [one, ..]) => reader.complain_all(format!(
            "config key \"mem\" and {one} in \"extraSbatchArgs\" both ask for memory; use one of them"
        )),
        (None, [one, other]) => {
            reader.complain_all(format!("config key \"extraSbatchArgs\" has both {one} and {other}; use one of them"))
        }
        _ => {}
    }
    options.extend(extra);
    if words.contains_key("gpus") && words.get("gres").is_some_and(|gres| gres.split(',').any(asks_for_gpus)) {
        reader.complain_all("config keys \"gpus\" and \"gres\" both ask for GPUs; use one of them");
    }
    Resources { summary: summary(&words, cpus, mem.as_deref()), options }
}

/// Whether an item of gres is the GPU itself, and not what a site counts beside it, such as gpumem.
fn asks_for_gpus(item: &str) -> bool {
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
        Some(value) if EXTRA_OPTIONS.contains(&name) => {
            if is_line(value, 1024) && value.trim() == value {
                Ok(text.to_owned())
            } else {
                Err("one line of text as its value".into())
            }
        }
        None if EXTRA_FLAGS.contains(&name) => Ok(text.to_owned()),
        None if EXTRA_OPTIONS.contains(&name) => Err(format!("--{name}=VALUE in one string")),
        Some(_) if EXTRA_FLAGS.contains(&name) => Err(format!("--{name} without a value")),
        _ => Err(format!("one of the full names {} (=VALUE), {}", EXTRA_OPTIONS.join(", "), EXTRA_FLAGS.join(", "))),
    }
}

fn is_size(text: &str) -> bool {
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

    #[test]
    fn options_and_summary() {
        let value = json!({"partition": "batch", "cpus": "2", "mem": "4G", "gres": "gpu:1", "timeLimit": "1:30", "nodes": 1,
            "exclusive": "user", "extraSbatchArgs": ["--ntasks=1"], "qos": "--x", "tmp": "lots"});
        let mut reader = Reader::new(value.as_object().unwrap());
        let resources = read(&mut reader);
        assert_eq!(resources.summary, "batch 2c/4G/gpu:1");
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
                "--ntasks=1"
            ]
        );
        assert_eq!(reader.finish().len(), 2);
    }
}
