//! The life of a lease as a model: sequences of what Slurm may say, and what may be believed after each.
//!
//! The time of day may be set anywhere at any moment; the host's own clock only counts on.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use slurm_sandbox::allocation::{View, merge, view};
use slurm_sandbox::clock::{BootTime, Now};
use slurm_sandbox::lease::Nonce;
use slurm_sandbox::lease::lifecycle::{
    DENIAL_GAP_SECONDS, Observation, OpenSubmission, SUBMISSION_HORIZON_SECONDS, Verdict, classify, open_submission,
};
use slurm_sandbox::lease::record::{Phase, Record};
use slurm_sandbox::operation::settle::{Step, apply, next_step};
use slurm_sandbox::slurm::job::{Class, JobId, Listing, QueryFailed, Row, State};

use crate::check;
use crate::lease::{record, row};
use crate::slurm::STATES;

/// What Slurm says once.
#[derive(Debug, Clone)]
enum Said {
    /// It could not be asked.
    Nothing,
    /// A listing with other text in it and without the job.
    Noise,
    /// A clean listing without the job.
    Denial,
    /// The job, in this state; its comment may have been replaced.
    Job { state: &'static str, comment: bool },
    /// The id, of a job of another name.
    Recycled,
}

/// One look at Slurm: seconds that passed, seconds by which the time of day was set meanwhile, what Slurm said, and
/// whether a job of an attempt before is still there.
#[derive(Debug, Clone)]
struct Look {
    passed: i64,
    set: i64,
    said: Said,
    stray: bool,
}

fn looks(said: BoxedStrategy<Said>) -> impl Strategy<Value = Vec<Look>> {
    let passed = prop_oneof![4 => 0..30i64, 1 => 300..1000i64];
    let set = prop_oneof![4 => Just(0), 1 => -5000..5000i64];
    let look = (passed, set, said, proptest::bool::weighted(0.1));
    vec(look.prop_map(|(passed, set, said, stray)| Look { passed, set, said, stray }), 1..12)
}

fn anything() -> BoxedStrategy<Said> {
    let job = (select(STATES), proptest::bool::weighted(0.8)).prop_map(|(state, comment)| Said::Job { state, comment });
    prop_oneof![2 => Just(Said::Nothing), 1 => Just(Said::Noise), 4 => Just(Said::Denial), 4 => job, 1 => Just(Said::Recycled)]
        .boxed()
}

/// How a lease starts: with its job known and its time of submission learned or not, or sbatch unanswered.
#[derive(Debug, Clone, Copy)]
enum Start {
    Known,
    Unanswered,
}

fn start() -> impl Strategy<Value = (Record, Start)> {
    (any::<[bool; 3]>(), select(&[Phase::Submitting, Phase::Releasing][..])).prop_map(
        |([known, contract, releasing], phase)| {
            let mut record = Record { contract, shared_dir: "/nonexistent".into(), ..record() };
            record.attempt.sent = Some(START.epoch);
            record.attempt.sent_at = BootTime::of(START);
            record.instance = Some("abcd1234".into());
            record.given_up = vec![Nonce::parse("ffffffffffffffff").unwrap()];
            if known {
                record.phase = if releasing { Phase::Releasing } else { Phase::Queued };
                (record, Start::Known)
            } else {
                (Record { job: None, submitted: None, phase, ..record }, Start::Unanswered)
            }
        },
    )
}

/// When sbatch ran.
const START: Now = Now { epoch: 1_000_000, uptime: 5_000 };

fn later(from: Now, passed: i64, set: i64) -> Now {
    Now { epoch: from.epoch + passed + set, uptime: from.uptime + passed }
}

fn listing(look: &Look) -> Result<Listing, QueryFailed> {
    let mut rows = Vec::new();
    if look.stray {
        let [comment, directory] =
            [row().comment, row().directory].map(|text| text.replace(crate::oracle::NONCE, "ffffffffffffffff"));
        rows.push(Row { job: JobId { id: 6, cluster: None }, submitted: Some(900), comment, directory, ..row() });
    }
    match &look.said {
        Said::Nothing => return Err(QueryFailed("down".into())),
        Said::Noise => return Ok(Listing { rows, complete: false }),
        Said::Denial => {}
        Said::Job { state, comment } => {
            let comment = if *comment { row().comment } else { "the site's".into() };
            rows.push(Row { state: State::new(state), comment, ..row() });
        }
        Said::Recycled => rows.push(Row {
            name: "other".into(),
            comment: String::new(),
            directory: "/".into(),
            submitted: Some(5000),
            ..row()
        }),
    }
    Ok(Listing { rows, complete: true })
}

/// What the model remembers.
#[derive(Debug, Default)]
struct Memory {
    /// Seconds that really passed since sbatch ran.
    real: i64,
    /// When the first denial came of those that no sight of the job has undone.
    first_denial: Option<i64>,
    /// Something proved an end for good.
    ended: bool,
}

/// Plays looks to a record; `after` sees it before and after each.
fn play(mut record: Record, looks: &[Look], after: impl Fn(&Record, &Record, &View, &Look, &Memory, Now)) {
    let (mut memory, mut clock) = (Memory::default(), START);
    for look in looks {
        memory.real += look.passed;
        clock = later(clock, look.passed, look.set);
        let view = view(&record, &listing(look));
        let before = record.clone();
        let changed = apply(&mut record, &view, clock);
        assert_eq!(changed, record != before);
        match &view.observation {
            Observation::Row(row) => {
                memory.first_denial = None;
                memory.ended |= row.state.class() == Class::Ended;
            }
            Observation::Denied => {
                let first = *memory.first_denial.get_or_insert(memory.real);
                memory.ended |= before.job.is_some() && memory.real - first >= DENIAL_GAP_SECONDS;
            }
            Observation::QueryFailed(_) | Observation::Recycled(_) => {}
        }
        after(&before, &record, &view, look, &memory, clock);
    }
}

#[test]
fn what_is_unknown_moves_nothing() {
    check(1500, (start(), looks(anything())), |((record, _), looks)| {
        play(record, &looks, |before, after, view, _, memory, clock| {
            if let Observation::QueryFailed(_) = view.observation {
                assert_eq!(before, after);
                assert!(matches!(classify(after, &view.observation, clock), Verdict::Unknown(_)));
                assert!(memory.ended || next_step(after, view, clock) != Step::Gone);
            }
        });
    });
}

#[test]
fn a_state_of_a_later_slurm_moves_nothing() {
    let word = "[A-Z_]{1,12}".prop_filter("unknown", |word| State::new(word).class() == Class::Unknown);
    check(500, (start(), word), |((mut record, _), word)| {
        let seen = Ok(Listing { rows: vec![Row { state: State::new(&word), ..row() }], complete: true });
        let view = view(&record, &seen);
        apply(&mut record, &view, START);
        assert!(record.ended.is_none());
        // It is the lease's job, so a release ends it, but only an end that is known ends the lease.
        assert_eq!(next_step(&record, &view, START), Step::Cancel(vec![row().job]));
    });
}

/// Gone, or an end in the record, needs an end that Slurm told, an id in other hands, or two denials ten real seconds
/// apart with no sight of the job between them; a submission without an answer has passed its horizon as well.
#[test]
fn gone_is_proven() {
    check(2000, (start(), looks(anything())), |((record, start), looks)| {
        play(record, &looks, |_, after, view, _, memory, clock| {
            let past = memory.real >= SUBMISSION_HORIZON_SECONDS && view.observation == Observation::Denied;
            let twice = memory.first_denial.is_some_and(|first| memory.real - first >= DENIAL_GAP_SECONDS);
            let lost = matches!(start, Start::Unanswered) && after.job.is_none() && past && twice;
            if after.ended.is_some() {
                assert!(memory.ended, "{after:?}");
            }
            if next_step(after, view, clock) == Step::Gone {
                assert!(memory.ended || lost, "{after:?}");
            }
        });
    });
}

#[test]
fn a_living_job_is_not_gone() {
    const ALIVE: &[&str] =
        &["PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "COMPLETING", "REQUEUED", "RESIZING"];
    let alive = select(ALIVE).prop_map(|state| Said::Job { state, comment: true });
    let said = prop_oneof![2 => Just(Said::Nothing), 1 => Just(Said::Noise), 4 => alive].boxed();
    let looks = (looks(said), any::<u16>());
    check(1500, (start(), looks), |((record, _), (mut looks, at))| {
        // One denial among them at most.
        let at = usize::from(at) % (2 * looks.len());
        if let Some(look) = looks.get_mut(at) {
            look.said = Said::Denial;
        }
        play(record, &looks, |_, after, view, _, _, clock| {
            assert!(after.ended.is_none());
            assert!(next_step(after, view, clock) != Step::Gone);
        });
    });
}

#[test]
fn denials_of_one_moment_prove_nothing_however_the_time_is_set() {
    let step = (0..3i64, prop_oneof![2 => Just(0i64), 1 => -100_000..100_000i64], any::<bool>());
    check(1500, (start(), vec(step, 1..30)), |((mut record, start), steps)| {
        let (mut first, mut real, mut clock) = (None, 0, START);
        for (passed, set, unknown) in steps {
            real += passed;
            clock = later(clock, passed, set);
            let look = Look { passed, set, said: if unknown { Said::Nothing } else { Said::Denial }, stray: false };
            let view = view(&record, &listing(&look));
            apply(&mut record, &view, clock);
            if !unknown {
                first = first.or(Some(real));
            }
            let proven = first.is_some_and(|first| real - first >= DENIAL_GAP_SECONDS);
            let gone = classify(&record, &view.observation, clock) == Verdict::Gone
                || record.ended.is_some()
                || next_step(&record, &view, clock) == Step::Gone
                || matches!(start, Start::Unanswered) && open_submission(&record, clock) == OpenSubmission::Resubmit;
            assert!(proven || !gone, "{record:?}");
        }
    });
}

/// In the end denials are believed, whatever the time of day is set to.
#[test]
fn two_denials_apart_end_a_lease() {
    check(500, (DENIAL_GAP_SECONDS..500, prop_oneof![Just(0i64), -100_000..100_000i64]), |(apart, set)| {
        let said = |passed, set| Look { passed, set, said: Said::Denial, stray: false };
        let looks = [said(0, 0), said(1, set), said(apart, 0)];
        let mut record = Record { shared_dir: "/nonexistent".into(), ..record() };
        let mut clock = START;
        for look in &looks {
            clock = later(clock, look.passed, look.set);
            let view = view(&record, &listing(look));
            apply(&mut record, &view, clock);
        }
        assert_eq!(record.ended.map(|ended| ended.state).as_deref(), Some("GONE"));
    });
}

/// What is to be cancelled was just shown to live and to be of this very lease.
#[test]
fn only_own_and_living_jobs_are_cancelled() {
    check(1500, (start(), looks(anything())), |((record, _), looks)| {
        play(record, &looks, |_, after, view, look, _, clock| {
            let Step::Cancel(jobs) = next_step(after, view, clock) else { return };
            let rows = listing(look).map(|listing| listing.rows).unwrap_or_default();
            assert!(!jobs.is_empty());
            for job in jobs {
                let row = rows.iter().find(|row| row.job == job).unwrap();
                let ours = after.submitted_as(row) || after.job.as_ref() == Some(&row.job) || after.left_behind(row);
                assert!(ours && row.state.class() != Class::Ended, "{row:?}");
            }
        });
    });
}

/// Another attempt only after two denials, ten seconds apart; beside a runner that does not look for its permit only
/// past the horizon.
#[test]
fn another_attempt_waits() {
    check(2000, (start(), looks(anything())), |((record, start), looks)| {
        if matches!(start, Start::Known) {
            return;
        }
        play(record, &looks, |_, after, _, _, memory, clock| {
            if after.job.is_some() {
                return;
            }
            let twice = memory.first_denial.is_some_and(|first| memory.real - first >= DENIAL_GAP_SECONDS);
            match open_submission(after, clock) {
                OpenSubmission::NeverSent => panic!("it was sent"),
                OpenSubmission::Lost => assert!(twice && memory.real >= SUBMISSION_HORIZON_SECONDS),
                OpenSubmission::Resubmit => assert!(twice && after.contract),
                OpenSubmission::Wait => {}
            }
        });
    });
}

#[test]
fn several_listings_are_as_whole_as_all_of_them() {
    let one = prop_oneof![
        1 => Just(Err(QueryFailed("down".into()))),
        3 => (0..3usize, any::<bool>()).prop_map(|(count, complete)| Ok(Listing { rows: vec![row(); count], complete })),
    ];
    check(500, vec(one, 1..5), |listings| {
        let whole = listings.iter().all(|listing| listing.as_ref().is_ok_and(|listing| listing.complete));
        let rows: usize = listings.iter().flatten().map(|listing| listing.rows.len()).sum();
        match merge(listings.iter()) {
            Ok(merged) => {
                assert_eq!(merged.complete, whole);
                assert_eq!(merged.rows.len(), rows);
            }
            Err(_) => assert!(!whole && rows == 0),
        }
    });
}
