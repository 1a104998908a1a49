//! Whether a person at a terminal waits for this process.

use std::io::IsTerminal;
use std::path::Path;

use nix::unistd::getppid;

/// Whether standard error is a terminal, or the parent has one. A proxy command has the ssh's standard error, by which a person is told
/// what goes on; with ControlPersist ssh gives it /dev/null, and only that ssh's own streams tell. A controlling terminal would say too
/// much: an editor keeps that of the shell which once started it.
pub fn is_attended() -> bool {
    let parent = getppid().as_raw();
    let parents = |fd: i32| std::fs::read_link(format!("/proc/{parent}/fd/{fd}")).is_ok_and(|path| is_terminal(&path));
    std::io::stderr().is_terminal() || [0, 2].into_iter().any(parents)
}

/// Whether a session can have a terminal of its own: what it reads comes from one, and what it writes goes to one.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && super::caller::stdout().is_terminal()
}

/// One that was closed has other words after its name.
fn is_terminal(path: &Path) -> bool {
    let Some(name) = path.to_str().and_then(|path| path.strip_prefix("/dev/")) else { return false };
    let number = name.strip_prefix("pts/").or_else(|| name.strip_prefix("tty"));
    name == "console" || number.is_some_and(|number| number.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/dev/pts/3", true)]
    #[case("/dev/tty1", true)]
    #[case("/dev/ttyS0", true)]
    #[case("/dev/console", true)]
    #[case("/dev/pts/3 (deleted)", false)]
    #[case("/dev/null", false)]
    #[case("pipe:[12]", false)]
    #[case("/home/alice/tty1", false)]
    fn terminals(#[case] path: &str, #[case] expected: bool) {
        assert_eq!(is_terminal(Path::new(path)), expected);
    }
}
