//! The documentation says what the code says: its tables and schemas are made from the code's own, its links lead somewhere, the
//! facts that comments cite stand in `docs/facts`, and the examples run. `UPDATE_DOCS=1 cargo test --test docs` writes the tables anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these are tests, in functions that clippy does not take for such"
)]

mod messages;
mod prose;
mod scale;
mod schemas;
mod site;
mod transcripts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use slurm_sandbox::config::keys::{Group, KEYS};
use slurm_sandbox::config::resources::{EXTRA_FLAGS, EXTRA_OPTIONS};
use slurm_sandbox::doctor::TABLE;
use slurm_sandbox::failure::Kind;

/// Set to write what differs in place of failing.
const UPDATE: &str = "UPDATE_DOCS";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: impl AsRef<Path>) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares the part of a page between its marks with what it should be, or writes it there.
#[track_caller]
fn block(page: &str, name: &str, expected: &str) {
    let text = read(page);
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "<!-- end generated -->");
    let start = text.find(&begin).unwrap_or_else(|| panic!("{page} has no {begin}")) + begin.len();
    let length = text[start..].find(end).unwrap_or_else(|| panic!("{page}: {name} has no end"));
    let found = &text[start..start + length];
    if found == expected {
        return;
    }
    assert!(
        std::env::var_os(UPDATE).is_some(),
        "{page}: the part {name:?} is not what the code says; run `{UPDATE}=1 cargo test --test docs`\n--- page\n{found}--- code\n{expected}"
    );
    fs::write(root().join(page), format!("{}{expected}{}", &text[..start], &text[start + length..])).unwrap();
}

/// One test for all tables: two that write one page at the same time would undo each other.
#[test]
fn tables_say_what_the_code_says() {
    for (name, group) in [
        ("keys for Slurm", Group::Slurm),
        ("keys for the login host", Group::LoginHost),
        ("keys for the connection", Group::Connection),
        ("keys for the job", Group::Job),
        ("keys for the program", Group::Program),
    ] {
        let mut table = "| key | value | default | meaning |\n|---|---|---|---|\n".to_owned();
        for key in KEYS.iter().filter(|key| key.group == group) {
            writeln!(table, "| `{}` | {} | {} | {} |", key.name, key.value, key.default, key.meaning).unwrap();
        }
        block("docs/configuration.md", name, &table);
    }
    let options = format!("- with a value: {}\n- without one: {}\n", code(EXTRA_OPTIONS), code(EXTRA_FLAGS));
    block("docs/configuration.md", "extra sbatch options", &options);

    let mut table = "| exit | code | category | same call again? | what went wrong | what to do, if the message has nothing better |\n|---|---|---|---|---|---|\n".to_owned();
    let meanings = comments("src/failure.rs", "pub enum Kind {\n");
    for kind in Kind::ALL {
        let row = kind.row();
        let again = if row.retry_safe { "yes" } else { "no" };
        let meaning = &meanings[&format!("{kind:?}")];
        writeln!(table, "| {} | `{}` | {} | {again} | {meaning} | {} |", row.exit, row.code, row.category, row.remedy)
            .unwrap();
    }
    block("docs/reference.md", "failure codes", &table);

    let mut table = "| check | red or a warning when | what to do |\n|---|---|---|\n".to_owned();
    let meanings = comments("src/doctor/check/id.rs", "pub enum CheckId {\n");
    for row in TABLE {
        let meaning = &meanings[&format!("{:?}", row.id)];
        let (when, remedy) = meaning.split_once(" What to do: ").unwrap_or((meaning, ""));
        let when = when.strip_prefix("Red or a warning: ").expect("what makes it red").trim_end_matches('.');
        writeln!(table, "| `{}` | {when} | {remedy} |", row.name).unwrap();
    }
    block("docs/reference.md", "checks of doctor", &table);
}

fn code(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

/// What each variant of an enum means: its comment.
fn comments(file: &str, start: &str) -> BTreeMap<String, String> {
    let source = read(file);
    let (_, body) = source.split_once(start).expect("the enum");
    let mut meanings = BTreeMap::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in body.lines().map(str::trim).take_while(|line| *line != "}") {
        match line.strip_prefix("///") {
            Some(text) => comment.extend(Some(text.trim()).filter(|text| !text.is_empty())),
            None => {
                let text = comment.join(" ").trim_end_matches('.').to_owned();
                meanings.insert(line.trim_end_matches(',').to_owned(), text);
                comment.clear();
            }
        }
    }
    meanings
}

#[test]
fn each_failure_code_has_its_advice() {
    let page = read("docs/troubleshooting.md");
    let missing: Vec<_> =
        Kind::ALL.iter().map(|kind| kind.row().code).filter(|code| !page.contains(&format!("| `{code}` |"))).collect();
    assert_eq!(missing, Vec::<&str>::new(), "docs/troubleshooting.md has no row for them");
}

/// The reasons that the built-in runner writes into `ending.json`.
#[test]
fn each_reason_of_an_end_has_its_advice() {
    let page = read("docs/troubleshooting.md");
    let runner = read("runner/unprivileged-sshd.sh");
    let mut reasons = BTreeSet::new();
    for call in ["finish ", "fail ", "end "] {
        for (at, _) in runner.match_indices(call) {
            let word: String =
                runner[at + call.len()..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if word.contains('-') {
                reasons.insert(word);
            }
        }
    }
    let missing: Vec<_> = reasons.iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert_eq!(missing, Vec::<&String>::new(), "docs/troubleshooting.md has no row for them");
}

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_slurm-sandbox")).args(words).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_verb_and_flag_is_described() {
    let page = read("docs/reference.md");
    let text = help(&[]);
    let (_, commands) = text.split_once("Commands:\n").expect("a list of verbs");
    let verbs = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    for verb in verbs {
        assert!(page.contains(&format!("| `{verb}")), "docs/reference.md does not describe {verb}");
    }
    for flag in text.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
        let flag = flag.trim_matches(|c: char| !c.is_ascii_lowercase() && c != '-');
        assert!(page.contains(flag), "docs/reference.md does not describe {flag}");
    }
}

/// All pages, those beside the tests too.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut open = vec![root().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type().unwrap().is_dir() {
                if !matches!(name.to_str(), Some("target" | ".git" | "node_modules" | "corpus" | "artifacts")) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// The text of a page without its code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    prose
}

fn headings(text: &str) -> Vec<String> {
    let lines = prose(text);
    let headings = lines.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| line.trim_start_matches('#').trim().to_owned()).collect()
}

/// The anchor that a heading gets: lower case, hyphens for blanks, nothing else but letters, digits, `_` and `-`.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for part in prose(&text).split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if target.contains("://") || target.contains(' ') || target.is_empty() {
                continue;
            }
            let (file, part) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = match fs::read_to_string(&file) {
                Ok(text) => part.is_empty() || headings(&text).iter().any(|heading| anchor(heading) == part),
                Err(_) => file.is_dir() && part.is_empty(),
            };
            if !there {
                broken.push(format!("{}: {target}", page.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

/// Citations have the form `docs/facts/FILE.md, "Heading"` or `docs/design.md, promise 2`.
#[test]
fn cited_facts_are_there() {
    let mut missing = Vec::new();
    let mut open: Vec<PathBuf> = ["src", "runner", "scripts", "tests"].map(|dir| root().join(dir)).into();
    while let Some(path) = open.pop() {
        if path == root().join("tests/docs") {
            continue;
        }
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        // A citation may go on in the next line of its comment.
        let lines = text.lines().map(|line| line.trim().trim_start_matches(['/', '!', '#']).trim());
        let text = lines.collect::<Vec<_>>().join(" ");
        for (at, _) in text.match_indices("docs/") {
            let Some((page, cited)) = text[at..].split_once(".md, ") else { continue };
            if page.contains(|c: char| !(c.is_ascii_alphanumeric() || "/-".contains(c))) {
                continue;
            }
            let headings =
                fs::read_to_string(root().join(format!("{page}.md"))).map(|text| headings(&text)).unwrap_or_default();
            let (heading, known) = if let Some(quoted) = cited.strip_prefix('"') {
                let heading = quoted.split('"').next().unwrap_or_default();
                (heading.to_owned(), headings.iter().any(|known| known == heading))
            } else if let Some(number) = cited.strip_prefix("promise ") {
                let number: String = number.chars().take_while(char::is_ascii_digit).collect();
                let heading = format!("Promise {number}: ");
                (heading.clone(), headings.iter().any(|known| known.starts_with(&heading)))
            } else {
                continue;
            };
            if !known {
                missing.push(format!("{}: {page}.md, {heading}", path.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn the_first_page_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 120, "README.md has {lines} lines");
}
