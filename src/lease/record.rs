//! A lease's record: the truth about what we asked Slurm for. What Slurm says of it is an observation and changes a
//! record only where it proves something.

use std::path::{Path, PathBuf};

use super::{Identity, LeaseId, Nonce, SeatId};
use crate::clock::BootTime;
use crate::config::login_host::LoginHost;
use crate::config::proxy::Route;
use crate::lease::cloud_id::CloudId;
use crate::slurm::job::{JobId, Row};

/// How far a lease has come, as we know it from our own acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing was asked of Slurm.
    Prepared,
    /// sbatch is about to run, runs, or did not tell what came of it.
    Submitting,
    /// The job is known.
    Queued,
    /// The lease was handed out.
    Answered,
    /// It is to end.
    Releasing,
}

/// One try at starting an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub nonce: Nonce,
    /// When sbatch was about to run for it, in seconds since the epoch; `None`: never.
    pub sent: Option<i64>,
    /// The same by the host's own clock.
    pub sent_at: Option<BootTime>,
}

/// Slurm's denials of a job that nothing has undone yet. They stand beside the record, a line a boot: no clock is shared
/// between hosts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Denials {
    /// The first on this host since its start, by its own clock, in seconds.
    pub first: Option<i64>,
    /// Whether there are some of another host or boot.
    pub elsewhere: bool,
}

/// The endpoint as it was pinned when the lease was first handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedEndpoint {
    pub host: String,
    pub port: u16,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Slurm's state, or `GONE` when the controller forgot the job and the accounting knows nothing of it.
    pub state: String,
    /// Slurm's reason; empty where it gave none.
    pub reason: String,
    pub exit: Option<String>,
    /// The runner's own word for it, such as `idle`; written where sandboxed code can write too.
    pub runner: Option<String>,
    pub at: i64,
}

/// The record. Everything that a later call needs is in it, since requests come with today's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub identity: Identity,
    pub phase: Phase,
    pub keep: bool,
    /// Seconds since the epoch, like every time here.
    pub created: i64,
    /// The user whose jobs these are, where Slurm's commands run; a denial to another user proves nothing (docs/facts/slurm.md, "Jobs of other users").
    pub uid: u32,
    /// That user's name, where it is not that of this machine's user.
    pub user: Option<String>,
    /// Where Slurm's commands run and the shared dir is, when not here.
    pub submit: Option<LoginHost>,
    /// The way that our `connect` takes to the endpoint.
    pub route: Option<Route>,
    pub attempt: Attempt,
    /// Nonces of earlier attempts, which have lost the permit: a job of theirs that appears late is ended.
    pub given_up: Vec<Nonce>,
    /// The state dir that the lease was made in, as its jobs' comments name it; older records leave it out.
    pub instance: Option<String>,
    /// The cluster or clusters asked for; where an unknown submission is looked for.
    pub clusters: Option<String>,
    pub job: Option<JobId>,
    /// The job's submission as Slurm tells it: with name and user it proves that an id still is our job.
    pub submitted: Option<i64>,
    /// Fixed once it was answered.
    pub cloud_id: Option<CloudId>,
    pub server_type: String,
    pub shared_dir: PathBuf,
    /// Whether the runner checks its permit and watches over itself: ours, or a site's that declares our contract.
    pub contract: bool,
    /// The private key's path.
    pub key: PathBuf,
    pub endpoint: Option<PinnedEndpoint>,
    /// Read from beside the record.
    pub denied: Denials,
    pub ended: Option<Ended>,
    /// When release was first asked for.
    pub releasing: Option<i64>,
    /// Whether it was made where spares are configured. No such lease and no job of one looks like a lease to releases that know no
    /// spares: they would take it for gone, or its job for an orphan.
    pub pooled: bool,
    /// The seat that it has taken, or that it is: the job was submitted as that one's.
    pub seat: Option<SeatId>,
}

/// Where a lease's jobs are looked for when its record is lost; written down beside the record, once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    pub submit: Option<LoginHost>,
    pub clusters: Option<String>,
    pub shared_dir: Option<PathBuf>,
    pub instance: Option<String>,
    pub seating: Seating,
}

/// Whether a lease that has lost its record has taken a seat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seating {
    #[default]
    None,
    Taken(SeatId),
    /// It has one, and nothing tells which.
    Unknown,
}

impl Ended {
    /// Why, in the fewest words: the runner's reason tells more than Slurm's.
    pub fn why(&self) -> &str {
        self.runner.as_deref().unwrap_or(&self.reason)
    }
}

impl Record {
    pub fn lease_id(&self) -> &LeaseId {
        &self.identity.lease_id
    }

    /// The id that its job, and all that the job knows it by, was submitted under.
    pub fn job_owner(&self) -> &LeaseId {
        self.seat.as_ref().map_or(self.lease_id(), SeatId::as_lease_id)
    }

    /// Whether it is a spare: a seat that no lease has taken.
    pub fn is_spare(&self) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.as_lease_id() == self.lease_id())
    }

    /// Whether its seat still has to be claimed by a login: the job takes no other one.
    pub fn is_to_be_claimed(&self) -> bool {
        self.seat.is_some() && !self.is_spare() && self.phase == Phase::Queued
    }

    pub fn cloud_id(&self) -> CloudId {
        match (&self.cloud_id, &self.job) {
            (Some(fixed), _) => fixed.clone(),
            (None, Some(job)) => CloudId::Job(job.clone()),
            (None, None) => CloudId::Attempt(self.attempt.nonce.clone()),
        }
    }

    /// `lease cbx_… (job 12)`, as every message names it.
    pub fn shown(&self) -> String {
        let what = if self.is_spare() { "spare" } else { "lease" };
        match &self.job {
            Some(job) => format!("{what} {} (job {job})", self.lease_id()),
            None => format!("{what} {}", self.lease_id()),
        }
    }

    /// The first word of the job's comment for this attempt.
    pub fn comment_word(&self, instance: &str) -> String {
        let kind = if self.pooled { POOLED } else { ORDINARY };
        format!("{kind}:{}:{}:{instance}", self.job_owner(), self.attempt.nonce)
    }

    /// Whether a row that carries the id of this record's job is that job. Id and user say so, whatever name and comment are
    /// now: the job's owner and the site's plugins rewrite both. An id is used again for another job only after Slurm has
    /// counted through all of them; that one was submitted later and bears no mark of ours.
    pub fn ownership(&self, row: &Row) -> Ownership {
        let later = match (self.submitted, row.submitted) {
            (Some(ours), Some(theirs)) => theirs > ours,
            _ => false,
        };
        match (row.uid == self.uid, self.signed(row)) {
            (true, true) => Ownership::Ours,
            (false, true) => Ownership::Unclear,
            (_, false) if later => Ownership::Recycled,
            (true, false) => Ownership::Ours,
            (false, false) => Ownership::Unclear,
        }
    }

    /// Whether a row bears the nonce of this very attempt: in its comment, or by the directory that it started in.
    pub fn signed(&self, row: &Row) -> bool {
        let (lease, nonce) = (self.job_owner(), &self.attempt.nonce);
        comment(&row.comment).is_some_and(|word| &word.nonce == nonce && &word.lease_id == lease)
            || row.directory.ends_with(&format!("/{lease}/{nonce}"))
    }

    /// Whether a row is the job of this record's submission, of which no id is known.
    pub fn submitted_as(&self, row: &Row) -> bool {
        row.uid == self.uid && self.signed(row)
    }

    /// Whether a row is a job that this record has left behind: of this lease, of this state dir, with a nonce that the
    /// record knows. A job of the same lease id from another state dir is none of ours.
    pub fn left_behind(&self, row: &Row) -> bool {
        row.uid == self.uid
            && row.name.contains(&self.lease_id().job_name())
            && comment(&row.comment).is_some_and(|word| {
                &word.lease_id == self.lease_id()
                    && self.instance.as_ref().is_some_and(|instance| *instance == word.instance)
                    && (word.nonce == self.attempt.nonce || self.given_up.contains(&word.nonce))
            })
    }

    /// The record of this lease once it has taken a seat, whose directory lies at `place` now. Its own attempt, if there was one, is
    /// given up.
    pub fn seated(&self, seat: Record, place: &Path) -> Record {
        let mut given_up = self.given_up.clone();
        // One with a key of its own may have left a permit, also where nothing was sent.
        let began = self.attempt.sent.is_some() || !self.key.as_os_str().is_empty();
        given_up.extend(began.then(|| self.attempt.nonce.clone()));
        Record {
            identity: self.identity.clone(),
            phase: if self.phase == Phase::Releasing { Phase::Releasing } else { seat.phase },
            keep: self.keep,
            created: self.created,
            given_up,
            cloud_id: self.cloud_id.clone(),
            key: place.join(seat.key.file_name().unwrap_or_default()),
            releasing: self.releasing.or(seat.releasing),
            ..seat
        }
    }

    /// The record of this lease once its seat was given back: as if nothing had been asked of Slurm, under another nonce.
    ///
    /// # Errors
    /// When the system gives no random bits.
    pub fn without_seat(&self) -> std::io::Result<Record> {
        Ok(Record {
            phase: Phase::Prepared,
            attempt: Attempt { nonce: Nonce::random()?, sent: None, sent_at: None },
            job: None,
            submitted: None,
            cloud_id: None,
            key: PathBuf::new(),
            endpoint: None,
            denied: Denials::default(),
            ended: None,
            releasing: None,
            seat: None,
            ..self.clone()
        })
    }

    /// Gives the attempt up for a new one; the caller saves the record and moves the permit before it submits.
    ///
    /// # Errors
    /// When the system gives no random bits.
    pub fn begin_attempt(&mut self) -> std::io::Result<()> {
        let given_up =
            std::mem::replace(&mut self.attempt, Attempt { nonce: Nonce::random()?, sent: None, sent_at: None });
        self.given_up.push(given_up.nonce);
        let over = self.given_up.len().saturating_sub(GIVEN_UP_MOST);
        self.given_up.drain(..over);
        self.phase = Phase::Prepared;
        self.denied = Denials::default();
        Ok(())
    }
}

/// More attempts than any acquire makes: each is denied twice, ten seconds apart, before the next one.
const GIVEN_UP_MOST: usize = 200;

/// What a row under a job's id is to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// The lease's job.
    Ours,
    /// It looks like another job that got the id; a requeue looks so too.
    Recycled,
    /// Another user's, and nothing else is sure.
    Unclear,
}

/// What the first word of a comment begins with: of an ordinary lease's job, and of one that releases which know no spares are to
/// leave alone.
const ORDINARY: &str = "cbx";
const POOLED: &str = "pool";

/// What the first word of a comment of ours says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentWord {
    /// The lease's id, or the seat's.
    pub lease_id: LeaseId,
    pub nonce: Nonce,
    /// The state dir that the lease belongs to.
    pub instance: String,
}

/// Reads the first word of a job's comment; what follows is the site's and never read.
pub fn comment(text: &str) -> Option<CommentWord> {
    let parts: Vec<&str> = text.split_whitespace().next()?.split(':').collect();
    let [ORDINARY | POOLED, lease_id, nonce, instance] = parts[..] else {
        return None;
    };
    Some(CommentWord {
        lease_id: LeaseId::parse(lease_id)?,
        nonce: Nonce::parse(nonce)?,
        instance: instance.to_owned(),
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::slurm::job::{Resources, State};
    use rstest::rstest;

    pub fn record() -> Record {
        Record {
            identity: Identity::parse("cbx_4b38f35d4e31", "smoke", "crabbox-smoke-42b80a31").unwrap(),
            phase: Phase::Queued,
            keep: false,
            created: 1000,
            uid: 1001,
            user: None,
            submit: None,
            route: None,
            attempt: Attempt { nonce: Nonce::parse("00112233445566ff").unwrap(), sent: Some(1000), sent_at: None },
            given_up: vec![],
            instance: Some("abcd1234".into()),
            clusters: None,
            job: Some(job(7)),
            submitted: Some(1001),
            cloud_id: None,
            server_type: "batch".into(),
            shared_dir: "/shared".into(),
            contract: true,
            key: "/state/id_ed25519".into(),
            endpoint: None,
            denied: Denials::default(),
            ended: None,
            releasing: None,
            pooled: false,
            seat: None,
        }
    }

    pub fn row() -> Row {
        Row {
            job: job(7),
            state: State::new("RUNNING"),
            reason: String::new(),
            node: "n1".into(),
            submitted: Some(1001),
            start: Some(1002),
            end: Some(2800),
            partition: "batch".into(),
            directory: "/shared/cbx_4b38f35d4e31/00112233445566ff".into(),
            uid: 1001,
            name: "cbx-4b38f35d4e31".into(),
            comment: "cbx:cbx_4b38f35d4e31:00112233445566ff:abcd1234 site text".into(),
            resources: Resources::default(),
        }
    }

    pub fn job(id: u64) -> JobId {
        JobId { id, cluster: None }
    }

    const NONCE_GIVEN_UP: &str = "ffffffffffffffff";

    pub fn given_up() -> Vec<Nonce> {
        vec![Nonce::parse(NONCE_GIVEN_UP).unwrap()]
    }

    /// The job of an attempt that was given up.
    pub fn left_behind() -> Row {
        let other = |text: &str| text.replace("00112233445566ff", NONCE_GIVEN_UP);
        Row {
            job: job(6),
            submitted: Some(900),
            comment: other(&row().comment),
            directory: other(&row().directory),
            ..row()
        }
    }

    /// Marks and times of a row under the record's id, and what it is.
    #[rstest]
    #[case::as_submitted(|_: &mut Row| {}, Ownership::Ours)]
    #[case::renamed(|row: &mut Row| row.name = "mine".into(), Ownership::Ours)]
    #[case::comment_and_directory_replaced(|row: &mut Row| unmark(row), Ownership::Ours)]
    #[case::everything_replaced(|row: &mut Row| { unmark(row); row.name = "mine".into() }, Ownership::Ours)]
    #[case::requeued(|row: &mut Row| row.submitted = Some(5000), Ownership::Ours)]
    #[case::clock_set_back(|row: &mut Row| { unmark(row); row.submitted = Some(1) }, Ownership::Ours)]
    #[case::no_time(|row: &mut Row| { unmark(row); row.submitted = None }, Ownership::Ours)]
    #[case::requeued_and_unmarked(|row: &mut Row| { unmark(row); row.submitted = Some(5000) }, Ownership::Recycled)]
    #[case::marked_by_directory(|row: &mut Row| { row.comment = "x".into(); row.submitted = Some(5000) }, Ownership::Ours)]
    #[case::another_attempts_mark(|row: &mut Row| { *row = Row { submitted: Some(5000), ..left_behind() } }, Ownership::Recycled)]
    #[case::recycled_by_another_user(|row: &mut Row| { unmark(row); row.uid = 7; row.submitted = Some(5000) }, Ownership::Recycled)]
    #[case::another_user(|row: &mut Row| { unmark(row); row.uid = 7 }, Ownership::Unclear)]
    #[case::our_mark_on_another_users(|row: &mut Row| row.uid = 7, Ownership::Unclear)]
    fn ownership(#[case] change: fn(&mut Row), #[case] expected: Ownership) {
        let mut row = row();
        change(&mut row);
        assert_eq!(record().ownership(&row), expected);
        assert_eq!(
            Record { submitted: None, ..record() }.ownership(&row),
            match row.uid {
                1001 => Ownership::Ours,
                _ => Ownership::Unclear,
            }
        );
    }

    fn unmark(row: &mut Row) {
        row.comment = "hello".into();
        row.directory = "/home/alice".into();
    }

    #[rstest]
    #[case::of_a_given_up_attempt(|_: &mut Row| {}, true)]
    #[case::renamed_by_a_plugin(|row: &mut Row| row.name = format!("alice_{}", row.name), true)]
    #[case::of_another_state_dir(|row: &mut Row| row.comment = row.comment.replace("abcd1234", "00000000"), false)]
    #[case::of_a_nonce_that_we_never_made(|row: &mut Row| row.comment = row.comment.replace("ffffffffffffffff", "eeeeeeeeeeeeeeee"), false)]
    #[case::of_another_lease(|row: &mut Row| row.comment = row.comment.replace("4b38f35d4e31", "000000000000"), false)]
    #[case::with_another_name(|row: &mut Row| row.name = "mine".into(), false)]
    #[case::of_another_user(|row: &mut Row| row.uid = 7, false)]
    fn what_was_left_behind(#[case] change: fn(&mut Row), #[case] expected: bool) {
        let record = Record { given_up: given_up(), ..record() };
        let mut row = left_behind();
        change(&mut row);
        assert_eq!(record.left_behind(&row), expected);
        assert!(!Record { instance: None, ..record }.left_behind(&row));
    }
}
