//! Questions to a person at a terminal. They are on stderr: stdout is for what was asked for.

use std::io::{self, BufRead, Write};

/// How often one question is asked.
const TRIES: usize = 5;

/// Nobody has answered, or not in a way that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unanswered;

/// A person, by what is typed and what is shown.
pub struct Questions<'a> {
    pub input: &'a mut dyn BufRead,
    pub output: &'a mut dyn Write,
}

impl Questions<'_> {
    /// Asks until the answer fits; `fits` says what is wrong with it. Return takes what is proposed.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn ask(
        &mut self,
        what: &str,
        proposed: &str,
        fits: impl Fn(&str) -> Option<String>,
    ) -> Result<String, Unanswered> {
        for _ in 0..TRIES {
            let shown = if proposed.is_empty() { String::new() } else { format!(" [{proposed}]") };
            let answer = self.line(&format!("{what}{shown}: ")).map_err(|_| Unanswered)?;
            let answer = if answer.is_empty() { proposed } else { &answer };
            match fits(answer) {
                None => return Ok(answer.to_owned()),
                Some(why) => self.say(&format!("  {why}\n")).map_err(|_| Unanswered)?,
            }
        }
        Err(Unanswered)
    }

    /// Asks for one of some names.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn choose(&mut self, what: &str, names: &[String], proposed: &str) -> Result<String, Unanswered> {
        let all = names.join(", ");
        let fits = |answer: &str| (!names.iter().any(|name| name == answer)).then(|| format!("there are {all}"));
        self.ask(&format!("{what} ({all})"), proposed, fits)
    }

    /// Asks for a yes or a no; yes is proposed.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn agree(&mut self, what: &str) -> Result<bool, Unanswered> {
        let yes = |answer: &str| match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => Some(true),
            "n" | "no" => Some(false),
            _ => None,
        };
        let fits = |answer: &str| yes(answer).is_none().then(|| "write yes or no".to_owned());
        self.ask(what, "yes", fits).map(|answer| yes(&answer).unwrap_or_default())
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    fn line(&mut self, prompt: &str) -> io::Result<String> {
        self.say(prompt)?;
        let mut line = String::new();
        match self.input.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim().to_owned()),
        }
    }
}

impl std::fmt::Debug for Questions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Questions")
    }
}
