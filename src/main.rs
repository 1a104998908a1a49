//! The process edge: one request or one command line in, one answer out, an exit code. The only writer of stdout.

use std::io::Write;
use std::process::ExitCode;

use slurm_sandbox::cli;

fn main() -> ExitCode {
    // A bug must not leave the client without its one JSON value; what it was goes to stderr by the panic's own hook.
    let outcome = std::panic::catch_unwind(cli::run).unwrap_or_else(|_| cli::after_panic());
    #[expect(clippy::disallowed_methods, reason = "the one place that writes the answer")]
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&outcome.stdout).and_then(|()| stdout.flush());
    if !outcome.stderr.is_empty() {
        let _ = writeln!(std::io::stderr(), "{}", outcome.stderr);
    }
    match written {
        Ok(()) => ExitCode::from(outcome.exit),
        Err(_) => ExitCode::FAILURE,
    }
}
