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

/// The first node of a list such as `n[01-04,7],m3`; `None` where there is none.
pub fn first_node(list: &str) -> Option<String> {
    let end = list.find([',', '[']).unwrap_or(list.len());
    let (mut name, mut rest) = (list[..end].to_owned(), &list[end..]);
    // Of each range the first number, with its leading zeros; then what stands behind the brackets.
    while let Some((range, behind)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        name.push_str(range.split([',', '-']).next().unwrap_or_default());
        let end = behind.find([',', '[']).unwrap_or(behind.len());
        name.push_str(&behind[..end]);
        rest = &behind[end..];
    }
    let whole = rest.is_empty() || rest.starts_with(',');
    (whole && crate::config::value::is_word(&name, "._-")).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("n1", Some("n1"))]
    #[case("n1,n2", Some("n1"))]
    #[case("n[01-04,7],m3", Some("n01"))]
    #[case("r[1-2]n[3,5]-ib,x", Some("r1n3-ib"))]
    #[case("n[1", None)]
    #[case("(null)", None)]
    #[case("", None)]
    fn first_nodes(#[case] list: &str, #[case] expected: Option<&str>) {
        assert_eq!(first_node(list).as_deref(), expected);
    }
}
