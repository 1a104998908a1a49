//! A lease's record: the truth about what we asked Slurm for. What Slurm says of it is an observation and changes a
//! record only where it proves something.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Identity, LeaseId, Nonce};
use crate::config::connection::Route;
use crate::config::login::LoginHost;
use crate::slurm::job::{JobId, Row};

/// Format of `record.json`. 1: the first. 2: leases that belong to a login host, which an older program would look for on
/// its own machine, and take for gone. A reader takes newer formats as they are and never writes them.
pub const FORMAT: u32 = 2;

/// The oldest format that a record fits into.
pub fn format_for(submit: Option<&LoginHost>) -> u32 {
    if submit.is_some() { 2 } else { 1 }
}

/// How far a lease has come, as we know it from our own acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    pub nonce: Nonce,
    /// When sbatch was about to run for it, in seconds since the epoch; `None`: never.
    pub sent: Option<i64>,
}

/// The endpoint as it was pinned when the lease was first handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PinnedEndpoint {
    pub host: String,
    pub port: u16,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Slurm's state, or `GONE` when the controller forgot the job and the accounting knows nothing of it.
    pub state: String,
    /// Slurm's reason; empty where it gave none.
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit: Option<String>,
    /// The runner's own word for it, such as `idle`; written where sandboxed code can write too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub runner: Option<String>,
    pub at: i64,
}

/// The record. Everything that a later call needs is in it, since requests come with today's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub format: u32,
    pub identity: Identity,
    pub phase: Phase,
    pub keep: bool,
    /// Seconds since the epoch, like every time here.
    pub created: i64,
    /// The user whose jobs these are, where Slurm's commands run; a denial to another user proves nothing (hazards.md
    /// B9).
    pub uid: u32,
    /// That user's name, where it is not that of this machine's user.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// Where Slurm's commands run and the shared dir is, when not here.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub submit: Option<LoginHost>,
    /// The way that our `connect` takes to the endpoint.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub route: Option<Route>,
    pub attempt: Attempt,
    /// The cluster or clusters asked for; where an unknown submission is looked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub clusters: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub job: Option<JobId>,
    /// The job's submission as Slurm tells it: with name and user it proves that an id still is our job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub submitted: Option<i64>,
    /// Fixed once it was answered.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cloud_id: Option<String>,
    pub server_type: String,
    pub shared_dir: PathBuf,
    /// Whether the runner checks its permit and watches over itself: ours, or a site's that declares our contract.
    pub contract: bool,
    /// The private key's path.
    pub key: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<PinnedEndpoint>,
    /// When Slurm first denied the job.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub denied: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Ended>,
    /// When release was first asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub releasing: Option<i64>,
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

    /// `slurm/job/<id>[;cluster]`, or the attempt's nonce before an id is known.
    pub fn cloud_id(&self) -> String {
        match (&self.cloud_id, &self.job) {
            (Some(fixed), _) => fixed.clone(),
            (None, Some(job)) => format!("slurm/job/{job}"),
            (None, None) => format!("slurm/attempt/{}", self.attempt.nonce),
        }
    }

    /// `lease cbx_… (job 12)`, as every message names it.
    pub fn shown(&self) -> String {
        match &self.job {
            Some(job) => format!("lease {} (job {job})", self.lease_id()),
            None => format!("lease {}", self.lease_id()),
        }
    }

    /// The first word of the job's comment for this attempt.
    pub fn comment_word(&self, instance: &str) -> String {
        format!("cbx:{}:{}:{instance}", self.lease_id(), self.attempt.nonce)
    }

    /// Whether a row is the very job of this record, not another that got its id. The comment or the time of
    /// submission may have been changed or rounded, but not both; name and user must fit in any case. Before the
    /// first look the time is not known yet, and the id that sbatch gave stands for it.
    pub fn owns(&self, row: &Row) -> bool {
        let submitted = match self.submitted {
            Some(_) => self.submitted == row.submitted,
            None => self.job.as_ref() == Some(&row.job),
        };
        row.uid == self.uid && row.name == self.lease_id().job_name() && (self.signed(row) || submitted)
    }

    /// Whether a row's comment names this very attempt.
    pub fn signed(&self, row: &Row) -> bool {
        comment(&row.comment).is_some_and(|word| word.nonce == self.attempt.nonce && &word.lease_id == self.lease_id())
    }

    /// Whether a row is any job of this lease: this attempt's, or one that an earlier attempt left behind.
    pub fn related(&self, row: &Row) -> bool {
        self.owns(row)
            || (row.uid == self.uid
                && row.name == self.lease_id().job_name()
                && comment(&row.comment).is_some_and(|word| &word.lease_id == self.lease_id()))
    }
}

/// What the first word of a comment of ours says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentWord {
    pub lease_id: LeaseId,
    pub nonce: Nonce,
    /// The state dir that the lease belongs to.
    pub instance: String,
}

/// Reads the first word of a job's comment; what follows is the site's and never read.
pub fn comment(text: &str) -> Option<CommentWord> {
    let parts: Vec<&str> = text.split_whitespace().next()?.split(':').collect();
    let ["cbx", lease_id, nonce, instance] = parts[..] else {
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
    use crate::slurm::job::State;
    use rstest::rstest;

    pub fn record() -> Record {
        Record {
            format: format_for(None),
            identity: Identity::parse("cbx_4b38f35d4e31", "smoke", "crabbox-smoke-42b80a31").unwrap(),
            phase: Phase::Queued,
            keep: false,
            created: 1000,
            uid: 1001,
            user: None,
            submit: None,
            route: None,
            attempt: Attempt { nonce: Nonce::parse("00112233445566ff").unwrap(), sent: Some(1000) },
            clusters: None,
            job: Some(JobId { id: 7, cluster: None }),
            submitted: Some(1001),
            cloud_id: None,
            server_type: "batch".into(),
            shared_dir: "/shared".into(),
            contract: true,
            key: "/state/id_ed25519".into(),
            endpoint: None,
            denied: None,
            ended: None,
            releasing: None,
        }
    }

    pub fn row() -> Row {
        Row {
            job: JobId { id: 7, cluster: None },
            state: State::new("RUNNING"),
            reason: "None".into(),
            node: "n1".into(),
            submitted: Some(1001),
            start: Some(1002),
            end: Some(2800),
            partition: "batch".into(),
            directory: "/shared/cbx_4b38f35d4e31/00112233445566ff".into(),
            uid: 1001,
            name: "cbx-4b38f35d4e31".into(),
            comment: "cbx:cbx_4b38f35d4e31:00112233445566ff:abcd1234 site text".into(),
        }
    }

    #[rstest]
    #[case::exactly_ours(|_: &mut Row| {}, true, true)]
    #[case::comment_replaced(|row: &mut Row| row.comment = "hello".into(), true, true)]
    #[case::time_shifted(|row: &mut Row| row.submitted = Some(1), true, true)]
    #[case::neither(|row: &mut Row| { row.comment = "hello".into(); row.submitted = Some(1) }, false, false)]
    #[case::another_lease_of_the_id(|row: &mut Row| { row.name = "cbx-4b38f35d4e32".into(); row.job.id = 7 }, false, false)]
    #[case::another_attempt(|row: &mut Row| { row.comment = row.comment.replace("ff:", "00:"); row.submitted = Some(1) }, false, true)]
    #[case::another_lease(|row: &mut Row| row.name = "cbx-000000000000".into(), false, false)]
    #[case::another_user(|row: &mut Row| row.uid = 1002, false, false)]
    fn ownership(#[case] change: fn(&mut Row), #[case] owns: bool, #[case] related: bool) {
        let mut row = row();
        change(&mut row);
        assert_eq!((record().owns(&row), record().related(&row)), (owns, related));
    }

    #[test]
    fn format_1_stays_readable() {
        let read: Record = serde_json::from_str(include_str!("../../tests/fixtures/record-1.json")).unwrap();
        assert_eq!(read, record());
    }
}
