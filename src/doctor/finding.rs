//! What a check found: the public [`Check`], and what is needed to sum all of them up.
//!
//! The client sorts an error of doctor by the words in its text, not by any field, so each red finding has a category
//! whose words are put beside it.

use crate::doctor::check::CheckId;
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

/// What one check saw, with what a summary of all needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub id: CheckId,
    pub status: CheckStatus,
    pub seen: String,
    /// What to do; empty when there is nothing.
    pub remedy: String,
    pub category: Category,
    /// `key=value` words for the summary; values hold no blanks.
    pub facts: Vec<(&'static str, String)>,
    /// Somebody did not answer this check, which says nothing by itself when a check that it rests on is red.
    pub unanswered: bool,
}

impl Finding {
    fn new(id: CheckId, status: CheckStatus, category: Category, seen: &str, remedy: &str) -> Finding {
        // The client takes the system's words for a file that is not there as those for a program that is not there.
        let seen = one_line(seen).replace("No such file or directory (os error 2)", "it does not exist");
        Finding { id, status, seen, remedy: one_line(remedy), category, facts: vec![], unanswered: false }
    }

    pub fn ok(id: CheckId, seen: impl AsRef<str>) -> Finding {
        Finding::new(id, CheckStatus::Ok, Category::Provider, seen.as_ref(), "")
    }

    pub fn warning(id: CheckId, seen: impl AsRef<str>, remedy: impl AsRef<str>) -> Finding {
        Finding::new(id, CheckStatus::Warning, Category::Provider, seen.as_ref(), remedy.as_ref())
    }

    pub fn red(id: CheckId, category: Category, seen: impl AsRef<str>, remedy: impl AsRef<str>) -> Finding {
        Finding::new(id, CheckStatus::Red, category, seen.as_ref(), remedy.as_ref())
    }

    /// As people and the client get it.
    pub fn check(self) -> Check {
        let name = self.id.name().to_owned();
        Check { name, status: self.status, seen: self.seen, remedy: self.remedy, checked_at: None }
    }

    /// A failure of another part of the program as a red finding.
    pub fn of_failure(id: CheckId, category: Category, failure: &Failure) -> Finding {
        let remedy = one_line(failure.remedy_text());
        let seen = failure.to_string().replacen(&format!("; {remedy}"), "", 1);
        Finding::red(id, category, seen, remedy)
    }

    /// Marks a finding that is made of an answer which did not come.
    #[must_use]
    pub fn not_asked(mut self) -> Finding {
        self.unanswered = true;
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
        self.status == status
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
        let finding = Finding::of_failure(CheckId::StateDir, Category::Config, &failure);
        assert_eq!(finding.seen, "opening the state dir /x: Permission denied");
        assert_eq!(finding.remedy, "chmod it");
    }

    #[test]
    fn facts_are_one_word_each() {
        assert_eq!(
            Finding::ok(CheckId::StateDir, "b").fact("state", "/a b\nc").facts,
            [("state", "/a_b_/_c".to_owned())]
        );
    }
}
