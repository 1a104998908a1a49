//! Keeps the fake scheduler honest: the same questions to its commands and to the real ones, answer by answer.
//!
//! A question is a shell script. Exit code, stdout and stderr are compared after ids, times, users and hosts have got
//! the same names on both sides. The fake speaks as the version of the campus does; scripts/versions asks each version there is.

mod questions;

use std::sync::Mutex;
use std::time::Duration;

use crate::scenarios::process;
use crate::scenarios::site::{Place, Setup, Site};
use questions::{PRELUDE, QUESTIONS};

#[test]
fn the_fake_answers_as_slurm_does() {
    if crate::scenarios::campus::skipped("") {
        return;
    }
    let (fake, real) = (Site::fake(Setup::default()), Site::campus(Setup::default()));
    let version = real.shell("sbatch --version").ok().split_whitespace().last().expect("a version").to_owned();
    let Place::Fake(scheduler) = &fake.place else { unreachable!() };
    // An id that no answer has as a mere number.
    scheduler.control(&["conf", &format!("Version={version}"), "FirstJobId=3001"]).ok();
    let different = Mutex::new(Vec::new());
    process::each(QUESTIONS, |(name, script)| {
        let [fake, real] = [&fake, &real].map(|site| answer(site, script));
        if fake != real {
            let text = format!("{name}\n--- fake\n{fake}--- real\n{real}");
            different.lock().unwrap_or_else(|poison| poison.into_inner()).push(text);
        }
    });
    let different = different.into_inner().unwrap();
    assert!(
        different.is_empty(),
        "{} of {} answers of {version} differ:\n\n{}",
        different.len(),
        QUESTIONS.len(),
        different.join("\n")
    );
}

fn answer(site: &Site, script: &str) -> String {
    let output = site.shell_with(&format!("{PRELUDE}\n{script}"), Vec::new(), Duration::from_secs(60));
    let mut text = format!("exit {}\n", output.code);
    for (stream, lines) in [("out", &output.stdout), ("err", &output.stderr)] {
        for line in lines.lines() {
            text += &format!("{stream}: {}\n", line.trim_end());
        }
    }
    // The script says on its last lines what its ids and places are.
    let uid = site.shell("id -u").line().to_owned();
    let mut words: Vec<(String, &str)> = vec![
        (site.user(), "USER"),
        (format!("({uid})"), "(UID)"),
        (format!("by {uid}"), "by UID"),
        (site.shell("hostname").line().to_owned(), "HOST"),
    ];
    words.extend(["localhost", "n1", "n2", "a1"].map(|node| (node.to_owned(), "NODE")));
    let mut kept = String::new();
    for line in text.lines() {
        match line.strip_prefix("out: IS ").and_then(|rest| rest.split_once(' ')) {
            Some(("job", id)) => words.insert(0, (id.to_owned(), "JOB")),
            Some(("dir", path)) => words.insert(0, (path.to_owned(), "DIR")),
            _ => {
                kept += line;
                kept.push('\n');
            }
        }
    }
    // squeue's %U comes behind the partition.
    for partition in ["batch", "closed"] {
        kept = kept.replace(&format!("|{partition}|{uid}|"), &format!("|{partition}|UID|"));
    }
    for (word, name) in words {
        kept = rename(&kept, &word, name);
    }
    times(&kept)
}

/// Replaces whole words only: job 1 is not in 10, and job 53 is not the signal of an exit code `0:53`.
fn rename(text: &str, word: &str, name: &str) -> String {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let of_a_pair =
        |text: &str| text.strip_suffix(':').is_some_and(|text| text.ends_with(|c: char| c.is_ascii_digit()));
    let mut renamed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let alone =
            !word.is_empty() && !part(before.chars().last()) && !of_a_pair(before) && !part(after.chars().next());
        renamed += before;
        renamed += if alone { name } else { word };
        rest = after;
    }
    renamed + rest
}

/// `2026-11-22T03:51:00` and seconds since the epoch become `TIME`.
fn times(text: &str) -> String {
    let mut words = Vec::new();
    for word in text.split_inclusive(|c: char| c.is_whitespace() || "=|".contains(c)) {
        let body = word.trim_end_matches(|c: char| c.is_whitespace() || "=|".contains(c));
        let stamp = body.len() == 19 && body.as_bytes()[10] == b'T' && body.starts_with("20");
        let epoch = body.len() == 10 && body.bytes().all(|b| b.is_ascii_digit());
        words.push(if stamp || epoch { word.replace(body, "TIME") } else { word.to_owned() });
    }
    words.concat()
}
