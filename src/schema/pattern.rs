//! Regular expressions for the words that config and wire take. They use what every dialect has (ECMA-262, Python, RE2): classes,
//! groups, repeats; no looking around, no names of Unicode classes.

/// Control characters, which no line holds.
const CONTROL: &str = r"\x00-\x1f\x7f-\x9f";

/// One part of an IPv6 address.
const GROUP: &str = "[0-9A-Fa-f]{1,4}";

/// The whole text, or none: an empty string means that a key is absent.
pub fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})?$")
}

/// A class of all characters but the ASCII ones that are neither letters, digits nor among these. Letters of other alphabets
/// are in it, and signs too, since only a table of Unicode could tell them apart.
fn class(extra: &str, without: &str) -> String {
    let allowed = |c: char| (c.is_ascii_alphanumeric() || extra.contains(c)) && !without.contains(c);
    let refused: Vec<u8> = (0..0x80u8).filter(|byte| !allowed(char::from(*byte))).collect();
    let mut text = String::from("[^");
    for run in refused.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [one] => text.push_str(&format!(r"\x{one:02x}")),
            [first, .., last] => text.push_str(&format!(r"\x{first:02x}-\x{last:02x}")),
            [] => {}
        }
    }
    text + r"\x80-\xa0]"
}

/// A name: no option, no blanks around it, not ending with one of `end`.
pub fn name(extra: &str, end: &str) -> String {
    let (first, all) = (class(extra, " -"), class(extra, ""));
    let (single, last) = (class(extra, &format!(" -{end}")), class(extra, &format!(" {end}")));
    format!("{single}|{first}{all}*{last}")
}

/// A line of text that is not blank, without these characters.
pub fn line(without: &str) -> String {
    let without: String = without.bytes().map(|byte| format!(r"\x{byte:02x}")).collect();
    format!(r"[^{CONTROL}{without}]*[^\x00-\x20\x7f-\xa0{without}][^{CONTROL}{without}]*")
}

/// The decimal numbers from `min` to `max`, without zeros in front; a `min` above 1 has fewer digits than `max`.
pub fn number(min: u64, max: u64) -> String {
    let mut parts = Vec::new();
    if min == 0 {
        parts.push("0".to_owned());
    }
    let digits = max.to_string();
    let lowest = if min > 1 { min.to_string() } else { String::new() };
    for (at, digit) in lowest.bytes().enumerate().filter(|(_, digit)| *digit < b'9') {
        parts.push(format!("{}[{}-9][0-9]{{{}}}", &lowest[..at], char::from(digit + 1), lowest.len() - at - 1));
    }
    if min > 1 {
        parts.push(lowest.clone());
    }
    if digits.len() > lowest.len() + 1 {
        parts.push(format!("[1-9][0-9]{{{},{}}}", lowest.len(), digits.len() - 2));
    }
    for (at, digit) in digits.bytes().enumerate() {
        let (least, rest) = (if at == 0 { b'1' } else { b'0' }, digits.len() - at - 1);
        if digit > least {
            let (least, below) = (char::from(least), char::from(digit - 1));
            parts.push(format!("{}[{least}-{below}][0-9]{{{rest}}}", &digits[..at]));
        }
    }
    parts.push(digits);
    format!("(?:{})", parts.join("|"))
}

/// A word, whatever the case of its letters.
pub fn any_case(word: &str) -> String {
    let both = |c: char| match c.is_ascii_alphabetic() {
        true => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        false => c.to_string(),
    };
    word.chars().map(both).collect()
}

/// An IPv4 address.
pub fn ipv4() -> String {
    let part = number(0, 255);
    format!(r"(?:{part}\.){{3}}{part}")
}

/// An IPv6 address; one with too many parts passes.
pub fn ipv6() -> String {
    let (group, ipv4) = (GROUP, ipv4());
    format!(
        "(?:{group}:){{7}}{group}|(?:{group}:){{6}}{ipv4}|(?:{group}(?::{group})*)?::(?:(?:{group}:)*(?:{group}|{ipv4}))?"
    )
}

/// A host for ssh: a name, an alias or an address.
pub fn ssh_host() -> String {
    format!("(?:[0-9A-Za-z._][0-9A-Za-z._-]*|{})", ipv6())
}

/// Each of these words and each of their beginnings.
pub fn beginnings<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let nested = |word: &str| word.chars().rev().fold(String::new(), |rest, c| format!("{c}(?:{rest})?"));
    // The innermost group would be empty.
    words.map(|word| nested(word).replace("(?:)?", "")).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, 32)]
    #[case(1, 300)]
    #[case(2, 10)]
    #[case(19, 120)]
    #[case(99, 1000)]
    #[case(120, 2345)]
    fn numbers_of_a_range(#[case] min: u64, #[case] max: u64) {
        let schema = serde_json::json!({"pattern": format!("^{}$", number(min, max))});
        let validator = jsonschema::validator_for(&schema).unwrap();
        for number in 0..=max * 11 {
            assert_eq!(validator.is_valid(&number.to_string().into()), (min..=max).contains(&number), "{number}");
        }
    }
}
