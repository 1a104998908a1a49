//! Words may be changed: no decision reads a message of this program, and no test of one repeats it. What two modules have to
//! tell each other is a type; only texts of Slurm, ssh and the system are read, since there is nothing else to go by.
//!
//! A text counts as read where it is compared, searched for or matched, or stands in a list of nothing but texts, as the tables of
//! foreign words do. It counts as said everywhere else. Single words are names, not prose.

use super::messages::{Literal, Source, is_message, literals, sources, words};

/// Texts of others that one of our literals has as well.
const FOREIGN: &[&str] = &[
    // Slurm's; slurm/refusal.rs has tables of them.
    "entry for --cluster",
    "unable to contact slurm controller (connect failure)",
    // scontrol's.
    "not found",
    // The system's, and stat's.
    "No such file",
    "regular file",
    // ssh's.
    "host key",
];

/// Folders and files whose tests are about what is decided, not about how it is put.
const LOGIC: &[&str] = &["allocation/", "doctor/settle.rs", "host/", "lease/", "operation/", "slurm/"];

/// Whether a literal is one that a text is held against.
fn is_read(literal: &Literal<'_>) -> bool {
    const BEFORE: &[&str] = &[
        ".contains(",
        ".starts_with(",
        ".ends_with(",
        ".strip_prefix(",
        ".strip_suffix(",
        ".find(",
        ".rfind(",
        ".split_once(",
        ".rsplit_once(",
        ".split(",
        ".matches(",
        ".eq(",
        "==",
        "!=",
    ];
    let before = literal.before.trim_end().trim_end_matches('&').trim_end();
    let after = literal.after.trim_start();
    BEFORE.iter().any(|call| before.ends_with(call))
        || ["=>", "==", "!="].iter().any(|sign| after.starts_with(sign))
        || is_listed(before, after)
}

/// Whether nothing but literals stands between a bracket and its end.
fn is_listed(before: &str, after: &str) -> bool {
    let mut before = before;
    let begins = loop {
        match before.strip_suffix(',').map(str::trim_end).and_then(|rest| rest.strip_suffix('"')) {
            Some(rest) => before = rest[..rest.rfind('"').unwrap_or(0)].trim_end(),
            None => break before.ends_with('['),
        }
    };
    let mut after = after;
    let ends = loop {
        let rest = after.strip_prefix(',').unwrap_or(after).trim_start();
        match rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((_, rest)) => after = rest.trim_start(),
            None => break rest.starts_with(']'),
        }
    };
    begins && ends
}

/// Whether a message has a text, word for word.
fn has(message: &str, text: &str) -> bool {
    let goes_on =
        |left: &str, right: &str| left.ends_with(char::is_alphanumeric) && right.starts_with(char::is_alphanumeric);
    message
        .match_indices(text)
        .any(|(at, _)| !goes_on(&message[..at], text) && !goes_on(text, &message[at + text.len()..]))
}

/// Every text that is read though a message says it, with where.
fn read_prose(sources: &[Source]) -> Vec<String> {
    let (mut read, mut said) = (vec![], vec![]);
    for Source { path, code, .. } in sources {
        for literal in literals(code) {
            if is_read(&literal) {
                read.push((path, literal.text));
            } else if is_message(&literal.text) {
                said.push((path, literal.text));
            }
        }
    }
    read.retain(|(_, text)| words(text) > 1 && text.contains(' ') && !FOREIGN.contains(&text.as_str()));
    let of = |text: &String| said.iter().find(|(_, message)| has(message, text));
    let finds = read.iter().filter_map(|(path, text)| of(text).map(|(said, message)| (path, text, said, message)));
    finds.map(|(path, text, said, message)| format!("{path} reads {text:?}, and {said} says {message:?}")).collect()
}

/// Every message that a test of logic repeats, with where.
fn tested_prose(sources: &[Source]) -> Vec<String> {
    let said: Vec<String> = sources
        .iter()
        .flat_map(|source| literals(&source.code))
        .filter(|literal| !is_read(literal) && is_message(&literal.text))
        .map(|literal| literal.text)
        .collect();
    let logic = sources.iter().filter(|source| LOGIC.iter().any(|part| source.path.starts_with(part)));
    let tested =
        logic.flat_map(|source| literals(&source.tests).into_iter().map(|literal| (&source.path, literal.text)));
    let repeats = tested.filter(|(_, text)| is_message(text) && said.iter().any(|message| has(message, text)));
    repeats.map(|(path, text)| format!("a test of {path} repeats {text:?}")).collect()
}

#[test]
fn no_decision_reads_a_message() {
    let found = read_prose(&sources());
    assert!(found.is_empty(), "make it a type, or name it in FOREIGN with its source:\n{}", found.join("\n"));
}

#[test]
fn no_test_of_logic_repeats_a_message() {
    let found = tested_prose(&sources());
    assert!(found.is_empty(), "assert on the kind, not on the sentence:\n{}", found.join("\n"));
}

/// What this page refuses, in each of its forms.
#[test]
fn prose_that_is_read_is_found() {
    let source = |code: &str, tests: &str| {
        let says = r#"format!("releasing {}: another call works on it", lease)"#;
        let file =
            |path: &str, code: &str, tests: &str| Source { path: path.into(), code: code.into(), tests: tests.into() };
        vec![file("failure.rs", says, ""), file("operation/release.rs", code, tests)]
    };
    for code in [
        r#"if error.to_string().contains("another call works") {}"#,
        r#"if "another call" == said {}"#,
        r#"match said { "works on it" => 1, _ => 2 }"#,
        r#"const BUSY: &[&str] = &["is busy", "another call"];"#,
        r#"let rest = said.strip_prefix("releasing {}: another")"#,
    ] {
        assert_eq!(read_prose(&source(code, "")).len(), 1, "{code}");
        assert_eq!(tested_prose(&source(code, "")), Vec::<String>::new());
    }
    for code in [
        r#"progress("another call works on it");"#,
        r#"if error.contains("Connection refused") {}"#,
        r#"if error.contains("other call") {}"#,
        r#"if state == "releasing" {}"#,
    ] {
        assert_eq!(read_prose(&source(code, "")), Vec::<String>::new());
    }
    assert_eq!(tested_prose(&source("", r#"assert!(error.contains("another call works"));"#)).len(), 1);
    assert_eq!(
        tested_prose(&source("", r#"assert_eq!(error.kind, Kind::Busy, "a call that works");"#)),
        Vec::<String>::new()
    );
}
