//! What a wait does next: pure. The loop around it looks, asks, pins and logs in; here is only which of them, and when.

/// What the runner's directory showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    Nothing,
    Endpoint,
    Ending,
}

/// What is known after a look at the shared dir, and what was done since.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub shown: Shown,
    /// Whether the lease's endpoint is fixed.
    pub pinned: bool,
    /// Whether the last answer of Slurm lets the endpoint be used.
    pub usable: bool,
    /// Whether the schedule wants Slurm to be asked, and whether it does where something waits to be used.
    pub due: bool,
    pub due_eagerly: bool,
    /// Whether time is up.
    pub over: bool,
    /// Whether the last answer is too old to be the last word.
    pub outdated: bool,
    pub asked: bool,
    pub tried_to_pin: bool,
    pub tried_to_log_in: bool,
}

/// The next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask Slurm. `eager`: something waits for the answer.
    Ask {
        eager: bool,
    },
    /// Fix what the runner published.
    Pin,
    /// Log in, and hand out when that works.
    Probe,
    GiveUp,
    /// Say how the job stands, pause, look again.
    Poll,
}

/// Decides what to do.
pub fn next(facts: &Facts) -> Step {
    let eager = (facts.pinned || facts.shown != Shown::Nothing) && !facts.usable;
    let due = if eager { facts.due_eagerly } else { facts.due };
    match facts {
        _ if due && !facts.asked => Step::Ask { eager },
        Facts { usable: true, pinned: false, shown: Shown::Endpoint, tried_to_pin: false, .. } => Step::Pin,
        Facts { usable: true, pinned: true, tried_to_log_in: false, .. } => Step::Probe,
        // The last word of Slurm belongs into the message, and may be that the job has ended.
        Facts { over: true, outdated: true, .. } => Step::Ask { eager: true },
        Facts { over: true, .. } => Step::GiveUp,
        _ => Step::Poll,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const QUIET: Facts = Facts {
        shown: Shown::Nothing,
        pinned: false,
        usable: false,
        due: false,
        due_eagerly: false,
        over: false,
        outdated: true,
        asked: false,
        tried_to_pin: false,
        tried_to_log_in: false,
    };

    const PUBLISHED: Facts = Facts { shown: Shown::Endpoint, ..QUIET };
    const PINNED: Facts = Facts { pinned: true, ..QUIET };
    const LAST: Facts = Facts { over: true, ..QUIET };

    #[rstest]
    #[case::nothing_to_do(QUIET, Step::Poll)]
    #[case::by_the_schedule(Facts { due: true, ..QUIET }, Step::Ask { eager: false })]
    #[case::once_a_look(Facts { due: true, asked: true, ..QUIET }, Step::Poll)]
    #[case::not_eager_without_a_file(Facts { due_eagerly: true, ..QUIET }, Step::Poll)]
    #[case::a_file_appears(Facts { due_eagerly: true, ..PUBLISHED }, Step::Ask { eager: true })]
    #[case::an_ending_appears(Facts { due_eagerly: true, shown: Shown::Ending, ..QUIET }, Step::Ask { eager: true })]
    #[case::asked_a_moment_ago(PUBLISHED, Step::Poll)]
    #[case::runs_and_published(Facts { usable: true, ..PUBLISHED }, Step::Pin)]
    #[case::cannot_be_pinned_yet(Facts { usable: true, tried_to_pin: true, ..PUBLISHED }, Step::Poll)]
    #[case::runs_and_pinned(Facts { usable: true, ..PINNED }, Step::Probe)]
    #[case::pinned_with_a_file(Facts { usable: true, ..Facts { shown: Shown::Endpoint, ..PINNED } }, Step::Probe)]
    #[case::does_not_let_us_in(Facts { usable: true, tried_to_log_in: true, ..PINNED }, Step::Poll)]
    #[case::pinned_but_who_knows(PINNED, Step::Poll)]
    #[case::usable_is_not_eager(Facts { due_eagerly: true, usable: true, ..PINNED }, Step::Probe)]
    #[case::over(LAST, Step::Ask { eager: true })]
    #[case::over_and_just_asked(Facts { outdated: false, ..LAST }, Step::GiveUp)]
    #[case::over_but_one_login_is_left(Facts { usable: true, outdated: false, pinned: true, ..LAST }, Step::Probe)]
    #[case::over_for_good(Facts { usable: true, outdated: false, pinned: true, tried_to_log_in: true, ..LAST }, Step::GiveUp)]
    fn steps(#[case] facts: Facts, #[case] expected: Step) {
        assert_eq!(next(&facts), expected);
    }
}
