//! The last part of a wait: the endpoint is pinned, a login proves it, the lease is handed out.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Doing, Handed, Wait, caller_lives, throttle};
use crate::allocation::View;
use crate::clock::Now;
use crate::clock::epoch;
use crate::config::EndpointHost;
use crate::config::proxy::{Connection, Route};
use crate::failure::{Failure, Kind};
use crate::lease::record::{Phase, PinnedEndpoint, Record};
use crate::operation::answer;
use crate::operation::status::{LeaseState, status};
use crate::progress::progress;
use crate::protocol::Ssh;
use crate::shared_dir::endpoint_file;
use crate::shared_dir::{Notice, SharedDir};
use crate::ssh::effective::Effective;
use crate::ssh::lease::{Obstacle, Probe, claim, effective, known_hosts, probe};
use crate::ssh::target;

/// How long an endpoint that was published may refuse its first login, or its ready check be red, before the wait is
/// given up: the job runs, so more waiting costs the user's allocation.
const ENDPOINT_PATIENCE: Duration = Duration::from_secs(60);

/// The same for a seat that a lease has just taken: there is another way to a lease.
const SEAT_PATIENCE: Duration = Duration::from_secs(10);

/// Most times as long as usual that a login is given: its share of [`ENDPOINT_PATIENCE`], so that another one can follow.
const MOST_PATIENCE: u32 = 4;

/// Logins that were of no use, one after the other.
#[derive(Debug)]
pub(super) struct Refused {
    since: Instant,
    times: u32,
    again_at: Instant,
    /// How many times as long as usual the next one may take.
    patience: u32,
    /// What the last one says.
    pub(super) failure: Failure,
}

/// What came of a try to hand a lease out.
#[derive(Debug)]
pub(super) enum Probed {
    Handed(Box<Handed>),
    NotYet,
    /// What was proven a short time ago does not answer: the job may just have ended or been suspended, which Slurm tells sooner than
    /// a login that is tried in vain.
    Doubtful,
    /// The job does not take the claim, and what it said.
    SeatLost(String),
}

/// The reason of a refusal, and the end of the connection after it.
const LOG_LINES: usize = 3;
const LOG_BYTES: u64 = 600;

fn remedy_of(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Configuration => "ssh itself fails here: correct ~/.ssh/config, `ssh -G` says the same",
        Obstacle::HostKey => {
            "ssh does not take the host key that the runner published: see HostName, HostKeyAlias and HostKeyAlgorithms in ~/.ssh/config"
        }
        Obstacle::Key => {
            "sshd does not take the key: see what its log says, sshUser, sshPrivateKey and PubkeyAcceptedAlgorithms in ~/.ssh/config"
        }
        Obstacle::Time => {
            "the node or its sshd is too busy or stands still, or a firewall drops what is sent there: repeat the call later; if no node is ever reached, set sshMode, loginHost or endpointHost"
        }
        Obstacle::Network => {
            "look at what lies between this machine and the node (network, firewall, the node's /etc/hosts.deny), or set sshMode, loginHost or endpointHost"
        }
    }
}

/// What ssh said, and what the sshd itself has written last: who refuses tells the reason there alone, and the log goes with the lease.
fn with_log(said: String, record: &Record) -> String {
    match SharedDir::of(record).tail("sshd.log", LOG_BYTES).and_then(|log| last_lines(&log)) {
        Some(log) => format!("{said}; its sshd.log ends with: {log}"),
        None => said,
    }
}

/// The last lines of a log in one; the first of them may be cut off.
fn last_lines(log: &str) -> Option<String> {
    let lines: Vec<_> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    (!last.is_empty()).then(|| last.join(" / "))
}

impl Wait<'_> {
    /// Pins a spare's endpoint where that was not done, and logs in once as a lease would that has taken it, but for the claim. `None`
    /// where its sshd is not up yet, or a lease has taken it meanwhile.
    pub fn try_spare(&mut self, record: &Record, view: &View) -> Option<Probe> {
        let node = view.row().map(|row| row.node.clone()).unwrap_or_default();
        let record = self.pin_spare(record, &node).ok()?;
        let ssh = record.endpoint.as_ref().and_then(|_| target::of_lease(&record, self.settings))?;
        let probe = probe(&ssh, self.dir.has_known_hosts(), 1, self.exchanges.as_deref());
        self.dir.is_in_place().then_some(probe)
    }

    /// Pins a spare's endpoint where that was not done and its runner has published one.
    pub fn pin_spare(&mut self, record: &Record, node: &str) -> Result<Record> {
        if record.endpoint.is_some() {
            return Ok(record.clone());
        }
        match self.poll(record, Duration::ZERO)? {
            Notice::Endpoint(found) => self.pin(record, node, found),
            Notice::Nothing | Notice::Ending => Ok(record.clone()),
        }
    }

    /// Fixes host, port and host keys, once.
    pub(super) fn pin(&mut self, record: &Record, node: &str, found: Result<Vec<u8>, String>) -> Result<Record> {
        let refuse = |why: String| {
            Failure::new(
                Kind::EndpointUnusable,
                format!("{} {}: the runner's endpoint file was refused", self.doing, record.shown()),
            )
            .remedy(
                "the runner, or code in its place, wrote something else than its contract; see `slurm-sandbox logs`",
            )
            .cause(why)
        };
        let bytes = found.map_err(refuse)?;
        let published = endpoint_file::parse(&bytes, &record.attempt.nonce).map_err(refuse)?;
        // srun knows nodes by Slurm's own names alone.
        let host = match record.route {
            Some(Route::Stdio) => endpoint_file::host(&EndpointHost::Template("{node}".into()), node, &published),
            _ => endpoint_file::host(&self.settings.endpoint_host, node, &published),
        };
        let host = host.map_err(refuse)?;
        let client = self.client(record, &host, published.port);
        self.exchanges = client.cheap_exchanges();
        let guard = self.lock()?;
        let mut record = self.record()?;
        if record.endpoint.is_none() {
            guard.must_be_ours(&record)?;
            let direct = self.settings.connection == Connection::Direct && record.route.is_none();
            guard.write_known_hosts(&known_hosts(&host, published.port, &published.host_keys, direct, &client))?;
            record.endpoint = Some(PinnedEndpoint { host, port: published.port });
            guard.save(&record)?;
        }
        Ok(record)
    }

    /// What the client's ssh makes of an endpoint.
    fn client(&self, record: &Record, host: &str, port: u16) -> Effective {
        let user = self.settings.ssh_user.as_deref().or(record.user.as_deref());
        effective(user, host, port, self.deadline.saturating_duration_since(Instant::now()))
    }

    /// A spare was pinned by another call, which has kept nothing of the user's configuration. To ask costs a tenth of what it saves.
    fn ask_for_exchanges(&mut self, record: &Record) {
        if let (None, Some(endpoint)) = (&self.exchanges, &record.endpoint) {
            self.exchanges = self.client(record, &endpoint.host, endpoint.port).cheap_exchanges();
        }
    }

    /// Logs in as the client will, and hands the lease out when that works.
    pub(super) fn probe(&mut self, record: &mut Record, view: &View) -> Result<Probed> {
        if self.refused.as_ref().is_some_and(|last| Instant::now() < last.again_at && last.again_at < self.deadline) {
            return Ok(Probed::NotYet);
        }
        let Some(ssh) = target::of_lease(record, self.settings) else {
            let failure = Failure::new(
                Kind::BadConfig,
                format!(
                    "{} {}: its ssh user is not known, or its paths cannot stand in a command",
                    self.doing,
                    record.shown()
                ),
            );
            return Err(failure
                .remedy("set sshUser, and keep the program and the state dir at paths of letters, digits and ._/@+,:=-")
                .into());
        };
        if self.is_proven(record, view, &ssh) {
            if self.sshd_answers(record) {
                return self.hand_out(record, view, ssh);
            }
            self.proof = None;
            return Ok(Probed::Doubtful);
        }
        let turn = throttle::take(self.throttle.as_ref(), self.deadline);
        let patience = self.refused.as_ref().map_or(1, |last| last.patience);
        let claims = record.is_to_be_claimed();
        let proof = if claims {
            self.ask_for_exchanges(record);
            claim(&ssh, &record.identity, patience, self.exchanges.as_deref())
        } else {
            probe(&ssh, self.dir.has_known_hosts(), patience, self.exchanges.as_deref())
        };
        drop(turn);
        // On a busy machine one that is given up and begun again in the same time would never come through.
        let late = matches!(proof, Probe::Unreachable(Obstacle::Time, _));
        let patience = if late { (patience * 2).min(MOST_PATIENCE) } else { patience };
        let (what, remedy, said) = match proof {
            Probe::Ready => {
                self.keep_proof(record, view, &ssh);
                return self.hand_out(record, view, ssh);
            }
            Probe::Refused(said) => return Ok(Probed::SeatLost(said)),
            Probe::Unreachable(obstacle, said) => {
                ("no login on its sshd succeeds", remedy_of(obstacle), with_log(said, record))
            }
            Probe::NotReady { said, .. } => (
                "the ready check fails on the node",
                "install what it misses, load it in preamble, or set readyCheck",
                said,
            ),
        };
        let (since, times) = self.refused.as_ref().map_or((Instant::now(), 0), |last| (last.since, last.times));
        let is_over = since.elapsed() >= if claims { SEAT_PATIENCE } else { ENDPOINT_PATIENCE }
            || Instant::now() >= self.deadline;
        if times == 1 && !is_over {
            progress(&format!("{} runs, but does not let us in yet: {}", record.shown(), said));
        }
        let place = format!("{}:{}", ssh.host, ssh.port);
        let failure =
            Failure::new(Kind::EndpointUnusable, format!("{} {}: {what} ({place})", self.doing, record.shown()))
                .remedy(remedy)
                .cause(said);
        if is_over {
            return Err(failure.into());
        }
        // sshd penalises what fails to log in, each time for longer (docs/facts/openssh.md, "Penalties for failed logins").
        let pause = Duration::from_millis(250) * 2u32.pow(times.min(5));
        self.refused = Some(Refused { since, times: times + 1, again_at: Instant::now() + pause, patience, failure });
        // The job may have ended meanwhile.
        self.ask_at = Some(Instant::now());
        Ok(Probed::NotYet)
    }

    /// Marks the lease as answered and gives it away.
    fn hand_out(&self, record: &mut Record, view: &View, ssh: Ssh) -> Result<Probed> {
        caller_lives(self.caller, &record.shown())?;
        let guard = self.lock()?;
        *record = self.record()?;
        let first = record.phase != Phase::Answered;
        if first {
            guard.must_be_ours(record)?;
        }
        // Who acquires is given the whole grace to log in. A resolve gives none anew: dashboards ask all day long.
        let is_known = self.doing == Doing::Resolving && self.answered;
        let marked = if is_known { Ok(()) } else { SharedDir::of(record).mark("answered", epoch()) };
        if first {
            // Of a lease that was answered before, sandboxed code may have removed the directory; its sshd works.
            let what = || {
                let trouble = "the file that tells its job that it was handed out could not be written";
                format!("{} {}: {trouble}", self.doing, record.shown())
            };
            marked.map_err(|error| error.failure(what()))?;
            record.phase = Phase::Answered;
            record.cloud_id = Some(record.cloud_id());
            guard.save(record)?;
            guard.lease.note(epoch(), "answered", &format!("{}:{}", ssh.host, ssh.port));
        }
        let mut status = status(record, view, Now::read());
        if status.state == LeaseState::Unknown {
            // Slurm is silent, but the pinned sshd of the job has just let us in.
            status.state = LeaseState::Ready;
        }
        let lease = answer::lease(record, &self.dir.limits(), view, &status, Some(ssh));
        Ok(Probed::Handed(Box::new(Handed { lease, first })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log() {
        let log = "Server listening on 198.51.100.11 port 20466.\n\nUser zoe not allowed because shell /usr/local/bin/zsh does not exist\n\
            Connection closed by invalid user zoe 198.51.100.2 port 1 [preauth]\n";
        let end = last_lines(log).unwrap();
        assert!(end.contains("20466. / User zoe not allowed because shell") && end.ends_with("[preauth]"), "{end}");
        assert_eq!(last_lines(" \n"), None);
    }
}
