//! The process edge: one request or one command line in, one answer out, an exit code. The only writer of stdout.

use std::io::Write;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use slurm_sandbox::cli;
use slurm_sandbox::host::command::restart_with;

/// The usual stack of a program. Where the caller's limit leaves less, a thread with its own does the work.
const STACK_BYTES: usize = 8 << 20;

/// Below this much address space glibc's memory for each thread, 64 MiB of it, starves the others.
const SCARCE_BYTES: u64 = 1 << 30;
const ONE_ARENA: &str = "MALLOC_ARENA_MAX";

/// Set, and not empty: each command that is run is told on stderr, with its time and what it said.
const TRACE: &str = "SLURM_SANDBOX_TRACE";

fn main() -> ExitCode {
    if std::env::var_os(TRACE).is_some_and(|value| !value.is_empty()) {
        let traced = tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_ansi(false);
        traced.without_time().with_target(false).with_writer(std::io::stderr).init();
    }
    if getrlimit(Resource::RLIMIT_AS).is_ok_and(|(most, _)| most < SCARCE_BYTES)
        && std::env::var_os(ONE_ARENA).is_none()
    {
        // Where that fails it goes on as it is.
        let _ = restart_with(ONE_ARENA, "1");
    }
    // A write beyond the caller's file size limit is to be an error, not our end.
    let mut limits = SigSet::empty();
    limits.add(Signal::SIGXFSZ);
    let _ = limits.thread_block();
    // Files that we could not read ourselves would be of no use. The rest of the umask is the job's as well.
    let mask = umask(Mode::S_IRWXG | Mode::S_IRWXO);
    umask(mask & !Mode::S_IRWXU);
    if getrlimit(Resource::RLIMIT_STACK).is_ok_and(|(most, _)| most < STACK_BYTES as u64)
        && let Ok(thread) = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(answer)
    {
        return thread.join().unwrap_or(ExitCode::FAILURE);
    }
    answer()
}

fn answer() -> ExitCode {
    // A bug must not leave the client without its one JSON value; what it was goes to stderr by the panic's own hook.
    let mut outcome = std::panic::catch_unwind(cli::run).unwrap_or_else(|_| cli::after_panic());
    #[expect(clippy::disallowed_methods, reason = "the one place that writes the answer")]
    let mut stdout = std::io::stdout().lock();
    let written = match outcome.unread {
        Some(why) => Err(std::io::Error::other(why)),
        None => stdout.write_all(&outcome.stdout).and_then(|()| stdout.flush()),
    };
    if let Err(error) = &written {
        outcome.undelivered(error);
    } else if let Some(stream) = outcome.stream.take() {
        outcome = stream.write(|piece| stdout.write_all(piece).and_then(|()| stdout.flush()));
    }
    if !outcome.stderr.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", outcome.stderr);
    }
    match written {
        Ok(()) => ExitCode::from(outcome.exit),
        Err(_) => ExitCode::FAILURE,
    }
}
