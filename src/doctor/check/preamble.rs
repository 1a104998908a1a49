//! What shows of a site's lines for the job from their text alone: which files and commands they name, and whether they can succeed.

/// The files that a preamble sources by their plain absolute names, as a command of a line of its own.
pub fn sourced(preamble: &str) -> Vec<String> {
    let plain = |path: &&str| crate::config::value::is_safe_path(path);
    let path = |line: &str| {
        let mut words = line.split_whitespace();
        let path = words.next().filter(|word| matches!(*word, "source" | ".")).and_then(|_| words.next())?;
        let path = path.trim_end_matches(';').trim_matches(['"', '\'']);
        Some(path).filter(plain).map(str::to_owned)
    };
    // What is only sourced where it is there stands in a condition, and is indented or behind a word of its own.
    preamble.lines().filter(|line| !line.starts_with([' ', '\t'])).filter_map(path).collect()
}

/// The plain commands that a preamble begins its lines with, up to what may put further ones on PATH. Where lines belong together, by a
/// quote, a backslash or a here-document, nothing is known of what begins one.
pub fn commands(preamble: &str) -> Vec<String> {
    let joined = |line: &str| line.ends_with('\\') || line.contains("<<") || line.matches(['"', '\'']).count() % 2 == 1;
    if preamble.lines().any(joined) {
        return vec![];
    }
    let own = |word: &str| preamble.contains(&format!("{word}()")) || preamble.contains(&format!("{word} ()"));
    let word = |line: &str| {
        let assigns =
            |word: &&str| word.split_once('=').is_some_and(|(name, _)| crate::config::value::is_word(name, "_"));
        let word = line.split_whitespace().find(|word| !assigns(word))?.trim_end_matches(';');
        let plain = crate::config::value::is_word(word, "._/+-") && !line.starts_with([' ', '\t']) && !own(word);
        plain.then(|| word.to_owned())
    };
    preamble.lines().take_while(|line| !brings_programs(line)).filter_map(word).collect()
}

/// The last line of a preamble, if it is one that fails for certain, or takes the place of the shell that sources it.
pub fn fails(preamble: &str) -> Option<&str> {
    let line = preamble.lines().map(str::trim_end).rfind(|line| !line.is_empty() && !line.starts_with('#'))?;
    let words: Vec<_> = line.split_whitespace().collect();
    let replaced = matches!(words[..], ["exec", program, ..] if !program.contains(['<', '>']));
    (!line.starts_with([' ', '\t']) && (never_succeeds(line) || replaced)).then_some(line)
}

/// The line of a preamble that ends the start for certain: an `exit` that nothing stands before, or one that means success
/// behind a condition.
pub fn exits(preamble: &str) -> Option<&str> {
    let is_exit = |command: &str, with_success_only: bool| {
        let mut words = command.split_whitespace();
        words.next() == Some("exit") && (!with_success_only || words.next() == Some("0"))
    };
    preamble.lines().find_map(|line| {
        let code = line.split(" #").next().unwrap_or(line);
        let mut commands = code.split([';', '&', '|']).filter(|command| !command.trim().is_empty());
        let first = commands.next()?;
        let certain = is_exit(first, first.starts_with([' ', '\t']));
        (certain || commands.any(|command| is_exit(command, true))).then(|| line.trim())
    })
}

/// Whether a preamble may put further programs on PATH.
pub fn brings_programs(preamble: &str) -> bool {
    let words = ["module", "ml", "source", ".", "spack", "eval", "conda", "guix", "nix"];
    preamble.contains("PATH")
        || preamble.split(|c: char| c.is_whitespace() || c == ';').any(|word| words.contains(&word))
}

/// Whether a ready check is one command that is made to fail.
pub fn never_succeeds(check: &str) -> bool {
    let words: Vec<_> = check.trim().trim_end_matches(';').split_whitespace().collect();
    match words[..] {
        ["false" | "/bin/false" | "/usr/bin/false"] => true,
        ["exit" | "return", code] => code.parse::<u8>().is_ok_and(|code| code != 0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("source /a/b.sh", &["/a/b.sh"])]
    #[case(". \"/a/b.sh\";", &["/a/b.sh"])]
    #[case("source $HOME/x\nsource rel.sh\nsourceful /x", &[])]
    #[case("if [ -e /a ]; then\n  . /a\nfi\n[ -e /b ] && . /b", &[])]
    fn sourced_files(#[case] preamble: &str, #[case] expected: &[&str]) {
        assert_eq!(sourced(preamble), expected);
    }

    #[rstest]
    #[case("exit 0", true)]
    #[case("module load x\nexit 3 # done", true)]
    #[case("[ -e /x ] && exit 0", true)]
    #[case("module load x || exit 1", false)]
    #[case("if ! true; then\n  exit 1\nfi", false)]
    #[case("if ! true; then\n  exit 0\nfi", true)]
    #[case("# exit 0\nexiting 0\necho exit 0", false)]
    fn preambles_that_exit(#[case] preamble: &str, #[case] expected: bool) {
        assert_eq!(exits(preamble).is_some(), expected);
    }

    #[rstest]
    #[case("false", true)]
    #[case(" false; ", true)]
    #[case("exit 1", true)]
    #[case("exit 0", false)]
    #[case("exit", false)]
    #[case("false || true", false)]
    #[case("true", false)]
    fn ready_checks(#[case] check: &str, #[case] expected: bool) {
        assert_eq!(never_succeeds(check), expected);
    }

    #[rstest]
    #[case("set -e\nA=1 nvidia-smi -L;", &["set", "nvidia-smi"])]
    #[case("module load x\nfoo", &[])]
    #[case("foo\nPATH=/x:$PATH\nbar", &["foo"])]
    #[case("f() {\n  foo\n}\nf", &["}"])]
    #[case("cat <<X\nfoo\nX", &[])]
    #[case("echo \"a\nfoo\"", &[])]
    #[case("foo \\\nbar", &[])]
    #[case("$HOME/bin/x\n[ -e /x ] && foo\n# foo", &[])]
    fn commands_of_a_preamble(#[case] preamble: &str, #[case] expected: &[&str]) {
        let plain = |word: &String| word.bytes().any(|b| b.is_ascii_alphanumeric());
        let expected: Vec<_> = expected.iter().filter(|word| **word != "}").map(|word| (*word).to_owned()).collect();
        assert_eq!(commands(preamble).into_iter().filter(plain).collect::<Vec<_>>(), expected);
    }

    #[rstest]
    #[case("true\nfalse\n\n", Some("false"))]
    #[case("return 1", Some("return 1"))]
    #[case("exec sleep 1", Some("exec sleep 1"))]
    #[case("exec 2>&1", None)]
    #[case("exec >log", None)]
    #[case("if x; then\n  return 1\nfi", None)]
    #[case("false\ntrue # false", None)]
    #[case("# false", None)]
    #[case("", None)]
    fn preambles_that_fail_at_their_end(#[case] preamble: &str, #[case] expected: Option<&str>) {
        assert_eq!(fails(preamble), expected);
    }
}
