//! The schemas of docs/schema are those that the program prints, and what the pages show fits them.

use std::fs;
use std::process::Command;

use serde_json::{Map, Value, json};
use slurm_sandbox::schema::Document;

use super::site::Site;
use super::{UPDATE, pages, read, root};

#[track_caller]
fn fits(document: Document, value: &Value, whose: &str) {
    let validator = jsonschema::validator_for(&document.schema()).unwrap();
    let told: Vec<_> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(told, Vec::<String>::new(), "{whose} does not fit the schema {}: {value}", document.name());
}

#[test]
fn files_are_what_the_program_prints() {
    for document in Document::ALL {
        let output =
            Command::new(env!("CARGO_BIN_EXE_slurm-sandbox")).args(["schema", document.name()]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(jsonschema::meta::is_valid(&serde_json::from_str(&printed).unwrap()), "{}", document.name());
        let file = format!("docs/schema/{}.json", document.name());
        if fs::read_to_string(root().join(&file)).unwrap_or_default() == printed {
            continue;
        }
        assert!(
            std::env::var_os(UPDATE).is_some(),
            "{file} is not what the code says; run `{UPDATE}=1 cargo test --test docs`"
        );
        fs::write(root().join(&file), printed).unwrap();
    }
}

/// A scalar or a list on one line, as the pages' YAML has them.
fn yaml(text: &str) -> Value {
    let text = text.split(" #").next().unwrap_or_default().trim();
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(items) => items.split(", ").map(yaml).collect(),
        None => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    }
}

/// The keys below `config:` of a YAML example.
fn config_of(block: &str) -> Option<Value> {
    let mut lines = block.lines().skip_while(|line| line.trim() != "config:");
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines.next()?);
    let mut config = Map::new();
    let mut last = String::new();
    for line in lines.take_while(|line| indent(line) > depth) {
        if let Some(item) = line.trim().strip_prefix("- ") {
            let list = config.entry(last.clone()).or_insert(json!([]));
            list.as_array_mut().expect("a list").push(yaml(item));
        } else if let Some((key, value)) = line.trim().split_once(':') {
            last = key.to_owned();
            if !value.trim().is_empty() {
                config.insert(last.clone(), yaml(value));
            }
        }
    }
    Some(Value::Object(config))
}

/// Every piece of JSON and every `config:` of the pages.
#[test]
fn what_the_pages_show_fits() {
    let mut seen = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        let blocks = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        for (language, block) in blocks {
            let quoted =
                block.match_indices("'{\"").map(|(at, _)| block[at + 1..].split('\'').next().unwrap_or_default());
            // What a shell puts together is left out.
            let quoted = quoted.filter(|text| text.ends_with('}'));
            let json = (language == "json").then_some(block).into_iter().chain(quoted);
            let found =
                json.map(|text| serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}: {text}")));
            let found: Vec<Value> = found.chain((language == "yaml").then(|| config_of(block)).flatten()).collect();
            for value in found {
                let whole = value.get("operation").is_some();
                fits(if whole { Document::Request } else { Document::Config }, &value, &name);
                seen += 1;
            }
        }
    }
    assert!(seen >= 5, "only {seen} examples were found");
}

#[test]
fn the_examples_fit() {
    let value = |file: &str| -> Value { serde_json::from_str(&read(file)).unwrap() };
    fits(Document::Config, &value("examples/config.json"), "examples/config.json");
    for file in ["examples/acquire.json", "examples/release.json"] {
        fits(Document::Request, &value(file), file);
    }
}

#[test]
fn what_the_verbs_print_fits() {
    let site = Site::new();
    let json = |line: &str| -> Value { serde_json::from_str(&site.ok(line)).unwrap() };
    let config = "--config examples/config.json --json";
    fits(Document::List, &json("slurm-sandbox --json list"), "a list of nothing");
    fits(Document::Lease, &json(&format!("slurm-sandbox {config} acquire --slug a")), "acquire");
    fits(Document::Lease, &json(&format!("slurm-sandbox {config} resolve a")), "resolve");
    fits(Document::Lease, &json(&format!("slurm-sandbox {config} resolve a --release-only")), "resolve --release-only");
    let list = json("slurm-sandbox --json list");
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    fits(Document::List, &list, "list");
    site.ok("slurm-sandbox release a");
}
