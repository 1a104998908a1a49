//! Options of sbatch that a site's admins allow beside those that everybody may ask for: options of SPANK plugins and of the
//! site's own. They are listed in a file of root's on the host where Slurm's commands run; a caller alone allows nothing.

use std::time::Duration;

use crate::config::Settings;
use crate::failure::{Failure, Kind};
use crate::files::trust::{Unsafe, is_roots};
use crate::host::{Command, Host, NotRun, Output};

/// One name a line, with or without `--`; `#` begins a comment.
pub const FILE: &str = "/etc/slurm-sandbox/sbatch-options";
const DIRECTORY: &str = "/etc/slurm-sandbox";

/// A file of /etc on this machine or a login host's.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest list.
const BYTES: &str = "65536";

/// Refuses options that are listed nowhere, in the words in which a config is refused.
///
/// # Errors
/// Also when the login host cannot be asked.
pub fn check(host: &Host, settings: &Settings) -> Result<(), Failure> {
    let asked = &settings.resources.site_options;
    if asked.is_empty() {
        return Ok(());
    }
    let run = |program: &str, words: &[&str]| {
        host.run(&Command::new(program, PATIENCE).args(words).env("LC_ALL", "C")).map_err(|error| match error {
            NotRun::Login(error) => error.failure(format!("the list of options in {FILE} cannot be read")),
            error => Failure::new(Kind::Storage, format!("the list of options in {FILE} cannot be read"))
                .cause(error.to_string()),
        })
    };
    let seen = run("stat", &["-c", "%u %a %F", "--", DIRECTORY, FILE])?;
    let listed = match classify(&seen) {
        Ok(()) => Ok(names(&run("head", &["-c", BYTES, "--", FILE])?.stdout_text())),
        Err(why) => Err(why),
    };
    let complaints: Vec<_> = asked.iter().filter_map(|option| complaint(option, &listed, &host.shown())).collect();
    match complaints.is_empty() {
        true => Ok(()),
        false => Err(crate::config::mistakes(&complaints)),
    }
}

/// Whether directory and file are root's, and nobody else can change them.
fn classify(seen: &Output) -> Result<(), Unsafe> {
    let text = seen.stdout_text();
    let lines: Vec<_> = text.lines().collect();
    let [directory, file] = lines[..] else { return Err(Unsafe::Missing) };
    is_roots(directory, &["directory"]).map_err(|why| Unsafe::In(Box::new(why)))?;
    is_roots(file, &["regular file", "regular empty file"])
}

/// The names that a list has.
fn names(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let names = lines.map(|line| line.strip_prefix("--").unwrap_or(line));
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// What is wrong with an option, where it is not listed.
fn complaint(option: &str, listed: &Result<Vec<String>, Unsafe>, host: &str) -> Option<String> {
    let name = option.trim_start_matches('-').split('=').next().unwrap_or_default();
    let why = match listed {
        Ok(names) if names.iter().any(|listed| listed == name) => return None,
        Ok(names) if names.is_empty() => "lists nothing".to_owned(),
        Ok(names) => format!("lists {}", names.join(", ")),
        Err(why) => why.to_string(),
    };
    Some(format!(
        "config key \"extraSbatchArgs\" has {option:?}; allowed beside the options of docs/configuration.md is what the site's admins list \
         in {FILE}{host}, which {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::End;
    use rstest::rstest;

    fn output(text: &str) -> Output {
        Output { end: End::Exit(0), stdout: text.into(), stderr: vec![], took: Duration::ZERO }
    }

    fn in_directory(why: Unsafe) -> Unsafe {
        Unsafe::In(Box::new(why))
    }

    #[rstest]
    #[case("0 755 directory\n0 644 regular file\n", None)]
    #[case("0 755 directory\n0 600 regular empty file\n", None)]
    #[case("0 755 directory\n", Some(Unsafe::Missing))]
    #[case("", Some(Unsafe::Missing))]
    #[case("0 755 directory\n1001 644 regular file\n", Some(Unsafe::OfUser("1001".into())))]
    #[case("0 755 directory\n0 664 regular file\n", Some(Unsafe::Writable))]
    #[case("0 755 directory\n0 646 regular file\n", Some(Unsafe::Writable))]
    #[case("0 755 directory\n0 777 symbolic link\n", Some(Unsafe::OfAnotherKind("symbolic link".into())))]
    #[case("0 755 directory\n0 755 directory\n", Some(Unsafe::OfAnotherKind("directory".into())))]
    #[case("1001 755 directory\n0 644 regular file\n", Some(in_directory(Unsafe::OfUser("1001".into()))))]
    #[case("0 1777 directory\n0 644 regular file\n", Some(in_directory(Unsafe::Writable)))]
    fn a_list_is_roots_alone(#[case] seen: &str, #[case] expected: Option<Unsafe>) {
        assert_eq!(classify(&output(seen)).err(), expected);
    }

    #[test]
    fn a_list_has_names() {
        assert_eq!(
            names("# SPANK\n--container-image  # pyxis\nx11\n\n  gpu-mps \n"),
            ["container-image", "x11", "gpu-mps"]
        );
    }

    #[rstest]
    #[case("--container-image=x.sqsh", &["container-image"], true)]
    #[case("--container-image", &["x11", "container-image"], true)]
    #[case("--container-imag=x", &["container-image"], false)]
    #[case("--x11", &[], false)]
    fn only_what_is_listed(#[case] option: &str, #[case] listed: &[&str], #[case] allowed: bool) {
        let listed = Ok(listed.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(complaint(option, &listed, "").is_none(), allowed);
        assert!(complaint(option, &Err(Unsafe::Missing), " on login").is_some_and(|text| text.contains(option)));
    }
}
