//! Everything that the program says, in one list: for reading it through, and for seeing what a change makes of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{block, root};

/// Texts of fewer words are names and parts.
const LEAST_WORDS: usize = 3;

#[test]
fn messages_are_listed() {
    let mut texts = BTreeSet::new();
    for Source { code, .. } in sources() {
        texts.extend(literals(&code).into_iter().map(|literal| literal.text).filter(|text| is_message(text)));
    }
    let lines: String = texts.iter().map(|text| format!("{text}\n")).collect();
    block("docs/messages.md", "messages", &format!("```text\n{lines}```\n"));
}

/// A source file: its path below src/, its code, and its tests.
pub struct Source {
    pub path: String,
    pub code: String,
    pub tests: String,
}

/// All of src/.
pub fn sources() -> Vec<Source> {
    let (src, mut open, mut found) = (root().join("src"), vec![root().join("src")], vec![]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|ending| ending == "rs")
            // Its texts are the tables of docs/configuration.md.
            && !path.ends_with("config/keys.rs")
            && !path.ends_with("tests.rs")
        {
            let source = fs::read_to_string(&path).unwrap();
            // The tests stand last, as a module, which may have attributes of its own.
            let at = source.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(|at| {
                let mut lines = source[*at..].lines().skip_while(|line| line.starts_with("#["));
                lines.next().is_some_and(|line| line.starts_with("mod ") || line.starts_with("pub mod "))
            });
            let (code, tests) = source.split_at(at.unwrap_or(source.len()));
            let path = path.strip_prefix(&src).map(PathBuf::from).unwrap().to_string_lossy().into_owned();
            found.push(Source { path, code: code.to_owned(), tests: tests.to_owned() });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

pub fn words(text: &str) -> usize {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| word.len() > 1).count()
}

pub fn is_message(text: &str) -> bool {
    // What a shell is given, and options.
    words(text) >= LEAST_WORDS && text.contains(' ') && !text.contains(['$', '\n', '\t']) && !text.starts_with('-')
}

/// A plain string literal of Rust code: its text when the program runs, and the code around it.
pub struct Literal<'a> {
    pub before: &'a str,
    pub text: String,
    pub after: &'a str,
}

/// The plain string literals of Rust code.
pub fn literals(code: &str) -> Vec<Literal<'_>> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, from) = rest.split_at(at);
        rest = if from.starts_with("//") {
            from.split_once('\n').map_or("", |(_, rest)| rest)
        } else if let Some(hashes) = raw(before).filter(|_| from.starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            from[1..].split_once(&end).map_or("", |(_, rest)| rest)
        } else if let Some(inside) = from.strip_prefix('"') {
            let (text, after) = string(inside);
            // Why a lint is let off is told to nobody.
            if !before.ends_with("reason = ") {
                let before = &code[..code.len() - from.len()];
                found.push(Literal { before, text: text.trim().to_owned(), after });
            }
            after
        } else if let Some(escaped) = from.strip_prefix("'\\") {
            // What is escaped may be a quote.
            escaped.get(1..).and_then(|rest| rest.split_once('\'')).map_or("", |(_, rest)| rest)
        } else if let Some(inside) = from.strip_prefix('\'') {
            // A character; else it is a lifetime.
            inside.chars().next().and_then(|c| inside[c.len_utf8()..].strip_prefix('\'')).unwrap_or(inside)
        } else {
            &from[1..]
        };
    }
    found
}

/// With how many signs a raw string begins, when what stands before its quote begins one.
fn raw(before: &str) -> Option<usize> {
    let name = before.trim_end_matches('#');
    let starts = name.ends_with('r') && !name[..name.len() - 1].ends_with(|c: char| c.is_alphanumeric() && c != 'b');
    starts.then(|| before.len() - name.len())
}

/// The text of a literal, and what comes after it.
fn string(inside: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, &inside[at + 1..]),
            '\\' => match chars.next() {
                // It goes on at the next sign.
                Some((_, '\n')) => {
                    let skipped = chars.as_str().len() - chars.as_str().trim_start().len();
                    for _ in 0..skipped {
                        chars.next();
                    }
                }
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, other)) => text.push(other),
                None => {}
            },
            c => text.push(c),
        }
    }
    (text, "")
}

#[test]
fn literals_are_found_where_they_are() {
    let code = "// \"no\"\n#[expect(x, reason = \"no\")]\nlet c = '\"'; let l = 'a'; f::<'static>(\"one \\\"two\\\" \\\n   three\", r#\"no \"x\" no\"#, \"last\")";
    let texts: Vec<_> = literals(code).into_iter().map(|literal| literal.text).collect();
    assert_eq!(texts, ["one \"two\" three", "last"]);
}
