//! What a check found: the public [`Check`], and what is needed to sum all of them up.
//!
//! The client sorts an error of doctor by the words in its text, not by any field, so each red finding has a category
//! whose words are put beside it.

use crate::failure::{Failure, one_line};
use crate::protocol::{Check, CheckStatus};

/// What kind of trouble a red finding is, in the client's classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Timeout,
    Tool,
    Config,
    Auth,
    Network,
    Provider,
}

impl Category {
    /// Words by which the client knows the class; it looks for them in this order.
    pub fn text(self) -> &'static str {
        match self {
            Category::Timeout => "timed out",
            Category::Tool => "not found in $PATH",
            Category::Config => "correction required",
            Category::Auth => "credentials",
            Category::Network => "network",
            Category::Provider => "provider",
        }
    }
}

/// A check with what its summary needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub category: Category,
    /// `key=value` words for the summary; values hold no blanks.
    pub facts: Vec<(&'static str, String)>,
    /// Slurm did not answer this check, which says nothing by itself when Slurm answers nobody.
    pub failed: bool,
}

impl Finding {
    fn new(name: &str, status: CheckStatus, category: Category, seen: &str, remedy: &str) -> Finding {
        // The client takes the system's words for a file that is not there as those for a program that is not there.
        let seen = one_line(seen).replace("No such file or directory (os error 2)", "it does not exist");
        let check = Check { name: name.to_owned(), status, seen, remedy: one_line(remedy) };
        Finding { check, category, facts: vec![], failed: false }
    }

    pub fn ok(name: &str, seen: impl AsRef<str>) -> Finding {
        Finding::new(name, CheckStatus::Ok, Category::Provider, seen.as_ref(), "")
    }

    pub fn warning(name: &str, seen: impl AsRef<str>, remedy: impl AsRef<str>) -> Finding {
        Finding::new(name, CheckStatus::Warning, Category::Provider, seen.as_ref(), remedy.as_ref())
    }

    pub fn red(name: &str, category: Category, seen: impl AsRef<str>, remedy: impl AsRef<str>) -> Finding {
        Finding::new(name, CheckStatus::Red, category, seen.as_ref(), remedy.as_ref())
    }

    /// A failure of another part of the program as a red finding.
    pub fn of_failure(name: &str, category: Category, failure: &Failure) -> Finding {
        let remedy = one_line(failure.remedy_text());
        let seen = failure.to_string().replacen(&format!("; {remedy}"), "", 1);
        Finding::red(name, category, seen, remedy)
    }

    /// Marks a finding that rests on an answer Slurm did not give.
    #[must_use]
    pub fn not_asked(mut self) -> Finding {
        self.failed = true;
        self
    }

    /// Adds a word to the summary.
    #[must_use]
    pub fn fact(mut self, key: &'static str, value: impl AsRef<str>) -> Finding {
        let value = one_line(value.as_ref()).split_whitespace().collect::<Vec<_>>().join("_");
        self.facts.push((key, value));
        self
    }

    pub fn is(&self, status: CheckStatus) -> bool {
        self.check.status == status
    }
}

/// The end of what a tool said, at most `chars` long: banners come first, the reason last.
pub fn tail(text: &str, chars: usize) -> String {
    let count = text.chars().count();
    if count <= chars {
        text.to_owned()
    } else {
        format!("…{}", text.chars().skip(count - chars).collect::<String>().trim_start())
    }
}

/// The beginning of a text, at most `chars` long.
pub fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_failure_is_taken_apart() {
        let failure =
            Failure::new(Kind::Storage, "opening the state dir /x").remedy("chmod it").cause("Permission denied");
        let finding = Finding::of_failure("state dir", Category::Config, &failure);
        assert_eq!(finding.check.seen, "opening the state dir /x: Permission denied");
        assert_eq!(finding.check.remedy, "chmod it");
    }

    #[test]
    fn facts_are_one_word_each() {
        assert_eq!(Finding::ok("a", "b").fact("state", "/a b\nc").facts, [("state", "/a_b_/_c".to_owned())]);
    }
}
