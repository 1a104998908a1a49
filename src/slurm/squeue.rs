//! squeue: one listing of all jobs of this user, or one job by its id.
//!
//! `--states=all` always: without it a job that died at its start looks like one that never was. Several ids in one
//! call silently leave out what is gone, so there is only the whole listing and the single id (docs/facts/slurm.md, "Asking for one job or for all").
//!
//! A job's owner, and so the code in a sandbox, may write its name, comment and directory as he likes, line ends included.
//! So every query has a mark of its own, 128 random bits, around each row and around each of those columns: nothing that was
//! written before can hold it, and what stands between two marks is one value, whatever it looks like.

use std::collections::HashSet;
use std::time::Duration;

use super::job::{JobId, Listing, QueryFailed, Resources, Row, State};
use super::{on_clusters, silence};
use crate::files::random_hex;
use crate::host::{Command, End, Host, Output};
use crate::text::line;

/// squeue gives up on a hung controller after 20 s by itself, on an unplugged one after 44 s.
pub const DEADLINE: Duration = Duration::from_secs(25);

/// The columns that Slurm itself writes, apart by a character that none of them holds.
const COLUMNS: &str = "%A\u{1f}%T\u{1f}%r\u{1f}%B\u{1f}%V\u{1f}%S\u{1f}%e\u{1f}%P\u{1f}%U\u{1f}%C\u{1f}%m";
const SEPARATOR: char = '\u{1f}';
const FIELDS: usize = 11;

/// The columns that a job's owner writes, last and bounded, in bytes: a name of ours is 16 long, a plugin may add to it; of
/// a comment we read the first word, 46 long. Slurm bounds the directory itself (MAXPATHLEN), and its end tells most. Account
/// and QOS are any text where no accounting checks them.
const OWNER_COLUMNS: [&str; OWNER_VALUES] = ["%96j", "%Z", "%80k", "%48a", "%32q", "%48b"];
const OWNER_VALUES: usize = 6;

/// Marks one query's rows and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// A new one for a query.
    ///
    /// # Errors
    /// When the system gives no random bits.
    pub fn random() -> std::io::Result<Mark> {
        random_hex(16).map(Mark)
    }

    /// One that was written down beside an answer; `None` if it cannot be one.
    pub fn parse(text: &str) -> Option<Mark> {
        (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Mark(text.to_owned()))
    }

    /// The mark itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `<mark>@ id state … <mark> name <mark> directory <mark> … <mark>$`, without the blanks.
    fn format(&self) -> String {
        let mark = &self.0;
        format!("{mark}@{COLUMNS}{mark}{}{mark}$", OWNER_COLUMNS.join(mark))
    }
}

/// Whose jobs are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner<'a> {
    /// The number that rows carry.
    pub uid: u32,
    /// The name by which this user is known where Slurm's commands run.
    pub name: Option<&'a str>,
}

impl Owner<'_> {
    /// What `--user` takes. squeue reads a number as a signed one of 32 bits, so a larger user id has to be asked for by its
    /// name (Slurm 22.05: "Invalid user: 3000000000").
    fn argument(&self) -> Result<String, QueryFailed> {
        match self.name {
            _ if i32::try_from(self.uid).is_ok() => Ok(self.uid.to_string()),
            Some(name) if !name.is_empty() && !name.contains(',') => Ok(name.to_owned()),
            _ => Err(QueryFailed(format!(
                "squeue cannot be asked for the user id {}, and this user has no name on this machine",
                self.uid
            ))),
        }
    }
}

fn base(mark: &Mark, cluster: Option<&str>, deadline: Duration) -> Command {
    let command = Command::new("squeue", deadline)
        .args(["--noheader", "--states=all"])
        .arg(format!("--format={}", mark.format()))
        .env("SLURM_TIME_FORMAT", "%s")
        .env("LC_ALL", "C");
    on_clusters(command, cluster)
}

/// What squeue printed when it succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// That of the query.
    pub mark: Mark,
    pub text: String,
    /// Whether it was silent on stderr, and asked as the jobs' owner.
    pub quiet: bool,
}

/// An answer of squeue, or why it could not be asked.
pub type Answer = Result<Printed, QueryFailed>;

/// Asks for all jobs of a user on one cluster.
pub fn ask_user(host: &Host, owner: Owner<'_>, cluster: Option<&str>, deadline: Duration) -> Answer {
    let user = owner.argument()?;
    let mark = new_mark()?;
    let output = silence::ask(host, cluster, &base(&mark, cluster, deadline).arg(format!("--user={user}")))?;
    let printed = printed(output, &mark)?;
    // Jobs of others are shown only where the site lets it, so what another user does not see may be there (docs/facts/slurm.md, "Jobs of other users").
    let own = host.user().is_ok_and(|user| user.uid == owner.uid);
    Ok(Printed { quiet: printed.quiet && own, ..printed })
}

/// The listing that an answer holds.
pub fn listing(answer: &Answer, cluster: Option<&str>) -> Result<Listing, QueryFailed> {
    listing_of(answer, cluster, &|_| true)
}

/// The same with those rows alone that are wanted. Whether it is complete is told of all: each is looked at, and few are copied.
pub fn listing_of(answer: &Answer, cluster: Option<&str>, wanted: Wanted<'_>) -> Result<Listing, QueryFailed> {
    let printed = answer.as_ref().map_err(Clone::clone)?;
    let (rows, clean) = parse_rows(&printed.text, &printed.mark, cluster, wanted);
    Ok(Listing { rows, complete: clean && printed.quiet })
}

/// Asks for all jobs of a user on one cluster, and reads the answer.
pub fn list_user(
    host: &Host,
    owner: Owner<'_>,
    cluster: Option<&str>,
    deadline: Duration,
) -> Result<Listing, QueryFailed> {
    listing(&ask_user(host, owner, cluster, deadline), cluster)
}

/// Asks for one job; `Ok(None)` is Slurm's explicit denial of this id.
pub fn find(host: &Host, job: &JobId, deadline: Duration) -> Result<Option<Row>, QueryFailed> {
    let cluster = job.cluster.as_deref();
    let mark = new_mark()?;
    let output = silence::ask(host, cluster, &base(&mark, cluster, deadline).arg(format!("--jobs={}", job.id)))?;
    parse_single(&output, &mark, job)
}

fn new_mark() -> Result<Mark, QueryFailed> {
    Mark::random().map_err(|error| QueryFailed(format!("squeue was not asked: {error}")))
}

/// Reads the answer about one job.
pub fn parse_single(output: &Output, mark: &Mark, job: &JobId) -> Result<Option<Row>, QueryFailed> {
    if output.end == End::Exit(1) && output.stderr_text().contains("Invalid job id specified") {
        return Ok(None);
    }
    let listing = parse_listing(output, mark, job.cluster.as_deref())?;
    match listing.rows.into_iter().find(|row| row.job.id == job.id) {
        Some(row) => Ok(Some(row)),
        None => Err(QueryFailed(format!("squeue said nothing about job {job}: {}", output.said()))),
    }
}

/// Reads a listing of one cluster.
pub fn parse_listing(output: &Output, mark: &Mark, cluster: Option<&str>) -> Result<Listing, QueryFailed> {
    listing(&printed(output.clone(), mark), cluster)
}

fn printed(output: Output, mark: &Mark) -> Answer {
    let stderr = output.stderr_text();
    // Seen with several clusters: the error's text with exit 0 and nothing else (docs/facts/slurm.md, "Errors with exit 0").
    if !output.success() || (output.stdout.trim_ascii().is_empty() && stderr.contains("error:")) {
        return Err(QueryFailed(format!("squeue failed: {}", output.said())));
    }
    // That of thousands of jobs is long.
    let text =
        String::from_utf8(output.stdout).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Ok(Printed { mark: mark.clone(), text, quiet: stderr.trim().is_empty() })
}

/// A row as squeue printed it: nothing of it is copied.
#[derive(Debug, Clone, Copy)]
pub struct RowText<'a> {
    pub id: u64,
    pub directory: &'a str,
    pub comment: &'a str,
    uid: u32,
    columns: [&'a str; FIELDS],
    name: &'a str,
    account: &'a str,
    qos: &'a str,
    gres: &'a str,
}

/// Tells whether a row is wanted.
pub type Wanted<'a> = &'a dyn Fn(&RowText<'_>) -> bool;

/// The rows that are wanted, and whether there was nothing but whole rows of different jobs. A job that has two rows has none: a
/// federation or a wrapper shows it twice, and nobody knows which is true.
fn parse_rows(text: &str, mark: &Mark, cluster: Option<&str>, wanted: Wanted<'_>) -> (Vec<Row>, bool) {
    let (mut rows, mut ids) = (Vec::new(), HashSet::new());
    let mut twice = HashSet::new();
    let mut clean = true;
    // What stands between two marks is one value, and a row's end begins the next piece.
    let mut pieces = text.split(mark.as_str());
    let before = pieces.next().unwrap_or_default();
    // With --clusters and a header asked for, squeue names the cluster first.
    clean &=
        before.lines().all(|line| line.is_empty() || cluster.is_some_and(|name| line == format!("CLUSTER: {name}")));
    while let Some(columns) = pieces.next() {
        let values = [(); OWNER_VALUES].map(|()| pieces.next());
        let ([Some(name), Some(directory), Some(comment), Some(account), Some(qos), Some(gres)], Some(end)) =
            (values, pieces.next())
        else {
            clean = false;
            break;
        };
        clean &= end == "$\n" || end == "$";
        let columns = columns.strip_prefix('@').filter(|_| end.starts_with('$')).and_then(parse_columns);
        let Some((id, uid, columns)) = columns else {
            clean = false;
            continue;
        };
        if !ids.insert(id) {
            twice.insert(id);
        }
        let row = RowText { id, directory, comment: comment.trim_end(), uid, columns, name, account, qos, gres };
        if wanted(&row) {
            rows.push(row);
        }
    }
    rows.retain(|row| !twice.contains(&row.id));
    (rows.iter().map(|row| row.copied(cluster)).collect(), clean && twice.is_empty())
}

/// The columns that Slurm writes, job and user id among them; `None` where they are not whole.
fn parse_columns(text: &str) -> Option<(u64, u32, [&str; FIELDS])> {
    let mut fields = text.split(SEPARATOR);
    let mut columns = [""; FIELDS];
    for column in &mut columns {
        *column = fields.next()?;
    }
    let [id, state, .., uid, _, _] = columns;
    let is_state = !state.is_empty() && state.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    (is_state && fields.next().is_none()).then_some((id.parse().ok()?, parse_uid(uid)?, columns))
}

impl RowText<'_> {
    fn copied(&self, cluster: Option<&str>) -> Row {
        let [_, state, reason, node, submitted, start, end, partition, _, cpus, mem] = self.columns;
        let time = |text: &str| text.parse().ok();
        Row {
            job: JobId { id: self.id, cluster: cluster.map(str::to_owned) },
            state: State::new(state),
            // A job that waits for nothing has the reason None.
            reason: if reason == "None" { String::new() } else { present(reason) },
            node: present(node),
            submitted: time(submitted),
            start: time(start),
            end: time(end),
            partition: partition.to_owned(),
            uid: self.uid,
            directory: self.directory.to_owned(),
            name: self.name.trim_end().to_owned(),
            comment: present(self.comment),
            resources: Resources {
                account: shown(self.account),
                qos: shown(self.qos),
                gres: shown(self.gres),
                cpus: shown(cpus),
                mem: shown(mem),
            },
        }
    }
}

/// What is only shown to people.
fn shown(text: &str) -> String {
    line(&present(text.trim_end()))
}

/// A user id as squeue prints it: as a signed number of 32 bits, so those above 2^31 are negative.
fn parse_uid(text: &str) -> Option<u32> {
    let number: i64 = text.parse().ok()?;
    u32::try_from(number).ok().or_else(|| i32::try_from(number).ok().map(|signed| signed as u32))
}

/// What squeue prints where there is nothing counts as nothing.
fn present(text: &str) -> String {
    if matches!(text, "n/a" | "N/A" | "(null)" | "None assigned") { String::new() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const MARK: &str = "00112233445566778899aabbccddeeff";

    fn mark() -> Mark {
        Mark::parse(MARK).unwrap()
    }

    /// A row as squeue prints it: `~` for a mark, `|` for the separator.
    fn text(shape: &str) -> String {
        shape.replace('~', MARK).replace('|', "\u{1f}")
    }

    fn row_of(id: u64, name: &str, directory: &str, comment: &str) -> String {
        text(&format!(
            "~@{id}|RUNNING|None|n1|1795308136|1795308137|1795309936|batch|1001|2|4G~{name}~{directory}~{comment}~lab  ~(null)~gpu:1 ~$\n"
        ))
    }

    fn plain(id: u64) -> String {
        row_of(id, "cbx-4b38f35d4e31   ", "/shared/x", "cbx:x y  ")
    }

    fn output(code: i32, stdout: &str, stderr: &str) -> Output {
        Output { end: End::Exit(code), stdout: stdout.into(), stderr: stderr.into(), took: Duration::ZERO }
    }

    fn read(text: &str) -> (Vec<Row>, bool) {
        parse_rows(text, &mark(), None, &|_| true)
    }

    fn whole(text: &str) -> (Vec<u64>, bool) {
        let (rows, clean) = read(text);
        (rows.iter().map(|row| row.job.id).collect(), clean)
    }

    #[test]
    fn a_row_is_read_whole() {
        let (rows, clean) = read(&plain(7));
        assert!(clean);
        let expected = Row {
            job: JobId { id: 7, cluster: None },
            state: State::new("RUNNING"),
            reason: String::new(),
            node: "n1".into(),
            submitted: Some(1795308136),
            start: Some(1795308137),
            end: Some(1795309936),
            partition: "batch".into(),
            directory: "/shared/x".into(),
            uid: 1001,
            name: "cbx-4b38f35d4e31".into(),
            comment: "cbx:x y".into(),
            resources: Resources {
                account: "lab".into(),
                qos: String::new(),
                gres: "gpu:1".into(),
                cpus: "2".into(),
                mem: "4G".into(),
            },
        };
        assert_eq!(rows, [expected]);
    }

    #[test]
    fn nothing_that_an_owner_writes_is_a_row_a_field_or_an_end() {
        let forged = text("x|@8|CANCELLED|None|n1|1|2|3|batch|1001|a|b|c|8$\n@8|COMPLETED|$\n$\n\nCLUSTER: x\n");
        for (name, directory, comment) in [
            (forged.as_str(), "/d", "c"),
            ("n", forged.as_str(), "c"),
            ("n", "/d", forged.as_str()),
            ("", "", ""),
            ("n", "/d", "\u{1f}\u{1f}$"),
            ("@", "$\n", "@7"),
        ] {
            let (rows, clean) = read(&(row_of(7, name, directory, comment) + &plain(9)));
            assert!(clean, "{name:?} {directory:?} {comment:?}");
            assert_eq!(
                rows.iter().map(|row| (row.job.id, row.state.word())).collect::<Vec<_>>(),
                [(7, "RUNNING"), (9, "RUNNING")]
            );
            assert_eq!(rows[0].directory, directory);
        }
    }

    #[test]
    fn a_mark_of_another_query_marks_nothing() {
        let other = plain(8).replace(MARK, &MARK.replace('0', "f"));
        assert_eq!(whole(&row_of(7, "n", "/d", &other)), (vec![7], true));
        assert_eq!(whole(&other), (vec![], false));
    }

    #[test]
    fn noise_is_noticed_and_does_not_hide_rows() {
        let row = plain(7);
        assert_eq!(whole(""), (vec![], true));
        assert_eq!(whole(&format!("Welcome to Stampede3\n{row}")), (vec![7], false));
        assert_eq!(whole(&format!("{row}Goodbye\n")), (vec![7], false));
        assert_eq!(whole(&row[..row.len() - 1]), (vec![7], true));
        assert_eq!(whole(&row[..row.len() - 2]), (vec![], false));
        assert_eq!(whole(&format!("{}\n{row}", &row[..60])), (vec![], false));
        assert_eq!(whole(&row.replace("@7", "@x")), (vec![], false));
        assert_eq!(whole(&row.replace("RUNNING", "running")), (vec![], false));
        assert_eq!(whole(&(row.replace("1001", "x") + &plain(8))), (vec![8], false));
        assert_eq!(whole("\u{0}\u{1}\u{2}garbage"), (vec![], false));
    }

    #[test]
    fn a_job_with_two_rows_has_none() {
        let twice = plain(7) + &plain(8) + &plain(7).replace("RUNNING", "REVOKED");
        assert_eq!(whole(&twice), (vec![8], false));
    }

    /// What is wrong with a row that is not wanted is told all the same.
    #[test]
    fn of_a_listing_some_rows_are_copied_and_all_are_looked_at() {
        let wanted: Wanted<'_> = &|row| row.id == 8;
        let read = |text: &str| {
            let (rows, clean) = parse_rows(text, &mark(), None, wanted);
            (rows.iter().map(|row| row.job.id).collect::<Vec<_>>(), clean)
        };
        assert_eq!(read(&(plain(7) + &plain(8) + &plain(9))), (vec![8], true));
        assert_eq!(read(&(plain(7) + &plain(8) + &plain(7))), (vec![8], false));
        assert_eq!(read(&(plain(8) + &plain(7) + &plain(8))), (vec![], false));
        assert_eq!(read(&(plain(7).replace("RUNNING", "running") + &plain(8))), (vec![8], false));
        assert_eq!(read(&format!("{}{}x\n", plain(8), plain(7))), (vec![8], false));
    }

    #[rstest]
    #[case("1001", Some(1001))]
    #[case("0", Some(0))]
    #[case("-1294967296", Some(3_000_000_000))]
    #[case("3000000000", Some(3_000_000_000))]
    #[case("-2", Some(4_294_967_294))]
    #[case("4294967296", None)]
    #[case("-3000000000", None)]
    #[case("alice", None)]
    fn user_ids_are_numbers_of_32_bits(#[case] text: &str, #[case] expected: Option<u32>) {
        assert_eq!(parse_uid(text), expected);
    }

    #[rstest]
    #[case(1001, Some("alice"), Some("1001"))]
    #[case(3_000_000_000, Some("hugo"), Some("hugo"))]
    #[case(3_000_000_000, Some("a,b"), None)]
    #[case(3_000_000_000, None, None)]
    fn a_large_user_id_is_asked_for_by_name(
        #[case] uid: u32,
        #[case] name: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(Owner { uid, name }.argument().ok().as_deref(), expected);
    }

    #[test]
    fn rows_belong_to_the_cluster_that_was_asked() {
        let text = format!("CLUSTER: annex\n{}", plain(7));
        let (rows, clean) = parse_rows(&text, &mark(), Some("annex"), &|_| true);
        assert!(clean);
        assert_eq!(rows[0].job.to_string(), "7;annex");
        assert!(!read(&text).1);
    }

    #[rstest]
    #[case(1, false, "slurm_load_jobs error: Invalid job id specified", "denied")]
    #[case(1, false, "slurm_load_jobs error: Unable to contact slurm controller (connect failure)", "unasked")]
    #[case(1, false, "slurm_load_jobs error: Zero Bytes were transmitted or received", "unasked")]
    #[case(0, false, "", "unasked")]
    #[case(0, false, "slurm_load_jobs error: Socket timed out on send/recv operation", "unasked")]
    #[case(0, true, "", "row")]
    #[case(0, true, "squeue: warning: something", "row")]
    fn single_job(#[case] code: i32, #[case] row: bool, #[case] stderr: &str, #[case] expected: &str) {
        let stdout = if row { plain(7) } else { String::new() };
        let found = match parse_single(&output(code, &stdout, stderr), &mark(), &JobId { id: 7, cluster: None }) {
            Ok(Some(_)) => "row",
            Ok(None) => "denied",
            Err(_) => "unasked",
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_warning_on_stderr_makes_a_listing_incomplete_and_an_error_makes_it_none() {
        let row = plain(7);
        let listing = |code, stdout: &str, stderr| parse_listing(&output(code, stdout, stderr), &mark(), None);
        assert!(listing(0, &row, "").unwrap().complete);
        assert!(!listing(0, &row, "squeue: warning: x").unwrap().complete);
        assert!(listing(0, "", "slurm_load_jobs error: x").is_err());
        assert!(listing(1, &row, "x").is_err());
    }
}
