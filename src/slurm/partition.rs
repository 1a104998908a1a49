//! `scontrol --oneliner show partition`: what partitions allow.

use std::collections::BTreeMap;

/// A partition's `Key=Value` words.
pub type Record = BTreeMap<String, String>;

/// One record a line, `Key=Value` words.
pub fn parse(text: &str) -> Vec<Record> {
    let lines = text.lines().filter(|line| line.starts_with("PartitionName="));
    let record = |line: &str| {
        let pairs = line.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    };
    lines.map(record).collect()
}

/// A value; empty where there is none.
pub fn get<'a>(record: &'a Record, key: &str) -> &'a str {
    record.get(key).map_or("", String::as_str)
}
