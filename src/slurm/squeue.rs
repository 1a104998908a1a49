//! squeue: one listing of all jobs of this user, or one job by its id.
//!
//! `--states=all` always: without it a job that died at its start looks like one that never was. Several ids in one
//! call silently leave out what is gone, so there is only the whole listing and the single id (hazards.md B2, B3).

use std::time::Duration;

use super::job::{JobId, Listing, Row, State, Unasked};
use crate::host::{Command, End, Host, Output};

/// squeue gives up on a hung controller after 20 s by itself, on an unplugged one after 44 s.
pub const DEADLINE: Duration = Duration::from_secs(25);

/// Fields of a row, apart by a character that no name or comment holds. A row starts and ends with a mark and its id, so
/// that banners, line ends inside comments, and output that was cut off or lost in the middle are noticed.
const FORMAT: &str =
    "@%A\u{1f}%T\u{1f}%r\u{1f}%B\u{1f}%V\u{1f}%S\u{1f}%e\u{1f}%P\u{1f}%Z\u{1f}%U\u{1f}%j\u{1f}%k\u{1f}%A$";
const SEPARATOR: char = '\u{1f}';
const FIELDS: usize = 13;

fn base(cluster: Option<&str>, deadline: Duration) -> Command {
    let command = Command::new("squeue", deadline)
        .args(["--noheader", "--states=all"])
        .arg(format!("--format={FORMAT}"))
        .env("SLURM_TIME_FORMAT", "%s")
        .env("LC_ALL", "C");
    match cluster {
        Some(cluster) => command.arg(format!("--clusters={cluster}")),
        None => command,
    }
}

/// What squeue printed when it succeeded, and whether it kept silent on stderr; or why it could not be asked.
pub type Answer = Result<(String, bool), Unasked>;

/// Asks for all jobs of a user on one cluster.
pub fn ask_user(host: &Host, uid: u32, cluster: Option<&str>, deadline: Duration) -> Answer {
    run(host, &base(cluster, deadline).arg(format!("--user={uid}"))).and_then(|output| printed(&output))
}

/// The listing that an answer holds.
pub fn listing(answer: &Answer, cluster: Option<&str>) -> Result<Listing, Unasked> {
    let (text, quiet) = answer.as_ref().map_err(Clone::clone)?;
    let (rows, clean) = parse_rows(text, cluster);
    Ok(Listing { rows, complete: clean && *quiet })
}

/// Asks for all jobs of a user on one cluster, and reads the answer.
pub fn list_user(host: &Host, uid: u32, cluster: Option<&str>, deadline: Duration) -> Result<Listing, Unasked> {
    listing(&ask_user(host, uid, cluster, deadline), cluster)
}

/// Asks for one job; `Ok(None)` is Slurm's explicit denial of this id.
pub fn find(host: &Host, job: &JobId, deadline: Duration) -> Result<Option<Row>, Unasked> {
    let cluster = job.cluster.as_deref();
    let output = run(host, &base(cluster, deadline).arg(format!("--jobs={}", job.id)))?;
    parse_single(&output, job)
}

fn run(host: &Host, command: &Command) -> Result<Output, Unasked> {
    host.run(command).map_err(|error| {
        let program = command.shown();
        let program = program.split(' ').next().unwrap_or_default();
        Unasked(match host {
            Host::Here => format!("{program} could not be started: {error}"),
            Host::Login(_) => format!("{program} was not asked: {error}"),
        })
    })
}

/// Reads the answer about one job.
pub fn parse_single(output: &Output, job: &JobId) -> Result<Option<Row>, Unasked> {
    if output.end == End::Exit(1) && output.stderr_text().contains("Invalid job id specified") {
        return Ok(None);
    }
    let listing = parse_listing(output, job.cluster.as_deref())?;
    match listing.rows.into_iter().find(|row| row.job.id == job.id) {
        Some(row) => Ok(Some(row)),
        None => Err(Unasked(format!("squeue said nothing about job {job}: {}", output.said()))),
    }
}

/// Reads a listing of one cluster.
pub fn parse_listing(output: &Output, cluster: Option<&str>) -> Result<Listing, Unasked> {
    listing(&printed(output), cluster)
}

fn printed(output: &Output) -> Answer {
    let (stdout, stderr) = (output.stdout_text(), output.stderr_text());
    // Seen with several clusters: the error's text with exit 0 and nothing else (hazards.md B6).
    if !output.success() || (stdout.trim().is_empty() && stderr.contains("error:")) {
        return Err(Unasked(format!("squeue failed: {}", output.said())));
    }
    Ok((stdout, stderr.trim().is_empty()))
}

/// The rows, and whether there was nothing but whole rows.
fn parse_rows(text: &str, cluster: Option<&str>) -> (Vec<Row>, bool) {
    let mut rows = Vec::new();
    let mut clean = true;
    let mut open = String::new();
    for line in text.lines() {
        let starts_row = starts_row(line);
        if !open.is_empty() && !starts_row {
            // A comment with a line end in it.
            open.push('\n');
            open.push_str(line);
        } else if starts_row {
            clean &= open.is_empty();
            open = line.to_owned();
        } else {
            // With --clusters and a header asked for, squeue names the cluster first.
            clean &= line.trim().is_empty() || cluster.is_some_and(|name| line == format!("CLUSTER: {name}"));
            continue;
        }
        if open.matches(SEPARATOR).count() >= FIELDS - 1 {
            match parse_row(&open, cluster) {
                Some(row) => rows.push(row),
                None => clean = false,
            }
            open.clear();
        }
    }
    (rows, clean && open.is_empty())
}

/// Whether a line begins as only a row does, not as a line of a comment may.
fn starts_row(line: &str) -> bool {
    let mut fields = line.split(SEPARATOR);
    let id = fields.next().and_then(|field| field.strip_prefix('@')).unwrap_or_default();
    let state = fields.next().unwrap_or_default();
    let digits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit());
    digits && !state.is_empty() && state.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') && fields.next().is_some()
}

fn parse_row(text: &str, cluster: Option<&str>) -> Option<Row> {
    let fields: Vec<&str> = text.strip_prefix('@')?.split(SEPARATOR).collect();
    let [id, state, reason, node, submitted, start, end, partition, directory, uid, name, comment, mark] = fields[..]
    else {
        return None;
    };
    if mark.strip_suffix('$') != Some(id) {
        return None;
    }
    let time = |text: &str| text.parse().ok();
    let absent = |text: &str| matches!(text, "n/a" | "N/A" | "(null)" | "None assigned");
    let text = |text: &str| if absent(text) { String::new() } else { text.to_owned() };
    Some(Row {
        job: JobId { id: id.parse().ok()?, cluster: cluster.map(str::to_owned) },
        state: State::new(state),
        reason: reason.to_owned(),
        node: text(node),
        submitted: time(submitted),
        start: time(start),
        end: time(end),
        partition: partition.to_owned(),
        directory: directory.to_owned(),
        uid: uid.parse().ok()?,
        name: name.to_owned(),
        comment: text(comment),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const ROW: &str = "@7\u{1f}RUNNING\u{1f}None\u{1f}n1\u{1f}1795308136\u{1f}1795308137\u{1f}1795309936\u{1f}batch\u{1f}/shared/x\u{1f}1001\u{1f}cbx-4b38f35d4e31\u{1f}cbx:x y\u{1f}7$\n";

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { end: End::Exit(code), stdout: stdout.into(), stderr: stderr.into(), took: Duration::ZERO }
    }

    fn whole(text: &str) -> (Vec<u64>, bool) {
        let (rows, clean) = parse_rows(text, None);
        (rows.iter().map(|row| row.job.id).collect(), clean)
    }

    #[test]
    fn a_row_is_read_whole() {
        let (rows, clean) = parse_rows(ROW, None);
        assert!(clean);
        assert_eq!(
            rows[0],
            Row {
                job: JobId { id: 7, cluster: None },
                state: State::new("RUNNING"),
                reason: "None".into(),
                node: "n1".into(),
                submitted: Some(1795308136),
                start: Some(1795308137),
                end: Some(1795309936),
                partition: "batch".into(),
                directory: "/shared/x".into(),
                uid: 1001,
                name: "cbx-4b38f35d4e31".into(),
                comment: "cbx:x y".into(),
            }
        );
    }

    #[test]
    fn noise_is_noticed_and_does_not_hide_rows() {
        assert_eq!(whole(""), (vec![], true));
        assert_eq!(whole(&format!("Welcome to Stampede3\n{ROW}")), (vec![7], false));
        assert_eq!(whole(&format!("{ROW}{ROW}")), (vec![7, 7], true));
        assert_eq!(whole(&ROW[..ROW.len() - 4]), (vec![], false));
        assert_eq!(whole(&format!("{}\n{ROW}", &ROW[..30])), (vec![7], false));
        assert_eq!(whole(&ROW.replace("cbx:x y", "two\nlines")), (vec![7], true));
        assert_eq!(whole(&ROW.replace("@7", "@x")), (vec![], false));
        assert_eq!(whole(&ROW.replace("cbx:x y", "x\n@7")), (vec![7], true));
        assert_eq!(whole(&ROW.replace("cbx:x y", "$\nx")), (vec![7], true));
        assert_eq!(whole(&format!("{}{}", &ROW[..20], ROW.replace('7', "8"))), (vec![], false));
        assert_eq!(whole("\u{0}\u{1}\u{2}garbage"), (vec![], false));
    }

    #[test]
    fn rows_belong_to_the_cluster_that_was_asked() {
        let (rows, clean) = parse_rows(&format!("CLUSTER: annex\n{ROW}"), Some("annex"));
        assert!(clean);
        assert_eq!(rows[0].job.to_string(), "7;annex");
        assert!(!parse_rows(&format!("CLUSTER: annex\n{ROW}"), None).1);
    }

    #[rstest]
    #[case(1, "", "slurm_load_jobs error: Invalid job id specified", "denied")]
    #[case(1, "", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "unasked")]
    #[case(1, "", "slurm_load_jobs error: Zero Bytes were transmitted or received", "unasked")]
    #[case(0, "", "", "unasked")]
    #[case(0, "", "slurm_load_jobs error: Socket timed out on send/recv operation", "unasked")]
    #[case(0, ROW, "", "row")]
    #[case(0, ROW, "squeue: warning: something", "row")]
    fn single_job(#[case] code: i32, #[case] stdout: &str, #[case] stderr: &str, #[case] expected: &str) {
        let found = match parse_single(&output(code, stdout, stderr), &JobId { id: 7, cluster: None }) {
            Ok(Some(_)) => "row",
            Ok(None) => "denied",
            Err(_) => "unasked",
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_warning_on_stderr_makes_a_listing_incomplete_and_an_error_makes_it_none() {
        assert!(parse_listing(&output(0, ROW, ""), None).unwrap().complete);
        assert!(!parse_listing(&output(0, ROW, "squeue: warning: x"), None).unwrap().complete);
        assert!(parse_listing(&output(0, "", "slurm_load_jobs error: x"), None).is_err());
        assert!(parse_listing(&output(1, ROW, "x"), None).is_err());
    }
}
