//! The text of a config file as tables and values, each with the line that it stands in. TOML and JSON come out alike; what the
//! tables mean is not known here.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

/// A value or a table, and the line of its key; JSON has no lines worth naming.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub line: Option<usize>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Value(Value),
    Array(Vec<Node>),
    Table(Tree),
}

/// A table: its keys with what they hold.
pub type Tree = BTreeMap<String, Node>;

impl Node {
    /// The same as one JSON value.
    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Value(value) => value.clone(),
            Kind::Array(items) => Value::Array(items.iter().map(Node::value).collect()),
            Kind::Table(tree) => Value::Object(tree.iter().map(|(key, node)| (key.clone(), node.value())).collect()),
        }
    }
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub line: Option<usize>,
    pub text: String,
}

/// Whether a file is JSON: by the ending of its name, else by how its text begins.
pub fn is_json(name: &str, text: &str) -> bool {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("json") => true,
        Some("toml") => false,
        _ => text.trim_start().starts_with('{'),
    }
}

/// Reads a JSON object.
///
/// # Errors
/// Where it is none.
pub fn json(text: &str) -> Result<Tree, Mistake> {
    let map: serde_json::Map<String, Value> = serde_json::from_str(text)
        .map_err(|error| Mistake { line: Some(error.line()), text: format!("this is not a JSON object: {error}") })?;
    Ok(map.into_iter().map(|(key, value)| (key, plain(value))).collect())
}

fn plain(value: Value) -> Node {
    let kind = match value {
        Value::Object(map) => Kind::Table(map.into_iter().map(|(key, value)| (key, plain(value))).collect()),
        Value::Array(items) => Kind::Array(items.into_iter().map(plain).collect()),
        value => Kind::Value(value),
    };
    Node { line: None, kind }
}

/// Reads TOML.
///
/// # Errors
/// Where it is none.
pub fn toml(text: &str) -> Result<Tree, Mistake> {
    let line = |at: usize| text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
    match DeTable::parse(text) {
        Ok(table) => Ok(tree(table.get_ref(), &line)),
        Err(error) => Err(Mistake {
            line: error.span().map(|span| line(span.start)),
            text: format!("this is not TOML: {}", error.message()),
        }),
    }
}

fn tree(table: &DeTable<'_>, line: &impl Fn(usize) -> usize) -> Tree {
    let node = |value: &DeValue<'_>, at: usize| Node { line: Some(line(at)), kind: kind(value, line) };
    table.iter().map(|(key, value)| (key.get_ref().to_string(), node(value.get_ref(), key.span().start))).collect()
}

fn kind(value: &DeValue<'_>, line: &impl Fn(usize) -> usize) -> Kind {
    Kind::Value(match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => {
            let text = number.to_string();
            text.parse::<i64>().map_or(Value::String(text), Value::from)
        }
        DeValue::Float(number) => Value::String(number.to_string()),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        // `timeLimit = 02:00:00` is a time of day for TOML.
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => {
            let item = |item: &toml::Spanned<DeValue<'_>>| Node {
                line: Some(line(item.span().start)),
                kind: kind(item.get_ref(), line),
            };
            return Kind::Array(items.iter().map(item).collect());
        }
        DeValue::Table(table) => return Kind::Table(tree(table, line)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn keys_have_their_lines() {
        let text = "# first\n[defaults]\ncpus = 2\ntimeLimit = 02:00:00\nlist = [\n  1,\n  \"b\"]\n\n[profiles.gpu]\ngpus = \"a100:2\"\n";
        let tree = toml(text).unwrap();
        let Kind::Table(defaults) = &tree["defaults"].kind else { panic!() };
        assert_eq!(tree["defaults"].line, Some(2));
        assert_eq!((defaults["cpus"].line, defaults["cpus"].value()), (Some(3), json!(2)));
        assert_eq!(defaults["timeLimit"].value(), json!("02:00:00"));
        let Kind::Array(items) = &defaults["list"].kind else { panic!() };
        assert_eq!((items[0].line, items[1].line), (Some(6), Some(7)));
        assert_eq!(tree["profiles"].value(), json!({"gpu": {"gpus": "a100:2"}}));
    }

    #[rstest]
    #[case::half_a_line("[defaults]\ncpus = \n", Some(2))]
    #[case::a_key_twice("[defaults]\ncpus = 1\ncpus = 2\n", Some(3))]
    #[case::an_open_string("[defaults]\nqos = \"a\n", Some(2))]
    #[case::yaml("partition: batch\n", Some(1))]
    fn what_is_no_toml_has_a_line(#[case] text: &str, #[case] line: Option<usize>) {
        assert_eq!(toml(text).unwrap_err().line, line);
    }

    #[rstest]
    #[case("a.json", "", true)]
    #[case("a.toml", "{}", false)]
    #[case("/dev/fd/63", " \n{\"a\": 1}", true)]
    #[case("cluster", "[defaults]", false)]
    #[case("cluster", "", false)]
    fn a_format_is_known_by_name_or_text(#[case] name: &str, #[case] text: &str, #[case] json: bool) {
        assert_eq!(is_json(name, text), json);
    }

    #[test]
    fn numbers_are_what_json_has() {
        let tree = toml("a = 1_000\nb = 0x10\nc = 1.5\nd = 99999999999999999999\n").unwrap_or_default();
        for (key, value) in [("a", json!(1000)), ("b", json!("0x10")), ("c", json!("1.5"))] {
            assert_eq!(tree.get(key).map(Node::value), Some(value), "{key}");
        }
    }
}
