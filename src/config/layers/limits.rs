//! What a site's admins allow at most. It holds after all layers, for requests made through this program: good manners, that keep
//! people from asking for a week by mistake. What must not happen at all is refused by a QOS.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::amount::{self, Gpus};
use super::tree::{Kind, Mistake, Node};
use crate::config::resources::{asks_for_gpus, is_size, option_name};
use crate::config::spares;
use crate::config::time_limit::{is_time, minutes};
use crate::config::value::{given, scalar};
use crate::config::{IDLE_TIMEOUT_SECONDS, MOST_SECONDS};
use crate::protocol::shown;

/// An amount that may not be exceeded, or a list that may not be left; with the line where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit<T> {
    value: T,
    line: Option<usize>,
}

/// The table `[limits]` of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    file: String,
    most: BTreeMap<&'static str, Limit<String>>,
    partitions: Option<Limit<Vec<String>>>,
    options: Option<Limit<Vec<String>>>,
}

/// What a limit has made of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clamped {
    pub key: &'static str,
    /// Nothing where nothing was asked for.
    pub from: Option<String>,
    pub to: String,
    /// Which limit it was.
    pub by: String,
}

/// What an amount has to be.
struct Amount {
    key: &'static str,
    allowed: &'static str,
    check: fn(&str) -> bool,
}

fn number(text: &str, least: u64, most: u64) -> bool {
    text.parse::<u64>().is_ok_and(|number| (least..=most).contains(&number))
}

const AMOUNTS: &[Amount] = &[
    Amount { key: "timeLimit", allowed: "a time of Slurm such as 08:00:00", check: is_time },
    Amount { key: "cpus", allowed: "a number from 1 to 100000", check: |text| number(text, 1, 100_000) },
    Amount {
        key: "mem",
        allowed: "a size such as 64G, and not 0",
        check: |text| is_size(text) && amount::kibibytes(text).is_some_and(|size| size > 0),
    },
    Amount { key: "gpus", allowed: "a number from 0 to 100000", check: |text| number(text, 0, 100_000) },
    Amount {
        key: "idleTimeoutSeconds",
        allowed: "a number of seconds from 1 to a year",
        check: |text| number(text, 1, MOST_SECONDS),
    },
    Amount { key: "maxLeases", allowed: "a number from 1 to 1000000", check: |text| number(text, 1, 1_000_000) },
    Amount { key: "spares", allowed: "a number from 0 to 32", check: |text| number(text, 0, spares::MOST) },
];

const PARTITIONS: &str = "partitions";
const OPTIONS: &str = "extraSbatchArgs";

impl Limits {
    /// Reads the table, and what is wrong with it.
    pub fn parse(file: &str, node: &Node) -> (Limits, Vec<Mistake>) {
        let mut limits = Limits { file: file.to_owned(), ..Limits::default() };
        let mut mistakes = Vec::new();
        let Kind::Table(tree) = &node.kind else {
            let text = "\"limits\" is no table; write [limits] and its keys below".to_owned();
            return (limits, vec![Mistake { line: node.line, text }]);
        };
        for (key, node) in tree {
            let line = node.line;
            let mut complain = |text| mistakes.push(Mistake { line, text });
            let list = || names(&node.value()).map(|value| Limit { value, line });
            match AMOUNTS.iter().find(|amount| amount.key == key) {
                Some(amount) => match scalar(&node.value()).filter(|text| (amount.check)(text)) {
                    Some(value) => drop(limits.most.insert(amount.key, Limit { value, line })),
                    None => complain(format!(
                        "the limit {key:?} is {}; allowed is {}",
                        shown(&node.value()),
                        amount.allowed
                    )),
                },
                None if key == PARTITIONS || key == OPTIONS => match list() {
                    Some(list) if key == PARTITIONS => limits.partitions = Some(list),
                    Some(list) => limits.options = Some(list),
                    None => {
                        complain(format!("the limit {key:?} is {}; allowed is an array of names", shown(&node.value())))
                    }
                },
                None => complain(format!(
                    "the limit {key:?} is unknown; there are {}, {PARTITIONS} and {OPTIONS}",
                    AMOUNTS.iter().map(|amount| amount.key).collect::<Vec<_>>().join(", ")
                )),
            }
        }
        (limits, mistakes)
    }

    /// Each limit with its value, for people.
    pub fn shown(&self) -> Vec<(String, String)> {
        let list = |names: &Limit<Vec<String>>| names.value.join(", ");
        let most = self.most.iter().map(|(key, limit)| ((*key).to_owned(), limit.value.clone()));
        let partitions = self.partitions.iter().map(|limit| (PARTITIONS.to_owned(), list(limit)));
        let options = self.options.iter().map(|limit| (OPTIONS.to_owned(), list(limit)));
        most.chain(partitions).chain(options).collect()
    }

    /// The longest idle time that a touch may set as well, in seconds.
    pub fn most_idle(&self) -> Option<u64> {
        self.most.get("idleTimeoutSeconds").and_then(|limit| limit.value.parse().ok())
    }

    /// The most spares of all pools.
    pub fn most_spares(&self) -> Option<u64> {
        self.most.get("spares").and_then(|limit| limit.value.parse().ok())
    }

    fn by<T>(&self, limit: &Limit<T>) -> String {
        match limit.line {
            Some(line) => format!("{}, line {line}", self.file),
            None => self.file.clone(),
        }
    }

    /// Holds a valid configuration to the limits: what was clamped, and what is refused since nothing could be put in its place.
    pub fn apply(&self, config: &mut Map<String, Value>) -> (Vec<Clamped>, Vec<String>) {
        let mut clamped = Vec::new();
        let mut refused = Vec::new();
        for (key, limit) in &self.most {
            let most = limit.value.as_str();
            if *key == "gpus" {
                let (changed, complaints) = gpus(config, most, &self.by(limit));
                clamped.extend(changed);
                refused.extend(complaints);
                continue;
            }
            let asked = given(config, key).and_then(scalar);
            if exceeds(key, asked.as_deref(), most) {
                config.insert((*key).to_owned(), json(most));
                clamped.push(Clamped { key, from: asked, to: most.to_owned(), by: self.by(limit) });
            }
        }
        if let Some(limit) = &self.partitions {
            let asked = given(config, "partition").and_then(scalar).unwrap_or_default();
            let other =
                asked.split(',').filter(|name| !name.is_empty() && !limit.value.iter().any(|known| known == name));
            refused.extend(other.map(|name| {
                let (by, known) = (self.by(limit), limit.value.join(", "));
                format!("partition {name:?} is not allowed by the limits of {by}; allowed are {known}")
            }));
        }
        if let Some(limit) = &self.options {
            let known = match &limit.value[..] {
                [] => "none are allowed".to_owned(),
                known => format!("allowed are {}", known.join(", ")),
            };
            let asked = config.get("extraSbatchArgs").and_then(Value::as_array).into_iter().flatten();
            let other = asked
                .filter_map(Value::as_str)
                .filter(|option| option_name(option).is_none_or(|name| !limit.value.iter().any(|known| known == name)));
            refused.extend(other.map(|option| {
                let by = self.by(limit);
                format!("{option:?} in \"extraSbatchArgs\" is not allowed by the limits of {by}; {known}")
            }));
        }
        (clamped, refused)
    }
}

/// A list of names; options may be written as on a command line.
fn names(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array()?.iter().map(|item| item.as_str().map(|text| text.trim_start_matches("--").to_owned()));
    items.collect::<Option<Vec<_>>>().filter(|names| names.iter().all(|name| !name.is_empty() && !name.contains('=')))
}

/// A number where the text is one: a program that reads the configuration gets it as a person would have written it.
fn json(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| text.into(), Value::from)
}

/// Whether what is asked for is above a limit. Of what is not asked for Slurm's own default holds, or the program's.
fn exceeds(key: &str, asked: Option<&str>, most: &str) -> bool {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (key, asked) {
        ("timeLimit", Some(asked)) => {
            minutes(asked).zip(minutes(most)).is_some_and(|(asked, most)| match (asked, most) {
                (Some(asked), Some(most)) => asked > most,
                (None, Some(_)) => true,
                (_, None) => false,
            })
        }
        // 0 stands for all memory of a node.
        ("mem", Some(asked)) => {
            amount::kibibytes(asked).is_some_and(|size| size == 0) || amount::kibibytes(asked) > amount::kibibytes(most)
        }
        // 0 stands for no end.
        ("idleTimeoutSeconds", asked) => {
            let asked = asked.and_then(number).unwrap_or(IDLE_TIMEOUT_SECONDS);
            asked == 0 || number(most).is_some_and(|most| asked > most)
        }
        ("maxLeases", None) => true,
        (_, Some(asked)) => number(asked).zip(number(most)).is_some_and(|(asked, most)| asked > most),
        (_, None) => false,
    }
}

/// GPUs are asked for in several ways; each way is held to the limit by itself.
fn gpus(config: &mut Map<String, Value>, most: &str, by: &str) -> (Vec<Clamped>, Vec<String>) {
    let most = most.parse().unwrap_or(u64::MAX);
    let (mut clamped, mut refused) = (Vec::new(), Vec::new());
    let mut hold = |key: &'static str, text: &str, is_gpu: fn(&str) -> bool| match amount::gpus(text, most, is_gpu) {
        Gpus::Fits => None,
        Gpus::Clamped(to) => {
            clamped.push(Clamped { key, from: Some(text.to_owned()), to: to.clone(), by: by.to_owned() });
            Some(to)
        }
        Gpus::TooMany(count) => {
            refused.push(format!("{key:?} asks for {count} GPU(s) by {text:?}, and the limits of {by} allow {most}"));
            None
        }
    };
    if let Some(to) = given(config, "gpus").and_then(scalar).and_then(|text| hold("gpus", &text, |_| true)) {
        config.insert("gpus".into(), json(&to));
    }
    if let Some(to) = given(config, "gres").and_then(scalar).and_then(|text| hold("gres", &text, asks_for_gpus)) {
        config.insert("gres".into(), to.into());
    }
    const PER: &[&str] = &["gpus-per-node", "gpus-per-socket", "gpus-per-task"];
    if let Some(Value::Array(options)) = config.get_mut("extraSbatchArgs") {
        for option in options {
            let Some((name, text)) = option.as_str().and_then(|option| option.strip_prefix("--")?.split_once('='))
            else {
                continue;
            };
            if PER.contains(&name)
                && let Some(to) = hold("extraSbatchArgs", text, |_| true)
            {
                *option = format!("--{name}={to}").into();
            }
        }
    }
    (clamped, refused)
}

#[cfg(test)]
mod tests {
    use super::super::tree;
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    fn limits(text: &str) -> Limits {
        let tree = tree::toml(&format!("[limits]\n{text}\n")).unwrap();
        let (limits, mistakes) = Limits::parse("/etc/c.toml", &tree["limits"]);
        assert_eq!(mistakes, []);
        limits
    }

    #[rstest]
    #[case::within("timeLimit = \"08:00:00\"", json!({"timeLimit": "480"}), None)]
    #[case::a_longer_time("timeLimit = \"08:00:00\"", json!({"timeLimit": "1-0"}), Some(json!({"timeLimit": "08:00:00"})))]
    #[case::an_unquoted_time("timeLimit = 08:00:00", json!({"timeLimit": "24:00:00"}), Some(json!({"timeLimit": "08:00:00"})))]
    #[case::minutes("timeLimit = 60", json!({"timeLimit": 90}), Some(json!({"timeLimit": 60})))]
    #[case::no_time_is_slurms_default("timeLimit = 60", json!({}), None)]
    #[case::cpus("cpus = 8", json!({"cpus": "16"}), Some(json!({"cpus": 8})))]
    #[case::as_many_cpus("cpus = 8", json!({"cpus": 8}), None)]
    #[case::mem("mem = \"64G\"", json!({"mem": "1T"}), Some(json!({"mem": "64G"})))]
    #[case::mem_in_other_units("mem = \"64G\"", json!({"mem": "65536"}), None)]
    #[case::all_mem("mem = \"64G\"", json!({"mem": 0}), Some(json!({"mem": "64G"})))]
    #[case::gpus("gpus = 2", json!({"gpus": 4}), Some(json!({"gpus": 2})))]
    #[case::gpus_of_a_type("gpus = 2", json!({"gpus": "a100:4"}), Some(json!({"gpus": "a100:2"})))]
    #[case::gpus_as_gres("gpus = 2", json!({"gres": "lustre,gpu:a100:4"}), Some(json!({"gres": "lustre,gpu:a100:2"})))]
    #[case::gres_that_is_none("gpus = 0", json!({"gres": "lustre:4"}), None)]
    #[case::gpus_per_node("gpus = 2", json!({"extraSbatchArgs": ["--gpus-per-node=4", "--ntasks=9"]}),
                          Some(json!({"extraSbatchArgs": ["--gpus-per-node=2", "--ntasks=9"]})))]
    #[case::idle("idleTimeoutSeconds = 900", json!({"idleTimeoutSeconds": 3600}), Some(json!({"idleTimeoutSeconds": 900})))]
    #[case::never_idle("idleTimeoutSeconds = 900", json!({"idleTimeoutSeconds": 0}), Some(json!({"idleTimeoutSeconds": 900})))]
    #[case::the_default_is_longer("idleTimeoutSeconds = 900", json!({}), Some(json!({"idleTimeoutSeconds": 900})))]
    #[case::the_default_is_shorter("idleTimeoutSeconds = 7200", json!({}), None)]
    #[case::fewer_leases("maxLeases = 4", json!({"maxLeases": 2}), None)]
    #[case::any_number_of_leases("maxLeases = 4", json!({}), Some(json!({"maxLeases": 4})))]
    #[case::spares("spares = 1", json!({"spares": 3}), Some(json!({"spares": 1})))]
    #[case::no_spares("spares = 1", json!({}), None)]
    #[case::absent_values("cpus = 1", json!({"cpus": null, "mem": ""}), None)]
    fn amounts_are_clamped(#[case] limit: &str, #[case] config: Value, #[case] expected: Option<Value>) {
        let mut held = config.as_object().unwrap().clone();
        let (clamped, refused) = limits(limit).apply(&mut held);
        assert_eq!(
            (Value::from(held), clamped.len()),
            (expected.clone().unwrap_or(config), usize::from(expected.is_some()))
        );
        assert_eq!(refused, Vec::<String>::new());
        assert!(clamped.iter().all(|clamped| clamped.by == "/etc/c.toml, line 2"));
    }

    #[rstest]
    #[case::partition("partitions = [\"batch\", \"gpu\"]", json!({"partition": "batch,long"}), Some("\"long\""))]
    #[case::allowed_partitions("partitions = [\"batch\", \"gpu\"]", json!({"partition": "gpu,batch"}), None)]
    #[case::slurms_partition("partitions = [\"batch\"]", json!({}), None)]
    #[case::option("extraSbatchArgs = [\"--ntasks\", \"hint\"]", json!({"extraSbatchArgs": ["--nice=1"]}), Some("--nice=1"))]
    #[case::allowed_options("extraSbatchArgs = [\"--ntasks\", \"hint\"]", json!({"extraSbatchArgs": ["--hint=x", "--ntasks=1"]}), None)]
    #[case::no_option("extraSbatchArgs = []", json!({"extraSbatchArgs": ["--contiguous"]}), Some("none are allowed"))]
    #[case::no_gpus("gpus = 0", json!({"gpus": 1}), Some("\"gpus\" asks for 1"))]
    #[case::gpus_of_two_types("gpus = 2", json!({"gpus": "a100:2,v100:1"}), Some("asks for 3"))]
    fn what_cannot_be_clamped_is_refused(#[case] limit: &str, #[case] config: Value, #[case] expected: Option<&str>) {
        let mut held = config.as_object().unwrap().clone();
        let (clamped, refused) = limits(limit).apply(&mut held);
        assert_eq!((clamped.len(), Value::from(held)), (0, config));
        assert_eq!(refused.len(), usize::from(expected.is_some()), "{refused:?}");
        assert!(expected.is_none_or(|words| refused[0].contains(words) && refused[0].contains("/etc/c.toml, line 2")));
    }

    #[rstest]
    #[case("cpuz = 1")]
    #[case("cpus = 0")]
    #[case("mem = \"0\"")]
    #[case("mem = \"lots\"")]
    #[case("timeLimit = \"UNLIMITED\"")]
    #[case("partitions = \"batch\"")]
    #[case("partitions = [1]")]
    #[case("extraSbatchArgs = [\"ntasks=1\"]")]
    #[case("gpus = \"a100:2\"")]
    #[case("idleTimeoutSeconds = 0")]
    fn limits_that_are_none(#[case] text: &str) {
        let tree = tree::toml(&format!("[limits]\n{text}\n")).unwrap();
        let (_, mistakes) = Limits::parse("f", &tree["limits"]);
        assert_eq!(mistakes.iter().map(|mistake| mistake.line).collect::<Vec<_>>(), [Some(2)]);
    }

    #[test]
    fn a_limit_tells_what_it_was() {
        let limits = limits("cpus = 8\npartitions = [\"a\", \"b\"]\nidleTimeoutSeconds = 900");
        let shown: Vec<_> = limits.shown().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(shown, ["cpus=8", "idleTimeoutSeconds=900", "partitions=a, b"]);
        assert_eq!(limits.most_idle(), Some(900));
    }
}
