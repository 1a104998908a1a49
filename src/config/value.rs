//! Reads single values of a site's configuration and gathers what is wrong with them.
//!
//! YAML turns what a person wrote into whatever it takes it for, so numbers may come as strings and strings as
//! numbers (docs/facts/client.md, "Config values"). Null and the empty string mean absent, as in the reference adapter.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::protocol::shown;

/// By this key of a file an editor finds the schema of the others (docs/schema); it sets nothing.
pub const SCHEMA_KEY: &str = "$schema";

/// The value of a key unless it is absent, null or empty.
pub fn given<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null() && *value != "")
}

/// What is wrong, and with which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub keys: Vec<String>,
    pub text: String,
}

/// The keys not yet read, and the complaints so far.
#[derive(Debug)]
pub struct Reader<'a> {
    map: &'a Map<String, Value>,
    pub(super) known: Vec<&'static str>,
    complaints: Vec<Complaint>,
}

impl<'a> Reader<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Reader<'a> {
        Reader { map, known: Vec::new(), complaints: Vec::new() }
    }

    /// Notes that `key` cannot be used; `allowed` says what can.
    pub fn complain(&mut self, key: &str, value: &Value, allowed: &str) {
        let hint = if value.as_str().is_some_and(has_variable) {
            "; variables such as $HOME are not expanded, write what they stand for"
        } else {
            ""
        };
        let text = format!("config key {key:?} is {}; allowed is {allowed}{hint}", shown(value));
        self.complain_of(&[key], text);
    }

    /// Notes a complaint in its own words, about one key or about several together.
    pub fn complain_of(&mut self, keys: &[&str], text: impl Into<String>) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        self.complaints.push(Complaint { keys, text: text.into() });
    }

    /// The value of a key unless it is absent, null or empty.
    pub fn raw(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        given(self.map, key)
    }

    /// A string or number that `check` accepts.
    pub fn text(&mut self, key: &'static str, allowed: &str, check: impl Fn(&str) -> bool) -> Option<String> {
        let value = self.raw(key)?;
        match scalar(value) {
            Some(text) if check(&text) => Some(text),
            _ => {
                self.complain(key, value, allowed);
                None
            }
        }
    }

    /// A whole number within `min..=max`.
    pub fn number(&mut self, key: &'static str, min: u64, max: u64) -> Option<u64> {
        let value = self.raw(key)?;
        let number = scalar(value).and_then(|text| text.trim().parse().ok()).filter(|n| (min..=max).contains(n));
        if number.is_none() {
            self.complain(key, value, &format!("a whole number from {min} to {max}"));
        }
        number
    }

    /// An absolute path, `~/` standing for the home directory, of characters that are safe in every place where the
    /// path is used: Slurm's file name patterns, ssh's option values, rsync's remote shell.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let allowed = "an absolute path of letters, digits and ._/@+,:=- (~/ for the home directory)";
        let text = self.text(key, allowed, |text| expand_home(text).is_some_and(|path| is_safe_path(&path)))?;
        expand_home(&text).map(PathBuf::from)
    }

    /// A path on the cluster: `~/` stays, for whose home it means is known only there.
    pub fn cluster_path(&mut self, key: &'static str) -> Option<PathBuf> {
        let allowed = "an absolute path of letters, digits and ._/@+,:=- (~/ for the home directory)";
        let check =
            |text: &str| is_safe_path(text.strip_prefix('~').filter(|rest| rest.starts_with('/')).unwrap_or(text));
        self.text(key, allowed, check).map(PathBuf::from)
    }

    /// The path of a control socket, in which ssh's own `%` tokens may stand.
    pub fn control_path(&mut self, key: &'static str) -> Option<PathBuf> {
        let allowed = "an absolute path of letters, digits and ._/@+,:=-%";
        let check = |text: &str| expand_home(text).is_some_and(|path| is_safe_path(&path.replace('%', "_")));
        let text = self.text(key, allowed, check)?;
        expand_home(&text).map(PathBuf::from)
    }

    /// True or false; YAML's older words for them come as strings.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.raw(key)?;
        let flag = match value {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Some(true),
                "false" | "no" | "off" | "0" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if flag.is_none() {
            self.complain(key, value, "true or false");
        }
        flag
    }

    /// Ends the reading: what is wrong, in words.
    pub fn finish(self) -> Vec<String> {
        self.complaints().into_iter().map(|complaint| complaint.text).collect()
    }

    /// Ends the reading: unknown keys are complaints too.
    pub fn complaints(mut self) -> Vec<Complaint> {
        for (key, value) in self.map {
            if key != SCHEMA_KEY && !self.known.contains(&key.as_str()) {
                let similar = self.known.iter().find(|known| known.eq_ignore_ascii_case(key));
                let hint = similar
                    .map_or_else(|| "see docs/configuration.md".to_owned(), |similar| format!("is {similar:?} meant?"));
                let text = format!("config key {:?} (value {}) is unknown; {hint}", shorten(key), shown(value));
                self.complaints.push(Complaint { keys: vec![key.clone()], text });
            }
        }
        self.complaints
    }
}

fn shorten(key: &str) -> String {
    key.chars().take(60).collect()
}

/// A string or number as text. Booleans are not text: `account: yes` is a string in YAML 1.2, `true` a mistake.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Replaces a leading `~` by the home directory; `None` when there is none to replace it by.
pub fn expand_home(text: &str) -> Option<String> {
    match text.strip_prefix('~') {
        None => Some(text.to_owned()),
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = std::env::var("HOME").ok().filter(|home| home.starts_with('/'))?;
            Some(format!("{}{rest}", home.trim_end_matches('/')))
        }
        Some(_) => None,
    }
}

/// Whether a path is absolute, without `..`, and made of characters that no tool gives a meaning.
pub fn is_safe_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 1024
        && !text.split('/').any(|part| part == "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._/@+,:=-".contains(&b))
}

/// Whether `text` is non-empty, made of ASCII letters, digits and `extra`, and does not start like an option.
pub fn is_word(text: &str, extra: &str) -> bool {
    !text.is_empty()
        && text.len() <= 1024
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// What [`is_user_name`] takes, for people.
pub const USER_NAME: &str = "a user name of letters, digits, blanks and ._@+\\$-";

/// Whether `text` can be a user name, as directories have them too: `alice@corp.example`, `CORP\alice`, `svc-1$`. ssh takes them
/// on its command line since nothing of it means more to a shell than a backslash keeps from it.
pub fn is_user_name(text: &str) -> bool {
    is_name(text, " ._@+\\$-") && text.len() <= 256 && !text.ends_with('\\')
}

/// Whether `text` is made of letters and digits of any alphabet and of `extra`, without blanks at its ends, and does not start
/// like an option.
pub fn is_name(text: &str, extra: &str) -> bool {
    !text.is_empty()
        && text.len() <= 1024
        && text.trim() == text
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_alphanumeric() || extra.contains(c))
}

/// `text` as one word of a shell's line: a backslash before what a shell could take apart. No quotes, which the client's rsync
/// cannot carry (docs/facts/client.md, "Proxy commands").
pub fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut word, c| {
        if !(c.is_alphanumeric() || "._@+:,/=%-".contains(c)) {
            word.push('\\');
        }
        word.push(c);
        word
    })
}

/// Whether a shell would put a variable in its place.
fn has_variable(text: &str) -> bool {
    text.match_indices('$')
        .any(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || "_{".contains(c)))
}

/// Whether `text` is one line of printable text that a Slurm comment or a shell can hold.
pub fn is_line(text: &str, max: usize) -> bool {
    !text.trim().is_empty() && text.len() <= max && !text.chars().any(char::is_control)
}

/// Whether `text` can stand as a host name: nothing that a shell or ssh could take for something else.
pub fn is_host(text: &str) -> bool {
    is_word(text, "._:-") && text.len() <= 253
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[test]
    fn numbers_and_strings_stand_for_each_other_and_all_complaints_come_at_once() {
        let value = json!({"$schema": "x", "cpus": "4", "account": 42, "mem": null, "qos": "", "nodes": "x", "cpuz": 1, "CPUS": 1, "tmp": [1]});
        let mut reader = Reader::new(value.as_object().unwrap());
        assert_eq!(reader.number("cpus", 1, 8), Some(4));
        assert_eq!(reader.text("account", "a name", |t| is_word(t, "")), Some("42".into()));
        assert_eq!(reader.text("mem", "a size", |_| true), None);
        assert_eq!(reader.text("qos", "a name", |_| true), None);
        assert_eq!(reader.number("nodes", 1, 8), None);
        assert_eq!(reader.text("tmp", "a size", |_| true), None);
        let complaints = reader.finish();
        assert_eq!(complaints.len(), 4, "{complaints:?}");
        assert!(complaints[0].contains(r#"config key "nodes" is "x"; allowed is a whole number from 1 to 8"#));
        assert!(complaints.iter().any(|c| c.contains(r#"is "cpus" meant?"#)));
    }

    #[rstest]
    #[case("alice", true)]
    #[case("alice@corp.example", true)]
    #[case(r"CORP\alice", true)]
    #[case("Alice B. Example", true)]
    #[case("svc-1$", true)]
    #[case("a+b", true)]
    #[case("jörg", true)]
    #[case("-alice", false)]
    #[case("alice ", false)]
    #[case(r"alice\", false)]
    #[case("al'ice", false)]
    #[case("a;b", false)]
    #[case("a\nb", false)]
    #[case("a`b`", false)]
    #[case("$(id)", false)]
    #[case("", false)]
    fn user_names(#[case] name: &str, #[case] good: bool) {
        assert_eq!(is_user_name(name), good);
    }

    #[test]
    fn an_escaped_word_is_one_for_a_shell() {
        for word in [
            "alice@corp.example",
            r"CORP\alice",
            "Alice B. Example",
            "svc-1$",
            "$HOME",
            "a'b\"c`d`;e&f|g<h>(i)*?[j]{k}!~#",
        ] {
            let script = format!("printf '%s|' {}", escaped(word));
            for shell in ["sh", "bash"] {
                let output =
                    crate::host::Command::new(shell, std::time::Duration::from_secs(20)).args(["-c", &script]).run();
                assert_eq!(output.unwrap().stdout_text(), format!("{word}|"), "{shell}");
            }
        }
        assert_eq!(escaped("alice@corp.example"), "alice@corp.example");
    }

    #[rstest]
    #[case("$SCRATCH/crabbox", true)]
    #[case("${HOME}/x", true)]
    #[case("/scratch/$USER", true)]
    #[case("svc-1$", false)]
    #[case("5$ 6$7", false)]
    #[case("/scratch/x y", false)]
    fn a_variable_is_called_one(#[case] text: &str, #[case] called: bool) {
        let value = json!({"sharedDir": format!("{text}\n")});
        let mut reader = Reader::new(value.as_object().unwrap());
        reader.cluster_path("sharedDir");
        assert_eq!(reader.finish()[0].contains("not expanded"), called);
    }

    #[test]
    fn paths_are_absolute_and_harmless() {
        for (text, good) in [
            ("/scratch/a", true),
            ("a/b", false),
            ("/a/../b", false),
            ("/a b", false),
            ("/a%j", false),
            ("/a'b", false),
        ] {
            assert_eq!(is_safe_path(text), good, "{text}");
        }
    }
}
