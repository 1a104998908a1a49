//! The schema of the configuration: a property for each key of the table, with what it takes, and what keys mean for each other.

use serde_json::{Map, Value, json};

use super::pattern::{any_case, beginnings, ipv4, ipv6, line, name, number, ssh_host, whole};
use crate::config::keys::KEYS;
use crate::config::proxy::PLACEHOLDERS;
use crate::config::resources::{EXTRA_FLAGS, EXTRA_OPTIONS, WORD_KEYS, refused_options};
use crate::config::value::SCHEMA_KEY;
use crate::config::{MOST_SECONDS, PREAMBLE_BYTES, SHARED_ROOTS, spares};

/// Characters of a path.
const PATH: &str = "0-9A-Za-z._/@+,:=-";
/// `..` as a part of a path.
const UPWARDS: &str = r"(?:^|/)\.\.(?:/|$)";
/// A place where ssh's `{word}` of the proxy command gets a value; `${word}` is the shell's.
const PLACE: &str = r"(?:^|[^$])\{";

/// The whole schema.
pub fn schema() -> Value {
    let mut properties = Map::new();
    properties.insert(SCHEMA_KEY.into(), json!({"type": "string", "description": "Names this schema, for editors."}));
    for key in KEYS {
        let mut property = shape(key.name).unwrap_or_else(|| json!({}));
        let text = format!("{} Takes: {}. Default: {}.", key.meaning, key.value, key.default);
        property["description"] = text.replace(r"\|", "|").into();
        properties.insert(key.name.to_owned(), property);
    }
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "allOf": rules(),
    })
}

/// What a key takes; `None` for one that nobody has described here.
fn shape(key: &str) -> Option<Value> {
    if let Some((_, _, extra)) = WORD_KEYS.iter().find(|(name, ..)| *name == key) {
        return Some(word(&name(extra, ""), 1024));
    }
    let seconds = |least| integer(least, MOST_SECONDS);
    Some(match key {
        "cpus" => integer(1, 100_000),
        "mem" | "tmp" => counted(0, 999_999_999_999_999, "[0-9]{1,15}(?:[KMGTkmgt][Bb]?)?"),
        "timeLimit" => time_limit(),
        "nodes" => {
            let count = format!("0*{}", number(1, u32::MAX.into()));
            counted(1, u32::MAX.into(), &format!("{count}(?:-{count})?"))
        }
        "exclusive" => one_of(&[true.into(), false.into()], &["true", "yes", "false", "no", "user", "mcs", "topo"]),
        "clusters" => {
            let one = "[0-9A-Za-z_.][0-9A-Za-z_.-]*";
            let mut clusters = word(&format!("{one}(?:,{one})*"), 1024);
            clusters["not"] = json!({"type": "string", "pattern": format!("(?:^|,){}(?:,|$)", any_case("all"))});
            clusters
        }
        "comment" => text(&line(""), 512),
        "extraSbatchArgs" => extra_arguments(),
        "submitHost" => word(&ssh_host(), 253),
        "loginHost" => word(&format!("{0}(?:,{0}){{0,3}}", ssh_host()), 4 * 253 + 3),
        "submitUser" | "loginUser" | "sshUser" => word(&name(r" ._@+\$-", r"\"), 256),
        "sshConfig" | "sshPrivateKey" | "runnerScript" => path(&format!("~|~?/[{PATH}]*"), ""),
        "controlPath" => path(&format!("~|~?/[%{PATH}]*"), ""),
        "sharedDir" => path(&format!("~?/[{PATH}]*"), ""),
        "runnerWorkRoot" => path(&format!("~?/[{PATH}]*"), &format!("|{}", shared_roots())),
        "requireExistingMaster" => {
            let words = ["true", "yes", "on", "1", "false", "no", "off", "0"].map(any_case).join("|");
            json!({"type": ["boolean", "string", "null"], "pattern": whole(&words)})
        }
        "sshMode" => one_of(&[], &["direct", "proxy-through-login", "stdio"]),
        "proxyCommand" => {
            let mut command = text(&line("'"), 4096);
            command["not"] = json!({"type": "string", "pattern": unknown_place()});
            command
        }
        "readyCheck" => text(&line("'"), 4096),
        "launcher" | "onEnding" => text(&line(""), 4096),
        "endpointHost" => {
            let template = r"(?:[0-9A-Za-z._:][0-9A-Za-z._:-]*)?\{node\}[0-9A-Za-z._:-]*";
            let pattern = format!("slurm|runner|runner:[0-9A-Za-z*._:][0-9A-Za-z*._:-]*|{template}");
            json!({"type": ["string", "null"], "maxLength": 1024, "pattern": whole(&pattern)})
        }
        "bindAddress" => {
            json!({"type": ["string", "null"], "pattern": whole(&format!("localhost|{}|{}", ipv4(), ipv6()))})
        }
        "sshPort" => counted(1, 65535, &format!("{0}(?:-{0})?", number(1, 65535))),
        "preamble" => json!({
            "type": ["string", "array", "null"], "maxLength": PREAMBLE_BYTES, "pattern": r"^[^\x00]*$",
            "items": {"type": "string", "pattern": r"^[^\x00]*$"},
        }),
        "acquireTimeoutSeconds" => seconds(1),
        "resolveWaitSeconds" | "idleTimeoutSeconds" | "ttlSeconds" | "takenGraceSeconds" => seconds(0),
        "maxLeases" => integer(1, 1_000_000),
        "spares" => integer(0, spares::MOST),
        "spareSeconds" => seconds(spares::LEAST_SECONDS),
        "spareMinTimeLeft" => seconds(1),
        "reacquire" => one_of(&[], &["always", "attended"]),
        "profile" => word("[0-9A-Za-z_][0-9A-Za-z._-]*", 60),
        _ => return None,
    })
}

/// A whole number, also as a string.
fn integer(min: u64, max: u64) -> Value {
    counted(min, max, &format!(r"\s*\+?0*{}\s*", number(min, max)))
}

/// A whole number, or a string with a form of its own.
fn counted(min: u64, max: u64, pattern: &str) -> Value {
    json!({"type": ["integer", "string", "null"], "minimum": min, "maximum": max, "pattern": whole(pattern)})
}

/// A word that does not begin like an option; a number stands for its digits.
fn word(pattern: &str, chars: usize) -> Value {
    json!({"type": ["string", "number", "null"], "minimum": 0, "maxLength": chars, "pattern": whole(pattern)})
}

fn text(pattern: &str, chars: usize) -> Value {
    json!({"type": ["string", "number", "null"], "maxLength": chars, "pattern": whole(pattern)})
}

/// One of these words, or none.
fn one_of(values: &[Value], words: &[&str]) -> Value {
    let words = words.iter().map(|word| json!(word));
    json!({"enum": values.iter().cloned().chain(words).chain([json!(""), Value::Null]).collect::<Vec<_>>()})
}

/// An absolute path that is none of `refused` either.
fn path(pattern: &str, refused: &str) -> Value {
    let not = json!({"type": "string", "pattern": format!("{UPWARDS}{refused}")});
    json!({"type": ["string", "null"], "maxLength": 1024, "pattern": whole(pattern), "not": not})
}

/// A time of Slurm that is not 0.
fn time_limit() -> Value {
    let (part, more) = ("[0-9]{1,7}", "(?::[0-9]{1,7}){0,2}");
    let mut time = counted(1, 9_999_999, &format!("(?:{part}-)?{part}{more}"));
    time["not"] = json!({"type": "string", "pattern": "^[0:-]+$"});
    time
}

/// Directories that all share, however they are written.
fn shared_roots() -> String {
    let (down, end) = (r"^/(?:\.?/)*", r"(?:/\.?)*$");
    let roots: Vec<_> = SHARED_ROOTS.iter().map(|root| &root[1..]).filter(|root| !root.is_empty()).collect();
    let roots = roots.join("|");
    format!(r"^~{end}|{down}\.?$|{down}(?:{roots}){end}|{down}home/(?:\.?/)*(?:[^/.][^/]*|\.[^/]+){end}")
}

/// A `{word}` that is none of the placeholders.
fn unknown_place() -> String {
    // Each word of letters that leaves all placeholders: after a beginning that some of them share comes another letter, or the end.
    let beginnings: std::collections::BTreeSet<&str> =
        PLACEHOLDERS.iter().flat_map(|word| (0..=word.len()).map(|end| &word[..end])).collect();
    let leave = |beginning: &&str| {
        let next: String = PLACEHOLDERS
            .iter()
            .filter_map(|word| word.strip_prefix(*beginning).and_then(|rest| rest.chars().next()))
            .collect();
        let letters: String = ('A'..='Z').chain('a'..='z').filter(|letter| !next.contains(*letter)).collect();
        let ends = !beginning.is_empty() && !PLACEHOLDERS.contains(beginning);
        format!("{beginning}(?:[{letters}][A-Za-z]*{})", if ends { "|" } else { "" })
    };
    format!(r"{PLACE}(?:{})\}}", beginnings.iter().map(leave).collect::<Vec<_>>().join("|"))
}

/// `--name=value` of the options that may be given, flags, and a site's own, which are neither Slurm's nor begin one of its.
fn extra_arguments() -> Value {
    let value = format!(r"[^\x00-\x20\x7f-\xa0](?:{}[^\x00-\x20\x7f-\xa0])?", r"[^\x00-\x1f\x7f-\x9f]*");
    let known = format!("^--(?:{})={value}$", EXTRA_OPTIONS.join("|"));
    let flag = format!("^--(?:{})$", EXTRA_FLAGS.join("|"));
    let sites = format!("^--[0-9A-Za-z_][0-9A-Za-z_-]+(?:={value})?$");
    let slurms = EXTRA_OPTIONS.iter().chain(EXTRA_FLAGS).copied().chain(refused_options());
    let mut slurms: Vec<&str> = slurms.collect();
    slurms.sort_unstable();
    slurms.dedup();
    let not = format!("^--(?:{})(?:=|$)", beginnings(slurms.into_iter()));
    json!({
        "type": ["array", "string", "null"],
        "maxLength": 0,
        "items": {"type": "string", "maxLength": 1100, "anyOf": [
            {"pattern": known},
            {"pattern": flag},
            {"pattern": sites, "not": {"pattern": not}},
        ]},
    })
}

/// What keys mean for each other.
fn rules() -> Value {
    let is = |key: &str, value: Value| json!({"required": [key], "properties": {key: value}});
    let given = |key: &str| is(key, json!({"not": {"enum": [null, ""]}}));
    let above_zero = |key: &str| {
        let zero = json!({"anyOf": [{"enum": [null, "", 0]}, {"type": "string", "pattern": r"^\s*\+?0+\s*$"}]});
        is(key, json!({"not": zero}))
    };
    let with = |condition: Value, needed: Value| json!({"if": condition, "then": needed});
    let never = |conditions: Value| json!({"not": {"allOf": conditions}});
    let asks = |option: &str| {
        is(
            "extraSbatchArgs",
            json!({"type": "array", "contains": {"type": "string", "pattern": format!("^--{option}=")}}),
        )
    };
    let used = |place: &str| is("proxyCommand", json!({"type": "string", "pattern": format!(r"{PLACE}{place}\}}")}));
    let is_true = ["true", "yes", "on", "1"].map(any_case).join("|");
    let master = json!({"anyOf": [{"const": true}, {"type": "string", "pattern": format!("^(?:{is_true})$")}]});
    let stdio = is("sshMode", json!({"const": "stdio"}));
    let mut rules = vec![
        with(
            is("sshMode", json!({"const": "proxy-through-login"})),
            json!({"anyOf": [given("loginHost"), given("proxyCommand"), given("submitHost")]}),
        ),
        never(json!([stdio, given("proxyCommand")])),
        with(is("requireExistingMaster", master), given("submitHost")),
        never(json!([
            given("gpus"),
            is("gres", json!({"type": "string", "pattern": "(?:^|,)(?:gres[/:])?gpu(?:[:=/(,]|$)"}))
        ])),
        never(json!([given("mem"), asks("mem-per-(?:cpu|gpu)")])),
        never(json!([asks("mem-per-cpu"), asks("mem-per-gpu")])),
        with(used("loginHost"), is("loginHost", json!({"type": ["string", "number"], "pattern": "^[^,]+$"}))),
        with(used("loginUser"), given("loginUser")),
        with(
            above_zero("spares"),
            json!({"anyOf": [given("timeLimit"), above_zero("ttlSeconds"), given("spareMinTimeLeft")]}),
        ),
    ];
    for key in ["submitUser", "sshConfig", "controlPath"] {
        rules.push(with(given(key), given("submitHost")));
    }
    rules.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_shape() {
        let without: Vec<_> = KEYS.iter().map(|key| key.name).filter(|key| shape(key).is_none()).collect();
        assert_eq!(without, Vec::<&str>::new());
    }
}
